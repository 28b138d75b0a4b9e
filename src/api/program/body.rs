//! What programs send, looked at once at the edge: JSON, of a limited length, without characters that one store takes and the other
//! does not. Everything that is wrong is said at once.

use std::str::FromStr;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, header};
use serde_json::{Map, Value};

use super::super::patience::was_late;
use super::problem::{BadMember, Problem};
use crate::clock::Timestamp;

/// Bytes of a body, far more than any of these requests has.
pub(super) const LONGEST_BODY: usize = 64 * 1024;

/// A body that was read, and what is wrong with it so far.
#[derive(Debug)]
pub(super) struct Members {
    map: Map<String, Value>,
    errors: Vec<BadMember>,
}

impl Members {
    /// Reads a body.
    pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        let bytes = whole(headers, body).await?;
        Self::parse(&bytes)
    }

    /// Reads the bytes of a body.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let bad = |detail: String| {
            let pointer = String::new();
            Problem::unusable(
                "the body cannot be used",
                vec![BadMember { pointer, detail }],
            )
        };
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) => Ok(Self {
                map,
                errors: vec![],
            }),
            Ok(_) => Err(bad("expected an object".to_owned())),
            // The parser's own words may hold what was sent.
            Err(error) => Err(bad(format!(
                "it is no JSON: look at line {}, column {}",
                error.line(),
                error.column()
            ))),
        }
    }

    fn wrong(&mut self, name: &str, detail: impl Into<String>) {
        self.errors.push(BadMember {
            pointer: format!("/{}", name.replace('~', "~0").replace('/', "~1")),
            detail: detail.into(),
        });
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// A text that may be left out or null, of so many characters at most. `blank`: it may hold tabs and line breaks.
    pub(super) fn text(&mut self, name: &str, longest: usize, blank: bool) -> Option<String> {
        let Value::String(text) = self.take(name)? else {
            self.wrong(name, "expected a text");
            return None;
        };
        let control = |c: char| c.is_control() && !(blank && matches!(c, '\t' | '\n' | '\r'));
        if text.contains(control) {
            self.wrong(name, "it holds a control character");
        } else if text.chars().count() > longest {
            self.wrong(name, format!("it has more than {longest} characters"));
        } else {
            return Some(text);
        }
        None
    }

    /// A text that must be there.
    pub(super) fn needed(&mut self, name: &str, longest: usize, blank: bool) -> String {
        let before = self.errors.len();
        let text = self.text(name, longest, blank);
        if text.as_ref().is_none_or(|text| text.trim().is_empty()) && self.errors.len() == before {
            self.wrong(name, "it is missing");
        }
        text.unwrap_or_default()
    }

    /// `true` or `false`; `false` where it is left out.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        match self.take(name) {
            None => false,
            Some(Value::Bool(flag)) => flag,
            Some(_) => {
                self.wrong(name, "expected true or false");
                false
            }
        }
    }

    /// A time (RFC 3339) that may be left out.
    pub(super) fn time(&mut self, name: &str) -> Option<Timestamp> {
        let value = self.take(name)?;
        let time = serde_json::from_value(value).ok();
        if time.is_none() {
            self.wrong(name, "expected a time, as 2026-11-24T03:00:00Z");
        }
        time
    }

    /// One of a few words.
    pub(super) fn word<T: FromStr<Err = String>>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name, 100, false)?;
        text.parse()
            .map_err(|why: String| self.wrong(name, why))
            .ok()
    }

    /// A list of a few words.
    pub(super) fn words<T: FromStr<Err = String>>(&mut self, name: &str) -> Vec<T> {
        let Some(value) = self.take(name) else {
            self.wrong(name, "it is missing");
            return vec![];
        };
        let Value::Array(items) = value else {
            self.wrong(name, "expected a list of words");
            return vec![];
        };
        let mut found = vec![];
        for (i, item) in items.into_iter().enumerate() {
            let word = item.as_str().ok_or_else(|| "expected a word".to_owned());
            match word.and_then(str::parse) {
                Ok(word) => found.push(word),
                Err(detail) => self.errors.push(BadMember {
                    pointer: format!("/{name}/{i}"),
                    detail,
                }),
            }
        }
        found
    }

    /// Sees that nothing is wrong, and nothing is left that nobody asked for.
    pub(super) fn end(mut self) -> Result<(), Problem> {
        let unknown: Vec<String> = self.map.keys().cloned().collect();
        for name in unknown {
            let shown: String = name.chars().take(100).collect();
            self.wrong(&shown, "no such member");
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        Err(Problem::unusable("the body cannot be used", self.errors))
    }
}

/// The bytes of a JSON body.
pub(super) async fn whole(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Problem> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.split(';').next())
        .map(|kind| kind.trim().to_ascii_lowercase());
    if kind.as_deref() != Some("application/json") {
        return Err(Problem::media_type());
    }
    match to_bytes(body, LONGEST_BODY).await {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(error) if was_late(&error) => Err(Problem::late(error.to_string())),
        Err(error) if is_too_long(&error) => Err(Problem::too_large(LONGEST_BODY)),
        Err(error) => Err(Problem::broken_off(error.to_string())),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error)
        .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>)
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;
    use crate::model::Scope;

    async fn said(problem: Problem) -> (u16, Value) {
        let response = problem.into_response();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn trap_133_everything_that_is_wrong_is_said_at_once_with_its_place() {
        let text = r#"{"username":"a\u0000b","code":7,"realm":"x","at":"soon",
            "flag":"yes","word":"verify","scopes":["read","fly",3],"a/b~c":1}"#;
        let mut members = Members::parse(text.as_bytes()).unwrap();
        assert_eq!(members.needed("username", 256, false), "");
        assert_eq!(members.text("code", 100, true), None);
        assert_eq!(members.text("realm", 100, false).as_deref(), Some("x"));
        assert_eq!(members.time("at"), None);
        assert!(!members.flag("flag"));
        assert_eq!(members.word::<Scope>("word"), Some(Scope::Verify));
        assert_eq!(members.words::<Scope>("scopes"), [Scope::Read]);
        assert_eq!(members.needed("name", 100, false), "");
        let (status, body) = said(members.end().unwrap_err()).await;
        assert_eq!((status, &body["type"]), (422, &"invalid".into()));
        let pointers: Vec<&str> = body["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["pointer"].as_str().unwrap())
            .collect();
        assert_eq!(
            pointers,
            [
                "/username",
                "/code",
                "/at",
                "/flag",
                "/scopes/1",
                "/scopes/2",
                "/name",
                "/a~1b~0c"
            ]
        );
    }

    #[tokio::test]
    async fn trap_133_what_is_no_object_is_refused_without_its_own_words() {
        for text in [
            r#"{"code":"123456""#,
            r#"{"code":"\ud800"}"#,
            "[1]",
            "\u{0}",
            "",
            "123456",
        ] {
            let (status, body) = said(Members::parse(text.as_bytes()).unwrap_err()).await;
            assert_eq!(status, 422, "{text}");
            assert!(!body.to_string().contains("123456"), "{body}");
        }
    }

    #[test]
    fn a_text_has_a_limit_and_a_code_may_hold_line_breaks() {
        let text = format!(r#"{{"a":"{}","b":"1\n2","c":"1\n2"}}"#, "x".repeat(11));
        let mut members = Members::parse(text.as_bytes()).unwrap();
        assert_eq!(members.text("a", 10, false), None);
        assert_eq!(members.text("b", 10, true).as_deref(), Some("1\n2"));
        assert_eq!(members.text("c", 10, false), None);
        assert_eq!(members.errors.len(), 2);
    }
}
