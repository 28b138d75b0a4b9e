//! The receivers of a configuration: realms that deliver to the same place share concurrency and circuit.

use std::sync::Arc;

use secrecy::ExposeSecret;
use tokio::sync::Semaphore;

use super::circuit::Circuit;
use super::stats::TargetView;
use crate::clock::{Clock, Steady};
use crate::config::{Config, DeliveryConfig, Environment, Secret};
use crate::delivery::Webhook;
use crate::model::RealmId;

/// Jobs are taken ahead of their turn, so that the next goes out while the store is being written: so many times the concurrency.
const AHEAD: usize = 4;

/// One receiver.
pub(super) struct Target {
    /// Names it over reloads.
    pub(super) id: u64,
    pub(super) config: DeliveryConfig,
    /// `Err`: it cannot be used, and why.
    pub(super) webhook: Result<Webhook, String>,
    pub(super) circuit: Circuit,
    /// Of which realm the last job was taken: the next one is another realm's turn.
    pub(super) last: Option<RealmId>,
    /// Jobs taken and not settled.
    pub(super) under_way: usize,
    /// As many permits as messages may be under way at once.
    pub(super) turns: Arc<Semaphore>,
}

/// All receivers of a configuration.
#[derive(Default)]
pub(super) struct Targets {
    pub(super) all: Vec<Target>,
    next_id: u64,
    config: Option<Arc<Config>>,
}

impl Targets {
    /// Takes a new configuration. A receiver that stays keeps its circuit; its secrets and certificates are read anew.
    pub(super) fn reconfigure(&mut self, config: Arc<Config>, environment: &Environment) {
        let mut old = std::mem::take(&mut self.all);
        for delivery in config
            .delivery
            .iter()
            .chain(config.realms.iter().filter_map(|r| r.delivery.as_ref()))
        {
            if self.all.iter().any(|t| same(&t.config, delivery)) {
                continue;
            }
            let webhook = Webhook::new(delivery, environment).map_err(|e| e.to_string());
            if let Err(why) = &webhook {
                tracing::error!(
                    receiver = receiver(delivery),
                    error = why,
                    "messages wait: their receiver cannot be used: {why}"
                );
            }
            let kept = old
                .iter()
                .position(|t| same(&t.config, delivery))
                .map(|i| old.swap_remove(i));
            self.all.push(if let Some(target) = kept {
                Target { webhook, ..target }
            } else {
                self.next_id += 1;
                Target {
                    id: self.next_id,
                    config: delivery.clone(),
                    webhook,
                    circuit: Circuit::default(),
                    last: None,
                    under_way: 0,
                    turns: Arc::new(Semaphore::new(delivery.concurrency.max(1))),
                }
            });
        }
        self.config = Some(config);
    }

    /// Tries the receivers again that could not be used: a credential may have come.
    pub(super) fn mend(&mut self, environment: &Environment) {
        for target in self.all.iter_mut().filter(|t| t.webhook.is_err()) {
            target.webhook = Webhook::new(&target.config, environment).map_err(|e| e.to_string());
        }
    }

    /// Of these realms, those that deliver to this receiver. A realm that is not in the file (made by hand) uses `[delivery]`.
    pub(super) fn realms_of(&self, target: &Target, sending: &[RealmId]) -> Vec<RealmId> {
        let Some(config) = &self.config else {
            return Vec::new();
        };
        let delivers_here = |realm: &&RealmId| {
            let delivery = match config.realms.iter().find(|r| r.id == **realm) {
                Some(realm) => realm.delivery.as_ref(),
                None => config.delivery.as_ref(),
            };
            delivery.is_some_and(|d| same(d, &target.config))
        };
        sending.iter().filter(delivers_here).cloned().collect()
    }

    pub(super) fn find(&mut self, id: u64) -> Option<&mut Target> {
        self.all.iter_mut().find(|t| t.id == id)
    }

    /// As `status` shows them.
    pub(super) fn views(&self, sending: &[RealmId], clock: &Clock) -> Vec<TargetView> {
        let (now, wall) = (clock.steady(), clock.now());
        let view = |target: &Target| TargetView {
            receiver: receiver(&target.config),
            realms: self.realms_of(target, sending),
            under_way: target.under_way,
            circuit: target.circuit.state(now, wall),
            broken: target.webhook.as_ref().err().cloned(),
        };
        self.all.iter().map(view).collect()
    }
}

impl Target {
    /// Puts the realms in the order of their turn: those after the last one first. `realms` are in the order of their ids.
    pub(super) fn turn_of(&self, realms: &mut [RealmId]) {
        if let Some(last) = &self.last {
            let after = realms.partition_point(|realm| realm <= last);
            realms.rotate_left(after);
        }
    }

    /// How many jobs may be taken now.
    pub(super) fn room(&self, now: Steady) -> usize {
        if self.webhook.is_err() {
            0
        } else {
            self.circuit
                .room(self.under_way, self.config.concurrency.max(1) * AHEAD, now)
        }
    }
}

/// Where a delivery goes, for people: scheme, host and port.
pub(super) fn receiver(config: &DeliveryConfig) -> String {
    config.url.origin().ascii_serialization()
}

/// Whether two deliveries are one receiver.
fn same(a: &DeliveryConfig, b: &DeliveryConfig) -> bool {
    let same_secret = |a: &Secret, b: &Secret| match (a, b) {
        (Secret::File(a), Secret::File(b)) => a == b,
        (Secret::Credential(a), Secret::Credential(b)) | (Secret::Env(a), Secret::Env(b)) => a == b,
        (Secret::Inline(a), Secret::Inline(b)) => a.expose_secret() == b.expose_secret(),
        _ => false,
    };
    let same_previous = match (&a.previous_secret, &b.previous_secret) {
        (Some(a), Some(b)) => same_secret(a, b),
        (None, None) => true,
        _ => false,
    };
    a.url == b.url
        && same_secret(&a.secret, &b.secret)
        && same_previous
        && a.ca_file == b.ca_file
        && a.proxy == b.proxy
        && (a.timeout_ms, a.concurrency, a.retry_for_ms)
            == (b.timeout_ms, b.concurrency, b.retry_for_ms)
}
