//! The index of searches: it finds whom a look at everybody finds, whatever happens meanwhile.

use super::by_hand::{act, by_hand, ready, removed};
use super::*;
use crate::clock::Timestamp;
use crate::model::{AuditAct, State, StateReason, UserSort};
use crate::store::lease_owner::Leases;

/// Works off what there is to do about the index; gives the steps that it took.
async fn index(store: &Store, now: Timestamp) -> usize {
    let mut steps = 0;
    while let Some(mut build) = store.begin_search_build(now).await.unwrap() {
        loop {
            steps += 1;
            assert!(steps < 10_000, "it comes to no end");
            match store.continue_search_build(&mut build, now).await.unwrap() {
                BuildStep::More => {}
                BuildStep::Done => break,
                BuildStep::Lost => panic!("nobody else builds"),
            }
        }
    }
    steps
}

fn search(text: &str) -> UserFilter {
    UserFilter {
        search: Some(text.into()),
        ..UserFilter::default()
    }
}

async fn names(f: &Fixture, filter: &UserFilter, sort: UserSort, limit: i64) -> Vec<String> {
    let (mut after, mut all) = (None, vec![]);
    loop {
        let page = UserPage {
            sort,
            after: after.as_ref(),
            limit,
            now: START,
        };
        let users = f.store.list_users(filter, &page).await.unwrap();
        assert!(users.len() <= usize::try_from(limit).unwrap());
        let Some(last) = users.last() else { break };
        after = Some(UserPlace::of(last));
        all.extend(users.into_iter().map(|u| u.username));
    }
    all
}

async fn found(f: &Fixture, text: &str) -> String {
    names(f, &search(text), UserSort::Name, 50).await.join(" ")
}

async fn count(f: &Fixture, sql: &'static str) -> i64 {
    f.text(sql).await.unwrap().parse().unwrap()
}

const OPEN: &str = "SELECT CAST(COUNT(*) AS TEXT) FROM search_log";
const EPOCH: &str = "SELECT CAST(epoch AS TEXT) FROM search_index";
const SEGMENTS: &str = "SELECT CAST(COUNT(*) AS TEXT) FROM search_segments";
const GRAMS_OF_NOBODY: &str = "
    SELECT CAST(COUNT(*) AS TEXT) FROM search_grams WHERE segment NOT IN (SELECT segment FROM search_segments)";

/// People of every kind, some of whom have much in common.
fn people() -> Vec<User> {
    const SHOWN: [&str; 7] = [
        "Eva Nováková",
        "Ján Žiak",
        "EVA STRAßER",
        "İpek Çelik",
        "100% plain_name",
        "Οδυσσεύς ΟΔΟΣ",
        "Жанна",
    ];
    (0..420_u32)
        .map(|n| {
            // The last letters of the alphabet are all of one kind.
            let name = if n < 300 {
                format!("u{:03}", n * 7 % 300)
            } else {
                format!("zora{n:03}")
            };
            let mut someone = user(&name, &format!("+42190{:07}", n * 7919 % 10_000_000));
            someone.directory_id = Some(DirectoryId(u128::from(n + 1).to_be_bytes()));
            someone.phone_source = Some(crate::model::PhoneSource::Directory);
            someone.display_name =
                (n % 8 != 7).then(|| SHOWN[usize::try_from(n).unwrap() % SHOWN.len()].to_owned());
            someone.email = (n % 3 != 0).then(|| format!("{name}.x{n}@mail{}.example.org", n % 5));
            if n % 10 == 4 {
                someone.state = State::Suspended;
                someone.state_reason = Some(if n % 20 == 4 {
                    StateReason::Disabled
                } else {
                    StateReason::Deleted
                });
            }
            someone
        })
        .collect()
}

const TEXTS: [&str; 33] = [
    "",
    " ",
    "e",
    "ž",
    "Ž",
    "%",
    "_",
    "!",
    "'",
    "\"",
    "\\",
    "ev",
    "EV",
    "aß",
    "İ",
    "i̇p",
    "ipe",
    "Z\u{30c}iak",
    "žiak",
    "nováková",
    "zora",
    "zora41",
    "u1",
    "u12",
    "mail3.",
    "@mail3.example.org",
    "+421",
    "7919",
    "οδος",
    "ΟΔΟΣ",
    "жанна",
    "Nováková u",
    "nobody at all",
];

pub(super) async fn trap_133_the_index_finds_whom_a_look_at_everybody_finds(f: &Fixture) {
    ready(f).await;
    f.sql(
        "INSERT INTO realms (id, kind, name) VALUES ('aaa', 'custom', 'A'), ('zzz', 'custom', 'Z') ON CONFLICT (id) DO NOTHING",
    )
    .await;
    make(f, 1, &people()).await;
    // In other realms, and with a name that is there already.
    for (n, realm) in (0_u8..6).zip(["aaa", "zzz"].into_iter().cycle()) {
        let other = User {
            realm: RealmId::from(realm),
            ..by_hand(&format!("zora40{n}"), n)
        };
        act(f, &other, 0, AuditAct::UserAdd).await.unwrap();
    }
    let sorts = [
        UserSort::Name,
        UserSort::NameDown,
        UserSort::Created,
        UserSort::CreatedDown,
    ];
    let long = "x".repeat(10_000);
    let mut cases = vec![];
    for text in TEXTS
        .into_iter()
        .chain([long.as_str(), &"eva ".repeat(2_500)])
    {
        for sort in sorts {
            let realm = (text.len() % 2 == 1).then(realm);
            let state = (text.len() % 3 == 1).then_some(State::Suspended);
            for filter in [
                search(text),
                UserFilter {
                    realm,
                    state,
                    ..search(text)
                },
            ] {
                for limit in [37, 1000] {
                    cases.push((filter.clone(), sort, limit));
                }
            }
        }
    }
    assert_eq!(count(f, EPOCH).await, 0);
    let mut before = vec![];
    for (filter, sort, limit) in &cases {
        before.push(names(f, filter, *sort, *limit).await);
    }
    assert!(index(&f.store, START).await > 0);
    assert_eq!((count(f, OPEN).await, count(f, SEGMENTS).await), (0, 1));
    // A mark or two may be missing, as after removals.
    for round in 0..2 {
        for ((filter, sort, limit), before) in cases.iter().zip(&before) {
            let after = names(f, filter, *sort, *limit).await;
            assert_eq!(&after, before, "{round}: {filter:?} {sort:?} {limit}");
        }
        assert!(
            f.sql("DELETE FROM search_pages WHERE page IN (1, 2, 4)")
                .await
                > 0
                || round > 0
        );
    }
    // With nothing to go by the index gives up its place: this is what it would find.
    f.sql("DELETE FROM search_grams").await;
    assert_eq!(found(f, "zora").await, "");
}

/// A realm that was made since, and comes before all others: the pages of the index begin behind it.
pub(super) async fn whoever_stands_before_all_pages_is_found(f: &Fixture) {
    ready(f).await;
    f.sql("INSERT INTO realms (id, kind, name) VALUES ('a', 'custom', 'A') ON CONFLICT DO NOTHING")
        .await;
    make(f, 1, &people()).await;
    index(&f.store, START).await;
    for n in 1..=4 {
        let first = User {
            realm: RealmId::from("a"),
            ..by_hand(&format!("first{n}"), n)
        };
        act(f, &first, 0, AuditAct::UserAdd).await.unwrap();
    }
    index(&f.store, START).await;
    assert_eq!(
        count(f, OPEN).await,
        0,
        "they are in a segment of their own"
    );
    let own = UserFilter {
        realm: Some(RealmId::from("a")),
        ..search("first")
    };
    let all = ["first1", "first2", "first3", "first4"];
    for filter in [own, search("first")] {
        for limit in [1, 3, 50] {
            let up = names(f, &filter, UserSort::Name, limit).await;
            assert_eq!(up, all, "{filter:?} {limit}");
            let mut down = names(f, &filter, UserSort::NameDown, limit).await;
            down.reverse();
            assert_eq!(down, all, "{filter:?} {limit}");
        }
    }
}

pub(super) async fn a_search_knows_who_changed_and_no_former_names(f: &Fixture) {
    ready(f).await;
    make(f, 1, &people()).await;
    index(&f.store, START).await;
    let mut one = by_hand("first", 1);
    act(f, &one, 0, AuditAct::UserAdd).await.unwrap();
    assert_eq!(found(f, "first").await, "first", "who is not indexed yet");
    // Again and again: before they are indexed, after, and after their segments have become one.
    for round in 0..6 {
        let former = one.username.clone();
        let number = format!("+4219051111{round:02}");
        one = User {
            username: format!("name{round}"),
            username_key: format!("name{round}"),
            phone: crate::model::Phone::from_e164(&number),
            ..later(&one)
        };
        act(f, &one, one.version - 1, AuditAct::UserEdit)
            .await
            .unwrap();
        for n in 0..3 {
            let other = by_hand(&format!("more{round}{n}"), n);
            act(f, &other, 0, AuditAct::UserAdd).await.unwrap();
        }
        for _ in 0..2 {
            assert_eq!(found(f, &former).await, "");
            assert_eq!(found(f, &one.username).await, one.username);
            assert_eq!(found(f, &number[4..]).await, one.username);
            assert_eq!(
                found(f, &format!("more{round}")).await.split(' ').count(),
                3
            );
            assert!(index(&f.store, START).await > 0 || count(f, OPEN).await < 3);
        }
        assert_eq!(count(f, GRAMS_OF_NOBODY).await, 0);
    }
    assert!(count(f, SEGMENTS).await < 5, "small ones become one");
    // They go for good, and what they were called is nowhere in the index.
    let marked = "SELECT name FROM search_pages WHERE page = 2";
    let name = f.text(marked).await.unwrap();
    let who = f.store.find_users(&name, None).await.unwrap().remove(0);
    let gone = User {
        directory_id: None,
        dn: None,
        username: String::new(),
        username_key: String::new(),
        display_name: None,
        email: None,
        phone: None,
        phone_source: None,
        phone_provisioned: None,
        state: State::Removed,
        state_reason: None,
        version: who.version + 1,
        ..who.clone()
    };
    act(f, &gone, who.version, AuditAct::UserRemove)
        .await
        .unwrap();
    assert_eq!(found(f, &name).await, "");
    assert_eq!(
        count(
            f,
            "SELECT CAST(COUNT(*) AS TEXT) FROM search_pages WHERE page = 2"
        )
        .await,
        0
    );
    let epoch = count(f, EPOCH).await;
    for n in 0..3 {
        act(f, &by_hand(&format!("last{n}"), n), 0, AuditAct::UserAdd)
            .await
            .unwrap();
    }
    index(&f.store, START).await;
    assert_eq!(count(f, EPOCH).await, epoch);
    index(&f.store, START.plus_ms(DAY_MS)).await;
    assert!(
        count(f, EPOCH).await > epoch,
        "what is left of the removed goes within a day"
    );
    assert_eq!(found(f, &name).await, "");
    assert_eq!(found(f, "last").await, "last0 last1 last2");
    assert_eq!(count(f, GRAMS_OF_NOBODY).await, 0);

    // Also where nobody else changes.
    let last = f.store.find_users("last0", None).await.unwrap().remove(0);
    let gone = removed(&last);
    act(f, &gone, last.version, AuditAct::UserRemove)
        .await
        .unwrap();
    let epoch = count(f, EPOCH).await;
    index(&f.store, START.plus_ms(DAY_MS + 1)).await;
    assert_eq!(count(f, EPOCH).await, epoch, "once a day");
    index(&f.store, START.plus_ms(2 * DAY_MS)).await;
    assert!(count(f, EPOCH).await > epoch);
    assert_eq!(count(f, OPEN).await, 0);
}

pub(super) async fn a_build_that_is_cut_off_at_any_step_spoils_nothing(f: &Fixture) {
    ready(f).await;
    make(f, 1, &people()).await;
    let whole = found(f, "zora3").await;
    assert_eq!(whole.split(' ').count(), 100);
    let mut cut = 0;
    loop {
        let Some(mut build) = f.store.begin_search_build(START).await.unwrap() else {
            break;
        };
        let mut done = false;
        for _ in 0..=cut {
            if f.store
                .continue_search_build(&mut build, START)
                .await
                .unwrap()
                == BuildStep::Done
            {
                done = true;
                break;
            }
        }
        // Somebody changes meanwhile, and is found at each moment.
        let late = by_hand(&format!("late{cut:02}"), u8::try_from(cut).unwrap());
        act(f, &late, 0, AuditAct::UserAdd).await.unwrap();
        assert_eq!(found(f, &late.username).await, late.username);
        assert_eq!(found(f, "zora3").await, whole);
        cut += 1;
        assert!(cut < 60, "it comes to no end");
        if done && cut > 12 {
            break;
        }
    }
    index(&f.store, START).await;
    assert_eq!(found(f, "late").await.split(' ').count(), cut);
    assert_eq!(found(f, "zora3").await, whole);
    assert_eq!(count(f, GRAMS_OF_NOBODY).await, 0);
}

pub(super) async fn two_who_index_do_not_spoil_it_for_each_other(f: &Fixture) {
    ready(f).await;
    make(f, 1, &people()).await;
    let other = Store {
        leases: Leases::default(),
        ..f.store.clone()
    };
    let mut first = f.store.begin_search_build(START).await.unwrap().unwrap();
    for _ in 0..3 {
        f.store
            .continue_search_build(&mut first, START)
            .await
            .unwrap();
    }
    assert!(other.begin_search_build(START).await.unwrap().is_none());
    // The first one stands still for long, and the second one takes over.
    let later = START.plus_ms(10 * 60_000);
    assert!(index(&other, later).await > 0);
    act(f, &by_hand("late", 1), 0, AuditAct::UserAdd)
        .await
        .unwrap();
    let step = f
        .store
        .continue_search_build(&mut first, later)
        .await
        .unwrap();
    assert_eq!(step, BuildStep::Lost);
    assert_eq!(found(f, "late").await, "late");
    assert_eq!(found(f, "zora3").await.split(' ').count(), 100);
    assert_eq!(count(f, GRAMS_OF_NOBODY).await, 0);
    // A clock that was far ahead leaves nobody waiting.
    f.sql("UPDATE search_index SET builder = 'x', builder_until = 9000000000000000, epoch = 0")
        .await;
    assert!(index(&other, later).await > 0);
    assert_eq!(found(f, "late").await, "late");
}
