//! What deltas should have told and did not: counted by full passes, so that a way that loses changes is not trusted for ever.
//!
//! ```text
//! delta ahead ─▶ everything is read ─▶ what changed meanwhile? ─▶ the plan without it
//!     ─▶ without what the way never tells, and without whom no delta can tell (`computed`) = drift
//! ```

use std::collections::{HashMap, HashSet};

use super::computed::{MissedChange, computed};
use super::drift_by_kind::{ByKind, TOLD};
use crate::config::ChangesWay;
use crate::directory::{Blind, Cursor, NoDelta};
use crate::model::words::count;
use crate::model::{ChangeKind, DirectoryId, RealmRow, Run, StateReason, Trigger, UserId};
use crate::runs::{PlanBuilder, RunFailure};
use crate::store::StagedUser;
use crate::sync::pass::setting::Setting;
use crate::sync::realm::following::{Following, way_of};
use crate::sync::realm::session::{LOOK_UP, PreparedSession};
use crate::sync::run_request::{RunPurpose, RunRequest};

/// Full passes in a row that find drift, until deltas are not trusted any more. One may be an accident of the day.
const ENOUGH: u32 = 2;

/// How a full pass that was asked for goes: measured after a delta, where there is a cursor to begin from.
pub(in crate::sync) fn can_be_measured(ask: &RunRequest, row: &RealmRow) -> bool {
    let deltas = row.cursor.is_some() && row.first_applied_at.is_some() && row.held.is_none();
    ask.full && ask.user.is_none() && !ask.adopt && !ask.accept_older && deltas
}

/// How many people the plan changes of whom a delta from the realm's cursor should have told before the pass began, and how
/// many of whom it cannot tell. `plan` is staged whole, and `following` is what the pass leaves. `None`: that cannot be said.
pub(in crate::sync) async fn measure_drift(
    setting: &Setting<'_>,
    prepared: &mut PreparedSession,
    plan: &PlanBuilder,
    ending: RunPurpose,
    following: Option<&Following>,
) -> Result<Option<Drift>, RunFailure> {
    let since = setting
        .row
        .cursor
        .as_deref()
        .map(serde_json::from_str::<Cursor>);
    let (RunPurpose::Measured, Some(Ok(since))) = (ending, since) else {
        return Ok(None);
    };
    if plan.counts.is_empty() {
        return Ok(Some(Drift::default()));
    }
    // What changed while everything was read is seen by some pages and not by others.
    let meanwhile = match prepared.changes_since(&since).await {
        Ok(mut delta) if delta.present.is_none() => {
            let (engine, realm) = (setting.engine, setting.id());
            let along = engine.taken_along(realm, prepared, &since, &mut delta);
            if along.await?.is_some() {
                return Ok(None);
            }
            delta
        }
        Ok(_) | Err(NoDelta::StartOver(_) | NoDelta::NotOffered(_)) => return Ok(None),
        Err(NoDelta::Directory(error)) => return Err(error.into()),
    };
    let told: HashSet<DirectoryId> = meanwhile
        .touched
        .into_iter()
        .chain(meanwhile.gone)
        .collect();
    let blind = following.map_or(&[][..], |f| &f.blind_to);
    let expected = staged(
        setting,
        plan,
        &told,
        &[
            ChangeKind::Suspended,
            ChangeKind::Created,
            ChangeKind::Restored,
        ],
        |s| cannot_be_told(s, blind),
    );
    let expected = expected.await?;
    let untold = staged(setting, plan, &told, &TOLD, |s| {
        !expected.contains_key(&s.seq)
    });
    let mut drift = untold.await?;
    let before = following.map(|f| Following::of(setting.row, &f.of));
    let computed = match &before {
        Some(before) => computed(setting, prepared, &drift, before).await?,
        None => HashSet::new(),
    };
    drift.retain(|seq, _| !computed.contains(seq));
    let users: Vec<UserId> = drift.values().map(|untold| untold.user).collect();
    let mut by_kind = ByKind::default();
    by_kind.add(setting.store().kinds_of(plan.run(), &users).await?);
    let count = |people: usize| i64::try_from(people).unwrap_or(i64::MAX);
    Ok(Some(Drift {
        missed: count(drift.len()),
        expected: count(expected.len()),
        computed: count(computed.len()),
        by_kind,
    }))
}

/// Whom these kinds are staged of and who were not told, as far as it `counts`, by their place in the plan.
async fn staged(
    setting: &Setting<'_>,
    plan: &PlanBuilder,
    told: &HashSet<DirectoryId>,
    kinds: &[ChangeKind],
    counts: impl Fn(&StagedUser) -> bool,
) -> Result<HashMap<i64, MissedChange>, RunFailure> {
    let store = setting.store();
    let limit = i64::try_from(LOOK_UP).unwrap_or(1000);
    let (mut found, mut after) = (HashMap::new(), 0);
    loop {
        let staged = store
            .staged_by_kind(plan.run(), kinds, after, limit)
            .await?;
        let Some(last) = staged.last() else {
            return Ok(found);
        };
        after = last.seq;
        let untold = staged.iter().filter(|s| {
            // Why somebody is away is looked up when the grace is over.
            let ages =
                s.base_version > 0 && !s.user.present() && s.user.suspended_at != Some(setting.now);
            !ages && s.user.directory_id.is_none_or(|id| !told.contains(&id)) && counts(s)
        });
        found.extend(untold.map(|s| {
            let (user, id) = (s.user.id, s.user.directory_id);
            (s.seq, MissedChange { user, id })
        }));
    }
}

/// What a full pass found in spite of deltas.
#[derive(PartialEq, Eq, Default, Debug)]
pub(in crate::sync) struct Drift {
    /// People of whom deltas should have told.
    pub missed: i64,
    /// People of whom the way cannot tell.
    pub expected: i64,
    /// People whose entries did not change, of whom no way can tell.
    pub computed: i64,
    /// Those of whom deltas should have told, by kind.
    pub by_kind: ByKind,
}

impl Drift {
    /// What the way cannot tell is said, and blamed on nobody.
    pub(in crate::sync) fn say(&self, run: &mut Run) {
        run.drift = Some(self.missed);
        run.computed = Some(self.computed);
        if self.expected > 0 && run.note.is_none() {
            run.note = Some(format!(
                "no drift: this way of hearing of changes never tells of what was found ({})",
                count(self.expected, "change")
            ));
        }
    }
}

/// Whether somebody who came, went or came back is nobody of whom this way tells.
fn cannot_be_told(staged: &StagedUser, blind: &[Blind]) -> bool {
    let user = &staged.user;
    let gone = staged.base_version > 0 && !user.present();
    let deleted = user.state_reason != Some(StateReason::OutOfScope);
    blind.iter().any(|blind| match blind {
        Blind::Departures => gone,
        Blind::Deletions => gone && deleted,
        Blind::Groups => !gone || !deleted,
    })
}

/// What becomes of the trust in deltas after a full pass that measured them.
pub(in crate::sync) fn learn(
    following: &mut Following,
    run: &Run,
    untold: &ByKind,
    changes: ChangesWay,
) {
    let Some(drift) = run.drift else { return };
    following.untold = untold.clone();
    let (id, realm) = (run.run, &run.realm);
    if drift == 0 {
        following.drifts = 0;
        // Only an administrator's own look ends it: the next night would begin it anew.
        if following.fell_back && run.trigger != Trigger::Schedule {
            following.fell_back = false;
            following.way = way_of(changes).or_else(|| following.ways.first().copied());
            tracing::info!(run = %id, "{realm}: no drift: deltas are trusted again");
        }
        return;
    }
    following.drifts = following.drifts.saturating_add(1);
    tracing::warn!(run = %id, drift, "{realm}: drift: {} changed, and the directory's deltas did not tell; look with `realmsync runs show {id:#}`", count(drift, "person"));
    if following.drifts >= ENOUGH && !following.fell_back {
        following.fell_back = true;
        following.way = None;
        tracing::warn!(run = %id, "{realm}: {} full passes in a row found drift: every run reads everything now, until `realmsync sync {realm} --full` finds none or the configuration changes", following.drifts);
    }
}
