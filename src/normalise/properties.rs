//! What holds for any entry and any text.

use proptest::prelude::*;

use super::tests::{UUID, changed, normaliser, readings};
use super::typed_number;
use crate::model::{RawAttribute, RawEntry};

const NAMES: [&str; 10] = [
    "uid",
    "cn",
    "displayname",
    "mail",
    "mobile",
    "telephonenumber",
    "c",
    "preferredlanguage",
    "pwdaccountlockedtime",
    "description",
];
const TEXTS: [&str; 10] = [
    "0905123456",
    "+421 905 123 456",
    "02/5555 1234",
    "jan",
    "SK",
    "sk-SK, en;q=0.8",
    "n/a",
    "jan@example.org",
    "0905\u{a0}123\u{a0}456 x12",
    " ",
];

/// An entry with a readable id, and anything else.
fn raw_entry() -> impl Strategy<Value = RawEntry> {
    let value = prop_oneof![
        3 => prop::sample::select(TEXTS.to_vec()).prop_map(|t| t.as_bytes().to_vec()),
        1 => any::<Vec<u8>>(),
        1 => "\\PC{0,20}".prop_map(String::into_bytes),
        1 => "[+0-9 ()/.x;=ext-]{0,24}".prop_map(String::into_bytes),
    ];
    let names = prop::sample::select(NAMES.to_vec());
    let options = prop::sample::select(vec!["", "", "", "lang-fi", "binary"]);
    let attribute = (names, options, prop::collection::vec(value, 0..4));
    let attributes = prop::collection::vec(attribute, 0..8);
    (any::<Vec<u8>>(), attributes).prop_map(|(dn, attributes)| {
        let id = ("entryuuid", "", vec![UUID.as_bytes().to_vec()]);
        let attributes: Vec<RawAttribute> = std::iter::once(id)
            .chain(attributes)
            .map(|(name, options, values)| RawAttribute {
                name: name.into(),
                options: options.into(),
                values,
            })
            .collect();
        RawEntry::new(&dn, &attributes)
    })
}

/// The same entry with attributes and values in another order.
fn shuffled(entry: &RawEntry, turn: usize) -> RawEntry {
    changed(entry, |all| {
        all.reverse();
        let length = all.len();
        all.rotate_left(turn % length);
        for attribute in all {
            attribute.values.reverse();
            let length = attribute.values.len().max(1);
            attribute.values.rotate_left(turn % length);
        }
    })
}

proptest! {
    #[test]
    fn order_means_nothing(entry in raw_entry(), turn in 0usize..8) {
        let normaliser = normaliser();
        let other = shuffled(&entry, turn);
        prop_assert_eq!(normaliser.fingerprint(&entry), normaliser.fingerprint(&other));
        prop_assert!(normaliser.fingerprint(&entry) < 1 << 62);
        prop_assert_eq!(normaliser.person(&entry), normaliser.person(&other));
    }

    #[test]
    fn any_change_of_a_mapped_value_is_seen(
        entry in raw_entry(),
        at in any::<prop::sample::Index>(),
        added in any::<Vec<u8>>(),
    ) {
        let normaliser = normaliser();
        let before = normaliser.fingerprint(&entry);
        let all = entry.taken_apart();
        let index = at.index(all.len());
        let other = changed(&entry, |all| all[index].values.push(added));
        let mapped = &*all[index].name != "description";
        prop_assert_eq!(normaliser.fingerprint(&other) != before, mapped);
        let moved = RawEntry::new(&[entry.dn(), b"x"].concat(), &all);
        prop_assert_ne!(normaliser.fingerprint(&moved), before);
    }

    #[test]
    fn usable_numbers_are_valid_ascending_and_counted(entry in raw_entry()) {
        let person = normaliser().person(&entry).unwrap();
        for reading in readings(&person) {
            prop_assert!(reading.usable.windows(2).all(|w| w[0].phone < w[1].phone));
            let values = entry.values(&reading.attribute.to_lowercase()).count();
            let told = reading.usable.len() + reading.refused;
            prop_assert!(told <= values && (told > 0) == (values > 0), "no value is silently absent");
            for usable in &reading.usable {
                let again = typed_number(usable.phone.as_str(), None).unwrap();
                prop_assert_eq!(&again.0, &usable.phone);
            }
        }
    }

    #[test]
    fn no_text_makes_reading_a_number_panic(
        text in any::<String>(),
        digits in "[+0-9 ()/.,;x#*ext=tel:phone\u{a0}\u{200e}O-]{0,40}",
    ) {
        for text in [text, digits] {
            for region in [None, Some("SK"), Some("DE"), Some("US"), Some("AQ")] {
                let _ = typed_number(&text, region);
            }
        }
    }

    #[test]
    fn format_means_nothing(
        subscriber in 1_000_000u32..9_999_999,
        cuts in prop::collection::btree_set(0usize..9, 0..5),
        gap in prop::sample::select(vec![" ", "-", ".", "\u{a0}", "\u{200b}", "\u{2011}", " - "]),
    ) {
        let national = format!("90{subscriber}");
        let expected = typed_number(&format!("+421{national}"), None).ok();
        let mut spread = national.clone();
        for cut in cuts.into_iter().rev() {
            spread.insert_str(cut, gap);
        }
        for head in ["+421", "0", "00421 ", "+421 (0)", "tel:+421-", "Mobil: 0"] {
            let typed = format!("{head}{spread}");
            prop_assert_eq!(&typed_number(&typed, Some("SK")).ok(), &expected, "{}", typed);
        }
    }
}
