//! Who gets a contested user name.
//!
//! A name is unique among those whose entry is there. Two entries that want one name are both refused; a name that its
//! holder gives up in the same plan is free; two people may swap names.

use std::collections::HashMap;

use crate::model::Origin;

/// Somebody whose entry is there and who wants, or holds, a contested name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claimant {
    /// Who it is: a directory's person, or one of our own.
    pub who: Origin,
    /// The folded name that the source gives (an entry, a line of an import); `None`: it is refused, or there is no source: a user
    /// made by hand holds a name and wants no other.
    pub wants: Option<String>,
    /// The folded name that is theirs now; `None`: a new entry, or somebody who yielded it.
    pub holds: Option<String>,
    /// For the refusal's words.
    pub dn: String,
}

/// What each claimant ends with, in the order of the claimants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NameVerdict {
    /// The wanted name.
    Granted,
    /// The name that is held, if any; `others` are the DNs that stand in the way (none where the entry gives no name).
    Refused {
        /// Their DNs, ascending.
        others: Vec<String>,
    },
}

/// Settles all contested names at once. The order of the claimants means nothing.
pub fn resolve(claimants: &[Claimant]) -> Vec<NameVerdict> {
    let mut wanted: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, c) in claimants.iter().enumerate() {
        if let Some(key) = &c.wants {
            wanted.entry(key).or_default().push(i);
        }
    }
    let mut granted: Vec<bool> = claimants
        .iter()
        .map(|c| {
            c.wants
                .as_ref()
                .is_some_and(|k| wanted.get(k.as_str()).is_none_or(|w| w.len() == 1))
        })
        .collect();
    // Who is refused keeps the held name, which may refuse the next: repeat until nothing moves. Each round refuses at least
    // one more, so there are at most as many rounds as claimants; chains are short in practice.
    loop {
        let mut kept: HashMap<&str, usize> = HashMap::new();
        for (i, c) in claimants.iter().enumerate() {
            if let (false, Some(key)) = (granted[i], &c.holds) {
                kept.insert(key, i);
            }
        }
        let mut moved = false;
        for (i, c) in claimants.iter().enumerate() {
            let taken = c
                .wants
                .as_ref()
                .is_some_and(|k| kept.get(k.as_str()).is_some_and(|h| *h != i));
            if granted[i] && taken {
                granted[i] = false;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    let holders: HashMap<&str, usize> = claimants
        .iter()
        .enumerate()
        .filter(|(i, _)| !granted[*i])
        .filter_map(|(i, c)| c.holds.as_deref().map(|k| (k, i)))
        .collect();
    claimants
        .iter()
        .enumerate()
        .map(|(i, c)| {
            if granted[i] {
                return NameVerdict::Granted;
            }
            let mut others: Vec<String> = vec![];
            if let Some(key) = c.wants.as_deref() {
                let rivals = wanted
                    .get(key)
                    .into_iter()
                    .flatten()
                    .copied()
                    .chain(holders.get(key).copied());
                others.extend(rivals.filter(|j| *j != i).map(|j| claimants[j].dn.clone()));
                others.sort();
                others.dedup();
            }
            NameVerdict::Refused { others }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DirectoryId;

    fn claimant(id: u8, holds: &str, wants: &str) -> Claimant {
        let some = |s: &str| (!s.is_empty()).then(|| s.to_owned());
        Claimant {
            who: Origin::Directory(DirectoryId([id; 16])),
            wants: some(wants),
            holds: some(holds),
            dn: format!("uid={id}"),
        }
    }

    fn granted(claimants: &[Claimant]) -> Vec<bool> {
        resolve(claimants)
            .iter()
            .map(|v| *v == NameVerdict::Granted)
            .collect()
    }

    #[test]
    fn two_new_entries_with_one_name_are_both_refused() {
        let verdicts = resolve(&[claimant(1, "", "jan"), claimant(2, "", "jan")]);
        assert_eq!(
            verdicts,
            [
                NameVerdict::Refused {
                    others: vec!["uid=2".into()]
                },
                NameVerdict::Refused {
                    others: vec!["uid=1".into()]
                }
            ]
        );
    }

    #[test]
    fn the_holder_keeps_a_name_that_another_wants_too() {
        assert_eq!(
            granted(&[claimant(1, "jan", "jan"), claimant(2, "", "jan")]),
            [false, false]
        );
    }

    #[test]
    fn trap_12_two_users_swap_names() {
        assert_eq!(
            granted(&[claimant(1, "a", "b"), claimant(2, "b", "a")]),
            [true, true]
        );
        assert_eq!(
            granted(&[
                claimant(1, "a", "b"),
                claimant(2, "b", "c"),
                claimant(3, "c", "a")
            ]),
            [true, true, true]
        );
    }

    #[test]
    fn a_refused_rename_blocks_who_waits_for_the_name() {
        // 2 and 3 both want c, so 2 stays b, so 1 stays a, so 4 does not get a.
        let claimants = [
            claimant(1, "a", "b"),
            claimant(2, "b", "c"),
            claimant(3, "", "c"),
            claimant(4, "", "a"),
        ];
        assert_eq!(granted(&claimants), [false, false, false, false]);
    }

    #[test]
    fn a_refused_name_keeps_the_held_one_from_others() {
        let verdicts = resolve(&[claimant(1, "a", ""), claimant(2, "", "a")]);
        assert_eq!(
            verdicts,
            [
                NameVerdict::Refused { others: vec![] },
                NameVerdict::Refused {
                    others: vec!["uid=1".into()]
                }
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn final_names_are_unique_and_order_means_nothing(pairs in proptest::collection::vec((0u8..6, 0u8..6), 1..12)) {
            let name = |n: u8| if n == 0 { String::new() } else { n.to_string() };
            let mut held = std::collections::HashSet::new();
            let claimants: Vec<Claimant> = pairs.iter().enumerate()
                // Held names are unique: the store says so.
                .map(|(i, (h, w))| (i, if held.insert(*h) { *h } else { 0 }, *w))
                .map(|(i, h, w)| claimant(u8::try_from(i).unwrap(), &name(h), &name(w)))
                .collect();
            let verdicts = resolve(&claimants);
            let mut seen = std::collections::HashSet::new();
            for (c, v) in claimants.iter().zip(&verdicts) {
                let end = if *v == NameVerdict::Granted { &c.wants } else { &c.holds };
                if let Some(end) = end {
                    proptest::prop_assert!(seen.insert(end.clone()), "{end} twice");
                }
            }
            let mut backwards = claimants.clone();
            backwards.reverse();
            let mut again = resolve(&backwards);
            again.reverse();
            proptest::prop_assert_eq!(verdicts, again);
        }
    }
}
