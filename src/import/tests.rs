//! One file in every form in which people have it is one file.

use proptest::prelude::*;

use super::*;
use crate::model::{ImportCells, ImportColumn};

fn read(bytes: &[u8], region: Option<&str>) -> Result<(Vec<FileLine>, Reading), ImportFault> {
    let asked = LookAsked {
        region,
        ..LookAsked::default()
    };
    let reading = look(|| Ok(bytes), &asked)?;
    let mut lines = reading.lines(bytes)?;
    let mut all = vec![];
    while let Some(line) = lines.next()? {
        all.push(line);
    }
    Ok((all, reading))
}

const ROWS: [[&str; 4]; 4] = [
    ["Prihlasovacie meno", "Telefón", "Meno", "Poznámka"],
    [
        "jan",
        "0905 123 456",
        "Ján Šťastný, Ing.",
        "prvý riadok\ndruhý; \"a\" tretí\tštvrtý",
    ],
    ["eva", "+421905654321", "Eva Ľuptáková", ""],
    ["žofia", "0907654321", "Žofia Čierna", "x"],
];

/// The rows as one program or another writes them.
fn written(delimiter: char, end: &str) -> String {
    let mut text = String::new();
    for row in ROWS {
        for (n, cell) in row.iter().enumerate() {
            if n > 0 {
                text.push(delimiter);
            }
            let cell = cell.replace('\n', end);
            if cell.contains(['"', '\n', '\r', ',', ';', '\t']) {
                text.push_str(&format!("\"{}\"", cell.replace('"', "\"\"")));
            } else {
                text.push_str(&cell);
            }
        }
        text.push_str(end);
    }
    text
}

#[test]
fn trap_97_one_file_in_every_form_is_one_file() {
    let sets = [
        ("utf-8", &[][..]),
        ("utf-8", &[0xef, 0xbb, 0xbf]),
        ("utf-16le", &[0xff, 0xfe]),
        ("utf-16le", &[]),
        ("windows-1250", &[]),
    ];
    for (set, bom) in sets {
        for delimiter in [',', ';', '\t'] {
            for (end, name) in [("\n", "LF"), ("\r\n", "CRLF"), ("\r", "CR")] {
                for separated in [false, true] {
                    let which = format!("{set} {bom:?} {delimiter:?} {name} {separated}");
                    let mut text = written(delimiter, end);
                    if separated {
                        text = format!("sep={delimiter}{end}{text}");
                    }
                    let charset = Charset::named(set).unwrap();
                    let bytes = [bom, &charset.encode(&text)].concat();
                    let (lines, reading) =
                        read(&bytes, None).unwrap_or_else(|e| panic!("{which}: {e}"));
                    let more = u64::from(separated);
                    let numbers: Vec<u64> = lines.iter().map(|l| l.line).collect();
                    assert_eq!(numbers, [2 + more, 4 + more, 5 + more], "{which}");
                    for (line, row) in lines.iter().zip(&ROWS[1..]) {
                        let wanted = [
                            (ImportColumn::Name, row[0]),
                            (ImportColumn::Phone, row[1]),
                            (ImportColumn::DisplayName, row[2]),
                            (ImportColumn::Note, row[3]),
                        ];
                        for (column, value) in wanted {
                            let is = line.cells.of(column).collect::<String>().replace(end, "\n");
                            assert_eq!(is, value, "{which}");
                        }
                    }
                    // What would be refused is written as it was.
                    let records: String = lines.iter().map(|l| l.record.as_str()).collect();
                    let again = [reading.head.as_slice(), &charset.encode(&records)].concat();
                    assert_eq!(again, bytes, "{which}");
                }
            }
        }
    }
}

#[test]
fn a_file_that_says_nothing_is_refused_with_what_it_has() {
    for (text, why) in [
        ("", "the file is empty"),
        ("\n\n", "there is no line in the file"),
        (
            "a;b\n1;2\n",
            "no column is known by its header: it has 1 `a`, 2 `b`",
        ),
        ("telefón;e-mail\n1;2\n", "no column is the user name"),
        ("meno;telefón\n", "there is no line of users in the file"),
        (
            "meno;telefón\n;;\n",
            "there is no line of users in the file",
        ),
    ] {
        let said = read(text.as_bytes(), None).unwrap_err().to_string();
        assert!(said.contains(why), "{text:?}: {said}");
    }
}

#[test]
fn a_line_with_more_cells_than_the_first_is_refused() {
    let (lines, _) = read(b"meno;tel\njan;0905;x\neva;0906;;\n", None).unwrap();
    let fault = lines[0].fault.as_ref().unwrap();
    assert!(
        fault.reason.contains("3 cells, and the first line 2"),
        "{}",
        fault.reason
    );
    assert_eq!(lines[1].fault, None);
}

#[test]
fn columns_by_number_need_no_header() {
    let map: ColumnMap = "name=2,phone=1".parse().unwrap();
    let asked = LookAsked {
        map: Some(&map),
        ..LookAsked::default()
    };
    for text in ["0905123456,jan\n", "tel,login\n0905123456,jan\n"] {
        let reading = look(|| Ok(text.as_bytes()), &asked).unwrap();
        assert_eq!(reading.shown.len(), 1, "{text}");
        assert!(reading.shown[0].of(ImportColumn::Name).eq(["jan"]));
    }
}

proptest! {
    #[test]
    fn whatever_is_written_is_read_again(rows in prop::collection::vec(prop::array::uniform2("[a-z\"';,\t \u{10d}\u{f4}\n-]{1,12}"), 1..20), delimiter in prop::sample::select(vec![',', ';', '\t'])) {
        let quoted = |cell: &str| format!("\"{}\"", cell.replace('"', "\"\""));
        let mut text = format!("login{delimiter}note\n");
        for row in &rows {
            text.push_str(&format!("{}{delimiter}{}\n", quoted(&row[0]), quoted(&row[1])));
        }
        let wanted: Vec<ImportCells> = rows.iter().filter(|r| r.iter().any(|c| !c.trim().is_empty())).map(|row| {
            let mut cells = ImportCells::default();
            for (column, cell) in [(ImportColumn::Name, &row[0]), (ImportColumn::Note, &row[1])] {
                if !cell.trim().is_empty() {
                    cells.add(column, cell);
                }
            }
            cells
        }).collect();
        if !wanted.is_empty() {
            let (lines, _) = read(text.as_bytes(), None).unwrap();
            let is: Vec<ImportCells> = lines.into_iter().map(|l| l.cells).collect();
            prop_assert_eq!(is, wanted);
        }
    }
}
