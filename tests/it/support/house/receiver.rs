//! A small HTTP receiver of webhooks that can be told to fail.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// One request that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-signature`.
    pub signature: String,
    /// `webhook-timestamp`.
    pub timestamp: String,
    /// The body as it came.
    pub body: String,
    /// What was answered.
    pub answered: u16,
}

impl Received {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a body of JSON")
    }
}

/// Listens on loopback until dropped.
pub struct Receiver {
    pub url: String,
    received: Arc<Mutex<Vec<Received>>>,
    status: Arc<AtomicU16>,
    /// Takes the request and never answers.
    hang: Arc<AtomicBool>,
    /// Milliseconds that each answer takes.
    slow: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Receiver {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("nonblocking");
        let receiver = Self {
            url: format!("http://{address}/hooks"),
            received: Arc::default(),
            status: Arc::new(AtomicU16::new(204)),
            hang: Arc::default(),
            slow: Arc::default(),
            stop: Arc::default(),
        };
        let (received, status, hang, slow, stop) = (
            receiver.received.clone(),
            receiver.status.clone(),
            receiver.hang.clone(),
            receiver.slow.clone(),
            receiver.stop.clone(),
        );
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let (received, status, hang, slow, stop) = (
                            received.clone(),
                            status.clone(),
                            hang.clone(),
                            slow.clone(),
                            stop.clone(),
                        );
                        std::thread::spawn(move || {
                            serve(stream, &received, &status, &hang, &slow, &stop);
                        });
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        receiver
    }

    /// What the next requests are answered with.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Whether requests are taken and never answered.
    pub fn hang(&self, yes: bool) {
        self.hang.store(yes, Ordering::SeqCst);
    }

    /// How long each answer takes from now on.
    pub fn slow(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).expect("milliseconds");
        self.slow.store(ms, Ordering::SeqCst);
    }

    /// Everything that arrived, also what was refused.
    pub fn all(&self) -> Vec<Received> {
        self.received.lock().expect("the list").clone()
    }

    /// What was accepted, each key once: what a receiver that knows its keys counts.
    pub fn accepted(&self) -> Vec<Received> {
        let mut seen = std::collections::HashSet::new();
        self.all()
            .into_iter()
            .filter(|r| (200..300).contains(&r.answered))
            .filter(|r| seen.insert(r.id.clone()))
            .collect()
    }

    /// Waits until `n` messages were accepted, at most ten seconds.
    pub fn wait_for(&self, n: usize) -> Vec<Received> {
        for _ in 0..1000 {
            let accepted = self.accepted();
            if accepted.len() >= n {
                return accepted;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!(
            "{} of {n} messages arrived: {:?}",
            self.accepted().len(),
            self.all()
        );
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn serve(
    stream: TcpStream,
    received: &Mutex<Vec<Received>>,
    status: &AtomicU16,
    hang: &AtomicBool,
    slow: &AtomicU64,
    stop: &AtomicBool,
) {
    stream.set_nonblocking(false).expect("blocking");
    let mut reader = BufReader::new(stream);
    while !stop.load(Ordering::SeqCst) {
        let mut length = 0;
        let (mut id, mut signature, mut timestamp) = (String::new(), String::new(), String::new());
        let mut first = true;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end();
            if line.is_empty() && !first {
                break;
            }
            first = false;
            let Some((name, value)) = line.split_once(": ") else {
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap_or(0),
                "webhook-id" => value.clone_into(&mut id),
                "webhook-signature" => value.clone_into(&mut signature),
                "webhook-timestamp" => value.clone_into(&mut timestamp),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let hangs = hang.load(Ordering::SeqCst);
        let answered = if hangs {
            0
        } else {
            status.load(Ordering::SeqCst)
        };
        let body = String::from_utf8_lossy(&body).into_owned();
        received.lock().expect("the list").push(Received {
            id,
            signature,
            timestamp,
            body,
            answered,
        });
        if hangs {
            while hang.load(Ordering::SeqCst) && !stop.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
            return;
        }
        std::thread::sleep(Duration::from_millis(slow.load(Ordering::SeqCst)));
        let answer = format!("HTTP/1.1 {answered} X\r\ncontent-length: 0\r\n\r\n");
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
