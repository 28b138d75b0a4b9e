//! The stages of the data path, by name.

use tracing::Instrument as _;

/// Names a stage to whoever measures and logs it.
pub(crate) fn stage<F: Future>(
    name: &'static str,
    doing: F,
) -> tracing::instrument::Instrumented<F> {
    doing.instrument(tracing::info_span!("stage", stage = name))
}
