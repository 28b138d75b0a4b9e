//! A way to a server that can be shut while the server itself goes on.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A door to a server on a port of its own, which can be shut and opened again.
pub struct Door {
    port: u16,
    shut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Door {
    /// To the host and port of a URL.
    pub fn to(url: &str) -> Self {
        let server = url.rsplit('/').next().expect("a host").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (shut, open) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let door = Self { port, shut, open };
        let (shut, open) = (Arc::clone(&door.shut), Arc::clone(&door.open));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(behind) = TcpStream::connect(&server) else {
                    continue;
                };
                let mut list = open.lock().unwrap();
                if shut.load(Ordering::SeqCst) {
                    continue;
                }
                for (from, to) in [(&stream, &behind), (&behind, &stream)] {
                    from.set_nodelay(true).unwrap();
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    list.push(from.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _cut = io::copy(&mut from, &mut to);
                        let _gone = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        door
    }

    /// Whoever is inside is thrown out, and nobody comes in.
    pub fn shut(&self) {
        let mut list = self.open.lock().unwrap();
        self.shut.store(true, Ordering::SeqCst);
        for stream in list.drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn reopen(&self) {
        self.shut.store(false, Ordering::SeqCst);
    }

    pub fn url(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.port)
    }
}
