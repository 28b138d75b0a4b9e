//! Who is found.

use super::*;

pub(super) async fn search_knows_every_alphabet_and_no_wildcards(f: &Fixture) {
    let shown = ["Ľubomír Šťastný", "Жанна", "100% Åse", "plain_name", "rest"];
    let people: Vec<User> = (1..)
        .zip(shown)
        .map(|(n, shown)| User {
            display_name: Some(shown.into()),
            ..person(&format!("u{n}"), n)
        })
        .collect();
    make(f, 1, &people).await;
    let found = async |text: &str, limit| {
        let filter = UserFilter {
            search: Some(text.into()),
            ..UserFilter::default()
        };
        let users = f.store.list_users(&filter, None, limit).await.unwrap();
        users
            .into_iter()
            .map(|u| u.username)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(found("ľubomír", 9).await, "u1");
    assert_eq!(found("ĽUBOMÍR Š", 9).await, "u1");
    assert_eq!(found("жАННА", 9).await, "u2");
    assert_eq!(found("åse", 1).await, "u3", "behind pages of others");
    assert_eq!(found("%", 9).await, "u3");
    assert_eq!(found("_", 9).await, "u4");
    assert_eq!(found("\\", 9).await, "");
}
