//! Numbers for Prometheus. What happens is counted as it happens; what stands is read from the store when somebody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::clock::Timestamp;
use crate::model::{Outcome, Run, Trigger};
use crate::story::status::RealmStatus;

/// From 10 ms (a delta) to an hour (a run's deadline), about three buckets a decade.
const SECONDS: [f64; 16] = [
    0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0,
    3600.0,
];

/// The span that times a stage: `info_span!("stage", stage = "read")`.
const STAGE: &str = "stage";

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ByRealm {
    realm: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RunLabels {
    realm: String,
    mode: String,
    trigger: String,
    outcome: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct DeltaLabels {
    realm: String,
    way: String,
    outcome: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ServerLabels {
    realm: String,
    server: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct KindLabels {
    realm: String,
    kind: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StateLabels {
    realm: String,
    state: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StageLabels {
    stage: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct BuildLabels {
    version: String,
}

type Numbers<L> = Family<L, Gauge<f64, AtomicU64>>;
type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

fn durations() -> Histogram {
    Histogram::new(SECONDS)
}

/// Every metric of the daemon. Cheap to clone; no label holds personal data.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    registry: Registry,
    runs: Family<RunLabels, Counter>,
    run_seconds: Durations<ByRealm>,
    deltas: Family<DeltaLabels, Counter>,
    push_seconds: Durations<ByRealm>,
    push_connected: Numbers<ByRealm>,
    drift: Numbers<KindLabels>,
    server_away: Numbers<ServerLabels>,
    changes: Family<KindLabels, Counter>,
    refused: Numbers<KindLabels>,
    held: Numbers<ByRealm>,
    paused: Numbers<ByRealm>,
    running: Numbers<ByRealm>,
    last_success: Numbers<ByRealm>,
    last_success_age: Numbers<ByRealm>,
    users: Numbers<StateLabels>,
    outbox: Numbers<StateLabels>,
    stages: Durations<StageLabels>,
    deliveries: Family<OutcomeLabels, Counter>,
    circuits_open: Gauge,
    reloads: Family<OutcomeLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut families = Families {
            registry: Registry::with_prefix("realmsync"),
            runs: Family::default(),
            run_seconds: Family::new_with_constructor(durations),
            deltas: Family::default(),
            push_seconds: Family::new_with_constructor(durations),
            push_connected: Family::default(),
            drift: Family::default(),
            server_away: Family::default(),
            changes: Family::default(),
            refused: Family::default(),
            held: Family::default(),
            paused: Family::default(),
            running: Family::default(),
            last_success: Family::default(),
            last_success_age: Family::default(),
            users: Family::default(),
            outbox: Family::default(),
            stages: Family::new_with_constructor(durations),
            deliveries: Family::default(),
            circuits_open: Gauge::default(),
            reloads: Family::default(),
        };
        let build = Family::<BuildLabels, Gauge>::default();
        build
            .get_or_create(&BuildLabels {
                version: env!("CARGO_PKG_VERSION").into(),
            })
            .set(1);
        let f = &mut families;
        let r = &mut f.registry;
        r.register("build", "The running version", build);
        r.register("runs", "Runs that ended, by outcome", f.runs.clone());
        r.register("run_seconds", "How long runs took", f.run_seconds.clone());
        r.register(
            "deltas",
            "Runs that looked only at whom the directory told, by way and outcome",
            f.deltas.clone(),
        );
        r.register(
            "push_seconds",
            "From the end of a burst that was pushed to applied",
            f.push_seconds.clone(),
        );
        r.register(
            "push_connected",
            "1 while the directory tells of changes by itself, 0 while it should and does not; absent where it is polled",
            f.push_connected.clone(),
        );
        r.register(
            "drift",
            "People whom the last full pass found changed and no delta had told, by what changed, each once; absent before one counted them",
            f.drift.clone(),
        );
        r.register(
            "server_away",
            "1 for each preferred server that cannot be used",
            f.server_away.clone(),
        );
        r.register(
            "changes",
            "Changes of users that were applied, by kind",
            f.changes.clone(),
        );
        r.register(
            "refused",
            "Entries and phones that cannot be used as things stand",
            f.refused.clone(),
        );
        r.register(
            "held",
            "1 while a plan waits for a decision",
            f.held.clone(),
        );
        r.register("paused", "1 while no passes are made", f.paused.clone());
        r.register("running", "1 while a run is under way", f.running.clone());
        r.register(
            "last_success_timestamp_seconds",
            "When the last run was applied or found nothing to do; absent before",
            f.last_success.clone(),
        );
        r.register(
            "last_success_age_seconds",
            "How long ago that was",
            f.last_success_age.clone(),
        );
        r.register("users", "Users by state", f.users.clone());
        r.register("outbox_jobs", "Messages by state", f.outbox.clone());
        r.register(
            "stage_seconds",
            "How long the stages of runs took",
            f.stages.clone(),
        );
        r.register(
            "deliveries",
            "Attempts to deliver since the start, by outcome",
            f.deliveries.clone(),
        );
        r.register(
            "delivery_circuits_open",
            "Receivers that are only probed after twenty failures in a row",
            f.circuits_open.clone(),
        );
        r.register(
            "reloads",
            "Reloads of the configuration, by outcome",
            f.reloads.clone(),
        );
        Self(Arc::new(families))
    }
}

impl Metrics {
    /// Counts a run that ended (or a plan that was decided).
    pub fn run_ended(&self, run: &Run) {
        let realm = run.realm.to_string();
        let labels = RunLabels {
            realm: realm.clone(),
            mode: run.mode.to_string(),
            trigger: run.trigger.to_string(),
            outcome: run.outcome.to_string(),
        };
        self.0.runs.get_or_create(&labels).inc();
        #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
        self.0
            .run_seconds
            .get_or_create(&ByRealm {
                realm: realm.clone(),
            })
            .observe(run.elapsed_ms.max(0) as f64 / 1000.0);
        if run.outcome == Outcome::Applied {
            for (kind, count) in [
                ("created", run.created),
                ("updated", run.updated),
                ("renamed", run.renamed),
                ("phone_changed", run.phone_changed),
                ("phone_lost", run.phone_lost),
                ("suspended", run.suspended),
                ("restored", run.restored),
                ("removed", run.removed),
                ("moved", run.moved),
            ] {
                let labels = KindLabels {
                    realm: realm.clone(),
                    kind: kind.into(),
                };
                self.0
                    .changes
                    .get_or_create(&labels)
                    .inc_by(u64::try_from(count).unwrap_or(0));
            }
        }
    }

    /// Counts a delta, beside [`Metrics::run_ended`]; `way` is how it was asked for.
    pub fn delta_ended(&self, run: &Run, way: &str) {
        let labels = DeltaLabels {
            realm: run.realm.to_string(),
            way: way.into(),
            outcome: run.outcome.to_string(),
        };
        self.0.deltas.get_or_create(&labels).inc();
        if run.trigger == Trigger::Push {
            let of = ByRealm {
                realm: labels.realm,
            };
            #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
            self.0
                .push_seconds
                .get_or_create(&of)
                .observe(run.elapsed_ms.max(0) as f64 / 1000.0);
        }
    }

    /// Counts a reload.
    pub fn reloaded(&self, accepted: bool) {
        let outcome = if accepted { "accepted" } else { "refused" };
        self.0
            .reloads
            .get_or_create(&OutcomeLabels {
                outcome: outcome.into(),
            })
            .inc();
    }

    /// Takes over the outbox worker's own counters.
    pub fn deliveries(&self, by_outcome: &[(&str, u64)], circuits_open: u64) {
        for (outcome, count) in by_outcome {
            // The worker counts; this only shows its count.
            self.0
                .deliveries
                .get_or_create(&OutcomeLabels {
                    outcome: (*outcome).into(),
                })
                .inner()
                .store(*count, Ordering::Relaxed);
        }
        self.0
            .circuits_open
            .set(i64::try_from(circuits_open).unwrap_or(i64::MAX));
    }

    /// Takes over what stands. Realms that are gone lose their numbers.
    pub fn stands(&self, realms: &[RealmStatus], now: Timestamp) {
        let f = &self.0;
        for family in [
            &f.held,
            &f.paused,
            &f.running,
            &f.last_success,
            &f.last_success_age,
            &f.push_connected,
        ] {
            family.clear();
        }
        f.drift.clear();
        f.refused.clear();
        f.server_away.clear();
        f.users.clear();
        f.outbox.clear();
        for realm in realms {
            let labels = ByRealm {
                realm: realm.realm.to_string(),
            };
            set(&f.held, &labels, i64::from(realm.held.is_some()));
            set(&f.paused, &labels, i64::from(realm.paused));
            set(&f.running, &labels, i64::from(realm.running.is_some()));
            if let Some(at) = realm.last_success_at {
                set(&f.last_success, &labels, at.0 / 1000);
                set(&f.last_success_age, &labels, now.since_ms(at).max(0) / 1000);
            }
            if let Some(following) = &realm.following {
                if let Some(push) = &following.push {
                    set(&f.push_connected, &labels, i64::from(push.connected));
                }
                for (kind, people) in &following.drift_by_kind {
                    let labels = KindLabels {
                        realm: labels.realm.clone(),
                        kind: kind.clone(),
                    };
                    set(&f.drift, &labels, *people);
                }
            }
            for kind in ["entries", "phones"] {
                let of = KindLabels {
                    realm: labels.realm.clone(),
                    kind: kind.into(),
                };
                let standing = realm.refused.get(kind).copied().unwrap_or_default();
                set(&f.refused, &of, standing);
            }
            for away in &realm.away {
                let labels = ServerLabels {
                    realm: labels.realm.clone(),
                    server: away.server.clone(),
                };
                set(&f.server_away, &labels, 1);
            }
            for (family, counts) in [(&f.users, &realm.users), (&f.outbox, &realm.outbox)] {
                for (state, count) in counts {
                    set(
                        family,
                        &StateLabels {
                            realm: labels.realm.clone(),
                            state: state.clone(),
                        },
                        *count,
                    );
                }
            }
        }
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.0.registry) {
            Ok(()) => text,
            Err(_) => String::from("# EOF\n"),
        }
    }

    /// The layer that times stages.
    pub fn stage_timer(&self) -> StageTimer {
        StageTimer(self.0.stages.clone())
    }
}

fn set<L: Clone + Eq + std::hash::Hash>(family: &Numbers<L>, labels: &L, value: i64) {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts and seconds, far below 2^53"
    )]
    family.get_or_create(labels).set(value as f64);
}

/// Times every span named `stage` by its field of the same name, whatever the log's level.
#[derive(Clone, Debug)]
pub struct StageTimer(Durations<StageLabels>);

struct BegunStage {
    stage: String,
    at: Instant,
}

#[derive(Default)]
struct StageName(Option<String>);

impl Visit for StageName {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == STAGE {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn std::fmt::Debug) {}
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for StageTimer {
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        if attributes.metadata().name() != STAGE {
            return;
        }
        let mut name = StageName::default();
        attributes.record(&mut name);
        if let (Some(stage), Some(span)) = (name.0, context.span(id)) {
            span.extensions_mut().insert(BegunStage {
                stage,
                at: Instant::now(),
            });
        }
    }

    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        let extensions = span.extensions();
        if let Some(begun) = extensions.get::<BegunStage>() {
            self.0
                .get_or_create(&StageLabels {
                    stage: begun.stage.clone(),
                })
                .observe(begun.at.elapsed().as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn stages_are_timed_even_when_the_log_is_quiet() {
        let metrics = Metrics::default();
        let subscriber = tracing_subscriber::registry().with(metrics.stage_timer());
        tracing::subscriber::with_default(subscriber, || {
            let stage = tracing::info_span!("stage", stage = "read");
            stage.in_scope(|| tracing::info!("reading"));
            let _other = tracing::info_span!("other", stage = "no").entered();
        });
        let text = metrics.text();
        assert!(
            text.contains(r#"realmsync_stage_seconds_count{stage="read"} 1"#),
            "{text}"
        );
        assert!(!text.contains(r#"stage="no""#), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
