//! What a user does on the enrolment page: each step is one transaction, which checks everything again.
//!
//! ```text
//!   begin: a proof where one is asked for ─▶ a pending secret, one per link and browser
//!   use:   a first code of it ─▶ active, the link used, earlier applications revoked, recovery codes kept
//! ```

use super::audit::append;
use super::db::{Tx, on};
use super::enrolments::{SentRow, enrolment_columns};
use super::factors::authenticators::{activate, drop_pending, end, insert, of_user};
use super::factors::proof::{Asked, note, prove};
use super::factors::recovery;
use super::notices;
use super::outbox::text;
use super::rows::{UserRow, user_columns};
use super::{AuditKey, CodeUse, KeptAuthenticator, ProofOutcome, Store, StoreError, Verifying};
use crate::clock::Timestamp;
use crate::factors::keys::KeyRing;
use crate::factors::typed::Typed;
use crate::factors::verdict::Judged;
use crate::model::{
    AuditEntry, AuthenticatorId, AuthenticatorKind, AuthenticatorState, Enrolment, EnrolmentId,
    JobReason, User, UserId,
};

/// Pending secrets of one link at a time.
const PENDING: usize = 3;

/// Within so many milliseconds no more than these are made.
const WITHIN: i64 = 60_000;

/// What verifications on the page are noted as.
const SERVICE: &str = "enrolment";

/// A step on the page: by which link, in which browser, and when.
#[derive(Debug)]
pub struct PageStep<'a> {
    /// Whose link; the caller has looked it up by its token.
    pub enrolment: EnrolmentId,
    /// Whom it is for.
    pub user: UserId,
    /// What is kept of the browser's mark.
    pub browser: [u8; 32],
    /// The keys that secrets may have been kept with.
    pub keys: &'a KeyRing,
    /// The time, by the database's clock.
    pub now: Timestamp,
    /// The line of the audit that a success writes, and the key that it is written under.
    pub audit: (&'a AuditEntry, &'a AuditKey),
}

/// What a user has, as far as the page asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Possessions {
    /// The pending application of this link and browser, which lives.
    pub pending: Option<KeptAuthenticator>,
    /// Somebody with an active authenticator proves it before another one is set up.
    pub active: bool,
    /// There was an application before: an entry in the user's telephone may have the same label.
    pub before: bool,
}

/// What came of the first step.
#[derive(Debug)]
pub enum Begun {
    /// The secret of this link and browser, an earlier one or the new one.
    Pending(Box<Possessions>),
    /// The link is not valid (any more).
    Gone,
    /// As many secrets as a link may have were made a moment ago: so many milliseconds from now there is another one.
    Often(i64),
    /// A code of what the user has is asked for first.
    ProofMissing,
    /// That code does not count.
    NotProved(ProofOutcome),
}

/// What came of the wish for new recovery codes.
#[derive(Debug)]
pub enum Renewed {
    /// They are kept, and the link is used up.
    Kept,
    /// The link is not valid (any more).
    Gone,
    /// There is nothing to prove it with.
    NothingActive,
    /// What was to prove it does not count.
    NotProved(ProofOutcome),
}

/// What came of the last step.
#[derive(Debug)]
pub enum Enrolled {
    /// It is active.
    Active(AuthenticatorId),
    /// The link is not valid (any more), and the pending secret is gone.
    Gone,
    /// There is no secret of this browser, or its time is over.
    NotBegun,
    /// It is a code of an earlier secret: what was scanned then is of no use.
    Earlier,
    /// That code does not count.
    NotProved(ProofOutcome),
}

/// Locks the user against other numbers, then the link; gives both if the link is valid. In the order of [`super::outbox::locks`].
pub(super) async fn valid(
    tx: &mut Tx,
    user: UserId,
    enrolment: EnrolmentId,
    now: Timestamp,
) -> Result<Option<(Enrolment, User)>, StoreError> {
    const USER: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE id = $1");
    const USER_LOCKED: &str = concat!(
        "SELECT ",
        user_columns!(),
        " FROM users WHERE id = $1 FOR SHARE"
    );
    const LINK: &str = concat!(
        "SELECT ",
        enrolment_columns!(),
        " FROM enrolments WHERE id = $1 AND user_id = $2"
    );
    const LINK_LOCKED: &str = concat!(
        "SELECT ",
        enrolment_columns!(),
        " FROM enrolments WHERE id = $1 AND user_id = $2 FOR UPDATE"
    );
    let failed = StoreError::from_sqlx("look at a link");
    let id = user.0.as_bytes().to_vec();
    let sql = text(tx, USER, USER_LOCKED);
    let user = on!(tx, c => sqlx::query_as::<_, UserRow>(sql).bind(id.clone()).fetch_optional(&mut *c).await)
        .map_err(&failed)?;
    let sql = text(tx, LINK, LINK_LOCKED);
    let link = on!(tx, c => sqlx::query_as::<_, SentRow>(sql).bind(enrolment.0.as_bytes().to_vec()).bind(id).fetch_optional(&mut *c).await)
        .map_err(&failed)?;
    let (Some(user), Some(link)) = (user, link) else {
        return Ok(None);
    };
    let (user, link) = (User::try_from(user)?, Enrolment::try_from(link)?);
    let valid = link_is_valid(&link, &user, now);
    Ok(valid.then_some((link, user)))
}

/// A user's pending applications of a link, the newest last.
fn pending_of(all: &[KeptAuthenticator], link: EnrolmentId) -> Vec<&KeptAuthenticator> {
    all.iter()
        .filter(|kept| {
            kept.enrolment == Some(link)
                && kept.authenticator.state == AuthenticatorState::Pending
                && kept.authenticator.kind == AuthenticatorKind::App
        })
        .collect()
}

/// Whoever has a link makes no secrets without an end: how long until there is another one, in milliseconds.
fn too_soon(pending: &[&KeptAuthenticator], now: Timestamp) -> Option<i64> {
    let oldest = pending.len().checked_sub(PENDING)?;
    let since = now.0 - pending[oldest].authenticator.created_at.0;
    (0..WITHIN).contains(&since).then(|| WITHIN - since)
}

fn lives(kept: &KeptAuthenticator, now: Timestamp) -> bool {
    kept.secret.is_some() && kept.authenticator.expires_at.is_some_and(|end| end > now)
}

impl Possessions {
    /// What a user has, who has these authenticators, at a link in a browser.
    pub fn of(
        all: &[KeptAuthenticator],
        link: EnrolmentId,
        browser: Option<[u8; 32]>,
        now: Timestamp,
    ) -> Self {
        let pending = pending_of(all, link)
            .into_iter()
            .rfind(|kept| browser.is_some() && kept.browser == browser && lives(kept, now))
            .cloned();
        let is = |kept: &KeptAuthenticator, state| kept.authenticator.state == state;
        Self {
            pending,
            active: all.iter().any(|kept| is(kept, AuthenticatorState::Active)),
            before: all.iter().any(|kept| {
                kept.authenticator.kind == AuthenticatorKind::App
                    && kept.authenticator.activated_at.is_some()
            }),
        }
    }
}

/// Whether a link is valid for its user as they are now. What the number was when the link was sent is what the user was told last; a
/// first number ends no link.
pub fn link_is_valid(link: &Enrolment, user: &User, now: Timestamp) -> bool {
    let same_number = user.phone_told.is_none() || user.phone == user.phone_told;
    link.works(now) && user.usable() && same_number
}

impl Store {
    /// Makes the pending secret of a link and a browser, or gives the one that there is. Who has an active authenticator, or recovery
    /// codes of an earlier one, proves that first, unless it was lost. `fresh` is what is kept if a new one is needed; it expires by itself.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when a secret cannot be decrypted.
    pub async fn begin_enrolling(
        &self,
        step: &PageStep<'_>,
        proof: Option<&Typed>,
        fresh: KeptAuthenticator,
    ) -> Result<Begun, StoreError> {
        let mut tx = self.db.begin().await?;
        let Some((link, user)) = valid(&mut tx, step.user, step.enrolment, step.now).await? else {
            return Ok(Begun::Gone);
        };
        let all = of_user(&mut tx, step.user).await?;
        let mut has = Possessions::of(&all, step.enrolment, Some(step.browser), step.now);
        if has.pending.is_some() {
            return Ok(Begun::Pending(Box::new(has)));
        }
        let pending = pending_of(&all, step.enrolment);
        if let Some(wait) = too_soon(&pending, step.now) {
            return Ok(Begun::Often(wait));
        }
        let proves = has.active || recovery::left(&mut tx, step.user).await? > 0;
        if proves && !link.lost {
            let Some(code) = proof else {
                return Ok(Begun::ProofMissing);
            };
            let mut judging = Verifying::over(tx);
            match prove(&mut judging, step.asked(&user), code).await? {
                ProofOutcome::Right => {}
                other => {
                    judging.commit().await?;
                    return Ok(Begun::NotProved(other));
                }
            }
            tx = judging.into_tx();
        }
        // The newest ones stay, so that nobody who opens the link elsewhere keeps its user from it.
        let over = pending.len().saturating_sub(PENDING - 1);
        let dropped: Vec<AuthenticatorId> = pending[..over]
            .iter()
            .map(|kept| kept.authenticator.id)
            .collect();
        drop_pending(&mut tx, &dropped).await?;
        insert(&mut tx, &fresh).await?;
        append(&mut tx, step.audit.1, step.audit.0).await?;
        tx.commit().await?;
        has.pending = Some(fresh);
        Ok(Begun::Pending(Box::new(has)))
    }

    /// Activates the pending application of a link and a browser by its first code, uses the link up, revokes the user's earlier
    /// applications, and keeps new recovery codes in place of those before, as a set of that id: all of it or nothing.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when a secret cannot be decrypted.
    pub async fn enrol(
        &self,
        step: &PageStep<'_>,
        code: &Typed,
        set: uuid::Uuid,
        codes: &[String],
    ) -> Result<Enrolled, StoreError> {
        let mut tx = self.db.begin().await?;
        let Some((_, user)) = valid(&mut tx, step.user, step.enrolment, step.now).await? else {
            let all = of_user(&mut tx, step.user).await?;
            let pending: Vec<AuthenticatorId> = pending_of(&all, step.enrolment)
                .iter()
                .map(|kept| kept.authenticator.id)
                .collect();
            drop_pending(&mut tx, &pending).await?;
            tx.commit().await?;
            return Ok(Enrolled::Gone);
        };
        let mut judging = Verifying::over(tx);
        let known = judging.examine(&[(step.user, code)]).await?;
        let all = of_user(judging.more(), step.user).await?;
        let own: Vec<&KeptAuthenticator> = pending_of(&all, step.enrolment)
            .into_iter()
            .filter(|kept| kept.browser == Some(step.browser))
            .collect();
        let Some(kept) = own.iter().rfind(|kept| lives(kept, step.now)) else {
            return Ok(Enrolled::NotBegun);
        };
        let look = |kept: &KeptAuthenticator| {
            known.judge_pending(step.keys, step.user, kept, code, step.now)
        };
        let (id, mut judged) = (kept.authenticator.id, look(kept)?);
        if let Some(used) = judged.step {
            note(&mut judging, step.asked(&user), &judged).await?;
            let mut tx = judging.into_tx();
            if !activate(&mut tx, id, used.at, step.now).await? {
                return Ok(Enrolled::NotBegun);
            }
            if !use_link(&mut tx, step).await? {
                return Ok(Enrolled::Gone);
            }
            self.take_over(&mut tx, step, &all, id).await?;
            let key = &step.keys.current;
            recovery::replace(&mut tx, key, step.user, set, codes, step.now).await?;
            notices::note(&mut tx, step.user, JobReason::Activated, step.now).await?;
            append(&mut tx, step.audit.1, step.audit.0).await?;
            tx.commit().await?;
            return Ok(Enrolled::Active(id));
        }
        let mut earlier = false;
        for other in own.iter().filter(|other| other.authenticator.id != id) {
            earlier |= other.secret.is_some() && look(other)?.step.is_some();
        }
        let of_user: [(UserId, &mut Judged); 1] = [(step.user, &mut judged)];
        judging
            .count(&known, &of_user, CodeUse::Page, step.now)
            .await?;
        note(&mut judging, step.asked(&user), &judged).await?;
        judging.commit().await?;
        Ok(match ProofOutcome::from(&judged) {
            ProofOutcome::Wrong(_) if earlier => Enrolled::Earlier,
            outcome => Enrolled::NotProved(outcome),
        })
    }

    /// Keeps new recovery codes in place of those before, for who proves that they have what they had; uses the link up.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when a secret cannot be decrypted.
    pub async fn renew_codes(
        &self,
        step: &PageStep<'_>,
        proof: &Typed,
        set: uuid::Uuid,
        codes: &[String],
    ) -> Result<Renewed, StoreError> {
        let mut tx = self.db.begin().await?;
        let Some((_, user)) = valid(&mut tx, step.user, step.enrolment, step.now).await? else {
            return Ok(Renewed::Gone);
        };
        let all = of_user(&mut tx, step.user).await?;
        if !Possessions::of(&all, step.enrolment, None, step.now).active {
            return Ok(Renewed::NothingActive);
        }
        let mut judging = Verifying::over(tx);
        match prove(&mut judging, step.asked(&user), proof).await? {
            ProofOutcome::Right => {}
            other => {
                judging.commit().await?;
                return Ok(Renewed::NotProved(other));
            }
        }
        let mut tx = judging.into_tx();
        if !use_link(&mut tx, step).await? {
            return Ok(Renewed::Gone);
        }
        let pending: Vec<AuthenticatorId> = pending_of(&all, step.enrolment)
            .iter()
            .map(|kept| kept.authenticator.id)
            .collect();
        drop_pending(&mut tx, &pending).await?;
        let key = &step.keys.current;
        recovery::replace(&mut tx, key, step.user, set, codes, step.now).await?;
        let reason = JobReason::RecoveryCodesRenewed;
        notices::note(&mut tx, step.user, reason, step.now).await?;
        append(&mut tx, step.audit.1, step.audit.0).await?;
        tx.commit().await?;
        Ok(Renewed::Kept)
    }

    /// Forgets what is pending of a link that is not valid any more.
    pub async fn forget_pending(&self, user: UserId, link: EnrolmentId) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let all = of_user(&mut tx, user).await?;
        let pending: Vec<AuthenticatorId> = pending_of(&all, link)
            .iter()
            .map(|kept| kept.authenticator.id)
            .collect();
        if pending.is_empty() {
            return Ok(());
        }
        drop_pending(&mut tx, &pending).await?;
        tx.commit().await
    }

    /// Forgets applications that were never proved. For an hour after their end it is told from a wrong code that what was scanned is
    /// too old.
    pub(super) async fn forget_unproved(&self, now: Timestamp) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM authenticators WHERE kind = 'app' AND state = 'pending' AND expires_at < $1";
        const HOUR: i64 = 3_600_000;
        let mut tx = self.db.begin().await?;
        on!(tx, c => sqlx::query(SQL).bind(now.plus_ms(-HOUR).0).execute(&mut *c).await.map(|_| ()))
            .map_err(StoreError::from_sqlx("forget applications"))?;
        tx.commit().await
    }

    /// The applications before the new one are revoked, and what is pending beside it is no more.
    async fn take_over(
        &self,
        tx: &mut Tx,
        step: &PageStep<'_>,
        all: &[KeptAuthenticator],
        new: AuthenticatorId,
    ) -> Result<(), StoreError> {
        let ids = |state| -> Vec<AuthenticatorId> {
            all.iter()
                .map(|kept| &kept.authenticator)
                .filter(|a| a.kind == AuthenticatorKind::App && a.state == state && a.id != new)
                .map(|a| a.id)
                .collect()
        };
        end(tx, &ids(AuthenticatorState::Active), step.now).await?;
        drop_pending(tx, &ids(AuthenticatorState::Pending)).await
    }
}

impl<'a> PageStep<'a> {
    /// Who is asked for a code.
    fn asked(&self, user: &'a User) -> Asked<'a> {
        Asked {
            service: SERVICE,
            realm: &user.realm,
            user: self.user,
            keys: self.keys,
            now: self.now,
        }
    }
}

/// Uses the link up: true for one transaction only.
async fn use_link(tx: &mut Tx, step: &PageStep<'_>) -> Result<bool, StoreError> {
    const SQL: &str =
        "UPDATE enrolments SET state = 'used', used_at = $2 WHERE id = $1 AND state = 'open'";
    let rows = on!(tx, c => sqlx::query(SQL).bind(step.enrolment.0.as_bytes().to_vec()).bind(step.now.0).execute(&mut *c).await.map(|r| r.rows_affected()))
        .map_err(StoreError::from_sqlx("use a link up"))?;
    Ok(rows == 1)
}
