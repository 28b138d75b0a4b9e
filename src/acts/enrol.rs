//! What a user does on the enrolment page. Whoever has the link is the user, as far as nothing more is asked for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use crate::clock::Timestamp;
use crate::factors::keys::{KeyRing, Purpose, RootKey};
use crate::factors::otpauth::{Label, SECRET};
use crate::factors::recovery::{self, CODES};
use crate::factors::sealed::{self, NONCE};
use crate::factors::typed::{Typed, read};
use crate::model::{
    AuditAct, AuditEntry, Authenticator, AuthenticatorId, AuthenticatorKind, AuthenticatorState,
    Enrolment, EnrolmentId, OtpHash, User,
};
use crate::store::{
    AuditKey, Begun, Enrolled, KeptAuthenticator, PageStep, Possessions, ProofOutcome, Renewed,
    WrongCode, link_is_valid,
};
use crate::sync::{HandAuthor, factors_entry};

/// How long a secret is the same on every reload, in milliseconds.
const PENDING: i64 = 15 * 60 * 1000;

/// Seconds of a step of an application.
const PERIOD: u32 = 30;

/// Who opens a page: by which token, in which browser, and from where.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The last part of the link.
    pub token: String,
    /// The browser's mark; `None`: it has none yet.
    pub mark: Option<String>,
    /// Its address, for the audit.
    pub address: Option<String>,
}

/// A valid link.
#[derive(Debug)]
pub struct ValidLink {
    /// The enrolment.
    pub enrolment: Enrolment,
    /// Whom it is for.
    pub user: User,
    /// What applications show beside the name.
    pub issuer: String,
    /// A code of what the user has is asked for first.
    pub proof: bool,
    /// An authenticator is active, beside which there may be new recovery codes.
    pub active: bool,
    /// In this browser a secret was made already.
    pub begun: bool,
}

/// What is shown once the secret is made. `Debug` shows none of it.
pub struct ShownSecret {
    /// As applications call the entry.
    pub label: Label,
    /// The secret itself.
    pub secret: Zeroizing<Vec<u8>>,
    /// An earlier entry may stand beside it.
    pub before: bool,
    /// The codes of that entry count no more.
    pub before_void: bool,
}

impl std::fmt::Debug for ShownSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShownSecret").finish_non_exhaustive()
    }
}

/// Recovery codes that are shown once. `Debug` shows none of them.
pub struct ShownCodes {
    /// As people read them.
    pub codes: Vec<String>,
    /// What this browser gives back to be told that it is done.
    pub seal: String,
}

impl std::fmt::Debug for ShownCodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShownCodes").finish_non_exhaustive()
    }
}

/// What came of a step.
#[derive(Debug)]
pub enum PageAnswer {
    /// The link is not valid (any more), or never was.
    Gone,
    /// A secret, to be proved by its first code; `wrong`: why the code before it did not count.
    Secret(Box<(ValidLink, ShownSecret, Option<PageTrouble>)>),
    /// The first step, which may ask for a code of what the user has; `wrong` as above.
    Proof(Box<(ValidLink, Option<PageTrouble>)>),
    /// It is done; these are shown once.
    Codes(ShownCodes),
}

/// Why a code did not count, for the user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageTrouble {
    /// It is wrong.
    Wrong,
    /// It was used.
    Used,
    /// It is right for a clock that is so many seconds ahead, or behind if negative.
    Clock(i64),
    /// It is the first of two that are asked for.
    First,
    /// It belongs to an earlier QR code.
    Earlier,
    /// The time of the secret was over: here is another one.
    Anew,
    /// The browser sent no cookie, so its secret cannot be found.
    NoCookie,
    /// The link was begun with in too many browsers: so many milliseconds from now there is another secret.
    Often(i64),
    /// Too many were wrong: so many milliseconds from now it is looked at again.
    Wait(i64),
    /// Too many were wrong: only an administrator ends that.
    Locked,
}

impl From<WrongCode> for PageTrouble {
    fn from(wrong: WrongCode) -> Self {
        match wrong {
            WrongCode::Unknown => Self::Wrong,
            WrongCode::Replayed => Self::Used,
            WrongCode::Clock(seconds) => Self::Clock(seconds),
            WrongCode::First => Self::First,
        }
    }
}

impl From<crate::factors::throttle::Gate> for PageTrouble {
    fn from(gate: crate::factors::throttle::Gate) -> Self {
        use crate::factors::throttle::Gate;
        match gate {
            Gate::Open => Self::Wrong,
            Gate::Delayed(ms) => Self::Wait(ms),
            Gate::Locked => Self::Locked,
        }
    }
}

/// What every step needs.
struct AtPage<'a> {
    at: &'a ActContext,
    now: Timestamp,
    keys: KeyRing,
    audit: AuditKey,
    link: ValidLink,
    browser: Option<[u8; 32]>,
    address: Option<&'a str>,
}

/// Looks at a link. Notes that it was opened, and changes nothing else.
///
/// # Errors
/// When the store fails.
pub async fn open_link(
    at: &ActContext,
    visitor: &Visitor,
) -> Result<Option<ValidLink>, ActFailure> {
    let Some(page) = at_page(at, visitor, Way::Look).await? else {
        return Ok(None);
    };
    if page.link.enrolment.opened_at.is_none() {
        at.store()
            .note_opened(page.link.enrolment.id, page.now)
            .await?;
    }
    Ok(Some(page.link))
}

/// Shows the secret of a link in a browser, and makes it if there is none. The visitor has a mark.
///
/// # Errors
/// When the store fails, or the machine gives no randomness.
pub async fn begin_at_link(
    at: &ActContext,
    visitor: &Visitor,
    proof: Option<&str>,
) -> Result<PageAnswer, ActFailure> {
    match at_page(at, visitor, Way::Step).await? {
        Some(page) => page.begin(proof, None).await,
        None => Ok(PageAnswer::Gone),
    }
}

/// Says to a browser without a mark that its code cannot be looked at. Changes nothing.
///
/// # Errors
/// When the store fails.
pub async fn no_mark_at_link(at: &ActContext, visitor: &Visitor) -> Result<PageAnswer, ActFailure> {
    Ok(match open_link(at, visitor).await? {
        Some(link) => PageAnswer::Proof(Box::new((link, Some(PageTrouble::NoCookie)))),
        None => PageAnswer::Gone,
    })
}

/// Proves the application by its first code. The visitor has a mark.
///
/// # Errors
/// When the store fails, or the machine gives no randomness.
pub async fn enrol_at_link(
    at: &ActContext,
    visitor: &Visitor,
    code: &str,
) -> Result<PageAnswer, ActFailure> {
    let Some(page) = at_page(at, visitor, Way::Step).await? else {
        return Ok(PageAnswer::Gone);
    };
    let (codes, letters) = new_codes()?;
    let entry = page.entry(AuditAct::EnrolmentUse);
    let set = at.engine.new_user_id().0;
    let done = at
        .store()
        .enrol(&page.step(&entry)?, &read(code), set, &letters)
        .await?;
    let trouble = match done {
        Enrolled::Active(id) => {
            let (user, realm) = (&page.link.user, &page.link.user.realm);
            tracing::info!(%realm, user = %user.id, authenticator = %id, "{realm}: {:#} set an application up", user.id);
            return Ok(page.codes(visitor, codes));
        }
        Enrolled::Gone => return Ok(PageAnswer::Gone),
        Enrolled::NotBegun => PageTrouble::Anew,
        Enrolled::Earlier => PageTrouble::Earlier,
        Enrolled::NotProved(outcome) => {
            return page.begin(None, trouble_of(outcome)).await;
        }
    };
    page.begin(None, Some(trouble)).await
}

/// Gives new recovery codes in place of those before, to who proves to have what they had. The visitor has a mark.
///
/// # Errors
/// When the store fails, or the machine gives no randomness.
pub async fn renew_codes_at_link(
    at: &ActContext,
    visitor: &Visitor,
    proof: &str,
) -> Result<PageAnswer, ActFailure> {
    let Some(page) = at_page(at, visitor, Way::Step).await? else {
        return Ok(PageAnswer::Gone);
    };
    let (codes, letters) = new_codes()?;
    let entry = page.entry(AuditAct::RecoveryCodes);
    let set = at.engine.new_user_id().0;
    let renewed = at
        .store()
        .renew_codes(&page.step(&entry)?, &read(proof), set, &letters)
        .await?;
    Ok(match renewed {
        Renewed::Kept => {
            let (user, realm) = (&page.link.user, &page.link.user.realm);
            tracing::info!(%realm, user = %user.id, "{realm}: {:#} has new recovery codes", user.id);
            page.codes(visitor, codes)
        }
        Renewed::Gone => PageAnswer::Gone,
        Renewed::NothingActive => PageAnswer::Proof(Box::new((page.link, None))),
        Renewed::NotProved(outcome) => {
            let why = trouble_of(outcome);
            PageAnswer::Proof(Box::new((page.link, why)))
        }
    })
}

/// What is done is done: whether this browser did it by this link, and whether the user had an application before.
///
/// # Errors
/// When the store fails.
pub async fn done_at_link(
    at: &ActContext,
    visitor: &Visitor,
    seal: &str,
) -> Result<Option<bool>, ActFailure> {
    let (Some(token), Some(mark)) = (token(visitor), mark(visitor)) else {
        return Ok(None);
    };
    let Some((enrolment, user)) = at.store().enrolment_of(&token).await? else {
        return Ok(None);
    };
    let ring = at.engine.key_ring().await?;
    let given = ring.roots().any(|key| {
        let own = done_seal(key, &mark, enrolment.id);
        bool::from(own.as_bytes().ct_eq(seal.as_bytes()))
    });
    if !given {
        return Ok(None);
    }
    let all = at.store().authenticators(user.id).await?;
    Ok(Some(all.iter().any(|kept| {
        kept.authenticator.kind == AuthenticatorKind::App
            && kept.authenticator.state == AuthenticatorState::Revoked
            && kept.authenticator.activated_at.is_some()
    })))
}

/// The same, after administrators are told of a secret that cannot be decrypted.
///
/// # Errors
/// As before.
pub async fn alarmed<T>(at: &ActContext, done: Result<T, ActFailure>) -> Result<T, ActFailure> {
    if let Err(failure) = &done
        && failure.code == FailureKind::Sealed.word()
    {
        at.engine.alarm_sealed(&failure.message).await;
    }
    done
}

/// Notes that somebody came with a link that is over, and asks for another one: administrators see it. Says nothing of the link.
///
/// # Errors
/// When the store fails.
pub async fn ask_at_link(at: &ActContext, visitor: &Visitor) -> Result<(), ActFailure> {
    let Some(token) = token(visitor) else {
        return Ok(());
    };
    let now = judging_time(at).await?;
    let Some((enrolment, user)) = at.store().enrolment_of(&token).await? else {
        return Ok(());
    };
    let over = !link_is_valid(&enrolment, &user, now);
    if over && user.usable() && at.store().note_asked(enrolment.id, now).await? {
        let realm = &user.realm;
        tracing::info!(%realm, user = %user.id, enrolment = %enrolment.id, "{realm}: {:#} came with a link that is over, and asks for another one", user.id);
    }
    Ok(())
}

/// Codes as people read them, and their letters alone.
fn new_codes() -> Result<(Vec<String>, Vec<String>), ActFailure> {
    let codes: Result<Vec<String>, ActFailure> =
        (0..CODES).map(|_| recovery::new_code(random)).collect();
    let codes = codes?;
    let letters = codes.iter().map(|code| code.replace('-', "")).collect();
    Ok((codes, letters))
}

fn trouble_of(outcome: ProofOutcome) -> Option<PageTrouble> {
    match outcome {
        ProofOutcome::Right => None,
        ProofOutcome::Wrong(wrong) => Some(wrong.into()),
        ProofOutcome::Held(gate) => Some(gate.into()),
    }
}

/// A mark for a browser that has none.
///
/// # Errors
/// When the machine gives no randomness.
pub fn new_mark() -> Result<String, ActFailure> {
    let mut bytes = [0; 32];
    random(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Whether a text can be the mark of a browser.
pub fn is_mark(text: &str) -> bool {
    bytes_of(text).is_some()
}

fn bytes_of(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

fn token(visitor: &Visitor) -> Option<[u8; 32]> {
    bytes_of(&visitor.token).map(|token| Sha256::digest(token).into())
}

fn mark(visitor: &Visitor) -> Option<[u8; 32]> {
    visitor.mark.as_deref().and_then(bytes_of)
}

/// What is kept of a mark: who can read the store cannot take the browser's place.
fn kept_mark(key: &RootKey, mark: &[u8; 32]) -> [u8; 32] {
    browser_mac(key, &[mark])
}

/// What shows that this browser was given the recovery codes of a link.
fn done_seal(key: &RootKey, mark: &[u8; 32], link: EnrolmentId) -> String {
    URL_SAFE_NO_PAD.encode(browser_mac(key, &[mark, link.0.as_bytes(), b"done"]))
}

/// Parts of fixed lengths, so that no two lists of them are one.
fn browser_mac(key: &RootKey, parts: &[&[u8]]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    block[..32].copy_from_slice(&*key.key(Purpose::Browsers));
    // Padded with zeros to the hash's block, this is the same key (RFC 2104 § 2), and cannot fail.
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Whether a page is only looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// Nothing is changed.
    Look,
    /// What is pending dies with the link.
    Step,
}

/// The database's time: codes and links are judged by it, whichever daemon is asked.
///
/// # Errors
/// When this machine's clock is too far from it: a code may be worth nothing then, and nobody is told that it is wrong.
async fn judging_time(at: &ActContext) -> Result<Timestamp, ActFailure> {
    let time = at.engine.judging_time().await?;
    if time.is_off() {
        let seconds = time.off_ms / 1000;
        return Err(ActFailure::new(
            FailureKind::Refused,
            format!("this machine's clock is {seconds} s from the database's; set it (NTP)"),
        ));
    }
    Ok(time.at)
}

async fn at_page<'a>(
    at: &'a ActContext,
    visitor: &'a Visitor,
    way: Way,
) -> Result<Option<AtPage<'a>>, ActFailure> {
    let Some(token) = token(visitor) else {
        return Ok(None);
    };
    let now = judging_time(at).await?;
    let Some((enrolment, user)) = at.store().enrolment_of(&token).await? else {
        return Ok(None);
    };
    if !link_is_valid(&enrolment, &user, now) {
        if way == Way::Step {
            at.store().forget_pending(user.id, enrolment.id).await?;
        }
        return Ok(None);
    }
    let keys = at.engine.key_ring().await?;
    let all = at.store().authenticators(user.id).await?;
    let mark = mark(visitor);
    let under = |key| {
        let browser = mark.map(|mark| kept_mark(key, &mark));
        (browser, Possessions::of(&all, enrolment.id, browser, now))
    };
    // What was begun under the key before goes on.
    let begun = keys
        .roots()
        .map(under)
        .find(|(_, has)| has.pending.is_some());
    let (browser, has) = begun.unwrap_or_else(|| under(&keys.current));
    let begun = has.pending.is_some();
    let proves = has.active || at.store().recovery_codes_left(user.id).await? > 0;
    Ok(Some(AtPage {
        at,
        now,
        audit: at.engine.audit_key().await?,
        link: ValidLink {
            issuer: at.engine.issuer(&user.realm).await?,
            proof: proves && !enrolment.lost && !begun,
            active: has.active,
            begun,
            enrolment,
            user,
        },
        keys,
        browser,
        address: visitor.address.as_deref(),
    }))
}

impl AtPage<'_> {
    fn entry(&self, act: AuditAct) -> AuditEntry {
        let author = HandAuthor {
            by: self.at.by(),
            from: self.at.caller.door.as_str(),
            act,
        };
        let mut said = Map::new();
        if let Some(address) = self.address {
            said.insert("address".to_owned(), Value::from(address));
        }
        said.insert("enrolment".to_owned(), json!(self.link.enrolment.id));
        factors_entry(author, &self.link.user, said, self.now)
    }

    fn step<'b>(&'b self, entry: &'b AuditEntry) -> Result<PageStep<'b>, ActFailure> {
        let browser = self
            .browser
            .ok_or_else(|| ActFailure::new(FailureKind::Unfit, "the browser has no mark"))?;
        Ok(PageStep {
            enrolment: self.link.enrolment.id,
            user: self.link.user.id,
            browser,
            keys: &self.keys,
            now: self.now,
            audit: (entry, &self.audit),
        })
    }

    async fn begin(
        self,
        proof: Option<&str>,
        trouble: Option<PageTrouble>,
    ) -> Result<PageAnswer, ActFailure> {
        let entry = self.entry(AuditAct::EnrolmentBegin);
        let step = self.step(&entry)?;
        let fresh = self.fresh(step.browser)?;
        let proof: Option<Typed> = proof.map(read);
        let begun = self
            .at
            .store()
            .begin_enrolling(&step, proof.as_ref(), fresh)
            .await?;
        match begun {
            Begun::Gone => Ok(PageAnswer::Gone),
            Begun::Often(ms) => {
                let why = Some(PageTrouble::Often(ms));
                Ok(PageAnswer::Proof(Box::new((self.link, why))))
            }
            Begun::ProofMissing => Ok(PageAnswer::Proof(Box::new((self.link, trouble)))),
            Begun::NotProved(outcome) => {
                let why = trouble_of(outcome);
                Ok(PageAnswer::Proof(Box::new((self.link, why))))
            }
            Begun::Pending(has) => {
                let shown = self.shown(&has)?;
                Ok(PageAnswer::Secret(Box::new((self.link, shown, trouble))))
            }
        }
    }

    /// A new pending application of this user, link and browser.
    fn fresh(&self, browser: [u8; 32]) -> Result<KeptAuthenticator, ActFailure> {
        let user = self.link.user.id;
        let id = AuthenticatorId(self.at.engine.new_user_id().0);
        let (mut secret, mut nonce) = (Zeroizing::new([0; SECRET]), [0; NONCE]);
        random(&mut *secret)?;
        random(&mut nonce)?;
        let owner = Authenticator::owner(Some(user), id);
        let sealed = sealed::seal(&self.keys.current, &owner, &*secret, nonce)
            .ok_or_else(|| ActFailure::new(FailureKind::Unfit, "a secret cannot be encrypted"))?;
        Ok(KeptAuthenticator {
            authenticator: Authenticator {
                id,
                user: Some(user),
                kind: AuthenticatorKind::App,
                state: AuthenticatorState::Pending,
                serial: None,
                issuer: Some(self.link.issuer.clone()),
                hash: OtpHash::Sha1,
                digits: 6,
                period: PERIOD,
                next: 0,
                drift: 0,
                two_codes: false,
                valid_from: None,
                valid_until: None,
                expires_at: Some(self.now.plus_ms(PENDING)),
                created_at: self.now,
                activated_at: None,
                last_used_at: None,
                ended_at: None,
            },
            bound_to: Some(user),
            secret: Some(sealed),
            enrolment: Some(self.link.enrolment.id),
            browser: Some(browser),
        })
    }

    fn shown(&self, has: &Possessions) -> Result<ShownSecret, ActFailure> {
        let broken = |why: &str| ActFailure::new(FailureKind::Sealed, why);
        let kept = has
            .pending
            .as_ref()
            .ok_or_else(|| broken("no secret is pending"))?;
        let sealed = kept
            .secret
            .as_ref()
            .ok_or_else(|| broken("a pending application has no secret"))?;
        let secret = sealed::open(&self.keys, &kept.owner(), sealed)
            .map_err(|why| broken(&format!("the secret of an application: {why}")))?;
        let month = month(kept.authenticator.created_at);
        let suffix = has.before.then_some(month.as_str());
        Ok(ShownSecret {
            label: Label::new(&self.link.issuer, &self.link.user.username, suffix),
            secret,
            before: has.before,
            before_void: has.before && !has.active,
        })
    }

    fn codes(&self, visitor: &Visitor, codes: Vec<String>) -> PageAnswer {
        let seal =
            mark(visitor).map(|mark| done_seal(&self.keys.current, &mark, self.link.enrolment.id));
        PageAnswer::Codes(ShownCodes {
            codes,
            seal: seal.unwrap_or_default(),
        })
    }
}

/// What keeps the entries of a user apart in an application: `(2026-11)`.
fn month(at: Timestamp) -> String {
    let text = at.to_string();
    format!("({})", text.get(..7).unwrap_or(&text))
}

fn random(bytes: &mut [u8]) -> Result<(), ActFailure> {
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(bytes)
        .map_err(|_| {
            ActFailure::new(
                FailureKind::Unfit,
                "the machine gives no randomness; try again",
            )
        })
}
