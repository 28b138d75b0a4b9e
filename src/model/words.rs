//! Words that the log, the command line and the console have in common.

use super::{HeldBy, Run};

/// A number with its noun: `1 message`, `2 messages`, `0 entries`, `3 people`.
pub fn count(n: impl TryInto<i64>, noun: &str) -> String {
    let n = n.try_into().unwrap_or(i64::MAX);
    match noun.strip_suffix('y') {
        _ if n == 1 => format!("1 {noun}"),
        _ if noun == "person" => format!("{n} people"),
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{n} {stem}ies"),
        _ if noun.ends_with('s') => format!("{n} {noun}es"),
        _ => format!("{n} {noun}s"),
    }
}

/// How many pass, where any do.
fn passing(allowed: i64) -> String {
    match allowed {
        0 => String::new(),
        allowed => format!(" ({allowed} go without asking)"),
    }
}

impl HeldBy {
    /// Why, with the numbers, as the rest of "held because …".
    pub fn why(&self) -> String {
        let n = self.count;
        match self.limit.as_str() {
            "container" => format!(
                "everybody of a container is found nowhere at once ({}): an access rule may hide it",
                count(n, "person")
            ),
            "mapping" => format!(
                "base, filter, attributes or phone rules were changed, and {} of people {} from that",
                count(n, "change"),
                if n == 1 { "follows" } else { "follow" }
            ),
            "moved" => format!(
                "{} would be taken over from another realm, for the first time",
                count(n, "person")
            ),
            "matched" => format!(
                "the realm was made by hand, and {} would get the directory's entry of the same name, for the first time",
                count(n, "user")
            ),
            "messages" => format!(
                "it would send {} to people whom no other limit counts{}",
                count(n, "message"),
                passing(self.allowed)
            ),
            "marked" => format!(
                "{} lost the first zero or the plus in a spreadsheet, and got it back: look whether they are right{}",
                count(n, "number"),
                passing(self.allowed)
            ),
            "nameless" => format!(
                "{} of the file {} no user name that can be used, so that nobody can tell who is missing",
                count(n, "line"),
                if n == 1 { "has" } else { "have" }
            ),
            "approve" => {
                "the realm says `approve = true`: an administrator decides every plan".to_owned()
            }
            "asked" => "it was asked for with `--hold`".to_owned(),
            "undo" => format!("it puts back {}", count(n, "change")),
            limit => format!(
                "`{limit}` is {n} of {} within 24 hours, and {} would pass",
                count(self.of, "person"),
                self.allowed
            ),
        }
    }
}

impl Run {
    /// What the run changes, without what is zero: `1 created, 2 phones changed`. Empty: nothing.
    pub fn what_changes(&self) -> String {
        let phones = |n: i64, word: &str| format!("{} {word}", count(n, "phone"));
        let people = |n: i64, word: &str| format!("{n} {word}");
        let each = [
            (self.created, people(self.created, "created")),
            (self.updated, people(self.updated, "updated")),
            (self.renamed, people(self.renamed, "renamed")),
            (self.phone_changed, phones(self.phone_changed, "changed")),
            (self.phone_lost, phones(self.phone_lost, "lost")),
            (self.suspended, people(self.suspended, "suspended")),
            (self.restored, people(self.restored, "restored")),
            (self.removed, people(self.removed, "removed")),
            (self.moved, people(self.moved, "moved here")),
        ];
        let said: Vec<String> = each
            .into_iter()
            .filter(|(n, _)| *n != 0)
            .map(|(_, words)| words)
            .collect();
        said.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_singular_and_all_else_is_plural() {
        for (n, noun, says) in [
            (1, "phone", "1 phone"),
            (2, "phone", "2 phones"),
            (0, "entry", "0 entries"),
            (1, "entry", "1 entry"),
            (3, "later pass", "3 later passes"),
            (3, "day", "3 days"),
            (1, "person", "1 person"),
            (2, "person", "2 people"),
        ] {
            assert_eq!(count(n, noun), says);
        }
        assert_eq!(count(7_usize, "realm"), "7 realms");
    }

    #[test]
    fn a_limit_without_a_share_names_no_share() {
        for limit in [
            "approve",
            "asked",
            "undo",
            "messages",
            "moved",
            "matched",
            "mapping",
            "container",
        ] {
            let held = HeldBy {
                limit: limit.into(),
                count: 500,
                of: 0,
                allowed: 0,
            };
            assert!(!held.why().contains(" of 0"), "{}", held.why());
        }
    }
}
