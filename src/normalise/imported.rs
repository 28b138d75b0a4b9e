//! A line of a file of users: what its cells mean, or why it is refused whole. Spreadsheets lose the first zero or the plus of a number,
//! or most of its digits; what they lost for certain is given back and said, what they may have lost is refused.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use super::phone::imported_number;
use super::text::{choose, tidy};
use super::typed::{typed_email, typed_name, typed_note, typed_text};
use crate::config::PhoneConfig;
use crate::model::person::fold_name;
use crate::model::{
    Edit, ImportCells, ImportColumn, ImportedPhone, ImportedUser, LineFault, TwoFactor, UserName,
};

/// The longest display name, in characters.
const LONGEST_TEXT: usize = 256;

/// Reads the cells of a line. An empty cell leaves a value as it is, `-` clears it.
///
/// # Errors
/// The first cell that cannot be used: then nothing of the line is.
pub fn imported_line(cells: &ImportCells, rules: &PhoneConfig) -> Result<ImportedUser, LineFault> {
    let name = name(cells)?;
    let display_name = text(cells, ImportColumn::DisplayName, |text| {
        typed_text(text, LONGEST_TEXT)
    })?;
    let email = text(cells, ImportColumn::Email, typed_email)?;
    let note = text(cells, ImportColumn::Note, |text| {
        typed_note(&text.replace("\r\n", "\n").replace('\r', "\n"))
    })?;
    let two_factor = match text(cells, ImportColumn::Methods, methods)? {
        Edit::Keep => None,
        Edit::Clear => Some(vec![]),
        Edit::Set(methods) => Some(methods),
    };
    let (phone, other_phones, marked) = phones(cells, rules)?;
    Ok(ImportedUser {
        name,
        display_name,
        email,
        phone,
        other_phones,
        two_factor,
        note,
        marked,
    })
}

/// What tells whether two lines of a file are about the same person, which is stricter than what tells users apart: names that only
/// look alike to a spreadsheet are one here. `None`: the line has no name that can be used.
pub fn imported_key(cells: &ImportCells) -> Option<Cow<'_, str>> {
    let mut values = cells.of(ImportColumn::Name);
    if let (Some(raw), None) = (values.next(), values.next())
        && is_plain(raw)
    {
        return Some(Cow::Borrowed(raw));
    }
    let name = name(cells).ok()?;
    Some(Cow::Owned(same_person_key(&name.shown)))
}

/// Whether a text is a name and its own key as it stands, whatever is looked at: most are.
fn is_plain(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

/// The same of a user's name.
pub fn same_person_key(shown: &str) -> String {
    if shown.is_ascii() {
        return fold_name(shown);
    }
    fold_name(&shown.nfkc().collect::<String>())
}

/// A cell without what spreadsheets, and our own lists, put around a text.
enum Cell<'c> {
    Clear,
    Text(Cow<'c, str>),
}

fn cell(raw: &str) -> Option<Cell<'_>> {
    let tidy = tidy(raw);
    match &*tidy {
        "" => return None,
        "-" => return Some(Cell::Clear),
        _ => {}
    }
    let quoted = tidy.strip_prefix("=\"").and_then(|t| t.strip_suffix('"'));
    // The apostrophe that keeps a spreadsheet from taking a text for a formula.
    let marked = tidy.strip_prefix('\'').filter(|t| {
        t.trim_start_matches(' ')
            .starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠', '|', '%'])
    });
    let inner = quoted.or(marked).map(str::to_owned);
    Some(Cell::Text(inner.map_or(tidy, Cow::Owned)))
}

fn fault(column: ImportColumn, raw: &str, reason: impl Into<String>) -> LineFault {
    LineFault {
        column: Some(column),
        value: Some(raw.to_owned()),
        reason: reason.into(),
    }
}

/// The value of a column that an LDIF may give more than one of.
fn one_of(cells: &ImportCells, column: ImportColumn) -> Option<Cow<'_, str>> {
    let attributes: &[&str] = match column {
        ImportColumn::Name => &["uid", "samaccountname"],
        ImportColumn::DisplayName => &["displayname", "cn", "name"],
        ImportColumn::Email => &["mail"],
        _ => &[],
    };
    let mut values = cells.of(column);
    let one = values.next()?;
    if values.next().is_none() {
        return Some(Cow::Borrowed(one));
    }
    let several = cells.of(column).map(str::to_owned).collect();
    let own = |kind: &str| attributes.contains(&kind);
    choose(own, several, cells.dn.as_bytes()).map(|(one, _)| Cow::Owned(one))
}

fn name(cells: &ImportCells) -> Result<UserName, LineFault> {
    const COLUMN: ImportColumn = ImportColumn::Name;
    let raw = one_of(cells, COLUMN).unwrap_or_default();
    let text = match cell(&raw) {
        Some(Cell::Text(text)) => text,
        None | Some(Cell::Clear) => {
            return Err(fault(
                COLUMN,
                &raw,
                "there is no user name: a line without one says nothing of anybody",
            ));
        }
    };
    if is_exponent(&text) {
        return Err(fault(
            COLUMN,
            &raw,
            "a spreadsheet made a number of it, and digits were lost: format the column as text, and enter the name again",
        ));
    }
    if is_date(&text) {
        return Err(fault(
            COLUMN,
            &raw,
            "a spreadsheet made a date of it: format the column as text, and enter the name again",
        ));
    }
    typed_name(&text).map_err(|why| fault(COLUMN, &raw, why))
}

fn text<T>(
    cells: &ImportCells,
    column: ImportColumn,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Edit<T>, LineFault> {
    let Some(raw) = one_of(cells, column) else {
        return Ok(Edit::Keep);
    };
    match cell(&raw) {
        None => Ok(Edit::Keep),
        Some(Cell::Clear) => Ok(Edit::Clear),
        Some(Cell::Text(text)) => read(&text)
            .map(Edit::Set)
            .map_err(|why| fault(column, &raw, why)),
    }
}

fn methods(text: &str) -> Result<Vec<TwoFactor>, String> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '|' | '+' | '/'));
    let mut methods = vec![];
    for word in words.filter(|word| !word.is_empty()) {
        if word.eq_ignore_ascii_case("none") {
            continue;
        }
        let word = word.to_ascii_lowercase().replace('_', "-");
        methods.push(word.parse::<TwoFactor>()?);
    }
    methods.sort_unstable();
    methods.dedup();
    Ok(methods)
}

type Phones = (Edit<ImportedPhone>, Vec<ImportedPhone>, bool);

fn phones(cells: &ImportCells, rules: &PhoneConfig) -> Result<Phones, LineFault> {
    const COLUMN: ImportColumn = ImportColumn::Phone;
    let mut usable: Vec<ImportedPhone> = vec![];
    let mut marked = false;
    let mut first_fault = None;
    for raw in cells.of(COLUMN) {
        let text = match cell(raw) {
            None => continue,
            Some(Cell::Clear) => return Ok((Edit::Clear, vec![], false)),
            Some(Cell::Text(text)) => text,
        };
        if is_exponent(&text) {
            let why = "a spreadsheet made a number of it, and digits were lost: format the column as text, and enter the number again";
            return Err(fault(COLUMN, raw, why));
        }
        match imported_number(&text, rules) {
            Ok((phone, given_back)) => {
                marked |= given_back;
                usable.push(ImportedPhone {
                    phone,
                    raw: raw.trim().to_owned(),
                });
            }
            Err(why) => first_fault = first_fault.or_else(|| Some(fault(COLUMN, raw, why))),
        }
    }
    // Of several values of an LDIF one will do, and their order means nothing.
    usable.sort_by(|a, b| a.phone.cmp(&b.phone));
    let mut usable = usable.into_iter();
    match (usable.next(), first_fault) {
        (Some(first), _) => Ok((Edit::Set(first), usable.collect(), marked)),
        (None, Some(fault)) => Err(fault),
        (None, None) => Ok((Edit::Keep, vec![], false)),
    }
}

/// Whether a text is a number as spreadsheets shorten it: `4,21905E+11`, `1E10`.
fn is_exponent(text: &str) -> bool {
    let Some((number, exponent)) = text.split_once(['E', 'e']) else {
        return false;
    };
    let lower = text.contains('e');
    let signed = exponent.strip_prefix(['+', '-']);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = number.strip_prefix(['+', '-']).unwrap_or(number);
    let mut parts = number.splitn(2, [',', '.']);
    let whole = parts.next().is_some_and(digits);
    let fraction = parts.next().is_none_or(digits);
    // Written by hand it may be a name; spreadsheets write it large, or with a sign.
    digits(signed.unwrap_or(exponent)) && whole && fraction && (!lower || signed.is_some())
}

/// Whether a text is a date as spreadsheets write one: `1.5.2026`, `2026-05-01`, `1/5/26`.
fn is_date(text: &str) -> bool {
    let parts = |by: char| -> Option<[usize; 3]> {
        let mut lengths = [0; 3];
        let mut n = 0;
        for part in text.split(by) {
            let part = part.trim_matches(' ');
            if n == 3 || part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            lengths[n] = part.len();
            n += 1;
        }
        (n == 3).then_some(lengths)
    };
    ['.', '-', '/']
        .iter()
        .filter_map(|by| parts(*by))
        .any(|lengths| matches!(lengths, [1 | 2, 1 | 2, 2 | 4] | [4, 1 | 2, 1 | 2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SK: fn() -> PhoneConfig = || PhoneConfig {
        region: Some("SK".into()),
        mobile_only: true,
        allow_premium: false,
    };

    fn cells(of: &[(ImportColumn, &str)]) -> ImportCells {
        let mut cells = ImportCells::default();
        for (column, value) in of {
            cells.add(*column, value);
        }
        cells
    }

    fn number(text: &str, region: &str) -> Result<(String, bool), String> {
        let rules = PhoneConfig {
            region: (!region.is_empty()).then(|| region.into()),
            ..SK()
        };
        let line = imported_line(
            &cells(&[(ImportColumn::Name, "jan"), (ImportColumn::Phone, text)]),
            &rules,
        );
        match line {
            Ok(line) => match line.phone {
                Edit::Set(phone) => Ok((phone.phone.as_str().to_owned(), line.marked)),
                other => Ok((format!("{other:?}"), line.marked)),
            },
            Err(fault) => Err(fault.reason),
        }
    }

    #[test]
    fn trap_98_what_a_spreadsheet_lost_of_a_number_is_given_back_and_said_or_refused() {
        let whole = |marked| Ok(("+421905123456".to_owned(), marked));
        for text in [
            "0905123456",
            "+421905123456",
            "'+421905123456",
            "=\"0905123456\"",
            "=\"+421905123456\"",
            "\u{a0}0905\u{a0}123\u{a0}456\u{a0}",
            "'0905123456",
            "00421905123456",
            "0905 123 456",
        ] {
            assert_eq!(number(text, "SK"), whole(false), "{text:?}");
        }
        // The zero, and the plus.
        assert_eq!(number("905123456", "SK"), whole(true));
        assert_eq!(number("421905123456", "SK"), whole(true));
        // Where there is none to lose, none was lost.
        assert_eq!(
            number("601123456", "CZ"),
            Ok(("+420601123456".into(), false))
        );
        assert_eq!(
            number("2013214567", "US"),
            Ok(("+12013214567".into(), false))
        );
        // No region says so; and a German mobile without its zero is an American number without its plus.
        assert!(number("905123456", "").unwrap_err().contains("no region"));
        assert!(number("421905123456", "").is_err());
        let both = number("15123456789", "DE").unwrap_err();
        assert!(both.contains("one number if"), "{both}");
        for text in [
            "4,21905E+11",
            "4.21905E+11",
            "4,21905E11",
            "9E+08",
            "9.05e+8",
        ] {
            let why = number(text, "SK").unwrap_err();
            assert!(
                why.contains("digits were lost: format the column as text"),
                "{text}: {why}"
            );
        }
        let two = number("0905123456, 0907654321", "SK").unwrap_err();
        assert!(two.contains("more than one number"), "{two}");
        assert!(number("0905123456/0907654321", "SK").is_err());
        assert_eq!(number("-", "SK"), Ok(("Clear".into(), false)));
        assert_eq!(number(" ", "SK"), Ok(("Keep".into(), false)));
    }

    #[test]
    fn trap_98_a_name_that_a_spreadsheet_took_for_something_else_is_refused() {
        for text in [
            "1E10",
            "1,5E+10",
            "2E-3",
            "1.5.2026",
            "2026-05-01",
            "1/5/26",
            "01-05-2026",
        ] {
            let fault = imported_line(&cells(&[(ImportColumn::Name, text)]), &SK()).unwrap_err();
            assert_eq!(fault.column, Some(ImportColumn::Name), "{text}");
            assert!(
                fault.reason.contains("spreadsheet"),
                "{text}: {}",
                fault.reason
            );
        }
        for text in [
            "12e5",
            "0005",
            "1.5",
            "E10",
            "jan-01-02",
            "10.0.0.1",
            "5",
            "1E",
            "2026-05",
        ] {
            let read = imported_line(&cells(&[(ImportColumn::Name, text)]), &SK());
            assert_eq!(read.unwrap().name.shown, text);
        }
    }

    #[test]
    fn an_empty_cell_keeps_a_dash_clears_and_our_own_mark_goes() {
        use ImportColumn::{DisplayName, Email, Methods, Name, Note};
        let line = imported_line(
            &cells(&[
                (Name, " Jan "),
                (DisplayName, "'=Novak"),
                (Email, "-"),
                (Methods, "App_OTP; sms-otp"),
                (Note, "'-"),
            ]),
            &SK(),
        )
        .unwrap();
        assert_eq!(
            (line.name.shown.as_str(), line.name.key.as_str()),
            ("Jan", "jan")
        );
        assert_eq!(line.display_name, Edit::Set("=Novak".into()));
        assert_eq!(
            (line.email, line.note),
            (Edit::Clear, Edit::Set("-".into()))
        );
        assert_eq!(
            line.two_factor,
            Some(vec![TwoFactor::SmsOtp, TwoFactor::AppOtp])
        );
        let fault = imported_line(&cells(&[(Name, "jan"), (Methods, "fax")]), &SK()).unwrap_err();
        assert!(
            fault.reason.starts_with("`fax` is none of sms-otp"),
            "{}",
            fault.reason
        );
        assert!(imported_line(&cells(&[]), &SK()).is_err());
    }

    #[test]
    fn trap_99_names_of_one_person_have_one_key() {
        let key = |name| {
            imported_key(&cells(&[(ImportColumn::Name, name)]))
                .unwrap()
                .into_owned()
        };
        assert_eq!(key("J\u{e1}n"), key("JA\u{301}N "));
        assert_eq!(key("JAN@x"), key("jan@X "));
        assert_eq!(key("ｊａｎ"), key("Jan"));
        assert_ne!(key("jan"), key("j\u{e1}n"));
        assert_eq!(imported_key(&cells(&[])), None);
    }

    proptest::proptest! {
        /// A name that is looked at in short has the key that it has when it is looked at in full.
        #[test]
        fn trap_99_a_plain_name_has_the_key_of_any(text in "[a-zA-Z0-9._+-]{1,4}|[a-z0-9._-]{1,70}|[0-9]{0,2}[eE][0-9]{1,2}") {
            let cells = cells(&[(ImportColumn::Name, text.as_str())]);
            let full = name(&cells).ok().map(|name| same_person_key(&name.shown));
            proptest::prop_assert_eq!(imported_key(&cells).map(Cow::into_owned), full);
        }
    }
}
