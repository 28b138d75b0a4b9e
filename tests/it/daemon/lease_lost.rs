//! A decision whose daemon loses its realm in the middle: it ends at once, whatever it waits for, and writes nothing.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use realmsync::model::{Outcome, Trigger};
use realmsync::runs::{Decided, RunError};
use realmsync::store::StoreError;
use realmsync::sync::RunRequest;

use crate::rules::scripted::{self, For, House};
use crate::support::ber_server::{Reply, entry};
use crate::support::lab::Server;

/// The statements wait so long for others' locks; who listens for the loss of the lease is told after 5 s.
const STUCK: Duration = Duration::from_secs(40);

fn psql(postgres: &Server, sql: &str) -> Command {
    let mut command = Command::new("psql");
    command
        .args([&postgres["DATABASE_URL"], "-Atc", sql])
        .stdin(Stdio::null());
    command
}

fn sql(postgres: &Server, text: &str) -> String {
    let output = psql(postgres, text).output().expect("psql");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn until(postgres: &Server, question: &str) {
    let end = Instant::now() + STUCK / 2;
    while sql(postgres, question) != "t" {
        assert!(Instant::now() < end, "{question}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Users and changes can be neither read nor written meanwhile.
fn nobody_reads(postgres: &Server) -> Child {
    let text = format!(
        "BEGIN; LOCK TABLE users, changes; SELECT pg_sleep({}); COMMIT",
        STUCK.as_secs()
    );
    let child = psql(postgres, &text).spawn().expect("psql");
    until(
        postgres,
        "SELECT COUNT(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'changes'::regclass AND granted",
    );
    child
}

/// Another takes the realm while `decision` waits for the store.
async fn taken_away(
    postgres: Arc<Server>,
    decision: impl Future<Output = Result<Decided, RunError>>,
) {
    let mut stuck = nobody_reads(&postgres);
    let begun = Instant::now();
    let thief = Arc::clone(&postgres);
    let steal = tokio::task::spawn_blocking(move || {
        until(
            &thief,
            "SELECT COUNT(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
        );
        sql(
            &thief,
            "UPDATE leases SET token = token + 1000, owner = 'another', holder = 'another:1'",
        );
    });
    let (decided, stolen) = tokio::join!(decision, steal);
    stolen.unwrap();
    assert!(
        matches!(decided, Err(RunError::Store(StoreError::TakenOver))),
        "{decided:?}"
    );
    assert!(begun.elapsed() < STUCK / 2, "{:?}", begun.elapsed());
    // The other lets it go again.
    sql(
        &postgres,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%' AND pid <> pg_backend_pid()",
    );
    sql(&postgres, "UPDATE leases SET owner = NULL, until = 0");
    let _ended = stuck.wait();
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_30_approve_and_undo_end_when_their_lease_is_lost() {
    let postgres = Arc::new(Server::start("postgres", &[]));
    let number = Arc::new(AtomicUsize::new(421_905_000_001));
    let told = Arc::clone(&number);
    let house = House::new(Some(&postgres["DATABASE_URL"]), move |r| {
        let (For::Page | For::Ids(_)) = scripted::asked(r)?;
        let mobile = format!("+{}", told.load(Ordering::SeqCst));
        let ann = entry(
            r.id,
            &scripted::at("ann"),
            &[
                (b"entryUUID", &[scripted::uuid(1).as_bytes()]),
                (b"uid", &[b"ann"]),
                (b"mobile", &[mobile.as_bytes()]),
            ],
        );
        Some(vec![Reply::Send(ann), scripted::end(r.id, b"")])
    })
    .await;
    assert_eq!(house.pass().await.created, 1);
    number.fetch_add(1, Ordering::SeqCst);
    let run = house.pass().await;
    assert_eq!((run.outcome, run.phone_changed), (Outcome::Applied, 1));
    let engine = &house.engine;

    let id = run.run.to_string();
    taken_away(Arc::clone(&postgres), Box::pin(engine.undo(&id, None))).await;
    // What it had begun is swept by whoever comes next, and the realm is not paused.
    engine.declare_realms().await.unwrap();
    let last = engine.store.last_run(&"r".into()).await.unwrap().unwrap();
    assert_eq!(last.outcome, Outcome::Failed, "{last:?}");

    number.fetch_add(1, Ordering::SeqCst);
    let ask = RunRequest::new(Trigger::Command, None);
    let (held, _) = engine.plan(&"r".into(), ask, true).await.unwrap();
    assert_eq!((held.outcome, held.phone_changed), (Outcome::Held, 1));
    let id = held.run.to_string();
    taken_away(Arc::clone(&postgres), engine.approve(&id, None)).await;
    let still = engine.store.run(&id).await.unwrap();
    assert_eq!(still.outcome, Outcome::Held, "{still:?}");
    let approved = engine.approve(&id, None).await.unwrap().run;
    assert_eq!(approved.outcome, Outcome::Applied, "{approved:?}");
}
