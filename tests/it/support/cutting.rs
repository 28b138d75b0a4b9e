//! A proxy on loopback that cuts, freezes, drips or doubles the connections through it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens once so many bytes more came from the server.
#[derive(Clone, Copy)]
enum End {
    /// Both sides see the connection closed.
    Cut,
    /// Nothing is forwarded any more, in either direction, and no socket is closed.
    Freeze,
}

/// One connection through the proxy: the client's socket, the server's, and whether it stands still.
type Through = (TcpStream, TcpStream, Arc<AtomicBool>);

#[derive(Default)]
struct Rules {
    left: Mutex<Option<(usize, End)>>,
    fired: AtomicBool,
    /// Bytes from the server so far.
    passed: AtomicUsize,
    drip: AtomicBool,
    twice: AtomicBool,
    open: Mutex<Vec<Through>>,
}

/// A way to a server on a port of its own.
pub struct Proxy {
    pub port: u16,
    rules: Arc<Rules>,
}

impl Proxy {
    /// To a port on loopback.
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let rules = Arc::new(Rules::default());
        let proxy = Self {
            port,
            rules: Arc::clone(&rules),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server)) {
                    rules.connect(&client, &server);
                }
            }
        });
        proxy
    }

    /// All connections are cut once `bytes` more came from the server; those that come afterwards are left alone.
    pub fn cut_after(&self, bytes: usize) {
        self.rules.end_after(bytes, End::Cut);
    }

    /// The same, and they stand still instead.
    pub fn freeze_after(&self, bytes: usize) {
        self.rules.end_after(bytes, End::Freeze);
    }

    /// Those that are open stand still at once.
    pub fn freeze(&self) {
        self.rules.end(End::Freeze);
    }

    /// Whether what was asked for last has happened. It does not happen any more.
    pub fn fired(&self) -> bool {
        *self.rules.left.lock().expect("the rule") = None;
        self.rules.fired.load(Ordering::SeqCst)
    }

    /// Each byte by itself.
    pub fn drip(&self, yes: bool) {
        self.rules.drip.store(yes, Ordering::SeqCst);
    }

    /// Each new connection reaches the server twice; what it answers to the second one is lost.
    pub fn twice(&self, yes: bool) {
        self.rules.twice.store(yes, Ordering::SeqCst);
    }

    /// Bytes from the server so far.
    pub fn passed(&self) -> usize {
        self.rules.passed.load(Ordering::SeqCst)
    }
}

impl Rules {
    fn end_after(&self, bytes: usize, end: End) {
        self.fired.store(false, Ordering::SeqCst);
        *self.left.lock().expect("the rule") = Some((bytes, end));
    }

    fn end(&self, end: End) {
        self.fired.store(true, Ordering::SeqCst);
        for (client, server, still) in self.open.lock().expect("the list").drain(..) {
            still.store(true, Ordering::SeqCst);
            if matches!(end, End::Cut) {
                let _gone = (
                    client.shutdown(Shutdown::Both),
                    server.shutdown(Shutdown::Both),
                );
            }
        }
    }

    fn connect(self: &Arc<Self>, client: &TcpStream, server: &TcpStream) {
        let still = Arc::new(AtomicBool::new(false));
        let copy = |of: &TcpStream| of.try_clone().expect("a copy of a socket");
        for stream in [client, server] {
            stream.set_nodelay(true).expect("an option of a socket");
        }
        let mut open = self.open.lock().expect("the list");
        open.push((copy(client), copy(server), Arc::clone(&still)));
        let mut receivers = vec![copy(server)];
        if self.twice.load(Ordering::SeqCst) {
            let address = server.peer_addr().expect("the server's address");
            let second = TcpStream::connect(address).expect("a second connection");
            let mut answers = copy(&second);
            std::thread::spawn(move || {
                let _lost = std::io::copy(&mut answers, &mut std::io::sink());
            });
            receivers.push(second);
        }
        for (from, to, counts) in [
            (copy(client), receivers, false),
            (copy(server), vec![copy(client)], true),
        ] {
            let (rules, still) = (Arc::clone(self), Arc::clone(&still));
            std::thread::spawn(move || rules.forward(from, to, counts, &still));
        }
    }

    fn forward(&self, mut from: TcpStream, to: Vec<TcpStream>, counts: bool, still: &AtomicBool) {
        let mut buffer = [0; 16 * 1024];
        loop {
            let most = if self.drip.load(Ordering::SeqCst) {
                1
            } else {
                buffer.len()
            };
            let came = from.read(&mut buffer[..most]).unwrap_or(0);
            if still.load(Ordering::SeqCst) {
                // Whoever froze keeps its sockets for as long as the test lasts.
                std::thread::sleep(Duration::from_hours(1));
            }
            if came == 0 {
                break;
            }
            let (through, end) = if counts {
                self.allowed(came)
            } else {
                (came, None)
            };
            for mut to in &to {
                let _gone = to.write_all(&buffer[..through]);
            }
            if let Some(end) = end {
                self.end(end);
            }
        }
        for to in to {
            let _gone = to.shutdown(Shutdown::Both);
        }
    }

    /// How many of these bytes pass, and what happens then.
    fn allowed(&self, came: usize) -> (usize, Option<End>) {
        let mut rule = self.left.lock().expect("the rule");
        let mut through = came;
        let mut end = None;
        if let Some((left, then)) = &mut *rule {
            if *left <= came {
                through = *left;
                end = Some(*then);
            } else {
                *left -= came;
            }
        }
        if end.is_some() {
            *rule = None;
        }
        self.passed.fetch_add(through, Ordering::SeqCst);
        (through, end)
    }
}
