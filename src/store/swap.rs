//! How a table in the shape of `users` takes its place, on either engine.

pub(super) mod postgres;
mod sqlite;

use super::StoreError;
use super::db::{EngineConnection, Tx};
use crate::model::RealmId;

/// Makes a table in the shape of `users`, without its indexes. `false`: `users` is not to be replaced, and nothing was made.
pub(super) async fn twin(tx: &mut Tx, table: &str) -> Result<bool, StoreError> {
    match tx.side() {
        EngineConnection::Sqlite(c) => sqlite::twin(c, table).await,
        EngineConnection::Postgres(c) => postgres::twin(c, table).await,
    }
}

/// Puts a table in the place of `users`, in which nobody was a moment ago. `false`: it could not be; the transaction goes on as if
/// nothing had been tried.
pub(super) async fn take_place(
    tx: &mut Tx,
    table: &str,
    realm: &RealmId,
) -> Result<bool, StoreError> {
    match tx.side() {
        EngineConnection::Sqlite(c) => sqlite::take_place(c, table).await,
        EngineConnection::Postgres(c) => postgres::take_place(c, table, realm).await,
    }
    .map_err(StoreError::taken("take the place of users"))
}
