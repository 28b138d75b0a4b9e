//! A webhook receiver for tests that behaves as badly as it is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{DeliveryConfig, Secret};

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// How one request is answered.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// This status, with header lines.
    Answer(u16, &'static str),
    /// Never.
    Hang,
    /// The connection is closed once the request is there.
    Close,
    /// 200, and then a body without end.
    Endless,
    /// 200, a part of the body, and then nothing.
    Stalls,
    /// 200, a part of the body, and then the end.
    Cut,
    /// No HTTP at all.
    Garbage,
    /// More headers than anyone needs.
    ManyHeaders,
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, v)| v)
    }

    pub(crate) fn id(&self) -> &str {
        self.header("webhook-id")
    }
}

#[derive(Default)]
struct Shared {
    next: Mutex<VecDeque<Behaviour>>,
    rule: Mutex<Option<Behaviour>>,
    requests: Mutex<Vec<Request>>,
    connections: std::sync::atomic::AtomicUsize,
}

/// A receiver on loopback.
pub(crate) struct Receiver {
    shared: Arc<Shared>,
    pub(crate) port: u16,
    stop: CancellationToken,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Receiver {
    /// Answers 204 until told otherwise.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let stop = CancellationToken::new();
        let tracker = TaskTracker::new();
        let (state, token, tasks) = (shared.clone(), stop.clone(), tracker.clone());
        tracker.spawn(token.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                state
                    .connections
                    .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let state = state.clone();
                tasks.spawn(
                    token
                        .clone()
                        .run_until_cancelled_owned(async move { serve(stream, &state).await }),
                );
            }
        }));
        Self { shared, port, stop }
    }

    pub(crate) fn always(&self, behaviour: Behaviour) {
        *self.shared.rule.lock().unwrap() = Some(behaviour);
    }

    pub(crate) fn next(&self, behaviour: Behaviour) {
        self.shared.next.lock().unwrap().push_back(behaviour);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared
            .connections
            .load(std::sync::atomic::Ordering::SeqCst)
    }

    pub(crate) fn config(&self) -> DeliveryConfig {
        config(&format!("http://127.0.0.1:{}/hook?token=canary", self.port))
    }
}

pub(crate) fn config(url: &str) -> DeliveryConfig {
    DeliveryConfig {
        url: url.parse().unwrap(),
        secret: Secret::Inline(SECRET.into()),
        previous_secret: None,
        ca_file: None,
        proxy: None,
        timeout_ms: 10_000,
        concurrency: 4,
        retry_for_ms: 3 * 86_400_000,
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        shared.requests.lock().unwrap().push(request);
        let planned = shared.next.lock().unwrap().pop_front();
        let behaviour = planned
            .or_else(|| shared.rule.lock().unwrap().clone())
            .unwrap_or(Behaviour::Answer(204, ""));
        if !behave(&mut stream, behaviour).await {
            return;
        }
    }
}

/// Whether the connection goes on.
async fn behave(stream: &mut TcpStream, behaviour: Behaviour) -> bool {
    match behaviour {
        Behaviour::Answer(status, headers) => {
            let length = if status == 204 {
                ""
            } else {
                "content-length: 0\r\n"
            };
            stream
                .write_all(format!("HTTP/1.1 {status} Said\r\n{length}{headers}\r\n").as_bytes())
                .await
                .is_ok()
        }
        Behaviour::Hang => {
            tokio::time::sleep(Duration::from_mins(1)).await;
            false
        }
        Behaviour::Close => false,
        Behaviour::Endless => {
            let _sent = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n")
                .await;
            while stream.write_all(&[b'x'; 16_384]).await.is_ok() {}
            false
        }
        Behaviour::Stalls => {
            let _sent = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")
                .await;
            tokio::time::sleep(Duration::from_mins(1)).await;
            false
        }
        Behaviour::Cut => {
            let _sent = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")
                .await;
            false
        }
        Behaviour::Garbage => {
            let _sent = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
            false
        }
        Behaviour::ManyHeaders => {
            let _sent = stream
                .write_all(
                    format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(10_000)).as_bytes(),
                )
                .await;
            false
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    loop {
        let head_end = buffer.windows(4).position(|w| w == b"\r\n\r\n");
        if let Some(end) = head_end {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let mut lines = head.split("\r\n");
            let line = lines.next()?.to_owned();
            let headers: Vec<(String, String)> = lines
                .filter_map(|l| l.split_once(": "))
                .map(|(n, v)| (n.to_lowercase(), v.to_owned()))
                .collect();
            let length: usize = headers
                .iter()
                .find(|(n, _)| n == "content-length")
                .and_then(|(_, v)| v.parse().ok())
                .unwrap_or(0);
            if buffer.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&buffer[end + 4..end + 4 + length]).into_owned();
                buffer.drain(..end + 4 + length);
                return Some(Request {
                    line,
                    headers,
                    body,
                });
            }
        }
        let mut chunk = [0; 8192];
        match stream.read(&mut chunk).await {
            Ok(n) if n > 0 => buffer.extend_from_slice(&chunk[..n]),
            _ => return None,
        }
    }
}
