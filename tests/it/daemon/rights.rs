//! A role of PostgreSQL that may read and write, and create nothing.

use crate::support::house::House;
use crate::support::lab::Server;

fn psql(postgres: &Server, database: &str, sql: &str) -> String {
    let url = postgres["DATABASE_URL"].replace("lab:lab-secret@", "postgres@");
    let url = format!("{}/{database}", url.rsplit_once('/').unwrap().0);
    let output = std::process::Command::new("psql")
        .args([&url, "-XAtc", sql])
        .output()
        .expect("psql is installed");
    assert!(
        output.status.success(),
        "{sql}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A first load would have a table of its own. Without the right to make one it is added row by row.
#[test]
fn a_first_load_needs_no_right_to_create() {
    let postgres = Server::start("postgres", &[]);
    psql(
        &postgres,
        "postgres",
        "CREATE ROLE svc LOGIN PASSWORD 'lab-secret'",
    );
    psql(&postgres, "postgres", "CREATE DATABASE house");
    psql(
        &postgres,
        "house",
        "GRANT USAGE, CREATE ON SCHEMA public TO svc",
    );
    let mut house = House::new(40);
    let url = postgres["DATABASE_URL"].replace("lab:", "svc:");
    house.database = format!("{}/house", url.rsplit_once('/').unwrap().0);
    house.configure("");
    let said = house.run(&["pause", "r"]);
    assert_eq!(said.code, 0, "it makes the schema: {}", said.err);
    assert_eq!(house.run(&["resume", "r"]).code, 0);
    psql(
        &postgres,
        "house",
        "REVOKE CREATE ON SCHEMA public FROM svc",
    );
    let run = house.sync(0);
    assert_eq!(
        (&run["outcome"], &run["created"]),
        (&"applied".into(), &run["seen"]),
        "{run}"
    );
    assert_eq!(psql(&postgres, "house", "SELECT COUNT(*) FROM users"), "40");
    // So does everything after it.
    house.churn(&[("phone", 2), ("delete", 1)]);
    assert_eq!(house.sync(0)["outcome"], "applied");
    assert_eq!(house.sync(0)["outcome"], "unchanged");
}
