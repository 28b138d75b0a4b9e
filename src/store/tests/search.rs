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
        let users = f
            .store
            .list_users(&filter, &UserPage::first(limit, START))
            .await
            .unwrap();
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

pub(super) async fn a_former_name_leads_to_whoever_had_it(f: &Fixture) {
    let someone = person("Ľubica", 1);
    make(f, 1, std::slice::from_ref(&someone)).await;
    let renamed = User {
        username: "lubica.nova".into(),
        username_key: "lubica.nova".into(),
        ..later(&someone)
    };
    let mut change = line(&run_of(9), 1, &renamed, ChangeKind::Renamed);
    change.run = None;
    change
        .before
        .insert("username".into(), serde_json::json!("Ľubica"));
    f.store
        .act(std::slice::from_ref(&change), &renamed, 1, &[], &f.ctx())
        .await
        .unwrap();
    // A plan that was never applied renamed nobody.
    let run = run_of(2);
    f.store.begin_run(&run, false, None).await.unwrap();
    let mut planned = line(&run, 1, &renamed, ChangeKind::Renamed);
    planned
        .before
        .insert("username".into(), serde_json::json!("lubica.nova"));
    f.store.stage(run.run, vec![], &[planned]).await.unwrap();
    let who = async |name: &str, realm: Option<&RealmId>| {
        let changes = f.store.renamed_from(name, realm).await.unwrap();
        changes.into_iter().map(|c| c.user).collect::<Vec<_>>()
    };
    assert_eq!(who(" ĽUBICA ", None).await, [someone.id]);
    assert_eq!(who("ľubica", Some(&realm())).await, [someone.id]);
    assert_eq!(who("ľubica", Some(&"another".into())).await, []);
    assert_eq!(who("lubica.nova", None).await, []);
    assert_eq!(who("", None).await, []);
}
