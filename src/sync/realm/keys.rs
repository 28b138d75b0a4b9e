//! The enrolment key, and all that follows from it: which key the store is kept with, and how secrets are moved to another one.

use crate::factors::keys::{KeyId, KeyRing, RetiredKey, RootKey};
use crate::factors::sealed::{self, NONCE, Sealed};
use crate::factors::seeds::fingerprint;
use crate::model::words::count;
use crate::model::{AuditAct, AuditEntry, ErrorCode};
use crate::runs::RunError;
use crate::store::{
    AuditKey, AuditNote, EnrolmentKey, KeyKeeping, LockedOut, MovedSecret, StoreError,
};
use crate::sync::engine::Engine;

/// What is encrypted as the canary, and to whom it belongs.
const CANARY: (&[u8], &[u8]) = (b"realmsync canary 1", b"the key of this store");

/// Secrets that are moved over in one transaction: others who use one of them wait no longer than that.
const BATCH: i64 = 200;

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
}

fn wrong(message: String) -> RunError {
    RunError::Failed {
        code: ErrorCode::Config,
        message,
    }
}

/// What belongs to what is left of a key.
fn retired_owner(key: &RetiredKey) -> Vec<u8> {
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

    async fn keys(&self) -> Result<ConfiguredKeys, RunError> {
        let configured = self.configured_enrolment_key()?;
        let other = self
            .config
            .enrolment
            .previous_key_bytes(&self.env)
            .map_err(wrong)?;
        let keeping = self.store.key_keeping().await?;
        let current = match configured.clone().or_else(|| keeping.own.clone()) {
            Some(key) => key,
            None => self.store.enrolment_key(None).await?,
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
        for (id, sealed) in &keeping.retired {
            let owner = format!("realmsync retired key {id}");
            // Under a key that is not there any more it is of no use to anybody.
            let opened = sealed::open(&ring, owner.as_bytes(), sealed).ok();
            ring.retired
                .extend(opened.and_then(|bytes| RetiredKey::read(*id, &bytes)));
        }
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
        let out = self.store.locked_out(&ids).await?;
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
    /// one before is known too. Called when a configuration is put in force.
    ///
    /// # Errors
    /// `config`, when the store is kept with a key that is not known.
    pub async fn take_key(&self) -> Result<(), RunError> {
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
        let out = self.store.locked_out(&ids).await?;
        if out != LockedOut::default() {
            return Err(refused_key(&ids, "that is not known", out));
        }
        let canary = seal(&ring.current, CANARY.0, CANARY.1)?;
        self.store.keep_canary(&canary).await?;
        // Somebody else may have been first, with another key.
        self.keys().await.map(|_| ())
    }

    /// Tells administrators that a secret cannot be decrypted: `status` shows the last one.
    pub async fn alarm_sealed(&self, what: &str) {
        if let Err(error) = self.store.alarm_sealed(what, self.clock.now()).await {
            tracing::error!(%error, "that a secret cannot be decrypted cannot be noted: {error}");
        }
    }

    /// Moves secrets that are kept with a former key to the one in use, a few in each transaction. Called by a timer of the daemon; mostly
    /// there are none.
    pub async fn move_secrets(&self) -> Result<MovedSecrets, RunError> {
        let mut done = MovedSecrets::default();
        let ring = self.key_ring().await?;
        for former in &ring.previous {
            let mut after = None;
            loop {
                let secrets = self.store.secrets_of(former.id(), after, BATCH).await?;
                let Some(last) = secrets.last() else { break };
                after = Some(last.id);
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
                            let what = format!("authenticator {}: {error}", secret.id);
                            self.alarm_sealed(&what).await;
                        }
                    }
                }
                crate::failpoint::hit("reseal.batch");
                done.moved += self.store.reseal(&moved).await?;
            }
        }
        Ok(done)
    }
}

/// Why the store is not taken with these keys.
fn refused_key(configured: &[KeyId], kept_with: &str, out: LockedOut) -> RunError {
    let named: Vec<String> = configured.iter().map(ToString::to_string).collect();
    wrong(format!(
        "this store is kept with an enrolment key {kept_with}, and the configured one is {}: {} of authenticators and {} would be locked out, \
         and nothing was done. Put the former key back; to change it, name the former one as `previous-key-file` (or `-credential`) under \
         [enrolment] while what it keeps is moved over",
        named.join(", "),
        count(out.secrets, "secret"),
        count(out.codes, "recovery code"),
    ))
}

fn seal(key: &RootKey, owner: &[u8], secret: &[u8]) -> Result<Sealed, RunError> {
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
