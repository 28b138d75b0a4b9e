//! Pages for people. What is asked becomes an act, what comes of it a page; nothing here decides.

mod enrol;
mod freeze;

use axum::Router;
use tokio::sync::watch;

use crate::sync::Engine;

/// All pages that are open to whoever has a link.
pub fn pages(engine: watch::Receiver<Engine>) -> Router {
    enrol::routes(engine.clone()).merge(freeze::routes(engine))
}
