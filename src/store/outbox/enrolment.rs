//! Enrolments: a single-use link for one invitation. Its token is an HMAC, so that it can be sent again while the store holds only a hash.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::fresh_id;
use crate::clock::Timestamp;
use crate::factors::keys::{Purpose, RootKey};
use crate::model::{Enrolment, EnrolmentId, Job, JobId, JobReason, JobType, UserId};
use crate::store::db::{Tx, on};
use crate::store::{Store, StoreError};

/// The key that enrolment tokens are made with. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolmentKey([u8; 32]);

/// What an enrolment needs of the configuration.
#[derive(Clone, Debug)]
pub struct EnrolmentContext {
    /// `http.public-url`, without a trailing slash.
    pub public_url: String,
    /// `enrolment.valid` in milliseconds.
    pub valid_ms: i64,
    /// `enrolment.valid-again` in milliseconds: for whoever had the application before.
    pub valid_again_ms: i64,
    /// The key.
    pub key: EnrolmentKey,
}

impl EnrolmentContext {
    /// The link of a notice, with a place for the token.
    pub(super) fn freeze_url(&self) -> String {
        format!("{}/freeze/{PLACE}", self.public_url)
    }
}

/// What the link of a message is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageLink {
    /// An application is set up.
    Enrolment(EnrolmentId),
    /// Somebody objects to what a notice says: the link is known by the notice.
    Freeze(JobId),
}

impl MessageLink {
    /// The link that a message may have; `None`: it has none.
    pub fn of(job: &Job) -> Option<Self> {
        match job.r#type {
            JobType::PhoneNotice | JobType::Notice => Some(Self::Freeze(job.id)),
            _ => job.enrolment.map(Self::Enrolment),
        }
    }
}

/// Where the token goes in a stored body: the store never holds the token itself.
const PLACE: &str = "{{token}}";

impl EnrolmentKey {
    /// A key of 32 bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The keys of other purposes, which follow from this one.
    pub fn root(&self) -> RootKey {
        RootKey::new(&self.0)
    }

    /// As it lies in the store, where the store made it for itself.
    pub(in crate::store) fn kept(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// The token of an enrolment: HMAC-SHA256 of its 16 bytes under the key.
    pub fn token(&self, enrolment: EnrolmentId) -> [u8; 32] {
        let mut block = [0_u8; 64];
        block[..32].copy_from_slice(&self.0);
        // A key shorter than the hash's block is padded with zeros (RFC 2104 § 2), so this is the same key and cannot fail.
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(enrolment.0.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// The link of an enrolment: whoever has it may use it, so it is shown once and never logged.
    pub fn link(&self, public_url: &str, enrolment: EnrolmentId) -> String {
        let token = URL_SAFE_NO_PAD.encode(self.token(enrolment));
        format!("{public_url}/enrol/{token}")
    }

    /// The hash of that token, as `enrolments` holds it: whoever opens the link is found by it, and it tells which key it was made with.
    pub fn token_sha256(&self, enrolment: EnrolmentId) -> [u8; 32] {
        Sha256::digest(self.token(enrolment)).into()
    }

    /// The token of a message's link.
    fn link_token(&self, link: MessageLink) -> [u8; 32] {
        match link {
            MessageLink::Enrolment(enrolment) => self.token(enrolment),
            MessageLink::Freeze(notice) => {
                // A key of the length of the hash's block cannot be refused.
                let mut block = [0_u8; 64];
                block[..32].copy_from_slice(&*self.root().key(Purpose::Freezes));
                let mut mac = Hmac::<Sha256>::new(&block.into());
                mac.update(notice.0.as_bytes());
                mac.finalize().into_bytes().into()
            }
        }
    }

    /// The hash of that token, as the store holds it: whoever opens the link is found by it, and it tells which key it was made with.
    pub fn link_sha256(&self, link: MessageLink) -> [u8; 32] {
        Sha256::digest(self.link_token(link)).into()
    }

    /// A stored body as it is sent: the token in URL-safe base64 in its place. The place is the last one in the body,
    /// since what people are called stands before it.
    pub fn fill_in(&self, body: &str, link: Option<MessageLink>) -> String {
        match (link, body.rfind(PLACE)) {
            (Some(link), Some(at)) => {
                let token = URL_SAFE_NO_PAD.encode(self.link_token(link));
                [&body[..at], &token, &body[at + PLACE.len()..]].concat()
            }
            _ => body.to_owned(),
        }
    }
}

impl fmt::Debug for EnrolmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnrolmentKey(•••)")
    }
}

/// A new enrolment as a message tells it.
pub(in crate::store) struct LinkMade {
    pub(super) id: EnrolmentId,
    /// The link, with a place for the token.
    pub(super) url: String,
    pub(super) expires_at: Timestamp,
}

/// An enrolment that was made before, as a message tells it once more.
pub(in crate::store) fn again(ctx: &EnrolmentContext, made: &Enrolment) -> LinkMade {
    LinkMade {
        id: made.id,
        url: format!("{}/enrol/{PLACE}", ctx.public_url),
        expires_at: made.expires_at,
    }
}

/// A link by which the owner of the number before may object, as a notice tells it.
pub(super) struct Objection {
    /// The link, with a place for the token.
    pub(super) url: String,
    pub(super) expires_at: Timestamp,
}

/// The row of `meta` with the store's own key.
pub(in crate::store) const KEPT_KEY: &str = "enrolment_key";
const KEPT: &str = "SELECT value FROM meta WHERE key = 'enrolment_key'";

pub(in crate::store) fn decoded(text: &str) -> Result<EnrolmentKey, StoreError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|b| <[u8; 32]>::try_from(b).ok());
    bytes.map(EnrolmentKey).ok_or_else(|| {
        StoreError::Nonsense(
            "the enrolment key in meta is not 32 bytes in base64; set enrolment.key".into(),
        )
    })
}

/// Voids the user's open enrolments.
pub(in crate::store) async fn void(tx: &mut Tx, user: UserId) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE enrolments SET state = 'void' WHERE user_id = $1 AND state = 'open'";
    on!(tx, c => sqlx::query(SQL).bind(user.0.as_bytes().as_slice()).execute(&mut *c).await.map(|_| ())).map_err(StoreError::from_sqlx("void enrolments"))
}

/// Voids the open enrolments of the user's dropped jobs: their links never left the house.
pub(super) async fn void_dropped(tx: &mut Tx, user: UserId) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE enrolments SET state = 'void'
        WHERE user_id = $1 AND state = 'open'
          AND id IN (SELECT enrolment FROM jobs WHERE user_id = $1 AND state = 'dropped' AND enrolment IS NOT NULL)";
    on!(tx, c => sqlx::query(SQL).bind(user.0.as_bytes().as_slice()).execute(&mut *c).await.map(|_| ())).map_err(StoreError::from_sqlx("void enrolments"))
}

/// Makes an enrolment. `delivers`: its link goes out by a message of this type; else whoever makes it passes it on.
pub(in crate::store) async fn make(
    tx: &mut Tx,
    ctx: &EnrolmentContext,
    user: UserId,
    why: (JobType, JobReason),
    delivers: bool,
    now: Timestamp,
) -> Result<LinkMade, StoreError> {
    const SQL: &str = "
        INSERT INTO enrolments (id, user_id, token_sha256, state, expires_at, created_at, channel, reason)
        VALUES ($1, $2, $3, 'open', $4, $5, $6, $7)";
    let id = EnrolmentId(fresh_id(now));
    // A link that is sent again is no second application. One that goes to another number lives shorter, whoever has it: somebody else
    // may have changed the number.
    let again = why.0 == JobType::Reprovision
        && (why.1 == JobReason::PhoneChanged || had_application(tx, user).await?);
    let expires_at = now.plus_ms(if again {
        ctx.valid_again_ms
    } else {
        ctx.valid_ms
    });
    let hash = ctx.key.token_sha256(id);
    on!(tx, c => sqlx::query(SQL)
        .bind(id.0.as_bytes().as_slice())
        .bind(user.0.as_bytes().as_slice())
        .bind(hash.as_slice())
        .bind(expires_at.0)
        .bind(now.0)
        .bind(if delivers { "webhook" } else { "hand" })
        .bind(why.1.as_str())
        .execute(&mut *c)
        .await
        .map(|_| ()))
    .map_err(StoreError::from_sqlx("make an enrolment"))?;
    Ok(LinkMade {
        id,
        url: format!("{}/enrol/{PLACE}", ctx.public_url),
        expires_at,
    })
}

/// Whether an application of the user was ever proved.
async fn had_application(tx: &mut Tx, user: UserId) -> Result<bool, StoreError> {
    const SQL: &str = "
        SELECT EXISTS (SELECT 1 FROM authenticators WHERE user_id = $1 AND kind = 'app' AND activated_at IS NOT NULL)";
    on!(tx, c => sqlx::query_scalar::<_, bool>(SQL).bind(user.0.as_bytes().as_slice()).fetch_one(&mut *c).await)
        .map_err(StoreError::from_sqlx("read authenticators"))
}

impl Store {
    /// The enrolment key: the configured one, or one that is made once and kept in the store.
    ///
    /// # Errors
    /// When the machine gives no randomness, or the store fails.
    pub async fn enrolment_key(
        &self,
        configured: Option<[u8; 32]>,
    ) -> Result<EnrolmentKey, StoreError> {
        const INSERT: &str = "INSERT INTO meta (key, value) VALUES ('enrolment_key', $1) ON CONFLICT (key) DO NOTHING";
        if let Some(key) = configured {
            return Ok(EnrolmentKey(key));
        }
        // Each act asks for it, and mostly it is there.
        if let Some(kept) = self.kept_enrolment_key().await? {
            return Ok(kept);
        }
        let mut fresh = [0_u8; 32];
        rustls::crypto::ring::default_provider()
            .secure_random
            .fill(&mut fresh)
            .map_err(|_| StoreError::Nonsense("the machine gives no randomness for the enrolment key; try again, or set enrolment.key".into()))?;
        // Whoever is first wins; two daemons on one database read the same key.
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(INSERT).bind(URL_SAFE_NO_PAD.encode(fresh)).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("keep the enrolment key"))?;
        let text = on!(tx, c => sqlx::query_scalar::<_, String>(KEPT).fetch_one(&mut *c).await)
            .map_err(StoreError::from_sqlx("read the enrolment key"))?;
        tx.commit().await?;
        decoded(&text)
    }

    /// The store's own key, made while none was configured; `None`: there never was a need for one.
    pub async fn kept_enrolment_key(&self) -> Result<Option<EnrolmentKey>, StoreError> {
        let mut link = self.db.read().await?;
        let text =
            on!(link, c => sqlx::query_scalar::<_, String>(KEPT).fetch_optional(&mut *c).await)
                .map_err(StoreError::from_sqlx("read the enrolment key"))?;
        text.as_deref().map(decoded).transpose()
    }

    /// Another enrolment in place of a void one whose link has never left the house, with what that one was; the message has it from now
    /// on. `None`: the job is not this owner's any more, or its user has another link.
    pub async fn renew_link(
        &self,
        owner: &str,
        job: &Job,
        void: EnrolmentId,
        key: &EnrolmentKey,
    ) -> Result<Option<EnrolmentId>, StoreError> {
        const ADD: &str = "
            INSERT INTO enrolments (id, user_id, token_sha256, state, expires_at, created_at, by_whom, channel, reason, lost)
            SELECT $1, e.user_id, $2, 'open', e.expires_at, e.created_at, e.by_whom, e.channel, e.reason, e.lost FROM enrolments e
            WHERE e.id = $3 AND e.state = 'void'
              AND e.created_at <= COALESCE((SELECT CAST(value AS BIGINT) FROM meta WHERE key = 'restored-at'), -1) AND NOT EXISTS (SELECT 1 FROM enrolments o WHERE o.user_id = e.user_id AND o.state = 'open')";
        const GIVE: &str = "
            UPDATE jobs SET enrolment = $5 WHERE seq = $1 AND leased_by = $2 AND attempts = $3 AND state = 'sending' AND enrolment = $4";
        let made = EnrolmentId(fresh_id(job.created_at));
        let failed = StoreError::from_sqlx("make a link anew");
        let mut tx = self.db.begin().await?;
        let added = on!(tx, c => sqlx::query(ADD)
            .bind(made.0.as_bytes().to_vec())
            .bind(key.token_sha256(made).to_vec())
            .bind(void.0.as_bytes().to_vec())
            .execute(&mut *c)
            .await
            .map(|r| r.rows_affected()))
        .map_err(&failed)?;
        let given = on!(tx, c => sqlx::query(GIVE)
            .bind(job.seq)
            .bind(owner)
            .bind(job.attempts)
            .bind(void.0.as_bytes().to_vec())
            .bind(made.0.as_bytes().to_vec())
            .execute(&mut *c)
            .await
            .map(|r| r.rows_affected()))
        .map_err(&failed)?;
        if (added, given) != (1, 1) {
            return Ok(None);
        }
        tx.commit().await?;
        Ok(Some(made))
    }

    /// Another token for a link that has never left the house, since the key is another one now. `false`: the job
    /// is not this owner's any more.
    pub async fn make_link_anew(
        &self,
        owner: &str,
        job: &Job,
        link: MessageLink,
        token_sha256: [u8; 32],
    ) -> Result<bool, StoreError> {
        const ENROLMENT: &str = "UPDATE enrolments SET token_sha256 = $5 WHERE id = $4 AND EXISTS (
            SELECT 1 FROM jobs WHERE seq = $1 AND leased_by = $2 AND attempts = $3 AND state = 'sending' AND enrolment = $4)";
        const FREEZE: &str = "UPDATE freeze_links SET token_sha256 = $5 WHERE id = $4 AND EXISTS (
            SELECT 1 FROM jobs WHERE seq = $1 AND leased_by = $2 AND attempts = $3 AND state = 'sending' AND id = $4)";
        let (sql, id) = match link {
            MessageLink::Enrolment(enrolment) => (ENROLMENT, enrolment.0),
            MessageLink::Freeze(notice) => (FREEZE, notice.0),
        };
        let mut tx = self.db.begin().await?;
        let rows = on!(tx, c => sqlx::query(sql)
            .bind(job.seq)
            .bind(owner)
            .bind(job.attempts)
            .bind(id.as_bytes().to_vec())
            .bind(token_sha256.as_slice())
            .execute(&mut *c)
            .await
            .map(|r| r.rows_affected()))
        .map_err(StoreError::from_sqlx("make a link anew"))?;
        tx.commit().await?;
        Ok(rows == 1)
    }
}
