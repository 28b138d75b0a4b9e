//! The enrolment key, and all that follows from it: which key the store is kept with, and how secrets are moved to another one.

use crate::clock::Timestamp;
use crate::factors::keys::{KeyId, KeyRing, RetiredKey, RootKey};
use crate::factors::sealed::{self, NONCE, Sealed};
use crate::factors::seeds::fingerprint;
use crate::model::words::count;
use crate::model::{AuditAct, AuditEntry, AuthenticatorId, ErrorCode};
use crate::runs::RunError;
use crate::store::{
    AuditKey, AuditNote, EnrolmentKey, KeyKeeping, LockedOut, MovedSecret, StoreError,
};
use crate::sync::engine::Engine;

/// What is encrypted as the canary, and to whom it belongs.
pub(super) const CANARY: (&[u8], &[u8]) = (b"realmsync canary 1", b"the key of this store");

/// Secrets that are moved over in one transaction: others who use one of them wait no longer than that.
const BATCH: i64 = 200;
/// Secrets of one round: what else time brings about waits no longer than that.
const ROUND: usize = 5_000;
/// For so long after a change the store's own key stays, in milliseconds: what began under it is over by then.
const OWN_STAYS: i64 = 86_400_000;

/// The keys that are at hand, the one that the store is kept with first.
struct ConfiguredKeys {
    keys: Vec<EnrolmentKey>,
    ring: KeyRing,
    /// The one that is configured to be in use.
    wanted: RootKey,
    keeping: KeyKeeping,
}

/// What came of moving secrets over.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct MovedSecrets {
    /// Those that are kept with the key in use now.
    pub moved: u64,
    /// Those that could not be decrypted, and stay as they are.
    pub broken: u64,
    /// Where the next round goes on; `None`: there is nothing behind.
    pub next: Option<MovePlace>,
}

/// How far a look at what is kept with former keys has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MovePlace {
    key: KeyId,
    after: AuthenticatorId,
}

/// Adds what is left of keys that went out of use. Under a key that is not there any more it is of no use to anybody.
pub(super) fn add_retired(ring: &mut KeyRing, keeping: &KeyKeeping) {
    for (id, sealed) in &keeping.retired {
        let owner = format!("realmsync retired key {id}");
        let opened = sealed::open(ring, owner.as_bytes(), sealed).ok();
        ring.retired
            .extend(opened.and_then(|bytes| RetiredKey::read(*id, &bytes)));
    }
}

fn wrong(message: String) -> RunError {
    RunError::Failed {
        code: ErrorCode::Config,
        message,
    }
}

/// What belongs to what is left of a key.
pub(super) fn retired_owner(key: &RetiredKey) -> Vec<u8> {
    format!("realmsync retired key {}", key.id()).into_bytes()
}

impl Engine {
    /// The key of the enrolments' tokens: the configured one (32 bytes in base64), or the store's own.
    ///
    /// # Errors
    /// `config`, when the store is kept with another key.
    pub async fn enrolment_key(&self) -> Result<EnrolmentKey, RunError> {
        Ok(self.keys().await?.keys.swap_remove(0))
    }

    /// All keys that links may have been made with, the one in use first.
    pub(super) async fn link_keys(&self) -> Result<Vec<EnrolmentKey>, RunError> {
        Ok(self.keys().await?.keys)
    }

    /// The keys that secrets and digests may have been kept with.
    ///
    /// # Errors
    /// `config`, when the store is kept with another key.
    pub async fn key_ring(&self) -> Result<KeyRing, RunError> {
        Ok(self.keys().await?.ring)
    }

    /// The name of the key that the configuration wants in use, which may not be the one in use yet.
    ///
    /// # Errors
    /// As [`Self::key_ring`].
    pub async fn wanted_key(&self) -> Result<KeyId, RunError> {
        Ok(self.keys().await?.wanted.id())
    }

    /// The configured key; `None`: the store has its own.
    fn configured_enrolment_key(&self) -> Result<Option<EnrolmentKey>, RunError> {
        let configured = self.config.enrolment.key_bytes(&self.env).map_err(wrong)?;
        Ok(configured.map(EnrolmentKey::new))
    }

    /// Whether there is a key: one is configured, or the store has made its own.
    pub async fn has_key(&self) -> Result<bool, RunError> {
        Ok(self.configured_enrolment_key()?.is_some()
            || self.store.key_keeping().await?.own.is_some())
    }

    /// The keys that are configured or lie in the store, each once, the configured one first.
    /// `make`: where there is none at all, the store makes one.
    pub(super) async fn at_hand(
        &self,
        make: bool,
    ) -> Result<(Vec<EnrolmentKey>, KeyKeeping), RunError> {
        let configured = self.configured_enrolment_key()?;
        let other = self
            .config
            .enrolment
            .previous_key_bytes(&self.env)
            .map_err(wrong)?;
        let keeping = self.store.key_keeping().await?;
        let current = match configured.clone().or_else(|| keeping.own.clone()) {
            Some(key) => key,
            None => match &keeping.canary {
                Some(canary) if !make => return Err(self.another_key(&[], canary).await?),
                _ => self.store.enrolment_key(None).await?,
            },
        };
        let mut keys = vec![current];
        for key in other
            .map(EnrolmentKey::new)
            .into_iter()
            .chain(keeping.own.clone())
        {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Ok((keys, keeping))
    }

    async fn keys(&self) -> Result<ConfiguredKeys, RunError> {
        let (mut keys, keeping) = self.at_hand(false).await?;
        let mut roots: Vec<RootKey> = keys.iter().map(EnrolmentKey::root).collect();
        let wanted = roots[0].clone();
        if let Some(canary) = &keeping.canary {
            let Some(place) = roots.iter().position(|root| root.id() == canary.key) else {
                return Err(self.another_key(&roots, canary).await?);
            };
            // Whichever is configured: of several daemons one may already have taken another in use.
            keys.swap(0, place);
            roots.swap(0, place);
        }
        let mut roots = roots.into_iter();
        let Some(current) = roots.next() else {
            return Err(wrong("there is no enrolment key".to_owned()));
        };
        let mut ring = KeyRing {
            previous: roots.collect(),
            ..KeyRing::of(current)
        };
        if let Some(canary) = &keeping.canary {
            let opened = sealed::open(&ring, CANARY.0, canary);
            if opened.is_err() {
                return Err(wrong(format!(
                    "the canary of the enrolment key {} in the store is not what was kept: the table `meta` was changed by somebody else; put a copy of the store in its place",
                    canary.key
                )));
            }
        }
        add_retired(&mut ring, &keeping);
        Ok(ConfiguredKeys {
            keys,
            ring,
            wanted,
            keeping,
        })
    }

    /// Why another key is refused: with what it would lock out.
    async fn another_key(
        &self,
        roots: &[RootKey],
        canary: &Sealed,
    ) -> Result<RunError, StoreError> {
        let ids: Vec<_> = roots.iter().map(RootKey::id).collect();
        let out = self.store.locked_out(&ids, &ids).await?;
        Ok(refused_key(&ids, &canary.key.to_string(), out))
    }

    /// The key of the audit, which follows from that of the enrolments.
    pub async fn audit_key(&self) -> Result<AuditKey, RunError> {
        let key = AuditKey::of(&self.enrolment_key().await?);
        Ok(key.knowing(&self.key_ring().await?))
    }

    /// All keys that lines of the audit may have been written under, the current one first.
    pub async fn audit_keys(&self) -> Result<Vec<AuditKey>, RunError> {
        Ok(AuditKey::of_ring(&self.key_ring().await?))
    }

    /// Sees that the store is kept with the configured key: keeps a canary where there is none, and takes another key in use where the
    /// one before is known too. Then the audit says what could not be said before: that the store was found to be a copy. Called when a
    /// configuration is put in force.
    ///
    /// # Errors
    /// `config`, when the store is kept with a key that is not known.
    pub async fn take_key(&self) -> Result<(), RunError> {
        self.take_wanted_key().await?;
        if let Some(held) = self.store.untold_copy().await? {
            let entry = AuditEntry::new(AuditAct::Restored, None, "start", self.clock.now());
            let key = self.audit_key().await?;
            let entry = entry.is("held", held);
            self.store.tell_copy(&AuditNote { entry, key }).await?;
        }
        Ok(())
    }

    async fn take_wanted_key(&self) -> Result<(), RunError> {
        let ConfiguredKeys {
            ring,
            wanted,
            keeping,
            ..
        } = self.keys().await?;
        let Some(before) = &keeping.canary else {
            return self.first_key(&ring).await;
        };
        // One that went out of use does not come back.
        let retired = keeping.retired.iter().any(|(id, _)| *id == wanted.id());
        if before.key == wanted.id() {
            return Ok(());
        }
        if retired {
            tracing::warn!(
                key = %wanted.id(), current = %before.key,
                "the configured enrolment key {} went out of use, and does not come back: {} stays in use; configure that one again",
                wanted.id(), before.key
            );
            return Ok(());
        }
        let canary = seal(&wanted, CANARY.0, CANARY.1)?;
        let mut kept = vec![];
        for key in &ring.retired {
            kept.push((key.id(), seal(&wanted, &retired_owner(key), key.bytes())?));
        }
        let former = RetiredKey::of(&ring.current);
        let sealed = seal(&wanted, &retired_owner(&former), former.bytes())?;
        kept.push((former.id(), sealed));
        let entry = AuditEntry::new(AuditAct::KeyChange, None, "start", self.clock.now())
            .was("key", before.key.to_string())
            .is("key", wanted.id().to_string());
        let key = AuditKey::of_root(&wanted).knowing(&ring);
        let note = AuditNote { entry, key };
        let changed = self.store.change_key(before, &canary, &kept, &note).await?;
        if !changed {
            // Another daemon was first: with the same key, or with one that is not known here.
            return self.keys().await.map(|_| ());
        }
        tracing::info!(
            key = %wanted.id(), before = %before.key,
            "the enrolment key {} is in use from now on: what {} keeps is moved over",
            wanted.id(), before.key
        );
        Ok(())
    }

    /// Keeps the first canary. What is kept already must be kept with this key, or the canary was lost.
    async fn first_key(&self, ring: &KeyRing) -> Result<(), RunError> {
        let ids: Vec<KeyId> = ring.roots().map(RootKey::id).collect();
        // Codes of keys that went out of use are told by what is left of them.
        let out = self.store.locked_out(&ids, &ring.digest_ids()).await?;
        if out != LockedOut::default() {
            return Err(refused_key(&ids, "that is not known", out));
        }
        let canary = seal(&ring.current, CANARY.0, CANARY.1)?;
        let mut retired = vec![];
        let passed_over = self.passed_over(ring).await?;
        for key in ring.retired.iter().chain(&passed_over) {
            retired.push((
                key.id(),
                seal(&ring.current, &retired_owner(key), key.bytes())?,
            ));
        }
        self.store.keep_canary(&canary, &retired).await?;
        // Somebody else may have been first, with another key.
        self.keys().await.map(|_| ())
    }

    /// What is left of keys at hand that keep something, where another one is taken in use without a change from one of them.
    pub(super) async fn passed_over(&self, ring: &KeyRing) -> Result<Vec<RetiredKey>, RunError> {
        let others: Vec<KeyId> = ring.previous.iter().map(RootKey::id).collect();
        let used = self.store.keys_in_use(&others).await?;
        let used = ring.previous.iter().filter(|key| used.contains(&key.id()));
        Ok(used.map(RetiredKey::of).collect())
    }

    /// Tells administrators that a secret cannot be decrypted: `status` shows the last one.
    pub async fn alarm_sealed(&self, what: &str) {
        if let Err(error) = self.store.alarm_sealed(what, self.clock.now()).await {
            tracing::error!(%error, "that a secret cannot be decrypted cannot be noted: {error}");
        }
    }

    /// Moves secrets that are kept with a former key to the one in use, a few in each transaction and so many in each round. `from`: where
    /// the round before ended. Called by a timer of the daemon; mostly there are none.
    pub async fn move_secrets(&self, from: Option<MovePlace>) -> Result<MovedSecrets, RunError> {
        let ring = self.key_ring().await?;
        let (mut done, mut seen, mut broken) = (MovedSecrets::default(), 0, None);
        let from = from.filter(|from| ring.previous.iter().any(|key| key.id() == from.key));
        let before = |former: &&RootKey| from.is_some_and(|from| from.key != former.id());
        let mut after = from.map(|from| from.after);
        'round: for former in ring.previous.iter().skip_while(before) {
            loop {
                let secrets = self.store.secrets_of(former.id(), after, BATCH).await?;
                let Some(last) = secrets.last().map(|last| last.id) else {
                    break;
                };
                after = Some(last);
                seen += secrets.len();
                let mut moved = vec![];
                for secret in secrets {
                    match sealed::open(&ring, &secret.owner, &secret.sealed) {
                        Ok(opened) => {
                            let is = seal(&ring.current, &secret.owner, &opened)?;
                            let fingerprint = secret
                                .has_fingerprint
                                .then(|| fingerprint(&ring.current, &opened));
                            moved.push(MovedSecret {
                                was: secret,
                                is,
                                fingerprint,
                            });
                        }
                        Err(error) => {
                            done.broken += 1;
                            broken = Some(format!("authenticator {}: {error}", secret.id));
                        }
                    }
                }
                crate::failpoint::hit("reseal.batch");
                done.moved += self.store.reseal(&moved).await?;
                if seen >= ROUND {
                    done.next = Some(MovePlace {
                        key: former.id(),
                        after: last,
                    });
                    break 'round;
                }
            }
            after = None;
        }
        if let Some(what) = broken {
            self.alarm_sealed(&what).await;
        }
        Ok(done)
    }

    /// Removes the key that the store made for itself, once a configured one has been in use for a day and nothing needs the former: no
    /// secret is kept with it, what is left of it for digests lies under the one in use, and no link was made with it that is still
    /// good or still to be sent. Says whether it went.
    ///
    /// # Errors
    /// As [`Self::key_ring`].
    pub async fn forget_own_key(&self) -> Result<bool, RunError> {
        let at_hand = self.keys().await?;
        let (ring, keeping) = (&at_hand.ring, &at_hand.keeping);
        let Some(own) = &keeping.own else {
            return Ok(false);
        };
        let id = own.root().id();
        if [ring.current.id(), at_hand.wanted.id()].contains(&id) {
            return Ok(false);
        }
        let time = self.judging_time().await?;
        let young = |at: Timestamp| time.at.since_ms(at) < OWN_STAYS;
        if time.is_off() || keeping.changed_at.is_some_and(young) {
            return Ok(false);
        }
        let is_left = ring.retired.iter().any(|key| key.id() == id);
        if !is_left && !self.store.keys_in_use(&[id]).await?.is_empty() {
            return Ok(false);
        }
        if self.store.links_need(own, time.at).await? {
            return Ok(false);
        }
        let entry = AuditEntry::new(AuditAct::KeyForget, None, "timer", time.at);
        let note = AuditNote {
            entry: entry.was("key", id.to_string()),
            key: AuditKey::of_root(&ring.current).knowing(ring),
        };
        let gone = self
            .store
            .forget_own_key(own, ring.current.id(), &note)
            .await?;
        if gone {
            tracing::info!(
                key = %id,
                "the enrolment key {id} that the store had made for itself is gone from it: nothing needs it any more"
            );
        }
        Ok(gone)
    }
}

/// Why the store is not taken with these keys.
fn refused_key(configured: &[KeyId], kept_with: &str, out: LockedOut) -> RunError {
    let named: Vec<String> = configured.iter().map(ToString::to_string).collect();
    let named = match &named[..] {
        [] => "none is configured".to_owned(),
        named => format!("the configured one is {}", named.join(", ")),
    };
    wrong(format!(
        "this store is kept with an enrolment key {kept_with}, and {named}: {} of authenticators and {} would be locked out, \
         and nothing was done. Put the former key back; to change it, name the former one as `previous-key-file` (or `-credential`) under \
         [enrolment] while what it keeps is moved over. If it is lost for good, `realmsync give-up-key` goes on without what it keeps",
        count(out.secrets, "secret"),
        count(out.codes, "recovery code"),
    ))
}

pub(super) fn seal(key: &RootKey, owner: &[u8], secret: &[u8]) -> Result<Sealed, RunError> {
    let mut nonce = [0; NONCE];
    let filled = rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut nonce);
    let sealed = filled
        .ok()
        .and_then(|()| sealed::seal(key, owner, secret, nonce));
    sealed.ok_or_else(|| {
        RunError::Store(StoreError::Nonsense(
            "the machine gives no randomness to encrypt a secret; try again".to_owned(),
        ))
    })
}
