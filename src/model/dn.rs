//! Distinguished names as text (RFC 4514): read, compared, and asked for what lies within what.

use std::fmt;

use unicode_normalization::UnicodeNormalization;

/// A distinguished name, the entry's own part first. The empty name is the root DSE's.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dn {
    /// The relative names, from the entry up to the root.
    pub rdns: Vec<Rdn>,
}

/// One level of a name: one `type=value`, or several joined by `+`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rdn {
    /// In the order of the text, which means nothing.
    pub parts: Vec<TypeAndValue>,
}

/// One `type=value`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypeAndValue {
    /// The attribute type as written: a name or a dotted number.
    pub attribute: String,
    /// The value without its escapes.
    pub value: Value,
}

/// A value of a relative name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// Text; bytes, since `\c3` may be half a character.
    Text(Vec<u8>),
    /// `#04024869`: the value's BER encoding.
    Ber(Vec<u8>),
}

/// A text that is no distinguished name.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error("{message}")]
pub struct DnError {
    /// Byte offset in the text.
    pub at: usize,
    /// What is wrong there.
    pub message: String,
}

/// Reads a distinguished name. Spaces round `,`, `+` and `=` are taken as RFC 4514 § 2 allows readers to.
pub fn parse(text: &str) -> Result<Dn, DnError> {
    let mut reader = DnParser {
        text: text.as_bytes(),
        at: 0,
    };
    reader.spaces();
    let mut rdns = Vec::new();
    if reader.at == text.len() {
        return Ok(Dn { rdns });
    }
    loop {
        let mut parts = vec![reader.part()?];
        while reader.take(b'+') {
            parts.push(reader.part()?);
        }
        rdns.push(Rdn { parts });
        if reader.at == text.len() {
            return Ok(Dn { rdns });
        }
        if !reader.take(b',') {
            return Err(reader.fault("expected `,`, `+` or the end of the name"));
        }
    }
}

/// Whether `child` is `base` or lies below it. A text that is no name lies nowhere, and nothing lies below it.
pub fn is_within(child: &str, base: &str) -> bool {
    match (parse(child), parse(base)) {
        (Ok(child), Ok(base)) => child.within(&base),
        _ => false,
    }
}

/// The folded name of the entry that holds `dn`'s; `None` for the root and for a text that is no name.
pub fn container(dn: &str) -> Option<String> {
    Some(parse(dn).ok()?.parent()?.folded())
}

impl Dn {
    /// The name as servers compare it: types lower case (the well-known ones by their short names), values without case
    /// and superfluous spaces, the parts of a level sorted. Reads back as the same name.
    pub fn folded(&self) -> String {
        self.rdns
            .iter()
            .map(Rdn::folded)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// The name one level up; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        (!self.rdns.is_empty()).then(|| Self {
            rdns: self.rdns[1..].to_vec(),
        })
    }

    /// Whether this is `base` or lies below it.
    pub fn within(&self, base: &Self) -> bool {
        let Some(above) = self.rdns.len().checked_sub(base.rdns.len()) else {
            return false;
        };
        self.rdns[above..]
            .iter()
            .zip(&base.rdns)
            .all(|(a, b)| a.folded() == b.folded())
    }

    /// The attribute types of the name, as written, in order.
    pub fn attributes(&self) -> impl Iterator<Item = &str> {
        self.rdns
            .iter()
            .flat_map(|r| &r.parts)
            .map(|p| p.attribute.as_str())
    }
}

impl Rdn {
    fn folded(&self) -> String {
        let mut parts: Vec<String> = self
            .parts
            .iter()
            .map(|p| {
                let value = match &p.value {
                    Value::Text(bytes) => fold_bytes(bytes),
                    Value::Ber(ber) => text_in_ber(ber).map_or_else(|| hex(ber), fold_bytes),
                };
                format!("{}={value}", fold_type(&p.attribute))
            })
            .collect();
        parts.sort_unstable();
        parts.dedup();
        parts.join("+")
    }
}

impl fmt::Display for Dn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, rdn) in self.rdns.iter().enumerate() {
            for (j, part) in rdn.parts.iter().enumerate() {
                f.write_str(match (i, j) {
                    (0, 0) => "",
                    (_, 0) => ",",
                    _ => "+",
                })?;
                let value = match &part.value {
                    Value::Text(bytes) => escape(bytes),
                    Value::Ber(ber) => hex(ber),
                };
                write!(f, "{}={value}", part.attribute)?;
            }
        }
        Ok(())
    }
}

/// The types of RFC 4514 § 3 under their other names, so that `OU` and `2.5.4.11` are one.
fn fold_type(attribute: &str) -> String {
    let lower = attribute.to_ascii_lowercase();
    match lower.as_str() {
        "commonname" | "2.5.4.3" => "cn".into(),
        "localityname" | "2.5.4.7" => "l".into(),
        "stateorprovincename" | "2.5.4.8" => "st".into(),
        "organizationname" | "2.5.4.10" => "o".into(),
        "organizationalunitname" | "2.5.4.11" => "ou".into(),
        "countryname" | "2.5.4.6" => "c".into(),
        "streetaddress" | "2.5.4.9" => "street".into(),
        "domaincomponent" | "0.9.2342.19200300.100.1.25" => "dc".into(),
        "userid" | "0.9.2342.19200300.100.1.1" => "uid".into(),
        _ => lower,
    }
}

/// Case and spaces away as RFC 4518 § 2 prepares strings; bytes that are no text stay as they are.
fn fold_bytes(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return escape(bytes);
    };
    // Lower case can bring a text out of its normal form: folded again, so that folding twice changes nothing.
    let lower: String = text
        .nfkc()
        .collect::<String>()
        .to_lowercase()
        .nfkc()
        .collect();
    escape(
        lower
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .as_bytes(),
    )
}

/// The text of a short BER string (RFC 4514 § 2.4 lets a name be written either way).
fn text_in_ber(ber: &[u8]) -> Option<&[u8]> {
    let [0x04 | 0x0c | 0x13 | 0x16, length, text @ ..] = ber else {
        return None;
    };
    (usize::from(*length) == text.len() && *length < 128 && std::str::from_utf8(text).is_ok())
        .then_some(text)
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::from("#"), |mut out, b| {
        let _infallible = write!(out, "{b:02x}");
        out
    })
}

fn escape(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(bytes.len());
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let edge_space = c == ' ' && (at == 0 || at + 1 == bytes.len());
            if edge_space
                || (c == '#' && at == 0)
                || matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
            {
                out.push('\\');
                out.push(c);
            } else if c.is_control() {
                let mut buffer = [0; 4];
                for b in c.encode_utf8(&mut buffer).bytes() {
                    let _infallible = write!(out, "\\{b:02x}");
                }
            } else {
                out.push(c);
            }
            at += c.len_utf8();
        }
        for b in chunk.invalid() {
            let _infallible = write!(out, "\\{b:02x}");
            at += 1;
        }
    }
    out
}

struct DnParser<'a> {
    text: &'a [u8],
    at: usize,
}

impl DnParser<'_> {
    fn fault(&self, message: impl Into<String>) -> DnError {
        DnError {
            at: self.at,
            message: message.into(),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn spaces(&mut self) {
        while self.take(b' ') {}
    }

    fn part(&mut self) -> Result<TypeAndValue, DnError> {
        self.spaces();
        let start = self.at;
        while self
            .peek()
            .is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        {
            self.at += 1;
        }
        let attribute = String::from_utf8_lossy(&self.text[start..self.at]).into_owned();
        check_type(&attribute, start)?;
        self.spaces();
        if !self.take(b'=') {
            return Err(self.fault(format!("expected `=` after `{attribute}`")));
        }
        self.spaces();
        let value = if self.take(b'#') {
            self.ber()?
        } else {
            self.string()?
        };
        self.spaces();
        Ok(TypeAndValue { attribute, value })
    }

    fn ber(&mut self) -> Result<Value, DnError> {
        let mut bytes = Vec::new();
        while self.peek().is_some_and(|b| b.is_ascii_hexdigit()) {
            bytes.push(self.hex_pair("expected pairs of hexadecimal digits after `#`")?);
        }
        if bytes.is_empty() {
            return Err(self.fault("expected pairs of hexadecimal digits after `#`"));
        }
        Ok(Value::Ber(bytes))
    }

    fn hex_pair(&mut self, message: &str) -> Result<u8, DnError> {
        let mut value = 0;
        for _ in 0..2 {
            let digit = self
                .peek()
                .and_then(|b| char::from(b).to_digit(16))
                .and_then(|d| u8::try_from(d).ok());
            let Some(digit) = digit else {
                return Err(self.fault(message));
            };
            value = value * 16 + digit;
            self.at += 1;
        }
        Ok(value)
    }

    fn string(&mut self) -> Result<Value, DnError> {
        let mut bytes = Vec::new();
        // Unescaped spaces at the end are not part of the value; escaped ones are.
        let mut keep = 0;
        while let Some(b) = self.peek() {
            match b {
                b',' | b'+' => break,
                b'\\' => {
                    self.at += 1;
                    match self.peek() {
                        Some(c) if c.is_ascii_hexdigit() => {
                            bytes
                                .push(self.hex_pair("expected two hexadecimal digits after `\\`")?);
                        }
                        Some(c) if b" \"#+,;<=>\\".contains(&c) => {
                            bytes.push(c);
                            self.at += 1;
                        }
                        _ => {
                            return Err(self.fault(
                                "expected a special character or two hexadecimal digits after `\\`",
                            ));
                        }
                    }
                    keep = bytes.len();
                }
                b'"' | b';' | b'<' | b'>' => {
                    return Err(self.fault(format!(
                        "`{0}` must be written as `\\{0}` in a name",
                        char::from(b)
                    )));
                }
                0 => return Err(self.fault("a NUL must be written as `\\00` in a name")),
                b' ' => {
                    bytes.push(b);
                    self.at += 1;
                }
                _ => {
                    bytes.push(b);
                    self.at += 1;
                    keep = bytes.len();
                }
            }
        }
        bytes.truncate(keep);
        Ok(Value::Text(bytes))
    }
}

fn check_type(attribute: &str, start: usize) -> Result<(), DnError> {
    let fault = |message: String| Err(DnError { at: start, message });
    let Some(first) = attribute.bytes().next() else {
        return fault("expected an attribute type, as in `ou=people`".into());
    };
    if first.is_ascii_digit() {
        let numbers = attribute
            .split('.')
            .all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        if !numbers || !attribute.contains('.') {
            return fault(format!("`{attribute}` is no object identifier"));
        }
    } else if !first.is_ascii_alphabetic() || attribute.contains('.') {
        return fault(format!("`{attribute}` is no attribute type"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folded(text: &str) -> String {
        parse(text).unwrap().folded()
    }

    #[test]
    fn the_examples_of_rfc_4514_are_read() {
        assert_eq!(
            folded("UID=jsmith,DC=example,DC=net"),
            "uid=jsmith,dc=example,dc=net"
        );
        assert_eq!(
            folded("OU=Sales+CN=J.  Smith,DC=example,DC=net"),
            "cn=j. smith+ou=sales,dc=example,dc=net"
        );
        assert_eq!(
            folded(r#"CN=James \"Jim\" Smith\, III,DC=example,DC=net"#),
            r#"cn=james \"jim\" smith\, iii,dc=example,dc=net"#
        );
        assert_eq!(
            folded(r"CN=Before\0dAfter,DC=example,DC=net"),
            "cn=before after,dc=example,dc=net"
        );
        assert_eq!(
            folded("1.3.6.1.4.1.1466.0=#04024869"),
            "1.3.6.1.4.1.1466.0=hi"
        );
        assert_eq!(folded(r"CN=Lu\C4\8Di\C4\87"), "cn=lučić");
        assert_eq!(parse("").unwrap(), Dn::default());
    }

    #[test]
    fn writing_it_differently_makes_no_other_name() {
        let one = folded("ou=People,dc=example,dc=org");
        for same in [
            "OU=people, DC=Example, DC=org",
            "2.5.4.11=people,domainComponent=example,dc=org",
            "ou = people , dc=example,dc=org",
            "ou=#0c0670656f706c65,dc=example,dc=org",
        ] {
            assert_eq!(folded(same), one, "{same}");
        }
        assert_ne!(folded("ou=people2,dc=example,dc=org"), one);
    }

    #[test]
    fn within_goes_by_levels_and_not_by_letters() {
        let base = "ou=people,dc=example,dc=org";
        assert!(is_within("uid=jan, OU=People, DC=example, DC=org", base));
        assert!(is_within(base, base));
        assert!(is_within(base, ""));
        assert!(!is_within(
            "uid=jan,ou=other people,dc=example,dc=org",
            base
        ));
        assert!(!is_within("cn=x\\,ou=people,dc=example,dc=org", base));
        assert!(!is_within("dc=example,dc=org", base));
        assert!(!is_within("junk", base) && !is_within(base, "junk"));
    }

    #[test]
    fn the_container_of_junk_is_none() {
        assert_eq!(
            container("uid=a\\,b,OU=People,dc=org").as_deref(),
            Some("ou=people,dc=org")
        );
        assert_eq!(container("dc=org").as_deref(), Some(""));
        assert_eq!(container(""), None);
        assert_eq!(container("not a name"), None);
    }

    #[test]
    fn faults_say_where() {
        for (text, at) in [
            ("ou=people,,dc=org", 10),
            ("people", 6),
            ("ou=a;dc=org", 4),
            ("ou=a\\zz", 5),
            ("ou=#4", 5),
            ("ou=a,", 5),
            ("1=a", 0),
            ("ou=#04zz", 6),
            ("=a", 0),
        ] {
            assert_eq!(
                parse(text).unwrap_err().at,
                at,
                "{text}: {}",
                parse(text).unwrap_err()
            );
        }
    }

    fn name() -> impl Strategy<Value = Dn> {
        let value = prop_oneof![
            ".{0,12}".prop_map(|s| Value::Text(s.into_bytes())),
            prop::collection::vec(any::<u8>(), 0..8).prop_map(Value::Text),
            prop::collection::vec(any::<u8>(), 1..8).prop_map(Value::Ber),
        ];
        let part = ("[a-zA-Z][a-zA-Z0-9-]{0,6}|[0-2]\\.[1-9][0-9]{0,3}", value)
            .prop_map(|(attribute, value)| TypeAndValue { attribute, value });
        let rdn = prop::collection::vec(part, 1..3).prop_map(|parts| Rdn { parts });
        prop::collection::vec(rdn, 0..5).prop_map(|rdns| Dn { rdns })
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*", more in "[a-c=,+#\\\\; \"0]{0,24}") {
            for t in [&text, &more] {
                match parse(t) {
                    Ok(dn) => { let _text = (dn.folded(), dn.to_string()); }
                    Err(e) => prop_assert!(e.at <= t.len()),
                }
                let _none = container(t);
            }
        }

        #[test]
        fn a_written_name_reads_back(dn in name()) {
            prop_assert_eq!(parse(&dn.to_string()).unwrap(), dn);
        }

        #[test]
        fn folding_twice_is_folding_once(dn in name()) {
            let once = dn.folded();
            prop_assert_eq!(parse(&once).unwrap().folded(), once);
        }

        #[test]
        fn an_entry_is_within_everything_above_it(dn in name()) {
            let mut above = Some(dn.clone());
            while let Some(base) = above {
                prop_assert!(is_within(&dn.to_string(), &base.to_string()));
                above = base.parent();
            }
        }
    }
}
