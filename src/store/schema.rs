//! Whether the schema that is there is one that this program can work with: its own, or, while daemons are upgraded one after
//! the other, the next one if that only adds.

use sqlx::migrate::Migrator;

use super::db::on;
use super::{Store, StoreError};

/// What this program finds.
enum FoundSchema {
    /// No store of ours, or an empty one.
    Nothing,
    /// A step that it knows.
    Known(i64),
    /// The step after its last, which says of itself that it only adds.
    OneAhead(i64),
}

impl Store {
    /// Whether there is nothing to migrate: the schema is this program's own, or one additive step ahead. More than that is refused.
    pub(super) async fn is_current(
        &self,
        migrator: &Migrator,
        what: &str,
    ) -> Result<bool, StoreError> {
        let version = match self.schema(migrator, what).await? {
            FoundSchema::OneAhead(version) => version,
            FoundSchema::Known(version) => return Ok(version == newest(migrator)),
            FoundSchema::Nothing => return Ok(false),
        };
        tracing::warn!(
            version,
            "{what} has the schema of the next realmsync ({version}), which this one may use: upgrade it too"
        );
        Ok(true)
    }

    /// Whether this program knows the schema that is there.
    pub(super) async fn schema_fits(
        &self,
        migrator: &Migrator,
        what: &str,
    ) -> Result<(), StoreError> {
        match self.schema(migrator, what).await? {
            FoundSchema::OneAhead(_) => Ok(()),
            FoundSchema::Known(version) if version == newest(migrator) => Ok(()),
            FoundSchema::Known(_) => Err(StoreError::NotFound(format!(
                "{what} was written by an older realmsync: start the service once, it brings the store up to date"
            ))),
            FoundSchema::Nothing => Err(StoreError::NotFound(format!(
                "{what} is no store of realmsync: look at `store.url`"
            ))),
        }
    }

    async fn schema(&self, migrator: &Migrator, what: &str) -> Result<FoundSchema, StoreError> {
        const VERSION: &str = "SELECT MAX(version) FROM _sqlx_migrations";
        const ADDITIVE: &str = "SELECT COUNT(*) FROM meta WHERE key = $1 AND value = 'additive'";
        let failed = StoreError::from_sqlx("read the schema's version");
        let mut link = self.db.read().await?;
        let there =
            on!(link, c => sqlx::query_scalar::<_, Option<i64>>(VERSION).fetch_one(&mut *c).await);
        let version = match there {
            Ok(version) => version.unwrap_or(0),
            Err(sqlx::Error::Database(error)) if error.message().contains("_sqlx_migrations") => {
                return Ok(FoundSchema::Nothing);
            }
            Err(error) => return Err(failed(error)),
        };
        let newest = newest(migrator);
        if version <= newest {
            return Ok(FoundSchema::Known(version));
        }
        let key = format!("schema-{version}");
        let additive = on!(link, c => sqlx::query_scalar::<_, i64>(ADDITIVE).bind(key).fetch_one(&mut *c).await).map_err(failed)?;
        if version == newest + 1 && additive == 1 {
            return Ok(FoundSchema::OneAhead(version));
        }
        Err(StoreError::TooNew {
            what: what.to_owned(),
            version,
        })
    }
}

/// The last step that this program knows; they are counted from 1.
fn newest(migrator: &Migrator) -> i64 {
    migrator.iter().map(|m| m.version).max().unwrap_or(0)
}
