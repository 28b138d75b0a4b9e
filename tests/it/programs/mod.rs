//! Programs that call the API on TCP: the binary with a token, over real servers.

mod logons;
mod tokens;
pub mod verify;

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::house::House;

/// What a program was answered.
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("a header"))
    }
}

/// A program with a token.
#[derive(Clone)]
pub struct Program {
    client: reqwest::Client,
    url: String,
    token: Option<String>,
}

impl Program {
    /// Of the daemon on this port; without a token.
    pub fn at(port: u16) -> Self {
        Self::keeping(port, usize::MAX)
    }

    /// The same with a connection for each request: the daemon may be another one at the next.
    pub fn of_restarts(port: u16) -> Self {
        Self::keeping(port, 0)
    }

    fn keeping(port: u16, connections: usize) -> Self {
        let _already = rustls::crypto::ring::default_provider().install_default();
        Self {
            client: reqwest::Client::builder()
                .no_proxy()
                .pool_max_idle_per_host(connections)
                .timeout(Duration::from_mins(1))
                .build()
                .expect("a client"),
            url: format!("http://127.0.0.1:{port}/api/v1/"),
            token: None,
        }
    }

    pub fn with(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let request = self.request(method, path);
        answer(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.expect("a body");
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer {
        status,
        headers,
        body,
    }
}

/// Lets a configuration listen on a port of its own.
pub fn listening(file: &Path) -> u16 {
    let text = std::fs::read_to_string(file).expect("a configuration");
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    assert!(text.contains("127.0.0.1:0\""), "{text}");
    let text = text.replacen("127.0.0.1:0\"", &format!("127.0.0.1:{port}\""), 1);
    std::fs::write(file, text).expect("a configuration");
    port
}

/// Makes a token on the command line.
pub fn token(house: &House, name: &str, more: &[&str]) -> String {
    let arguments = [&["api-tokens", "create", name], more].concat();
    let said = house.run(&arguments);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("shown once"), "{}", said.err);
    said.out.trim().to_owned()
}

/// No file in a folder may hold this.
pub fn nowhere(folder: &Path, canaries: &[&str]) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let bytes = std::fs::read(entry.path()).expect("a file");
        for canary in canaries {
            let there = bytes
                .windows(canary.len())
                .any(|part| part == canary.as_bytes());
            assert!(!there, "{canary} is in {}", entry.path().display());
        }
    }
}
