//! In which characters a file is written: said by its first bytes, by how it is built, or by what its words would be.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1250, WINDOWS_1252};

use super::ImportFault;

/// A way of writing characters as bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Charset(&'static Encoding);

/// Files that are no text, by their first bytes: what they are called, and what to do.
const NO_TEXT: [(&[u8], &str); 4] = [
    (
        b"PK\x03\x04",
        "an Excel workbook (.xlsx), or another zip archive, whatever its name says: open it, and save it as CSV UTF-8",
    ),
    (
        b"\xd0\xcf\x11\xe0",
        "an old Excel workbook (.xls), whatever its name says: open it, and save it as CSV UTF-8",
    ),
    (b"%PDF", "a PDF: export the table itself as CSV"),
    (b"\x1f\x8b", "compressed (gzip): unpack it first"),
];

/// Countries whose Windows writes Windows-1250, and some of those whose Windows writes Windows-1252.
const CENTRAL: [&str; 12] = [
    "SK", "CZ", "PL", "HU", "SI", "HR", "BA", "RS", "ME", "RO", "AL", "MD",
];
const WESTERN: [&str; 22] = [
    "AT", "DE", "CH", "LI", "FR", "IT", "ES", "PT", "GB", "IE", "US", "NL", "BE", "LU", "DK", "SE",
    "NO", "FI", "IS", "CA", "AU", "NZ",
];

impl Charset {
    /// What most files should be.
    pub const UTF_8: Self = Self(UTF_8);

    /// By its name, as `windows-1250`, `cp1250`, `utf-16le` (the labels of the WHATWG's Encoding Standard, and `cp…`).
    ///
    /// # Errors
    /// What there is.
    pub fn named(name: &str) -> Result<Self, String> {
        let lower = name.trim().to_ascii_lowercase();
        let found = Encoding::for_label(lower.as_bytes()).or_else(|| {
            let page = lower.strip_prefix("cp")?;
            Encoding::for_label(format!("windows-{page}").as_bytes())
        });
        let taken =
            |e: &'static Encoding| e.is_single_byte() || [UTF_8, UTF_16LE, UTF_16BE].contains(&e);
        match found.filter(|e| taken(e)) {
            Some(encoding) => Ok(Self(encoding)),
            None => Err(format!(
                "`{name}` is no encoding that is read: expected utf-8, utf-16le, utf-16be, windows-1250, windows-1252, iso-8859-2 or another of one byte a character"
            )),
        }
    }

    /// The name by which [`Self::named`] finds it.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// What decodes a stream of it.
    pub(super) fn decoder(self) -> encoding_rs::Decoder {
        self.0.new_decoder_without_bom_handling()
    }

    /// The bytes of a text that was read from such a file.
    pub fn encode(self, text: &str) -> Vec<u8> {
        if self.0 == UTF_16LE {
            text.encode_utf16().flat_map(u16::to_le_bytes).collect()
        } else if self.0 == UTF_16BE {
            text.encode_utf16().flat_map(u16::to_be_bytes).collect()
        } else {
            self.0.encode(text).0.into_owned()
        }
    }
}

/// A look at the bytes of a whole file, piece by piece.
#[derive(Default, Debug)]
pub struct CharsetLook {
    read: u64,
    head: [u8; 4],
    /// Zero bytes at even and odd places of the beginning.
    zeros: [u32; 2],
    utf8: Utf8Look,
}

/// A look at the words of a file that is not UTF-8, piece by piece.
#[derive(Debug)]
pub struct WordLook {
    /// How often each byte from 0x80 on stands in a word.
    in_words: [u32; 128],
    /// One of the words that Windows-1250 and Windows-1252 read differently.
    word: Vec<u8>,
    example: Vec<u8>,
}

/// So many bytes from the beginning are looked through for zeros.
const BEGINNING: u64 = 64 * 1024;

/// A longer word is none.
const WORD: usize = 40;

impl Default for WordLook {
    fn default() -> Self {
        Self {
            in_words: [0; 128],
            word: vec![],
            example: vec![],
        }
    }
}

/// What a look found: the characters, how many bytes before the text say so, and words for people.
pub type CharsetFound = (Charset, usize, String);

impl CharsetLook {
    /// The next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.utf8.feed(bytes);
        let beginning = usize::try_from(BEGINNING.saturating_sub(self.read)).unwrap_or(usize::MAX);
        for (&byte, place) in bytes.iter().take(beginning).zip(self.read..) {
            if let Some(head) = usize::try_from(place)
                .ok()
                .and_then(|n| self.head.get_mut(n))
            {
                *head = byte;
            }
            if byte == 0 {
                self.zeros[usize::from(place % 2 == 1)] += 1;
            }
        }
        self.read += bytes.len() as u64;
    }

    /// Refuses what is no text by its first bytes, whichever encoding somebody says.
    ///
    /// # Errors
    /// What it is, and what to do.
    pub fn is_text(&self) -> Result<(), ImportFault> {
        let kind = NO_TEXT.iter().find(|(head, _)| self.head.starts_with(head));
        match kind {
            Some((_, what)) => Err(ImportFault::whole(format!("the file is {what}"))),
            None => Ok(()),
        }
    }

    /// What it is. `region` is the country whose users they are: it decides where the bytes alone do not. `words` is asked only where
    /// the file is not UTF-8.
    ///
    /// # Errors
    /// Where it cannot be told: the reader of the message says so by `--encoding`.
    pub fn end(
        &self,
        words: impl FnOnce() -> Result<WordLook, ImportFault>,
        region: Option<&str>,
    ) -> Result<CharsetFound, ImportFault> {
        let read = usize::try_from(self.read).unwrap_or(usize::MAX).min(4);
        let head = &self.head[..read];
        let by_bom = |encoding, length: usize, name: &str| {
            Ok((
                Charset(encoding),
                length,
                format!("{name}, by its byte-order mark"),
            ))
        };
        if head.starts_with(&[0xff, 0xfe, 0, 0]) || head.starts_with(&[0, 0, 0xfe, 0xff]) {
            return Err(ImportFault::whole(
                "the file is UTF-32, which is not read: save it as UTF-8",
            ));
        }
        if head.starts_with(&[0xef, 0xbb, 0xbf]) {
            return match self.utf8.end() {
                None => by_bom(UTF_8, 3, "UTF-8"),
                Some(line) => Err(ImportFault::at(
                    line,
                    "the file says by its first bytes that it is UTF-8, and this line is not: save it anew as UTF-8, or name its encoding by --encoding",
                )),
            };
        }
        if head.starts_with(&[0xff, 0xfe]) {
            return by_bom(UTF_16LE, 2, "UTF-16 LE");
        }
        if head.starts_with(&[0xfe, 0xff]) {
            return by_bom(UTF_16BE, 2, "UTF-16 BE");
        }
        let half = u32::try_from(self.read.min(BEGINNING) / 2).unwrap_or(u32::MAX);
        let [even, odd] = self.zeros;
        if even + odd > 0 {
            // Letters of Latin scripts have a zero each.
            let many = |n: u32| n.saturating_mul(3) > half;
            return match (many(even), many(odd)) {
                (false, true) => Ok((
                    Charset(UTF_16LE),
                    0,
                    "UTF-16 LE, by its zero bytes".to_owned(),
                )),
                (true, false) => Ok((
                    Charset(UTF_16BE),
                    0,
                    "UTF-16 BE, by its zero bytes".to_owned(),
                )),
                _ => Err(ImportFault::whole(
                    "the file holds zero bytes, and is no text: export it as CSV, TSV or LDIF",
                )),
            };
        }
        match self.utf8.end() {
            None => Ok((Charset::UTF_8, 0, "UTF-8".to_owned())),
            Some(line) => words()?.windows(line, region),
        }
    }
}

impl WordLook {
    /// The next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte >= 0x80 || byte.is_ascii_alphabetic() {
                if self.word.len() < WORD {
                    self.word.push(byte);
                }
            } else {
                self.end_word();
            }
        }
    }

    fn end_word(&mut self) {
        if self.word.len() > 1 {
            for &byte in self.word.iter().filter(|b| **b >= 0x80) {
                let place = &mut self.in_words[usize::from(byte - 0x80)];
                *place = place.saturating_add(1);
            }
            if self.example.is_empty() && differs(&self.word) {
                self.example.clone_from(&self.word);
            }
        }
        self.word.clear();
    }

    /// Not UTF-8 from this line on: what a Windows of Central or Western Europe writes.
    fn windows(mut self, line: u64, region: Option<&str>) -> Result<CharsetFound, ImportFault> {
        self.end_word();
        let seen = |byte: u8| self.in_words[usize::from(byte - 0x80)] > 0;
        let any = |bytes: &[u8]| bytes.iter().any(|b| seen(*b));
        if self.example.is_empty() {
            return Ok((
                Charset(WINDOWS_1250),
                0,
                "Windows-1250, which reads here as Windows-1252 does".to_owned(),
            ));
        }
        // Letters of the one that are signs of the other, or nothing.
        let central = any(&[
            0x8d, 0x8f, 0x9d, 0xa3, 0xa5, 0xaf, 0xb3, 0xb9, 0xbc, 0xbe, 0xbf,
        ]);
        let western = any(&[0x83, 0x98]);
        // Š and ž stand at the same place in both, but are letters of the east; ã, å and ñ are those of the west.
        let carons = any(&[0x8a, 0x8e, 0x9a, 0x9e]);
        let tildes = any(&[0xc3, 0xe3, 0xc5, 0xe5, 0xd1, 0xf1, 0x9c]);
        let found = match (central, western) {
            (true, false) => Some((WINDOWS_1250, "by its letters".to_owned())),
            (false, true) => Some((WINDOWS_1252, "by its letters".to_owned())),
            (false, false) if carons && !tildes => {
                Some((WINDOWS_1250, "by its letters".to_owned()))
            }
            _ => region.and_then(|region| {
                let of = format!("as {region} writes it");
                if CENTRAL.contains(&region) {
                    Some((WINDOWS_1250, of))
                } else if WESTERN.contains(&region) {
                    Some((WINDOWS_1252, of))
                } else {
                    None
                }
            }),
        };
        if let Some((encoding, why)) = found {
            let name = if encoding == WINDOWS_1250 {
                "Windows-1250"
            } else {
                "Windows-1252"
            };
            return Ok((Charset(encoding), 0, format!("{name}, {why}")));
        }
        let as_1250 = WINDOWS_1250.decode_without_bom_handling(&self.example).0;
        let as_1252 = WINDOWS_1252.decode_without_bom_handling(&self.example).0;
        Err(ImportFault::at(
            line,
            format!(
                "the file is not UTF-8, and nothing says in which encoding it is: one of its words is `{as_1250}` in Windows-1250 and `{as_1252}` in Windows-1252. Say --encoding windows-1250 or --encoding windows-1252, or save the file as UTF-8"
            ),
        ))
    }
}

/// Whether the two read a word differently.
fn differs(word: &[u8]) -> bool {
    word.iter().any(|b| *b >= 0x80)
        && WINDOWS_1250.decode_without_bom_handling(word).0
            != WINDOWS_1252.decode_without_bom_handling(word).0
}

fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Whether bytes are UTF-8, piece by piece, and on which line they are not.
#[derive(Debug)]
struct Utf8Look {
    carried: Vec<u8>,
    lines: u64,
    fault: Option<u64>,
}

impl Default for Utf8Look {
    fn default() -> Self {
        Self {
            carried: vec![],
            lines: 1,
            fault: None,
        }
    }
}

impl Utf8Look {
    fn feed(&mut self, bytes: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        let joined;
        let whole: &[u8] = if self.carried.is_empty() {
            bytes
        } else {
            joined = [std::mem::take(&mut self.carried).as_slice(), bytes].concat();
            &joined
        };
        let valid = match std::str::from_utf8(whole) {
            Ok(_) => whole.len(),
            Err(error) => {
                let valid = error.valid_up_to();
                if error.error_len().is_some() {
                    self.fault = Some(self.lines + newlines(&whole[..valid]));
                    return;
                }
                self.carried = whole[valid..].to_vec();
                valid
            }
        };
        self.lines += newlines(&whole[..valid]);
    }

    /// The line of the first fault; a file that ends within a character has one in its last line.
    fn end(&self) -> Option<u64> {
        self.fault
            .or_else(|| (!self.carried.is_empty()).then_some(self.lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(bytes: &[u8], region: Option<&str>) -> Result<(String, usize), String> {
        let found = |size: usize| {
            let mut look = CharsetLook::default();
            bytes.chunks(size).for_each(|piece| look.feed(piece));
            let words = || {
                let mut words = WordLook::default();
                bytes.chunks(size).for_each(|piece| words.feed(piece));
                Ok(words)
            };
            look.end(words, region)
        };
        let whole = found(bytes.len().max(1));
        for size in [1, 2, 3, 7] {
            assert_eq!(
                found(size).as_ref().ok(),
                whole.as_ref().ok(),
                "pieces of {size}"
            );
        }
        whole
            .map(|(set, bom, _)| (set.name().to_owned(), bom))
            .map_err(|fault| fault.to_string())
    }

    #[test]
    fn trap_97_the_characters_of_a_file_are_told_or_asked_for() {
        let utf16 = |text: &str, bom: &[u8]| {
            let units = text.encode_utf16().flat_map(u16::to_le_bytes);
            bom.iter().copied().chain(units).collect::<Vec<u8>>()
        };
        let is = |name: &str, bom| Ok((name.to_owned(), bom));
        let text = "meno;tel\nJ\u{e1}n \u{10c}ern\u{fd};0905\n";
        assert_eq!(look(text.as_bytes(), None), is("UTF-8", 0));
        assert_eq!(
            look(&[b"\xef\xbb\xbf", text.as_bytes()].concat(), None),
            is("UTF-8", 3)
        );
        assert_eq!(look(&utf16(text, b"\xff\xfe"), None), is("UTF-16LE", 2));
        assert_eq!(look(&utf16(text, b""), None), is("UTF-16LE", 0));
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(look(&big, None), is("UTF-16BE", 0));
        // \u{13e} is no letter in Windows-1252, \u{161} and \u{17e} are the same in both.
        assert_eq!(look(b"\xbcubom\xedr", None), is("windows-1250", 0));
        assert_eq!(look(b"Kov\xe1\xe8 \x8eofia", None), is("windows-1250", 0));
        assert_eq!(look(b"M\xfcller, Gr\xf6\xdfe", None), is("windows-1250", 0));
        // Nothing tells \u{10d} from \u{e8}: the region does, or it is asked.
        assert_eq!(look(b"Kov\xe1\xe8", Some("SK")), is("windows-1250", 0));
        assert_eq!(look(b"Mich\xe8le", Some("FR")), is("windows-1252", 0));
        let asked = look(b"Kov\xe1\xe8", None).unwrap_err();
        assert!(asked.contains("--encoding windows-1250"), "{asked}");
        assert!(asked.contains("Kov\u{e1}\u{10d}") && asked.contains("Kov\u{e1}\u{e8}"));
        let broken = look(b"\xef\xbb\xbfa\nKov\xe1\xe8", None).unwrap_err();
        assert!(broken.starts_with("line 2: the file says"), "{broken}");
        assert!(look(b"abc\0def,ghi\n", None).is_err());
        assert!(look(b"", None).is_ok());
    }

    #[test]
    fn a_workbook_is_told_as_one() {
        for (bytes, what) in [
            (&b"PK\x03\x04\x14\0\x06\0"[..], "(.xlsx)"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "(.xls)"),
            (b"%PDF-1.7", "PDF"),
        ] {
            let mut look = CharsetLook::default();
            look.feed(bytes);
            let said = look.is_text().unwrap_err().to_string();
            assert!(said.contains(what) && said.contains("CSV"), "{said}");
        }
        let mut look = CharsetLook::default();
        look.feed(b"PK;meno\n");
        assert_eq!(look.is_text(), Ok(()));
    }

    #[test]
    fn an_encoding_has_several_names() {
        for (name, is) in [
            ("UTF-8", "UTF-8"),
            ("cp1250", "windows-1250"),
            ("Windows-1252", "windows-1252"),
            ("utf-16le", "UTF-16LE"),
            ("iso-8859-2", "ISO-8859-2"),
        ] {
            assert_eq!(Charset::named(name).map(Charset::name), Ok(is), "{name}");
        }
        for name in ["", "klingon", "iso-2022-jp", "gb18030", "replacement"] {
            assert!(Charset::named(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_read_is_written_as_it_was() {
        for name in ["utf-8", "utf-16le", "utf-16be", "windows-1250"] {
            let set = Charset::named(name).unwrap();
            let bytes = set.encode("\u{13d}ubo;+421\r\n");
            let mut text = String::with_capacity(64);
            let _ = set.decoder().decode_to_string(&bytes, &mut text, true);
            assert_eq!(text, "\u{13d}ubo;+421\r\n", "{name}");
        }
    }
}
