//! Scenarios against real servers: one binary, a module for each subject.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod asked;
mod ber_server;
mod cli;
mod cli_canary;
mod cli_errors;
mod cli_story;
mod clockwork;
mod containers;
mod crash;
mod cutting;
mod daemon;
mod daemons;
mod deltas;
mod deltas_cut;
mod deltas_fleet;
mod deltas_push;
mod deltas_restored;
mod deltas_table;
mod deltas_told;
mod directory;
mod directory_389ds;
mod directory_dirsync;
mod directory_dirsync_scripted;
mod directory_openldap;
mod directory_samba;
mod directory_scripted;
mod directory_second;
mod directory_syncrepl;
mod directory_syncrepl_389;
mod directory_syncrepl_live;
mod directory_syncrepl_scripted;
mod directory_timestamp;
mod directory_tls;
mod enrolment_key;
mod half_open;
mod heard;
mod house;
mod lab;
mod lease_lost;
mod lived;
mod main_job;
mod normalise;
mod push_daemon;
mod push_failover;
mod rules;
mod scripted_pass;
mod servers;
mod store_lost;
mod systemd;
mod traps;
mod undone;
mod web_tls;
