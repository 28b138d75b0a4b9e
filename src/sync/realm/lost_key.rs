//! The enrolment key is lost for good: the store goes on with another one, without what the lost one kept.

use super::keys::{CANARY, add_retired, retired_owner, seal};
use crate::factors::keys::{KeyId, KeyRing, RetiredKey, RootKey};
use crate::factors::sealed::Sealed;
use crate::model::AuditEntry;
use crate::runs::RunError;
use crate::store::{AuditKey, AuditNote, EnrolmentKey, GivenUp, LockedOut};
use crate::sync::engine::Engine;

/// What would be given up with a lost key, and the keys that there are.
#[derive(Debug)]
pub struct LostKey {
    ring: KeyRing,
    /// Keys at hand that go out of use with it.
    retiring: Vec<RetiredKey>,
    was: Option<Sealed>,
    out: LockedOut,
}

impl LostKey {
    /// How much it is.
    pub fn locked_out(&self) -> LockedOut {
        self.out
    }

    /// The key that is in use afterwards.
    pub fn key(&self) -> KeyId {
        self.ring.current.id()
    }
}

impl Engine {
    /// What is kept with keys that nobody has; `None`: nothing is.
    ///
    /// # Errors
    /// `config`, when a configured key cannot be read.
    pub async fn lost_key(&self) -> Result<Option<LostKey>, RunError> {
        let (keys, keeping) = self.at_hand(true).await?;
        let mut roots: Vec<RootKey> = keys.iter().map(EnrolmentKey::root).collect();
        let at = |canary: &Sealed| roots.iter().position(|root| root.id() == canary.key);
        let found = keeping.canary.as_ref().and_then(at);
        // Where the key in use is at hand, it stays in use; what it is to be changed to is another matter.
        roots.swap(0, found.unwrap_or(0));
        let mut ring = KeyRing {
            previous: roots.split_off(1),
            ..KeyRing::of(roots.swap_remove(0))
        };
        add_retired(&mut ring, &keeping);
        let ids: Vec<KeyId> = ring.roots().map(RootKey::id).collect();
        let out = self.store.locked_out(&ids, &ring.digest_ids()).await?;
        let canary_is_lost = keeping.canary.is_some() && found.is_none();
        if !canary_is_lost && out == LockedOut::default() {
            return Ok(None);
        }
        let retiring = match found {
            Some(_) => vec![],
            // Nobody takes the configured key in use once more, so that this is when the others go out of it.
            None => self.passed_over(&ring).await?,
        };
        Ok(Some(LostKey {
            ring,
            retiring,
            was: keeping.canary,
            out,
        }))
    }

    /// Gives up what is kept with keys that nobody has. `false`: the store is another one by now, and nothing is done.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn give_up(&self, lost: LostKey, entry: AuditEntry) -> Result<bool, RunError> {
        let LostKey {
            ring,
            retiring,
            was,
            out,
        } = lost;
        let mut entry = entry
            .is("key", ring.current.id().to_string())
            .is("secrets", out.secrets)
            .is("recovery_codes", out.codes);
        if let Some(was) = &was {
            entry = entry.was("key", was.key.to_string());
        }
        let mut retired = vec![];
        for key in ring.retired.iter().chain(&retiring) {
            let sealed = seal(&ring.current, &retired_owner(key), key.bytes())?;
            retired.push((key.id(), sealed));
        }
        let given_up = GivenUp {
            was,
            canary: seal(&ring.current, CANARY.0, CANARY.1)?,
            keys: ring.roots().map(RootKey::id).collect(),
            digests: ring.digest_ids(),
            retired,
            out,
        };
        let note = AuditNote {
            entry,
            key: AuditKey::of_root(&ring.current).knowing(&ring),
        };
        Ok(self.store.give_up_key(&given_up, &note).await?)
    }
}
