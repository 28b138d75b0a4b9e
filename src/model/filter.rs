//! Search filters as text (RFC 4515), read to the letter: what passes here is understood by the LDAP library too.

use std::fmt;

/// How deep filters may nest. Servers stop at some hundred; nobody writes ten.
const MAX_DEPTH: usize = 50;

/// A search filter.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are those of RFC 4511 § 4.5.1.7")]
pub enum Filter {
    /// All of them; none is true (RFC 4526).
    And(Vec<Filter>),
    /// One of them; none is false (RFC 4526).
    Or(Vec<Filter>),
    /// Not that one.
    Not(Box<Filter>),
    Equality {
        attribute: String,
        value: Vec<u8>,
    },
    /// Pieces in order; an empty `initial` or `last` is one that is not there.
    Substrings {
        attribute: String,
        initial: Vec<u8>,
        any: Vec<Vec<u8>>,
        last: Vec<u8>,
    },
    GreaterOrEqual {
        attribute: String,
        value: Vec<u8>,
    },
    LessOrEqual {
        attribute: String,
        value: Vec<u8>,
    },
    Present {
        attribute: String,
    },
    Approx {
        attribute: String,
        value: Vec<u8>,
    },
    /// `(attribute:dn:rule:=value)`; attribute or rule may be missing, not both.
    Extensible {
        attribute: Option<String>,
        dn: bool,
        rule: Option<String>,
        value: Vec<u8>,
    },
}

/// A text that is no filter.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error("{message}")]
pub struct FilterError {
    /// Byte offset in the text.
    pub at: usize,
    /// What is wrong there.
    pub message: String,
}

/// Reads a filter.
pub fn parse(text: &str) -> Result<Filter, FilterError> {
    let mut reader = FilterParser {
        text: text.as_bytes(),
        at: 0,
    };
    let filter = reader.filter(0)?;
    match reader.peek() {
        None => Ok(filter),
        Some(b')') => Err(reader.fault("this `)` closes nothing")),
        Some(_) => Err(reader
            .fault("expected the end of the filter; several filters are joined as `(&(…)(…))`")),
    }
}

/// Whether this is an attribute description: a name or a dotted number, with options (`mobile;lang-fi`).
pub fn is_attribute(text: &str) -> bool {
    let mut reader = FilterParser {
        text: text.as_bytes(),
        at: 0,
    };
    reader.attribute().is_ok() && reader.at == text.len()
}

impl Filter {
    /// The attributes that the filter mentions, as written but without options, each once, in order.
    pub fn attributes(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        self.visit(&mut |f| {
            let name = f
                .attribute()
                .and_then(|a| a.split(';').next())
                .unwrap_or_default();
            if !name.is_empty() && !found.iter().any(|n| n.eq_ignore_ascii_case(name)) {
                found.push(name.to_owned());
            }
        });
        found
    }

    /// The values to which the filter compares this attribute for equality (its name without regard to case), in order.
    pub fn values_of(&self, attribute: &str) -> Vec<String> {
        let mut found = Vec::new();
        self.visit(&mut |f| {
            if let Self::Equality {
                attribute: a,
                value,
            } = f
                && a.split(';')
                    .next()
                    .is_some_and(|n| n.eq_ignore_ascii_case(attribute))
            {
                found.push(String::from_utf8_lossy(value).into_owned());
            }
        });
        found
    }

    /// The attribute of a comparison, as written.
    pub fn attribute(&self) -> Option<&str> {
        match self {
            Self::And(_) | Self::Or(_) | Self::Not(_) => None,
            Self::Equality { attribute, .. }
            | Self::Substrings { attribute, .. }
            | Self::GreaterOrEqual { attribute, .. }
            | Self::LessOrEqual { attribute, .. }
            | Self::Present { attribute }
            | Self::Approx { attribute, .. } => Some(attribute),
            Self::Extensible { attribute, .. } => attribute.as_deref(),
        }
    }

    fn visit(&self, look: &mut impl FnMut(&Self)) {
        look(self);
        match self {
            Self::And(list) | Self::Or(list) => list.iter().for_each(|f| f.visit(look)),
            Self::Not(inner) => inner.visit(look),
            _ => {}
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, sign: char, list: &[Self]| {
            write!(f, "({sign}")?;
            list.iter().try_for_each(|inner| inner.fmt(f))?;
            f.write_str(")")
        };
        match self {
            Self::And(inner) => list(f, '&', inner),
            Self::Or(inner) => list(f, '|', inner),
            Self::Not(inner) => write!(f, "(!{inner})"),
            Self::Equality { attribute, value } => write!(f, "({attribute}={})", escape(value)),
            Self::GreaterOrEqual { attribute, value } => {
                write!(f, "({attribute}>={})", escape(value))
            }
            Self::LessOrEqual { attribute, value } => write!(f, "({attribute}<={})", escape(value)),
            Self::Approx { attribute, value } => write!(f, "({attribute}~={})", escape(value)),
            Self::Present { attribute } => write!(f, "({attribute}=*)"),
            Self::Substrings {
                attribute,
                initial,
                any,
                last,
            } => {
                write!(f, "({attribute}={}*", escape(initial))?;
                any.iter()
                    .try_for_each(|piece| write!(f, "{}*", escape(piece)))?;
                write!(f, "{})", escape(last))
            }
            Self::Extensible {
                attribute,
                dn,
                rule,
                value,
            } => {
                write!(f, "({}", attribute.as_deref().unwrap_or_default())?;
                if *dn {
                    f.write_str(":dn")?;
                }
                if let Some(rule) = rule {
                    write!(f, ":{rule}")?;
                }
                write!(f, ":={})", escape(value))
            }
        }
    }
}

/// A value as a filter writes it: specials, controls and what is no UTF-8 as `\xx`.
pub fn escape(value: &[u8]) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            if matches!(c, '*' | '(' | ')' | '\\') || c.is_ascii_control() {
                let _infallible = write!(out, "\\{:02x}", u32::from(c));
            } else {
                out.push(c);
            }
        }
        for b in chunk.invalid() {
            let _infallible = write!(out, "\\{b:02x}");
        }
    }
    out
}

struct FilterParser<'a> {
    text: &'a [u8],
    at: usize,
}

impl FilterParser<'_> {
    fn fault(&self, message: impl Into<String>) -> FilterError {
        FilterError {
            at: self.at,
            message: message.into(),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, word: &[u8]) -> bool {
        let found = self.text[self.at..].starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn filter(&mut self, depth: usize) -> Result<Filter, FilterError> {
        if depth > MAX_DEPTH {
            return Err(self.fault(format!("the filter nests deeper than {MAX_DEPTH} levels")));
        }
        let open = self.at;
        if !self.take(b"(") {
            return Err(self.fault("expected `(`"));
        }
        let filter = match self.peek() {
            Some(b'&') => Filter::And(self.list(depth)?),
            Some(b'|') => Filter::Or(self.list(depth)?),
            Some(b'!') => {
                self.at += 1;
                Filter::Not(Box::new(self.filter(depth + 1)?))
            }
            _ => self.item()?,
        };
        if self.take(b")") {
            return Ok(filter);
        }
        match self.peek() {
            None => Err(FilterError {
                at: open,
                message: "this `(` is never closed".into(),
            }),
            Some(b'*') => {
                Err(self.fault("a `*` is not allowed here; as a letter it is written `\\2a`"))
            }
            Some(_) => Err(self.fault("expected `)`")),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Filter>, FilterError> {
        self.at += 1;
        let mut list = Vec::new();
        while self.peek() == Some(b'(') {
            list.push(self.filter(depth + 1)?);
        }
        Ok(list)
    }

    fn attribute(&mut self) -> Result<String, FilterError> {
        let start = self.at;
        self.attribute_type()?;
        while self.take(b";") {
            let option = self.at;
            self.skip(|b| b.is_ascii_alphanumeric() || b == b'-');
            if self.at == option {
                return Err(self.fault("expected an attribute option after `;`"));
            }
        }
        Ok(String::from_utf8_lossy(&self.text[start..self.at]).into_owned())
    }

    /// A descriptor or a numeric object identifier (RFC 4512 § 1.4).
    fn attribute_type(&mut self) -> Result<String, FilterError> {
        let start = self.at;
        match self.peek() {
            Some(b) if b.is_ascii_alphabetic() => {
                self.skip(|b| b.is_ascii_alphanumeric() || b == b'-');
            }
            Some(b) if b.is_ascii_digit() => loop {
                let number = self.at;
                self.skip(|b| b.is_ascii_digit());
                if self.at == number || (self.text[number] == b'0' && self.at > number + 1) {
                    self.at = start;
                    return Err(self.fault("this is no object identifier"));
                }
                if !self.take(b".") {
                    break;
                }
            },
            Some(b')' | b'=') | None => {
                return Err(self.fault("expected an attribute, as in `(objectClass=person)`"));
            }
            Some(b' ') => return Err(self.fault("a space is not allowed here")),
            Some(_) => return Err(self.fault("an attribute begins with a letter or a digit")),
        }
        Ok(String::from_utf8_lossy(&self.text[start..self.at]).into_owned())
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
    }

    fn item(&mut self) -> Result<Filter, FilterError> {
        if self.peek() == Some(b':') {
            return self.extensible(None);
        }
        let attribute = self.attribute()?;
        if self.take(b">=") {
            return Ok(Filter::GreaterOrEqual {
                attribute,
                value: self.value()?,
            });
        }
        if self.take(b"<=") {
            return Ok(Filter::LessOrEqual {
                attribute,
                value: self.value()?,
            });
        }
        if self.take(b"~=") {
            return Ok(Filter::Approx {
                attribute,
                value: self.value()?,
            });
        }
        if self.peek() == Some(b':') {
            return self.extensible(Some(attribute));
        }
        if !self.take(b"=") {
            return Err(self.fault(format!(
                "expected `=`, `>=`, `<=`, `~=` or `:=` after `{attribute}`"
            )));
        }
        let initial = self.value()?;
        let mut pieces = Vec::new();
        while self.take(b"*") {
            pieces.push(self.value()?);
            if pieces.last().is_some_and(Vec::is_empty) && self.peek() == Some(b'*') {
                return Err(self.fault("two `*` in a row; as a letter it is written `\\2a`"));
            }
        }
        Ok(match pieces.pop() {
            None => Filter::Equality {
                attribute,
                value: initial,
            },
            Some(last) if initial.is_empty() && pieces.is_empty() && last.is_empty() => {
                Filter::Present { attribute }
            }
            Some(last) => Filter::Substrings {
                attribute,
                initial,
                any: pieces,
                last,
            },
        })
    }

    fn extensible(&mut self, attribute: Option<String>) -> Result<Filter, FilterError> {
        let mut rule = None;
        // `:dn` is the flag only when it stands alone: rules may begin with these letters.
        let flag = self.text[self.at..]
            .get(..4)
            .is_some_and(|w| w.eq_ignore_ascii_case(b":dn:"));
        let dn = flag && {
            // Read without regard to case here, the LDAP library takes it for a rule.
            if !self.take(b":dn") {
                return Err(self.fault("write `:dn` in lower case"));
            }
            true
        };
        if !self.text[self.at..].starts_with(b":=") && self.take(b":") {
            // The LDAP library takes `:dn` off wherever it stands first, and then cannot read what is left.
            if !dn && self.text[self.at..].starts_with(b"dn") {
                return Err(self.fault(
                    "a matching rule that begins with `dn` cannot be sent: name it by its object identifier",
                ));
            }
            rule = Some(self.attribute_type()?);
        }
        if !self.take(b":=") {
            return Err(self.fault("expected `:=`"));
        }
        if attribute.is_none() && rule.is_none() {
            return Err(self.fault("expected an attribute or a matching rule before `:=`"));
        }
        Ok(Filter::Extensible {
            attribute,
            dn,
            rule,
            value: self.value()?,
        })
    }

    fn value(&mut self) -> Result<Vec<u8>, FilterError> {
        let mut bytes = Vec::new();
        while let Some(b) = self.peek() {
            match b {
                b'*' | b')' => break,
                b'(' => {
                    return Err(self.fault(
                        "a `(` inside a value is written `\\28`; or a `)` is missing before it",
                    ));
                }
                0 => return Err(self.fault("a NUL inside a value is written `\\00`")),
                b'\\' => {
                    let digits = self
                        .text
                        .get(self.at + 1..self.at + 3)
                        .and_then(|d| std::str::from_utf8(d).ok());
                    let byte = digits
                        .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
                        .and_then(|d| u8::from_str_radix(d, 16).ok());
                    let Some(byte) = byte else {
                        return Err(self.fault("expected two hexadecimal digits after `\\`"));
                    };
                    bytes.push(byte);
                    self.at += 3;
                }
                _ => {
                    bytes.push(b);
                    self.at += 1;
                }
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_rfc_4515_are_read_and_written() {
        for text in [
            "(cn=Babs Jensen)",
            "(!(cn=Tim Howes))",
            "(&(objectClass=Person)(|(sn=Jensen)(cn=Babs J*)))",
            "(o=univ*of*mich*)",
            "(seeAlso=)",
            "(cn:caseExactMatch:=Fred Flintstone)",
            "(cn:=Betty Rubble)",
            "(sn:dn:2.4.6.8.10:=Barney Rubble)",
            "(o:dn:=Ace Industry)",
            "(:1.2.3:=Wilma Flintstone)",
            "(:dn:2.4.6.8.10:=Dino)",
            "(o=Parens R Us \\28for all your parenthetical needs\\29)",
            "(cn=*\\2a*)",
            "(bin=\\00\\00\\00\\04)",
            "(userAccountControl:1.2.840.113556.1.4.803:=2)",
            "(&)",
            "(mobile;lang-fi=*)",
            "(age>=1)",
            "(age<=1)",
            "(cn~=jan)",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            parse("(sn=Lu\\c4\\8di\\c4\\87)").unwrap().to_string(),
            "(sn=Lučić)"
        );
    }

    #[test]
    fn it_knows_what_it_mentions() {
        let filter = parse("(&(objectClass=inetOrgPerson)(!(OBJECTCLASS=computer))(mobile;lang-fi=*)(memberOf:1.2:=x)(:caseExactMatch:=y))").unwrap();
        assert_eq!(filter.attributes(), ["objectClass", "mobile", "memberOf"]);
        assert_eq!(
            filter.values_of("objectclass"),
            ["inetOrgPerson", "computer"]
        );
    }

    #[test]
    fn faults_say_where() {
        for (text, at, words) in [
            ("", 0, "expected `(`"),
            ("uid=jan", 0, "expected `(`"),
            ("(&(objectClass=user)(uid=*)", 0, "never closed"),
            ("(uid=jan))", 9, "closes nothing"),
            ("(uid=jan)(uid=eva)", 9, "joined as"),
            ("(uid=a(b)", 6, "`(` inside a value"),
            ("(uid=a**b)", 7, "in a row"),
            ("(uid=\\zz)", 5, "hexadecimal"),
            ("(uid>=a*)", 7, "`*` is not allowed"),
            ("(uid jan)", 4, "expected `=`"),
            ("()", 1, "expected an attribute"),
            ("(&(uid=*) (cn=*))", 9, "expected `)`"),
            ("( uid=*)", 1, "space"),
            ("(!)", 2, "expected `(`"),
            ("(:=x)", 3, "matching rule"),
            // Found by the fuzzer: ldap3 cannot read these.
            ("(cn:dnnortch:=x)", 4, "begins with `dn`"),
            ("(cn:DN:2.4.6:=x)", 3, "lower case"),
            ("(1..2=x)", 1, "object identifier"),
        ] {
            let e = parse(text).unwrap_err();
            assert!(e.at == at && e.message.contains(words), "{text}: {e:?}");
        }
        assert!(
            parse(&("(!".repeat(60_000) + "(a=b)" + &")".repeat(60_000)))
                .unwrap_err()
                .message
                .contains("deeper")
        );
    }

    fn filters() -> impl Strategy<Value = Filter> {
        let attribute = || {
            "[a-zA-Z][a-zA-Z0-9-]{0,6}(;[a-z-]{1,5})?|[0-2](\\.[1-9][0-9]{0,2}){1,3}"
                .prop_map(String::from)
        };
        let value = || {
            prop_oneof![
                ".{0,8}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..6)
            ]
        };
        let piece = || prop::collection::vec(any::<u8>(), 1..5);
        let leaf = prop_oneof![
            (attribute(), value())
                .prop_map(|(attribute, value)| Filter::Equality { attribute, value }),
            (attribute(), value())
                .prop_map(|(attribute, value)| Filter::GreaterOrEqual { attribute, value }),
            (attribute(), value())
                .prop_map(|(attribute, value)| Filter::LessOrEqual { attribute, value }),
            (attribute(), value())
                .prop_map(|(attribute, value)| Filter::Approx { attribute, value }),
            attribute().prop_map(|attribute| Filter::Present { attribute }),
            (
                attribute(),
                piece(),
                prop::collection::vec(piece(), 0..3),
                value()
            )
                .prop_map(|(attribute, initial, any, last)| Filter::Substrings {
                    attribute,
                    initial,
                    any,
                    last
                }),
            (
                attribute(),
                any::<bool>(),
                prop::option::of("[a-ce-z][a-zA-Z]{3,6}"),
                value()
            )
                .prop_map(|(attribute, dn, rule, value)| Filter::Extensible {
                    attribute: Some(attribute),
                    dn,
                    rule,
                    value
                }),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::And),
                prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::Or),
                inner.prop_map(|f| Filter::Not(Box::new(f))),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*", more in "[()&|!a-c=*:~<>\\\\;. 0]{0,32}") {
            for t in [&text, &more] {
                match parse(t) {
                    Ok(f) => prop_assert_eq!(parse(&f.to_string()).unwrap(), f),
                    Err(e) => prop_assert!(e.at <= t.len()),
                }
            }
        }

        #[test]
        fn a_written_filter_reads_back(filter in filters()) {
            prop_assert_eq!(parse(&filter.to_string()).unwrap(), filter);
        }
    }
}
