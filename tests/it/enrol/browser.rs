//! A browser that takes forms and cookies, and no script.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answered {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answered {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .next()
    }

    /// The page's title.
    pub fn title(&self) -> &str {
        between(&self.body, "<h1>", "</h1>")
    }

    /// The secret in base32.
    pub fn key(&self) -> String {
        let key = between(&self.body, "translate=\"no\">", "</code>");
        key.replace(' ', "")
    }

    /// The recovery codes.
    pub fn codes(&self) -> Vec<String> {
        let list = between(&self.body, "<ol class=\"codes\"", "</ol>");
        list.split("<code>")
            .skip(1)
            .filter_map(|rest| rest.split_once("</code>"))
            .map(|(code, _)| code.to_owned())
            .collect()
    }
}

pub fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let begin = text
        .find(from)
        .unwrap_or_else(|| panic!("no {from} in {text}"))
        + from.len();
    let length = text[begin..].find(to).expect("an end");
    &text[begin..begin + length]
}

/// A browser with its cookie jar.
#[derive(Default)]
pub struct Browser {
    pub cookie: Option<String>,
    pub headers: Vec<(&'static str, &'static str)>,
}

impl Browser {
    pub fn desktop() -> Self {
        Self::default()
    }

    pub fn with(headers: &[(&'static str, &'static str)]) -> Self {
        Self {
            cookie: None,
            headers: headers.to_vec(),
        }
    }

    /// One request to `127.0.0.1:port`.
    pub fn ask(&mut self, port: u16, method: &str, path: &str, form: &[(&str, &str)]) -> Answered {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        );
        if !body.is_empty() {
            request += "content-type: application/x-www-form-urlencoded\r\n";
        }
        for (name, value) in &self.headers {
            request += &format!("{name}: {value}\r\n");
        }
        if let Some(cookie) = &self.cookie {
            request += &format!("cookie: {cookie}\r\n");
        }
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the page's port");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        stream
            .write_all(format!("{request}\r\n{body}").as_bytes())
            .expect("sent");
        let mut answer = vec![];
        stream.read_to_end(&mut answer).expect("an answer");
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head[9..12].parse().expect("a status");
        let answered = Answered {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        };
        if let Some(set) = answered.header("set-cookie") {
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        answered
    }

    pub fn get(&mut self, port: u16, path: &str) -> Answered {
        self.ask(port, "GET", path, &[])
    }

    pub fn post(&mut self, port: u16, path: &str, form: &[(&str, &str)]) -> Answered {
        self.ask(port, "POST", path, form)
    }
}
