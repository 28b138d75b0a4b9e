//! Who is in a file more than once: the same said twice is one, anything else is refused, wherever it stands.

use xxhash_rust::xxh3::xxh3_64;

use crate::config::PhoneConfig;
use crate::import::{FileLine, ImportFault};
use crate::model::{Edit, ImportedUser};
use crate::normalise::{imported_key, imported_line};

/// What a line is among those about the same person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Double {
    /// The only one, or the first that says so.
    First,
    /// An earlier line says the same.
    Again,
    /// Others say something else.
    Contradicted(OtherLines),
}

/// Other lines about the same person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OtherLines {
    /// The first of them, at most [`NAMED`].
    pub(super) some: Vec<u64>,
    /// How many there are.
    pub(super) all: usize,
}

/// Lines that are named of a person.
pub(super) const NAMED: usize = 5;

/// A line about somebody who is in the file more than once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Occurrence {
    who: u64,
    line: u64,
    /// Of what it says; 0: it cannot be used.
    says: u64,
}

/// Somebody who is in the file more than once: where their occurrences stand.
#[derive(Clone, Copy)]
struct Person {
    who: u64,
    begin: usize,
    end: usize,
    /// Not all of them say the same, or one cannot be used.
    contradicted: bool,
}

/// Who is in a file, by the hashes of their names, and who is more than once.
#[derive(Default)]
pub(super) struct Doubles {
    names: Vec<u64>,
    /// By person, and of each by line.
    occurrences: Vec<Occurrence>,
    /// By `who`.
    people: Vec<Person>,
    /// Lines that are read.
    pub(super) lines: u64,
    /// Lines without a name that can be used.
    pub(super) nameless: i64,
}

/// What folded names are looked up by.
pub(super) fn hash(key: &str) -> u64 {
    xxh3_64(key.as_bytes())
}

fn hash_of(line: &FileLine) -> Option<u64> {
    imported_key(&line.cells).map(|key| hash(&key))
}

/// What a line says, in one number that is not 0.
fn says(line: &FileLine, rules: &PhoneConfig) -> u64 {
    if line.fault.is_some() {
        return 0;
    }
    let Ok(user) = imported_line(&line.cells, rules) else {
        return 0;
    };
    let ImportedUser {
        display_name,
        email,
        phone,
        two_factor,
        note,
        ..
    } = user;
    let phone = match phone {
        Edit::Set(phone) => Edit::Set(phone.phone.as_str().to_owned()),
        Edit::Clear => Edit::Clear,
        Edit::Keep => Edit::Keep,
    };
    let text = format!("{display_name:?} {email:?} {phone:?} {two_factor:?} {note:?}");
    hash(&text).max(1)
}

impl Doubles {
    /// Reads a file once, and where anybody is in it more than once, once more. `lines` begins it anew.
    pub(super) fn of<L>(
        mut lines: impl FnMut() -> Result<L, ImportFault>,
        rules: &PhoneConfig,
    ) -> Result<Self, ImportFault>
    where
        L: FnMut(&mut FileLine) -> Result<bool, ImportFault>,
    {
        let mut doubles = Self::default();
        let mut line = FileLine::default();
        let mut next = lines()?;
        while next(&mut line)? {
            doubles.lines += 1;
            match hash_of(&line) {
                Some(hash) => doubles.names.push(hash),
                None => doubles.nameless += 1,
            }
        }
        doubles.names.sort_unstable();
        let mut twice: Vec<u64> = doubles
            .names
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .map(|pair| pair[0])
            .collect();
        twice.dedup();
        doubles.names.dedup();
        if twice.is_empty() {
            return Ok(doubles);
        }
        let mut next = lines()?;
        while next(&mut line)? {
            if let Some(who) = hash_of(&line).filter(|hash| twice.binary_search(hash).is_ok()) {
                doubles.occurrences.push(Occurrence {
                    who,
                    line: line.line,
                    says: says(&line, rules),
                });
            }
        }
        doubles.occurrences.sort_unstable();
        doubles.judge();
        Ok(doubles)
    }

    /// Judges each person once: a file may say a million lines about one.
    fn judge(&mut self) {
        let mut begin = 0;
        for of in self.occurrences.chunk_by(|a, b| a.who == b.who) {
            let says = of[0].says;
            self.people.push(Person {
                who: of[0].who,
                begin,
                end: begin + of.len(),
                contradicted: says == 0 || of.iter().any(|o| o.says != says),
            });
            begin += of.len();
        }
    }

    /// Whether a name is in the file. `key` as [`crate::normalise::same_person_key`] gives it.
    pub(super) fn has(&self, key: &str) -> bool {
        self.names.binary_search(&hash(key)).is_ok()
    }

    /// What a line is.
    pub(super) fn verdict(&self, line: &FileLine) -> Double {
        if self.people.is_empty() {
            return Double::First;
        }
        let Some(who) = hash_of(line) else {
            return Double::First;
        };
        let Ok(place) = self.people.binary_search_by_key(&who, |person| person.who) else {
            return Double::First;
        };
        let person = self.people[place];
        let of = &self.occurrences[person.begin..person.end];
        if person.contradicted {
            let others = of.iter().map(|o| o.line).filter(|n| *n != line.line);
            return Double::Contradicted(OtherLines {
                some: others.take(NAMED).collect(),
                all: of.len() - 1,
            });
        }
        if of[0].line == line.line {
            Double::First
        } else {
            Double::Again
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{LookAsked, look};

    fn verdicts(text: &str) -> Vec<Double> {
        let rules = PhoneConfig {
            region: Some("SK".into()),
            mobile_only: true,
            allow_premium: false,
        };
        let reading = look(|| Ok(text.as_bytes()), &LookAsked::default()).unwrap();
        let lines = || {
            let mut lines = reading.lines(text.as_bytes())?;
            Ok(move |line: &mut FileLine| lines.read(line))
        };
        let doubles = Doubles::of(lines, &rules).unwrap();
        let mut next = lines().unwrap();
        let mut all = vec![];
        let mut line = FileLine::default();
        while next(&mut line).unwrap() {
            all.push(doubles.verdict(&line));
        }
        all
    }

    fn others(some: &[u64]) -> Double {
        Double::Contradicted(OtherLines {
            some: some.to_vec(),
            all: some.len(),
        })
    }

    #[test]
    fn trap_99_a_column_that_names_everybody_alike_is_judged_once() {
        let mut text = "name;phone\n".to_owned();
        for n in 0..100_000_u64 {
            text.push_str(&format!("sales;0905{n:06}\n"));
        }
        let verdicts = verdicts(&text);
        assert_eq!(
            verdicts[2],
            Double::Contradicted(OtherLines {
                some: vec![2, 3, 5, 6, 7],
                all: 99_999,
            })
        );
        assert_eq!(verdicts.len(), 100_000);
    }

    #[test]
    fn trap_99_the_same_person_twice_is_refused_with_both_lines_or_is_one() {
        let text = "name;phone\nJ\u{e1}n;0905123456\nJAN@x;0905123457\nJA\u{301}N ;+421905123456\njan@X ;0905123458\neva;\n";
        assert_eq!(
            verdicts(text),
            [
                Double::First,
                others(&[5]),
                // The same number, and the same person.
                Double::Again,
                others(&[3]),
                Double::First,
            ]
        );
        // Of two lines one of which cannot be used, nobody knows which was meant.
        assert_eq!(
            verdicts("name;phone\njan;x\njan;0905123456\n"),
            [others(&[3]), others(&[2])]
        );
    }
}
