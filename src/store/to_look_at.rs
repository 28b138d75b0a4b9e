//! Whom a realm's next delta looks at although the directory tells nothing of them: something was done to them by hand.

use std::collections::HashSet;

use super::db::{Tx, on};
use super::{Store, StoreError};
use crate::model::person::fold_name;
use crate::model::{DirectoryId, PhoneSource, RealmId, User};

impl Store {
    /// Entries that the next delta of a realm looks at: those that are refused a name whose user is to have the entry since an
    /// administrator said so, and those of users whose number by hand stands no longer. By id, each once.
    pub async fn to_look_at(&self, realm: &RealmId) -> Result<Vec<DirectoryId>, StoreError> {
        const USERS: &str = "
            SELECT u.directory_id FROM to_look_at l JOIN users u ON u.id = l.user_id
            WHERE u.realm = $1 AND u.directory_id IS NOT NULL AND u.fingerprint IS NULL AND u.phone_pending IS NULL
              AND (u.state = 'active' OR u.state_reason = 'disabled')";
        const NAMES: &str = "
            SELECT u.username_key FROM adoptions a JOIN users u ON u.id = a.user_id
            WHERE u.realm = $1 AND u.directory_id IS NULL AND NOT a.by_file AND (u.state = 'active' OR u.state_reason = 'disabled')";
        let failed = StoreError::from_sqlx("read who is to be looked at");
        let mut link = self.db.read().await?;
        let users = on!(link, c => sqlx::query_scalar::<_, Vec<u8>>(USERS).bind(realm.as_str()).fetch_all(&mut *c).await)
            .map_err(&failed)?;
        let names = on!(link, c => sqlx::query_scalar::<_, String>(NAMES).bind(realm.as_str()).fetch_all(&mut *c).await)
            .map_err(&failed)?;
        drop(link);
        let mut ids = users
            .iter()
            .map(|id| super::rows::directory_id(id))
            .collect::<Result<Vec<DirectoryId>, StoreError>>()?;
        if !names.is_empty() {
            let names: HashSet<String> = names.into_iter().collect();
            let refused = self.refused_names(realm).await?;
            let wanted = refused
                .into_iter()
                .filter(|(_, name)| names.contains(&fold_name(name)));
            ids.extend(wanted.map(|(id, _)| id));
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Forgets those who are at rest by now, or nobody of a directory any more.
    pub(super) async fn forget_looked_at(&self) -> Result<(), StoreError> {
        const SQL: &str = "
            DELETE FROM to_look_at WHERE user_id IN (
                SELECT l.user_id FROM to_look_at l JOIN users u ON u.id = l.user_id
                WHERE u.fingerprint IS NOT NULL OR u.directory_id IS NULL)";
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(SQL).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("forget who was looked at"))?;
        tx.commit().await
    }
}

/// After an act by hand: where no number by hand stands in place of the directory's, and nothing is known of that one, the user is
/// to be looked at, and the realm is due. Expects the realm to be locked.
pub(super) async fn note(tx: &mut Tx, user: &User) -> Result<(), StoreError> {
    const NOTE: &str =
        "INSERT INTO to_look_at (user_id) VALUES ($1) ON CONFLICT (user_id) DO NOTHING";
    const DUE: &str = "UPDATE realms SET due = $2 WHERE id = $1";
    let by_hand = |source: Option<PhoneSource>| source.is_some_and(|s| s != PhoneSource::Directory);
    let known =
        user.fingerprint.is_some() || user.phone_pending.is_some() || by_hand(user.phone_source);
    if known || !user.of_a_directory() || !user.present() {
        return Ok(());
    }
    let failed = StoreError::from_sqlx("note who is to be looked at");
    let id = user.id.0.as_bytes().to_vec();
    on!(tx, c => sqlx::query(NOTE).bind(id).execute(&mut *c).await.map(|_| ())).map_err(&failed)?;
    on!(tx, c => sqlx::query(DUE).bind(user.realm.as_str()).bind(true).execute(&mut *c).await.map(|_| ()))
        .map_err(&failed)
}
