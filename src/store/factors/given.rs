//! What tests give users to prove themselves with.

use super::authenticators::{KeptAuthenticator, insert};
use crate::factors::keys::KeyId;
use crate::model::UserId;
use crate::store::Store;
use crate::store::db::on;

impl Store {
    /// Keeps an authenticator.
    pub(crate) async fn keep_authenticator(&self, kept: &KeptAuthenticator) {
        let mut tx = self.db.begin().await.unwrap();
        insert(&mut tx, kept).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Keeps a recovery or bypass code; its set has the user's id.
    pub(crate) async fn keep_spare_code(
        &self,
        user: UserId,
        (key, digest): (KeyId, [u8; 32]),
        kind: &'static str,
        uses: i64,
    ) {
        const SQL: &str = "
            INSERT INTO recovery_codes (user_id, digest, kind, set_id, key_id, uses_left, created_at) VALUES ($1, $2, $3, $1, $5, $4, 0)";
        let id = user.0.as_bytes().to_vec();
        let mut tx = self.db.begin().await.unwrap();
        on!(tx, c => sqlx::query(SQL).bind(id).bind(digest.to_vec()).bind(kind).bind(uses).bind(key.to_string()).execute(&mut *c).await.map(|_| ()))
            .unwrap();
        tx.commit().await.unwrap();
    }
}
