//! Files: who may write them, and what a disk may do.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use crate::model::ErrorCode;

#[tokio::test]
async fn reading_makes_nothing_and_a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let error = open(&path, Access::Read).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound(_)), "{error}");
    assert!(!path.exists());
    let store = open(&path, Access::Write).await.unwrap();
    open(&path, Access::Read).await.unwrap();
    let mut tx = store.db.begin().await.unwrap();
    super::super::db::on!(tx, c => sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99990101000000, 'from the future', 1, x'00', 0)").execute(&mut *c).await.map(|_| ())).unwrap();
    tx.commit().await.unwrap();
    store.close().await;
    for access in [Access::Read, Access::Write] {
        let error = open(&path, access).await.unwrap_err();
        assert!(matches!(error, StoreError::TooNew { .. }), "{error}");
        assert!(error.to_string().contains("newer realmsync"), "{error}");
    }
    let folder = open(&dir.path().join("missing/store.db"), Access::Write)
        .await
        .unwrap_err();
    assert!(folder.to_string().contains("install -d"), "{folder}");
}

#[tokio::test]
async fn the_next_schema_is_taken_if_it_only_adds() {
    const NEXT: &str =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        SELECT MAX(version) + 1, 'from the future', 1, x'00', 0 FROM _sqlx_migrations";
    const ADDS: &str = "INSERT INTO meta (key, value) SELECT 'schema-' || MAX(version), 'additive' FROM _sqlx_migrations";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = open(&path, Access::Write).await.unwrap();
    let both = async || {
        let (reads, writes) = (
            open(&path, Access::Read).await,
            open(&path, Access::Write).await,
        );
        (reads.map(|_| ()), writes.map(|_| ()))
    };
    // One step that does not say that it only adds; then it does; then another step, however it calls itself.
    for (sql, taken) in [(NEXT, false), (ADDS, true), (NEXT, false), (ADDS, false)] {
        let mut tx = store.db.begin().await.unwrap();
        super::super::db::on!(tx, c => sqlx::query(sql).execute(&mut *c).await.map(|_| ()))
            .unwrap();
        tx.commit().await.unwrap();
        match both().await {
            (Ok(()), Ok(())) => assert!(taken, "{sql}"),
            (Err(StoreError::TooNew { .. }), Err(StoreError::TooNew { .. })) => {
                assert!(!taken, "{sql}");
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn trap_30_the_lock_names_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("store.db"));
    let _held = lock(&config, Duration::ZERO).unwrap();
    let error = lock(&config, Duration::ZERO).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("process {}", std::process::id())),
        "{error}"
    );
    assert_eq!(error.code(), ErrorCode::Busy);
}

#[tokio::test]
async fn trap_31_a_full_disk_leaves_nothing_half_done() {
    let dir = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        let status = Command::new(arguments[0])
            .args(&arguments[1..])
            .arg(dir.path())
            .status()
            .expect("mount");
        assert!(status.success(), "{arguments:?}");
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs"]);
    let path = dir.path().join("store.db");
    let store = open(&path, Access::Write).await.unwrap();
    let names: Vec<RealmDecl> = (0..40_000)
        .map(|n| RealmDecl {
            id: RealmId::from(format!("a-realm-with-quite-a-long-name-{n}")),
            name: "x".repeat(60),
        })
        .collect();
    let error = store.declare_realms(&names, START).await.unwrap_err();
    assert!(matches!(error, StoreError::Unwritable(_)), "{error}");
    assert!(error.to_string().contains("disk is full"), "{error}");
    assert_eq!(
        store.realms().await.unwrap().len(),
        0,
        "nothing is half done"
    );
    // Room is made, and the next one mends it.
    mount(&["mount", "-o", "remount,size=64m"]);
    store.declare_realms(&names[..100], START).await.unwrap();
    assert_eq!(store.realms().await.unwrap().len(), 100);
    store.close().await;
    mount(&["umount"]);
}

#[test]
fn trap_30_another_process_holds_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("store.db"));
    let file = dir.path().join("store.db.lock");
    std::fs::write(&file, "process 4711 (run)").unwrap();
    let mut other = Command::new("flock")
        .arg("-o")
        .arg(&file)
        .arg("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("flock of util-linux");
    // Asked without taking it in the store's way: whoever gets it there writes their own name into the file.
    let probe = std::fs::File::open(&file).unwrap();
    while probe.try_lock().is_ok() {
        probe.unlock().unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    let busy = lock(&config, Duration::ZERO);
    assert!(
        matches!(&busy, Err(StoreError::Busy { holder, .. }) if holder == "process 4711 (run)"),
        "{busy:?}"
    );
    let waited = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| lock(&config, Duration::from_secs(20)));
        drop(other.stdin.take());
        waiting.join().unwrap()
    });
    assert!(waited.is_ok(), "it was let go: {waited:?}");
    other.wait().unwrap();
}

#[tokio::test]
async fn trap_31_a_read_only_disk_is_said_and_mended() {
    let dir = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        let status = Command::new(arguments[0])
            .args(&arguments[1..])
            .arg(dir.path())
            .status()
            .expect("mount");
        assert!(status.success(), "{arguments:?}");
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs"]);
    let path = dir.path().join("store.db");
    open(&path, Access::Write).await.unwrap().close().await;
    mount(&["mount", "-o", "remount,ro"]);
    let error = open(&path, Access::Write).await.unwrap_err().to_string();
    assert!(
        error.contains("read-only") || error.contains("rights"),
        "{error}"
    );
    let missing = dir.path().join("other.db");
    let error = open(&missing, Access::Write).await.unwrap_err().to_string();
    assert!(error.contains("Read-only file system"), "{error}");
    mount(&["mount", "-o", "remount,rw"]);
    let store = open(&path, Access::Write).await.unwrap();
    assert_eq!(store.realms().await.unwrap(), []);
    store.close().await;
    mount(&["umount"]);
}

#[tokio::test]
async fn who_only_reads_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    open(&path, Access::Write).await.unwrap().close().await;
    let before = std::fs::read(&path).unwrap();
    let store = open(&path, Access::Read).await.unwrap();
    let error = store.declare_realms(&[], START).await.unwrap_err();
    assert!(matches!(error, StoreError::Unwritable(_)), "{error}");
    store.close().await;
    assert!(std::fs::read(&path).unwrap() == before);
}

#[tokio::test]
async fn what_is_no_store_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    std::fs::write(
        &path,
        "surely no database, but long enough to be read as one ".repeat(40),
    )
    .unwrap();
    for access in [Access::Read, Access::Write] {
        let error = open(&path, access).await.unwrap_err().to_string();
        assert!(
            error.contains("damaged") && error.contains("backup"),
            "{error}"
        );
    }
    std::fs::write(&path, "").unwrap();
    let error = open(&path, Access::Read).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound(_)), "{error}");
}

#[test]
fn who_may_not_open_the_store_is_told_so_and_not_to_look_at_the_disk() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        open(&path, Access::Write).await.unwrap().close().await;
    });
    // Another user: of the folder's mode only what is for others counts.
    for mode in [0o755, 0o700] {
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        for access in [Access::Read, Access::Write] {
            let path = path.clone();
            // SQLite opens its file on a thread that inherits who this one is.
            let error = std::thread::spawn(move || {
                let nobody = rustix::process::Uid::from_raw(65_534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async { open(&path, access).await.unwrap_err().to_string() })
            });
            let error = error.join().unwrap();
            assert!(
                error.contains("permission denied; run it as root or as the user of the service"),
                "{mode:o} {access:?}: {error}"
            );
        }
    }
}
