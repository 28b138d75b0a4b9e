//! Which column holds what: by the words of the header, or as somebody says.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::ImportFault;
use crate::model::ImportColumn;

/// Which column of a table is read as what, from 0.
pub(super) type Columns = [Option<usize>; ImportColumn::ALL.len()];

/// How well a word names a column; of two columns the better one is read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fit {
    /// It says so.
    Says,
    /// A number of any kind, where there may be a column with the mobile.
    Also,
    /// *Name*, *Meno*, *Jméno*: the user name, unless another column says user name; then the name for people.
    Name,
}

/// Words of headers in English, German, Slovak and Czech, folded; and the attributes that directories export.
#[rustfmt::skip]
const WORDS: &[(ImportColumn, Fit, &[&str])] = &[
    (ImportColumn::Name, Fit::Says, &[
        "username", "userid", "user", "login", "loginname", "logonname", "logon", "account", "accountname", "uid", "samaccountname",
        "benutzername", "benutzer", "benutzerkennung", "kennung", "anmeldename", "loginname", "konto", "kontoname",
        "pouzivatelskemeno", "pouzivatel", "prihlasovaciemeno", "menopouzivatela", "loginpouzivatela", "ucet",
        "uzivatelskejmeno", "uzivatel", "prihlasovacijmeno", "jmenouzivatele",
    ]),
    (ImportColumn::Name, Fit::Name, &["name", "meno", "jmeno"]),
    (ImportColumn::Phone, Fit::Says, &[
        "mobile", "mobilephone", "mobilenumber", "mobilephonenumber", "cell", "cellphone", "cellnumber", "cellphonenumber", "sms", "gsm",
        "mobil", "handy", "handynummer", "mobiltelefon", "mobilnummer", "mobiltelefonnummer", "mobilfunknummer", "mobilrufnummer",
        "mobilnecislo", "cislomobilu", "mobilnytelefon", "mobilnytelefoncislo", "mobilnitelefon", "mobilnicislo",
    ]),
    (ImportColumn::Phone, Fit::Also, &[
        "phone", "phonenumber", "telephone", "telephonenumber", "tel", "telno", "telnr", "number",
        "telefon", "telefonnummer", "rufnummer",
        "telefonnecislo", "cislotelefonu", "telcislo", "telefonnicislo", "cislo",
    ]),
    (ImportColumn::DisplayName, Fit::Says, &[
        "displayname", "fullname", "realname", "personname",
        "anzeigename", "vollstandigername", "vorundnachname", "vornameundnachname",
        "menoapriezvisko", "priezviskoameno", "celemeno", "zobrazovanemeno", "zobrazenemeno",
        "jmenoaprijmeni", "prijmeniajmeno", "celejmeno", "zobrazovanejmeno", "zobrazenejmeno",
    ]),
    (ImportColumn::Email, Fit::Says, &[
        "email", "mail", "emailaddress", "mailaddress", "eaddress",
        "emailadresse", "mailadresse", "epost",
        "emailovaadresa", "emailadresa", "mailovaadresa", "adresaemailu",
    ]),
    (ImportColumn::Methods, Fit::Says, &[
        "methods", "method", "twofactor", "twofactormethods", "mfa", "2fa",
        "methoden", "methode", "zweifaktor",
        "metody", "metoda", "dvojfaktor", "dvoufaktor",
    ]),
    (ImportColumn::Note, Fit::Says, &[
        "note", "notes", "comment", "comments", "remark", "remarks",
        "notiz", "notizen", "bemerkung", "bemerkungen", "anmerkung", "kommentar",
        "poznamka", "poznamky", "komentar",
    ]),
];

/// What words of headers are compared by: letters and digits alone, without case and marks.
pub(super) fn folded(word: &str) -> String {
    word.nfkd()
        .filter(|c| !is_combining_mark(*c) && c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

fn meaning(word: &str) -> Option<(ImportColumn, Fit)> {
    let folded = folded(word);
    WORDS
        .iter()
        .find(|(_, _, words)| words.contains(&folded.as_str()))
        .map(|(column, fit, _)| (*column, *fit))
}

/// Whether a line is a header: one of its cells is a word of one.
pub(super) fn is_header<'c>(mut cells: impl Iterator<Item = &'c str>) -> bool {
    cells.any(|cell| meaning(cell).is_some())
}

/// The columns of a table: as somebody says, and those of which nothing is said by its header; and words about those that could have
/// been read and are not.
pub(super) fn by_header(
    cells: &[&str],
    map: &ColumnMap,
    mapped: &Columns,
) -> Result<(Columns, Vec<String>), ImportFault> {
    let mut found: Vec<(usize, ImportColumn, Fit)> = cells
        .iter()
        .enumerate()
        .filter(|(n, _)| !mapped.contains(&Some(*n)))
        .filter_map(|(n, cell)| meaning(cell).map(|(column, fit)| (n, column, fit)))
        .filter(|(_, column, fit)| !map.says(*column) || *fit == Fit::Name)
        .collect();
    let says = |found: &[(usize, ImportColumn, Fit)], column| {
        map.says(column)
            || found
                .iter()
                .any(|(_, c, fit)| *c == column && *fit != Fit::Name)
    };
    if says(&found, ImportColumn::Name) {
        let display = says(&found, ImportColumn::DisplayName);
        for one in &mut found {
            if one.2 == Fit::Name && !display {
                one.1 = ImportColumn::DisplayName;
            }
        }
        found.retain(|(_, column, fit)| *fit != Fit::Name || *column == ImportColumn::DisplayName);
    }
    let mut columns = *mapped;
    let mut said = vec![];
    for column in ImportColumn::ALL {
        let mut of: Vec<_> = found.iter().filter(|(_, c, _)| c == column).collect();
        of.sort_by_key(|(n, _, fit)| (*fit, *n));
        match of.as_slice() {
            [] => {}
            [one, other, ..] if one.2 == other.2 => {
                return Err(ImportFault::at(
                    1,
                    format!(
                        "`{}` and `{}` are both the {}: say which column it is, as --map {column}={}",
                        cells[one.0],
                        cells[other.0],
                        noun(*column),
                        one.0 + 1
                    ),
                ));
            }
            [one, rest @ ..] => {
                columns[*column as usize] = Some(one.0);
                for other in rest {
                    said.push(format!(
                        "column {} `{}` is not read, since `{}` is the {}",
                        other.0 + 1,
                        cells[other.0],
                        cells[one.0],
                        noun(*column)
                    ));
                }
            }
        }
    }
    Ok((columns, said))
}

/// What a column holds, for people.
pub fn noun(column: ImportColumn) -> &'static str {
    match column {
        ImportColumn::Name => "user name",
        ImportColumn::Phone => "phone",
        ImportColumn::DisplayName => "display name",
        ImportColumn::Email => "e-mail address",
        ImportColumn::Methods => "methods",
        ImportColumn::Note => "note",
    }
}

/// What somebody says of some columns: `name=1,phone=3`, or by the words of the header, `name=Osobné číslo`; `note=-`: it is not read.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ColumnMap(Vec<(ImportColumn, String)>);

impl std::str::FromStr for ColumnMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut map: Vec<(ImportColumn, String)> = vec![];
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let Some((what, which)) = part.split_once('=') else {
                return Err(format!(
                    "`{part}` says no column: expected as name=1,phone=3"
                ));
            };
            let word = folded(what);
            let column = ImportColumn::ALL
                .iter()
                .copied()
                .find(|c| folded(c.as_str()) == word)
                .or_else(|| {
                    meaning(what)
                        .filter(|(_, fit)| *fit != Fit::Name)
                        .map(|(column, _)| column)
                });
            let Some(column) = column else {
                let words: Vec<&str> = ImportColumn::ALL.iter().map(|c| c.as_str()).collect();
                return Err(format!(
                    "`{}` is nothing that is read: expected one of {}",
                    what.trim(),
                    words.join(", ")
                ));
            };
            if map.iter().any(|(c, _)| *c == column) {
                return Err(format!("`{column}` is mapped twice"));
            }
            map.push((column, which.trim().to_owned()));
        }
        if map.is_empty() {
            return Err("it maps nothing: expected as name=1,phone=3".to_owned());
        }
        Ok(Self(map))
    }
}

impl ColumnMap {
    /// Each column that is read with what it is called.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ImportColumn, &str)> {
        self.0
            .iter()
            .map(|(column, which)| (*column, which.as_str()))
            .filter(|(_, which)| *which != "-")
    }

    /// Whether anything is said of a column.
    pub(super) fn says(&self, column: ImportColumn) -> bool {
        self.0.iter().any(|(said, _)| *said == column)
    }

    /// The columns of a table whose first line has these cells. `has_header`: they are a header.
    pub(super) fn columns(&self, cells: &[&str], has_header: bool) -> Result<Columns, ImportFault> {
        let mut columns = Columns::default();
        for (column, which) in self.iter() {
            let by_word = || {
                let word = folded(which);
                cells
                    .iter()
                    .position(|cell| !word.is_empty() && folded(cell) == word)
            };
            let n = match which.parse::<usize>() {
                Ok(n) => n.checked_sub(1).filter(|n| *n < cells.len()),
                Err(_) if has_header => by_word(),
                Err(_) => None,
            };
            let Some(n) = n else {
                return Err(ImportFault::at(
                    1,
                    format!(
                        "there is no column `{which}` for the {}: the first line has {}",
                        noun(column),
                        listed(cells)
                    ),
                ));
            };
            columns[column as usize] = Some(n);
        }
        Ok(columns)
    }

    /// Whether a column is named by a word of the header that the first line has.
    pub(super) fn names_one_of(&self, cells: &[&str]) -> bool {
        let cells: Vec<String> = cells.iter().map(|cell| folded(cell)).collect();
        self.iter()
            .any(|(_, which)| which.parse::<usize>().is_err() && cells.contains(&folded(which)))
    }
}

/// The cells of a header, for people.
pub(super) fn listed(cells: &[&str]) -> String {
    let some: Vec<String> = cells
        .iter()
        .take(20)
        .enumerate()
        .map(|(n, cell)| format!("{} `{}`", n + 1, cell.trim()))
        .collect();
    some.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str) -> Result<Columns, String> {
        mapped(header, "").map_err(|f| f.to_string())
    }

    fn mapped(header: &str, map: &str) -> Result<Columns, ImportFault> {
        let cells: Vec<&str> = header.split(',').collect();
        let map = map.parse().unwrap_or_default();
        let columns = ColumnMap::columns(&map, &cells, true)?;
        by_header(&cells, &map, &columns).map(|c| c.0)
    }

    #[test]
    fn what_a_map_does_not_say_the_header_says() {
        let of = |header, map| mapped(header, map).unwrap();
        let header = "Osobne cislo,Meno,Mobil,E-mail,Poznamka";
        let [name, display, phone, mail, note] = [0, 1, 2, 3, 4].map(Some);
        assert_eq!(
            of(header, "name=1"),
            [name, phone, display, mail, None, note]
        );
        assert_eq!(
            of(header, "name=1,e-mail=-,note=-"),
            [name, phone, display, None, None, None]
        );
        // A column is read as one thing.
        assert_eq!(
            of("login,mobil,mail", "name=mail"),
            [Some(2), Some(1), None, None, None, None]
        );
        // What the header leaves open is what is asked about.
        assert_eq!(of("login,mobil,handy", "phone=3")[..2], [Some(0), Some(2)]);
    }

    #[test]
    fn trap_97_headers_have_words_in_four_languages() {
        let [name, phone, display, email, methods, note] = [0, 1, 2, 3, 4, 5].map(Some);
        let all = [name, phone, display, email, methods, note];
        for header in [
            "User name,Mobile phone,Display name,E-mail,Methods,Note",
            "USERNAME,phone,full name,email address,two-factor,comments",
            "Benutzername,Handynummer,Anzeigename,E-Mail-Adresse,Methoden,Bemerkung",
            "Anmeldename,Telefon,Name,E-Mail,Methoden,Notiz",
            "Pou\u{17e}\u{ed}vate\u{13e}sk\u{e9} meno,Mobiln\u{e9} \u{10d}\u{ed}slo,Meno a priezvisko,E-mail,Met\u{f3}dy,Pozn\u{e1}mka",
            "Prihlasovacie meno,Telef\u{f3}n,Meno,Mail,Met\u{f3}dy,Pozn\u{e1}mky",
            "U\u{17e}ivatelsk\u{e9} jm\u{e9}no,Telefonn\u{ed} \u{10d}\u{ed}slo,Jm\u{e9}no a p\u{159}\u{ed}jmen\u{ed},E-mail,Metody,Koment\u{e1}\u{159}",
            "username,phone,display_name,email,two_factor,note",
        ] {
            assert_eq!(read(header), Ok(all), "{header}");
        }
        // Alone, these are the user name.
        for header in ["Meno,Telef\u{f3}n", "JM\u{c9}NO,telefon", "Name,Phone"] {
            assert_eq!(read(header).unwrap()[..2], [name, phone], "{header}");
        }
        // The mobile is preferred to any phone, and two of a kind are asked about.
        let csvde = read("DN,displayName,name,sAMAccountName,telephoneNumber,mobile").unwrap();
        assert_eq!(csvde[..3], [Some(3), Some(5), Some(1)]);
        let asked = read("login,mobil,handy").unwrap_err();
        assert!(asked.contains("--map phone=2"), "{asked}");
    }

    #[test]
    fn columns_are_mapped_by_number_or_word() {
        let map: ColumnMap = "name=2, phone=Moje \u{10d}\u{ed}slo,e-mail=1"
            .parse()
            .unwrap();
        let header = ["x", "y", "moje cislo"];
        let columns = map.columns(&header, true).unwrap();
        assert_eq!(columns[..4], [Some(1), Some(2), None, Some(0)]);
        assert!(map.columns(&header, false).is_err());
        for wrong in ["", "name", "colour=1", "name=1,name=2"] {
            assert!(wrong.parse::<ColumnMap>().is_err(), "{wrong}");
        }
        let beyond: ColumnMap = "name=9".parse().unwrap();
        let fault = beyond.columns(&["a", "b"], false).unwrap_err().to_string();
        assert!(fault.contains("1 `a`, 2 `b`"), "{fault}");
    }
}
