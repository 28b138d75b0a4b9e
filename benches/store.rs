//! What the store takes for a first load, an index and a mass change: `cargo bench --bench store -- [USERS] [postgres://…]`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program that measures"
)]

use std::time::Instant;

use realmsync::clock::Timestamp;
use realmsync::config::{Environment, StoreConfig, StoreUrl};
use realmsync::model::{
    Change, ChangeKind, DirectoryId, Outcome, Phone, PhoneSource, RealmId, Run, RunId, State, User,
    UserId, UserOrigin,
};
use realmsync::store::{
    Access, Application, MessageContext, RealmDecl, RealmUpdate, RunFacts, Staged, StagedUser,
    Store,
};

const NOW: Timestamp = Timestamp(1_795_489_200_000);
/// As a plan stages them.
const BATCH: usize = 2000;

fn mixed(n: usize) -> u128 {
    (n as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

fn person(n: usize) -> User {
    let random = mixed(n);
    let name = format!("{:x}.user", random >> 90);
    User {
        id: UserId(uuid::Uuid::from_u128(
            0x01a2_0000_0000_7000_8000_0000_0000_0000 + n as u128,
        )),
        realm: RealmId::from("example.org"),
        directory_id: Some(DirectoryId(random.to_be_bytes())),
        entry_uuid: None,
        username: name.clone(),
        username_key: name.clone(),
        display_name: Some(format!("Jana {name}")),
        email: Some(format!("{name}@example.org")),
        dn: Some(format!("uid={name},ou=people,dc=example,dc=org")),
        phone: Phone::from_e164(&format!("+421905{:06}", n % 1_000_000)),
        phone_raw: Some(format!("0905 {:06}", n % 1_000_000)),
        phone_attribute: Some("mobile".into()),
        phone_rule: Some("national, region SK of the realm".into()),
        phone_source: Some(PhoneSource::Directory),
        phone_pending: None,
        phone_pending_raw: None,
        phone_pending_until: None,
        phone_pending_source: None,
        phone_provisioned: Phone::from_e164(&format!("+421905{:06}", n % 1_000_000)),
        phone_told: None,
        told: false,
        provisioned: false,
        state: State::Active,
        state_reason: None,
        suspended_at: None,
        suspended_clock: None,
        blocked: false,
        version: 1,
        two_factor: vec![],
        last_used_at: None,
        fingerprint: Some((random >> 66) as u64),
        created_at: NOW,
        updated_at: NOW,
        origin: UserOrigin::Directory,
        note: None,
    }
}

fn run(n: u128) -> Run {
    let id = RunId(uuid::Uuid::from_u128(n));
    Run {
        complete: true,
        decided_at: Some(NOW),
        ..Run::begun(id, RealmId::from("example.org"), NOW)
    }
}

async fn load(store: &Store, id: u128, users: usize, base_version: i64) {
    let mut run = run(id);
    store
        .begin_run(&run, base_version == 0, None)
        .await
        .unwrap();
    let (mut making, start) = (0.0, Instant::now());
    for from in (0..users).step_by(BATCH) {
        let made = Instant::now();
        let mut staged = vec![];
        let mut changes = vec![];
        for n in from..users.min(from + BATCH) {
            let mut user = person(n);
            user.version = base_version + 1;
            let seq = i64::try_from(n).unwrap() + 1;
            if base_version > 0 {
                user.email = None;
                changes.push(Change {
                    run: Some(run.run),
                    seq,
                    realm: user.realm.clone(),
                    user: user.id,
                    username: Some(user.username.clone()),
                    by: None,
                    kind: ChangeKind::Updated,
                    before: serde_json::Map::new(),
                    after: serde_json::Map::new(),
                    at: NOW,
                });
            }
            let container = Some("ou=people,dc=example,dc=org".to_owned());
            staged.push(StagedUser {
                seq,
                base_version,
                user,
                container,
                intents: vec![],
            });
        }
        making += made.elapsed().as_secs_f64();
        store.stage(run.run, staged, &changes).await.unwrap();
    }
    let staging = start.elapsed().as_secs_f64() - making;
    run.outcome = Outcome::Applied;
    if base_version == 0 {
        run.created = i64::try_from(users).unwrap();
    } else {
        run.updated = i64::try_from(users).unwrap();
    }
    let messages = MessageContext {
        run: None,
        now: NOW,
        retry_for_ms: 1000,
        delivers: false,
        revoke_at_once: false,
        enrolment: None,
    };
    let start = Instant::now();
    let facts = RunFacts {
        first_pass: base_version == 0,
        ..RunFacts::default()
    };
    let application = Application {
        run: &run,
        facts,
        realm: RealmUpdate::default(),
        refused: None,
        messages: &messages,
        replaces: None,
        staged: Staged::default(),
        audit: None,
    };
    store.apply(application).await.unwrap();
    let what = if base_version == 0 { "new" } else { "changed" };
    println!(
        "{users} {what}: staged in {staging:.2} s, applied in {:.2} s",
        start.elapsed().as_secs_f64()
    );
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let users = arguments.first().map_or(100_000, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let url = arguments.get(1).map_or_else(
        || StoreUrl::Sqlite(dir.path().join("store.db")),
        |url| StoreUrl::Postgres {
            url: url.clone().into(),
            display: "the database".into(),
        },
    );
    let config = StoreConfig {
        url,
        password: None,
        keep_runs_ms: 1000,
    };
    let store = Store::open(&config, &Environment::default(), Access::Write, NOW)
        .await
        .unwrap();
    let realm = RealmId::from("example.org");
    let decl = RealmDecl {
        id: realm.clone(),
        name: "Example".into(),
    };
    store.declare_realms(&[decl], NOW).await.unwrap();
    load(&store, 1, users, 0).await;
    for _ in 0..2 {
        let (mut count, start) = (0, Instant::now());
        store.index(&realm, |_, _, _| count += 1).await.unwrap();
        assert_eq!(count, users);
        println!("{users} indexed in {:.2} s", start.elapsed().as_secs_f64());
    }
    load(&store, 2, users / 10, 1).await;
    store.close().await;
}
