//! The outbox's rules on real stores: SQLite in every test, PostgreSQL where locks or types matter.

mod locks;
mod machine;
mod order;
mod rules;
mod statements;

use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::config::{Environment, StoreConfig, StoreUrl};
use crate::model::message_rules::AttemptEnd;
use crate::model::{Intent, JobReason, JobState, JobType, State, StateReason, User};
use crate::store::db::{Db, on};
use crate::store::{Access, RefusedRow, Store};

pub(crate) const DAY_MS: i64 = 86_400_000;
pub(crate) const START: Timestamp = Timestamp(1_795_489_200_000); // 2026-11-24T03:00:00Z

/// A store with one realm, `example.org`, and the time.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) now: Timestamp,
    pub(crate) key: EnrolmentKey,
    /// For whatever else a test needs a file for.
    pub(crate) dir: tempfile::TempDir,
    url: StoreUrl,
    server: Option<Server>,
}

/// A PostgreSQL of the lab; stopped and purged when dropped.
struct Server(PathBuf);

impl Drop for Server {
    fn drop(&mut self) {
        let _stopped = lab()
            .args(["stop", "--purge", "--dir"])
            .arg(&self.0)
            .output();
    }
}

fn lab() -> Command {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/postgres"))
}

pub(crate) async fn sqlite() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let url = StoreUrl::Sqlite(dir.path().join("realmsync.db"));
    Fixture::open(url, dir, None).await
}

pub(crate) async fn postgres() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let server = Server(dir.path().join("pg"));
    let out = lab()
        .args(["start", "--port", "0", "--dir"])
        .arg(&server.0)
        .output()
        .expect("tests/lab/postgres");
    let facts = String::from_utf8(out.stdout).unwrap();
    let url = facts
        .lines()
        .find_map(|l| l.strip_prefix("DATABASE_URL="))
        .unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&out.stderr)));
    Fixture::open(
        StoreUrl::Postgres {
            url: url.into(),
            display: "the lab".into(),
        },
        dir,
        Some(server),
    )
    .await
}

impl Fixture {
    pub(crate) fn url(&self) -> &StoreUrl {
        &self.url
    }

    async fn open(url: StoreUrl, dir: tempfile::TempDir, server: Option<Server>) -> Self {
        let config = StoreConfig {
            url: url.clone(),
            password: None,
            keep_runs_ms: DAY_MS,
        };
        let store = Store::open(&config, &Environment::default(), Access::Write, START)
            .await
            .unwrap();
        let fixture = Self {
            store,
            now: START,
            key: EnrolmentKey::new([7; 32]),
            dir,
            url,
            server,
        };
        fixture.sql("INSERT INTO realms (id, kind, name) VALUES ('example.org', 'directory', 'Example')").await;
        fixture
    }

    /// The same server with a store that is opened for the first time.
    pub(crate) async fn anew(self) -> Self {
        Self::open(self.url, self.dir, self.server).await
    }

    /// Restarts the PostgreSQL of the lab.
    pub(crate) fn restart(&self) {
        let server = self.server.as_ref().expect("a PostgreSQL");
        let done = lab().args(["restart", "--dir"]).arg(&server.0).output();
        assert!(done.expect("tests/lab/postgres").status.success());
    }

    pub(crate) async fn sql(&self, sql: &'static str) -> u64 {
        let mut tx = self.store.db.begin().await.unwrap();
        let rows = on!(tx, c => sqlx::query(sql).execute(&mut *c).await.map(|r| r.rows_affected()))
            .unwrap();
        tx.commit().await.unwrap();
        rows
    }

    pub(crate) async fn text(&self, sql: &'static str) -> Option<String> {
        let mut link = self.store.db.read().await.unwrap();
        on!(link, c => sqlx::query_scalar::<_, Option<String>>(sql).fetch_one(&mut *c).await)
            .unwrap()
    }

    pub(crate) fn ctx(&self) -> MessageContext {
        let enrolment = EnrolmentContext {
            public_url: "https://mfa.example.org".into(),
            valid_ms: 7 * DAY_MS,
            valid_again_ms: 7 * DAY_MS,
            key: self.key.clone(),
        };
        MessageContext {
            run: None,
            now: self.now,
            retry_for_ms: 3 * DAY_MS,
            delivers: true,
            revoke_at_once: false,
            enrolment: Some(enrolment),
        }
    }

    /// Writes the post-image as apply does (`phone_told` and `told` are the outbox's), and carries the intents out.
    pub(crate) async fn change(&self, user: &User, intents: &[Intent]) -> i64 {
        self.change_with(user, intents, &self.ctx()).await
    }

    pub(crate) async fn change_with(
        &self,
        user: &User,
        intents: &[Intent],
        ctx: &MessageContext,
    ) -> i64 {
        const SQL: &str = "
            INSERT INTO users (id, realm, username, username_key, display_name, email, phone, phone_source, phone_provisioned, state, state_reason, blocked, version, two_factor, created_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, '', 0, 0)
            ON CONFLICT (id) DO UPDATE SET username = excluded.username, username_key = excluded.username_key, display_name = excluded.display_name, email = excluded.email,
                phone = excluded.phone, phone_source = excluded.phone_source, phone_provisioned = COALESCE(users.phone_provisioned, excluded.phone_provisioned),
                state = excluded.state, state_reason = excluded.state_reason, blocked = excluded.blocked, version = excluded.version";
        let mut tx = self.store.db.begin().await.unwrap();
        on!(tx, c => sqlx::query(SQL)
            .bind(user.id.0.as_bytes().as_slice())
            .bind(user.realm.as_str())
            .bind(&user.username)
            .bind(Some(&user.username_key).filter(|k| !k.is_empty()))
            .bind(&user.display_name)
            .bind(&user.email)
            .bind(user.phone.as_ref().map(Phone::as_str))
            .bind(user.phone.as_ref().map(|_| "directory"))
            .bind(user.phone_provisioned.as_ref().map(Phone::as_str))
            .bind(user.state.as_str())
            .bind(user.state_reason.map(StateReason::as_str))
            .bind(user.blocked)
            .bind(user.version)
            .execute(&mut *c).await.map(|_| ()))
        .unwrap();
        let made = apply_intents(&mut tx, ctx, user, intents).await.unwrap();
        tx.commit().await.unwrap();
        made
    }

    /// What the user was told last: number and flag.
    pub(crate) async fn told(&self, user: &User) -> (Option<String>, bool) {
        let mut link = self.store.db.read().await.unwrap();
        on!(link, c => sqlx::query_as::<_, (Option<String>, bool)>("SELECT phone_told, told FROM users WHERE id = $1").bind(user.id.0.as_bytes().as_slice()).fetch_one(&mut *c).await).unwrap()
    }

    pub(crate) async fn provisioned(&self, user: &User) -> Option<String> {
        let mut link = self.store.db.read().await.unwrap();
        on!(link, c => sqlx::query_scalar::<_, Option<String>>("SELECT phone_provisioned FROM users WHERE id = $1").bind(user.id.0.as_bytes().as_slice()).fetch_one(&mut *c).await).unwrap()
    }

    pub(crate) async fn jobs(&self) -> Vec<Job> {
        self.store
            .jobs(&JobSelection::default(), 1000)
            .await
            .unwrap()
    }

    /// The states of all jobs in the order of making, with what they met: `delivered`, `dropped: superseded`.
    pub(crate) async fn states(&self) -> Vec<String> {
        let line = |j: &Job| {
            j.last_error
                .as_ref()
                .map_or_else(|| j.state.to_string(), |e| format!("{}: {e}", j.state))
        };
        self.jobs().await.iter().map(line).collect()
    }

    pub(crate) async fn claim(&self, limit: usize) -> Vec<Job> {
        self.store
            .claim(
                "one",
                &[RealmId::from("example.org")],
                self.now,
                15_000,
                limit,
            )
            .await
            .unwrap()
    }

    /// All that is refused.
    pub(crate) async fn refused(&self) -> Vec<RefusedRow> {
        let mut all = Vec::new();
        let each = |row| all.push(row);
        self.store.refused_each(None, each).await.unwrap();
        all
    }

    /// How many sessions wait for a lock.
    pub(crate) async fn waiting_for_locks(&self) -> i64 {
        const SQL: &str = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        let mut link = self.store.db.read().await.unwrap();
        on!(link, c => sqlx::query_scalar::<_, i64>(SQL).fetch_one(&mut *c).await).unwrap()
    }

    /// What a worker takes back that has looked often enough.
    pub(crate) async fn reclaim(&self, owner: &str, now: Timestamp, all: bool) -> usize {
        let mut overdue = Overdue::default();
        let mut taken = 0;
        for _ in 0..Overdue::LOOKS {
            taken += self
                .store
                .reclaim(owner, now, all, &mut overdue)
                .await
                .unwrap();
        }
        taken
    }

    pub(crate) async fn settle(&self, job: &Job, ending: AttemptEnd) -> Fate {
        self.store
            .settle(&[Settlement {
                job: job.clone(),
                ending,
                now: self.now,
            }])
            .await
            .unwrap()[0]
    }

    /// Claims one job and ends its attempt.
    pub(crate) async fn attempt(&self, ending: AttemptEnd) -> (Job, Fate) {
        let job = self.claim(1).await.pop().expect("a job that may go");
        let fate = self.settle(&job, ending).await;
        (job, fate)
    }
}

pub(crate) fn refused(now: Timestamp) -> AttemptEnd {
    AttemptEnd::Again {
        why: "503".into(),
        unknown_end: false,
        next_attempt_at: now,
    }
}

pub(crate) fn timed_out(now: Timestamp) -> AttemptEnd {
    AttemptEnd::Again {
        why: "no answer".into(),
        unknown_end: true,
        next_attempt_at: now,
    }
}

pub(crate) fn say(kind: JobType, reason: JobReason) -> Intent {
    Intent::Say {
        r#type: kind,
        reason,
        previous_phone: None,
        previous_username: None,
    }
}

pub(crate) fn reprovision() -> Intent {
    say(JobType::Reprovision, JobReason::PhoneChanged)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "every place that takes it wants an option"
)]
pub(crate) fn phone(text: &str) -> Option<Phone> {
    Some(Phone::from_e164(text).unwrap())
}

/// An active user with a number that was provisioned silently.
pub(crate) fn user(name: &str, number: &str) -> User {
    User {
        id: UserId(uuid::Uuid::now_v7()),
        realm: RealmId::from("example.org"),
        directory_id: None,
        entry_uuid: None,
        username: name.into(),
        username_key: name.to_lowercase(),
        display_name: None,
        email: None,
        dn: None,
        phone: phone(number),
        phone_raw: None,
        phone_attribute: None,
        phone_rule: None,
        phone_source: None,
        phone_pending: None,
        phone_pending_raw: None,
        phone_pending_until: None,
        phone_pending_source: None,
        phone_provisioned: phone(number),
        phone_told: None,
        told: false,
        provisioned: false,
        state: State::Active,
        state_reason: None,
        suspended_at: None,
        suspended_clock: None,
        blocked: false,
        version: 1,
        two_factor: Vec::new(),
        last_used_at: None,
        fingerprint: None,
        created_at: START,
        updated_at: START,
        origin: crate::model::UserOrigin::Directory,
        note: None,
    }
}

/// The user with another number, one version later.
pub(crate) fn with_phone(user: &User, number: &str) -> User {
    User {
        phone: phone(number),
        version: user.version + 1,
        ..user.clone()
    }
}
