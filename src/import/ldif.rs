//! LDIF (RFC 2849), entry by entry: folded lines, base64, attribute options. Change records are given with a word, and no address is
//! followed.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ImportFault;
use crate::model::{ImportCells, ImportColumn, LineFault};

/// A longer entry has a picture or a certificate that nobody needs here.
const LONGEST: usize = 8 * 1024 * 1024;

/// A value of an attribute that is not read is not kept when it is longer than this, in bytes: it is a picture or a certificate.
const KEPT: usize = 1024;

/// Which attribute is read as what, the first that has a value first; lower case.
pub(super) type LdifAttributes = Vec<(ImportColumn, Vec<String>)>;

/// The attributes that directories have for people.
pub(super) fn usual_attributes() -> LdifAttributes {
    let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    vec![
        (ImportColumn::Name, list(&["uid", "samaccountname"])),
        (ImportColumn::Phone, list(&["mobile", "othermobile"])),
        (
            ImportColumn::DisplayName,
            list(&["displayname", "cn", "name"]),
        ),
        (ImportColumn::Email, list(&["mail"])),
    ]
}

/// An entry. Its memory is used again.
#[derive(Default)]
pub(super) struct Entry {
    /// The physical line on which it begins, from 1.
    pub(super) line: u64,
    /// As it stands in the file, without long values that are not read.
    pub(super) raw: String,
}

/// The entries of a text.
pub(super) struct Ldif<R> {
    input: R,
    piece: Vec<u8>,
    from: usize,
    to: usize,
    ended: bool,
    line: u64,
    attributes: LdifAttributes,
}

/// A line as it stands in the file, without and with its end.
struct PhysicalLine {
    bytes: Vec<u8>,
    end: Vec<u8>,
}

impl<R: Read> Ldif<R> {
    /// `input` is UTF-8.
    pub(super) fn new(input: R, attributes: LdifAttributes) -> Self {
        Self {
            input,
            piece: vec![0; 32 * 1024],
            from: 0,
            to: 0,
            ended: false,
            line: 0,
            attributes,
        }
    }

    fn byte(&mut self) -> Result<Option<u8>, ImportFault> {
        if self.from == self.to && !self.ended {
            self.from = 0;
            self.to = self
                .input
                .read(&mut self.piece)
                .map_err(|e| ImportFault::read(self.line + 1, &e))?;
            self.ended = self.to == 0;
        }
        Ok((self.from < self.to).then(|| self.piece[self.from]))
    }

    /// The next line; `None`: the text is at its end.
    fn physical_line(&mut self) -> Result<Option<PhysicalLine>, ImportFault> {
        let mut line = PhysicalLine {
            bytes: vec![],
            end: vec![],
        };
        let mut any = false;
        while let Some(byte) = self.byte()? {
            any = true;
            self.from += 1;
            if matches!(byte, b'\n' | b'\r') {
                line.end.push(byte);
                if byte == b'\r' && self.byte()? == Some(b'\n') {
                    self.from += 1;
                    line.end.push(b'\n');
                }
                break;
            }
            line.bytes.push(byte);
            if line.bytes.len() > LONGEST {
                return Err(ImportFault::at(
                    self.line + 1,
                    "a line longer than 8 MiB: this is no LDIF",
                ));
            }
        }
        if any {
            self.line += 1;
        }
        Ok(any.then_some(line))
    }

    /// The next entry, whose values go to `cells`, or what is wrong with it; `None`: there are no more.
    pub(super) fn next(
        &mut self,
        entry: &mut Entry,
        cells: &mut ImportCells,
    ) -> Result<Option<Result<(), LineFault>>, ImportFault> {
        loop {
            let Some(lines) = self.lines_of_entry(entry)? else {
                return Ok(None);
            };
            cells.clear();
            // The first lines of a file may be its version alone.
            if lines
                .iter()
                .all(|line| name_of(line).0.eq_ignore_ascii_case("version"))
            {
                continue;
            }
            return Ok(Some(values(&lines, &self.attributes, cells)));
        }
    }

    /// The unfolded lines up to a blank one, without comments.
    fn lines_of_entry(&mut self, entry: &mut Entry) -> Result<Option<Vec<String>>, ImportFault> {
        entry.raw.clear();
        let mut lines: Vec<Vec<u8>> = vec![];
        let mut raw = vec![];
        let mut length = 0;
        // Where the last value begins in `raw`.
        let mut value = 0;
        let mut in_comment = false;
        while let Some(PhysicalLine { bytes, end }) = self.physical_line()? {
            if bytes.is_empty() {
                if lines.is_empty() {
                    raw.clear();
                    (length, value) = (0, 0);
                    continue;
                }
                break;
            }
            if length == 0 {
                entry.line = self.line;
            }
            length += bytes.len() + end.len();
            if bytes[0] != b' ' {
                if !in_comment {
                    self.leave_out(&mut lines, &mut raw, value);
                }
                value = raw.len();
            }
            raw.extend_from_slice(&bytes);
            raw.extend(end);
            if length > LONGEST {
                return Err(ImportFault::at(
                    entry.line,
                    "the entry that begins here is longer than 8 MiB: leave pictures and certificates out",
                ));
            }
            match bytes.split_first() {
                Some((b' ', rest)) if in_comment || !lines.is_empty() => {
                    if let (false, Some(last)) = (in_comment, lines.last_mut()) {
                        last.extend_from_slice(rest);
                    }
                }
                Some((b'#', _)) => in_comment = true,
                _ => {
                    in_comment = false;
                    lines.push(bytes);
                }
            }
        }
        if lines.is_empty() {
            return Ok(None);
        }
        if !in_comment {
            self.leave_out(&mut lines, &mut raw, value);
        }
        let line = entry.line;
        let utf8 = |bytes| {
            String::from_utf8(bytes).map_err(|_| ImportFault::at(line, "the entry is not UTF-8"))
        };
        entry.raw = utf8(raw)?;
        lines
            .into_iter()
            .map(utf8)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Leaves out the last value, which begins here in `raw`, if it is long and not read.
    fn leave_out(&self, lines: &mut [Vec<u8>], raw: &mut Vec<u8>, value: usize) {
        if raw.len() - value <= KEPT {
            return;
        }
        let Some(last) = lines.last_mut() else {
            return;
        };
        let Some(colon) = last.iter().position(|b| *b == b':') else {
            return;
        };
        let name = String::from_utf8_lossy(&last[..colon]).to_ascii_lowercase();
        let name = name_of(&name).0;
        let counts = matches!(name, "dn" | "changetype");
        if counts
            || self
                .attributes
                .iter()
                .any(|(_, names)| names.iter().any(|n| n == name))
        {
            return;
        }
        raw.truncate(value);
        last.truncate(colon + 1);
        last.shrink_to_fit();
    }
}

/// The attribute of a line, without its options, and what follows it.
fn name_of(line: &str) -> (&str, &str) {
    let (description, rest) = line.split_once(':').unwrap_or((line, ""));
    let name = description.split(';').next().unwrap_or_default();
    (name.trim(), rest)
}

/// The values of an entry's lines.
fn values(
    lines: &[String],
    attributes: &LdifAttributes,
    cells: &mut ImportCells,
) -> Result<(), LineFault> {
    let fault = |reason: String| LineFault {
        column: None,
        value: None,
        reason,
    };
    let mut found: Vec<(String, String)> = vec![];
    for line in lines {
        let (name, rest) = name_of(line);
        if line.trim() == "-" || name.eq_ignore_ascii_case("changetype") {
            return Err(fault(format!(
                "a change record{}: only entries are read; export the entries themselves",
                match rest.trim() {
                    "" => String::new(),
                    kind => format!(" (`{kind}`)"),
                }
            )));
        }
        if !line.contains(':') {
            return Err(fault(format!(
                "`{}` is no line of an LDIF: expected `attribute: value`",
                line.chars().take(40).collect::<String>()
            )));
        }
        let name = name.to_ascii_lowercase();
        let is_dn = name == "dn";
        if !is_dn && !attributes.iter().any(|(_, names)| names.contains(&name)) {
            continue;
        }
        let value = if let Some(base64) = rest.strip_prefix(':') {
            let bytes = STANDARD.decode(base64.trim()).ok();
            bytes
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| {
                    fault(format!(
                        "the value of `{name}` is no UTF-8 in base64: enter it again in the directory"
                    ))
                })?
        } else if rest.starts_with('<') {
            return Err(fault(format!(
                "the value of `{name}` stands at an address, which is not looked up: put the value into the file"
            )));
        } else {
            rest.trim_start_matches(' ').to_owned()
        };
        if is_dn {
            cells.dn = value;
        } else if !value.trim().is_empty() {
            found.push((name, value));
        }
    }
    for (column, names) in attributes {
        let has = |name: &&String| found.iter().any(|(n, _)| n == *name);
        let Some(name) = names.iter().find(has) else {
            continue;
        };
        for (_, value) in found.iter().filter(|(n, _)| n == name) {
            cells.add(*column, value);
        }
    }
    Ok(())
}

/// Whether a text begins as an LDIF does.
pub(super) fn is_ldif(head: &str) -> bool {
    let first = head
        .split(['\n', '\r'])
        .find(|line| !line.is_empty() && !line.starts_with('#'));
    first.is_some_and(|line| {
        let (name, _) = name_of(line);
        line.contains(':')
            && (name.eq_ignore_ascii_case("version") || name.eq_ignore_ascii_case("dn"))
            && !line.contains('\t')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = Vec<(u64, Result<Vec<(ImportColumn, String)>, String>)>;

    fn read(text: &str) -> Read {
        let mut ldif = Ldif::new(text.as_bytes(), usual_attributes());
        let (mut entry, mut cells) = (Entry::default(), ImportCells::default());
        let mut all = vec![];
        while let Some(read) = ldif.next(&mut entry, &mut cells).unwrap() {
            let values = || {
                let of = |c: &ImportColumn| {
                    let c = *c;
                    cells.of(c).map(move |v| (c, v.to_owned()))
                };
                ImportColumn::ALL
                    .iter()
                    .flat_map(|c| of(c).collect::<Vec<_>>())
                    .collect()
            };
            all.push((entry.line, read.map(|()| values()).map_err(|f| f.reason)));
        }
        all
    }

    #[test]
    fn trap_103_an_ldif_is_read_as_the_standard_says() {
        use ImportColumn::{DisplayName, Email, Name, Phone};
        let text = "version: 1\n\n# a comment\n  that goes on\ndn: uid=jan,ou=people,dc=example,dc=org\nuid: jan\ncn:: SsOhbiBOb3bDoWs=\nmobile;lang-sk: +421 905\n  123 456\nobjectClass: inetOrgPerson\njpegPhoto:: /9j/\nmail:jan@example.org\n\n\ndn: uid=eva,dc=example,dc=org\nchangetype: modify\nreplace: mobile\nmobile: +421905654321\n-\n\ndn: uid=ivo,dc=example,dc=org\nuid: ivo\nmobile:< file:///etc/passwd\n";
        let jan = vec![
            (Name, "jan".to_owned()),
            (Phone, "+421 905 123 456".to_owned()),
            (DisplayName, "J\u{e1}n Nov\u{e1}k".to_owned()),
            (Email, "jan@example.org".to_owned()),
        ];
        for end in ["\n", "\r\n", "\r"] {
            let read = read(&text.replace('\n', end));
            let lines: Vec<u64> = read.iter().map(|r| r.0).collect();
            assert_eq!(lines, [3, 15, 21], "{end:?}");
            assert_eq!(read[0].1, Ok(jan.clone()));
            let change = read[1].1.clone().unwrap_err();
            assert!(change.starts_with("a change record (`modify`)"), "{change}");
            let address = read[2].1.clone().unwrap_err();
            assert!(address.contains("not looked up"), "{address}");
        }
    }

    #[test]
    fn trap_103_an_entry_is_kept_without_its_pictures() {
        let picture = "A".repeat(76) + "\n ";
        let text = format!(
            "dn: uid=jan,dc=example\n# {long}\njpegPhoto;x-a:: {}\nuid: jan\nmobile: {long}\nuserCertificate;binary:: {}\n\ndn: uid=eva\nuid: eva\n",
            picture.repeat(5000),
            picture.repeat(5000),
            long = "7".repeat(2000),
        );
        let mut ldif = Ldif::new(text.as_bytes(), usual_attributes());
        let (mut entry, mut cells) = (Entry::default(), ImportCells::default());
        ldif.next(&mut entry, &mut cells).unwrap().unwrap().unwrap();
        let kept = format!(
            "dn: uid=jan,dc=example\n# {long}\nuid: jan\nmobile: {long}\n",
            long = "7".repeat(2000)
        );
        assert_eq!((entry.line, &entry.raw), (1, &kept));
        assert!(cells.of(ImportColumn::Name).eq(["jan"]));
        assert_eq!(
            cells.of(ImportColumn::Phone).map(str::len).sum::<usize>(),
            2000
        );
        ldif.next(&mut entry, &mut cells).unwrap().unwrap().unwrap();
        assert_eq!(
            (entry.line, &*entry.raw),
            (10_008, "dn: uid=eva\nuid: eva\n")
        );
    }

    #[test]
    fn what_is_no_ldif_is_none() {
        assert!(is_ldif("# x\nversion: 1\n") && is_ldif("dn:: dWlk\n"));
        assert!(!is_ldif("name;phone\n") && !is_ldif("") && !is_ldif("DN,cn\n"));
    }
}
