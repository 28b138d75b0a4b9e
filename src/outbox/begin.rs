//! The last look before a message is sent: whether it is still ours, whether it still says what is true, and which enrolment key its
//! link was made with.
//!
//! ```text
//!   permit ─▶ still mine? ──no, or not for long──▶ back, untried
//!                 │ yes
//!                 ▼
//!        on hold, or overtaken? ──yes──▶ back, untried
//!                 │ no
//!                 ▼
//!             key fits? ──yes──▶ send
//!                 │ no: read it anew
//!                 ├── this one, or the one before it, fits ──▶ send
//!                 ├── cannot be read ──▶ back, for later
//!                 ├── never sent ──▶ the link is made with the new key ──▶ send
//!                 └── sent before ──▶ dead: its body may not change under its webhook-id
//! ```
//!
//! Jobs are taken ahead of their turn, so between taking and sending there may be minutes, in which the process may stand still
//! (SIGSTOP, a suspended machine) and another daemon may take, send and settle them. So the store is asked right before each
//! attempt: one look-up by key, a fraction of a millisecond beside a request of several. Its answer is good for as long as
//! the lease, reckoned from before the question by a clock that goes on while the process stands still.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Uptime;
use crate::config::{Config, Environment};
use crate::model::message_rules::may_begin;
use crate::model::{EnrolmentId, Job, JobType};
use crate::store::{EnrolmentKey, MessageLink, Store, StoreError};

/// A lease that ends sooner than this is not used: the request is on its way for a moment, and clocks are not the same to the instant.
const MARGIN: Duration = Duration::from_secs(3);
/// The question takes longer than this only where something is wrong, and then the message goes back.
const ANSWER: Duration = Duration::from_secs(8);
/// A key that cannot be read is read again after this.
const KEY_AGAIN_MS: i64 = 10_000;
/// Former keys of this process that are kept for messages made with them.
const FORMER: usize = 8;

/// What becomes of a message whose turn has come.
#[derive(Debug)]
pub(super) enum SendDecision {
    /// This body is sent, now.
    Send(String),
    /// Not ours any more, or not to be sent any more, or nobody knows: back, untried.
    Back,
    /// Something is missing here.
    Later {
        /// What, for people.
        why: String,
        /// For how long, in milliseconds.
        wait_ms: i64,
    },
    /// It can never go as it is.
    Never(String),
}

/// What the look needs.
#[derive(Debug)]
pub(super) struct SendCheck {
    store: Store,
    config: watch::Receiver<Arc<Config>>,
    environment: Environment,
    /// Whose leases these are.
    owner: String,
    keys: Mutex<KnownKeys>,
}

#[derive(Default, Debug)]
struct KnownKeys {
    /// Those that this process has read, the newest first.
    known: Vec<EnrolmentKey>,
    /// It was said that this one is another one than before.
    said: Option<EnrolmentKey>,
    /// It was said that none can be read, and why.
    unreadable: Option<String>,
}

impl SendCheck {
    pub(super) fn new(
        store: Store,
        config: watch::Receiver<Arc<Config>>,
        environment: Environment,
        owner: String,
    ) -> Self {
        Self {
            store,
            config,
            environment,
            owner,
            keys: Mutex::default(),
        }
    }

    /// Looks at a claimed job whose turn has come.
    pub(super) async fn look(&self, job: &Job, body: &str) -> SendDecision {
        let asked = Uptime::now();
        let asking = self.store.still_mine(&self.owner, job);
        let mine = match tokio::time::timeout(ANSWER, asking).await {
            Ok(Ok(Some(mine))) => mine,
            Ok(Ok(None)) => {
                tracing::info!(job = %job.id, "a message was taken over by another daemon, since this one did not renew its lease in time");
                return SendDecision::Back;
            }
            Ok(Err(error)) => {
                tracing::warn!(job = %job.id, %error, "a message is not sent, since the store does not say whose it is: {error}");
                return SendDecision::Back;
            }
            Err(_) => {
                tracing::warn!(job = %job.id, "a message is not sent, since the store does not say whose it is");
                return SendDecision::Back;
            }
        };
        if mine.held || !may_begin(job, &mine.meanwhile) {
            // What becomes of it is decided where it is put back.
            return SendDecision::Back;
        }
        let go = match (MessageLink::of(job), mine.token_sha256) {
            (Some(MessageLink::Enrolment(void)), Some(_)) if mine.void => {
                match self.with_another_link(job, body, void).await {
                    Ok(go) => go,
                    Err(error) => SendDecision::Later {
                        why: format!("a link cannot be made anew: {error}"),
                        wait_ms: KEY_AGAIN_MS,
                    },
                }
            }
            (Some(link), Some(hash)) => match self.with_link(job, body, link, hash).await {
                Ok(go) => go,
                Err(error) => SendDecision::Later {
                    why: format!("the enrolment key cannot be read from the store: {error}"),
                    wait_ms: KEY_AGAIN_MS,
                },
            },
            _ => SendDecision::Send(body.to_owned()),
        };
        match mine.left {
            Some(left) if asked.elapsed() + MARGIN >= left => SendDecision::Back,
            _ => go,
        }
    }

    /// Gives a message another link in place of a void one, if nobody has ever seen that.
    async fn with_another_link(
        &self,
        job: &Job,
        body: &str,
        void: EnrolmentId,
    ) -> Result<SendDecision, StoreError> {
        if job.attempts > 1 || job.uncertain {
            return Ok(SendDecision::Never(
                "its link is void since the store went on from a copy, and it was sent with that link before; `realmsync outbox drop` it, and send the \
                 application anew"
                    .into(),
            ));
        }
        let configured = self.config.borrow().enrolment.clone();
        let configured = match configured.key_bytes(&self.environment) {
            Ok(configured) => configured,
            Err(why) => {
                return Ok(SendDecision::Later {
                    why,
                    wait_ms: KEY_AGAIN_MS,
                });
            }
        };
        let key = self.store.enrolment_key(configured).await?;
        let made = self.store.renew_link(&self.owner, job, void, &key).await?;
        Ok(match made {
            Some(made) => {
                SendDecision::Send(key.fill_in(body, Some(MessageLink::Enrolment(made))))
            }
            None => SendDecision::Never(
                "its link is void since the store went on from a copy, and its user has a newer one; `realmsync outbox drop` it".into(),
            ),
        })
    }

    /// Fills the token in with the key that it was made with; its hash tells which that is.
    async fn with_link(
        &self,
        job: &Job,
        body: &str,
        link: MessageLink,
        hash: [u8; 32],
    ) -> Result<SendDecision, StoreError> {
        let fits = |key: &&EnrolmentKey| key.link_sha256(link) == hash;
        if let Some(key) = self.known().iter().find(fits) {
            return Ok(SendDecision::Send(key.fill_in(body, Some(link))));
        }
        let configured = self.config.borrow().enrolment.clone();
        let both = configured
            .key_bytes(&self.environment)
            .and_then(|key| Ok((key, configured.previous_key_bytes(&self.environment)?)));
        let (configured, previous) = match both {
            Ok(both) => both,
            Err(why) => {
                if self.is_another_fault(&why) {
                    tracing::error!(
                        error = why,
                        "messages with a link wait for the enrolment key, which is looked at again every {} s: {why}",
                        KEY_AGAIN_MS / 1000
                    );
                }
                return Ok(SendDecision::Later {
                    why,
                    wait_ms: KEY_AGAIN_MS,
                });
            }
        };
        let current = self.store.enrolment_key(configured).await?;
        let own = self.store.kept_enrolment_key().await?;
        self.learn(own);
        self.learn(previous.map(EnrolmentKey::new));
        self.learn(Some(current.clone()));
        if let Some(key) = self.known().iter().find(fits) {
            return Ok(SendDecision::Send(key.fill_in(body, Some(link))));
        }
        if self.is_news(&current) {
            tracing::warn!(
                "enrolment.key is another one than when some waiting messages were made: those that were never sent get links of the new key, \
                 those that were sent at least once are given up (`realmsync outbox list`). Links that people have already stay good"
            );
        }
        // What a reminder sends again was sent before.
        if job.attempts > 1 || job.uncertain || job.r#type == JobType::Reminder {
            return Ok(SendDecision::Never(
                "its link was made with a former enrolment.key, and it was sent with that link at least once, so that it may not be sent with another; \
                 name the former key as `previous-key-file` under [enrolment] and `realmsync outbox retry` it, or `realmsync outbox drop` it and send the application anew"
                    .into(),
            ));
        }
        // Nobody has ever seen this link.
        let hash_now = current.link_sha256(link);
        let made = self
            .store
            .make_link_anew(&self.owner, job, link, hash_now)
            .await?;
        if !made {
            return Ok(SendDecision::Back);
        }
        tracing::debug!(job = %job.id, "the link was made anew");
        Ok(SendDecision::Send(current.fill_in(body, Some(link))))
    }

    fn known(&self) -> Vec<EnrolmentKey> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.known.clone()
    }

    /// Whether it is yet to be said that this key is another one than before.
    fn is_news(&self, key: &EnrolmentKey) -> bool {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.said.replace(key.clone()).as_ref() != Some(key)
    }

    /// Whether it is yet to be said why no key can be read: each waiting message meets it.
    fn is_another_fault(&self, why: &str) -> bool {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.unreadable.replace(why.to_owned()).as_deref() != Some(why)
    }

    /// Notes a key as the newest.
    fn learn(&self, key: Option<EnrolmentKey>) {
        let Some(key) = key else { return };
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.unreadable = None;
        keys.known.retain(|known| *known != key);
        keys.known.insert(0, key);
        keys.known.truncate(FORMER);
    }
}
