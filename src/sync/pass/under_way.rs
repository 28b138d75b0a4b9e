//! A pass under way.

use super::found::Found;
use super::reading::Reading;
use super::refusals::Refusals;
use super::setting::Setting;
use crate::clock::Timestamp;
use crate::config::RealmConfig;
use crate::model::RealmRow;
use crate::runs::{PlanBuilder, RunFailure};
use crate::store::RefusedDiff;
use crate::sync::engine::Engine;
use crate::sync::realm::session::PreparedSession;

/// A pass under way: the three values that its stages take.
pub(in crate::sync) struct Pass<'a> {
    pub setting: Setting<'a>,
    pub reading: Reading,
    pub found: Found,
}

impl<'a> Pass<'a> {
    /// A pass that has read nothing yet.
    pub async fn new(
        engine: &'a Engine,
        realm: &'a RealmConfig,
        row: &'a RealmRow,
        prepared: PreparedSession,
        plan: PlanBuilder,
        now: Timestamp,
    ) -> Result<Self, RunFailure> {
        let setting = Setting::new(engine, realm, row, &prepared, now).await?;
        let refusals = Refusals::new(prepared.attributes.phone.clone());
        Ok(Self {
            found: Found::new(plan, refusals, &setting),
            reading: Reading::new(prepared),
            setting,
        })
    }

    /// What was refused in this pass and not before, and what was refused before and is not any more.
    pub(in crate::sync) async fn refused_diff(&mut self) -> Result<RefusedDiff, RunFailure> {
        let told = self.reading.told_ids();
        self.found.refused_diff(&self.setting, told).await
    }
}
