//! How a run begins: with what changed since the realm's cursor, or with everything.

use super::gather::told_whole;
use crate::config::{ChangesWay, RealmConfig};
use crate::directory::{Blind, Cursor, Delta, NoDelta, Way};
use crate::model::{ErrorCode, Mode, RealmId, RealmRow, Run};
use crate::runs::{RunError, RunFailure};
use crate::store::{CursorUpdate, StoreError};
use crate::sync::engine::Engine;
use crate::sync::realm::following::{Following, way_of};
use crate::sync::realm::prepare::prepare;
use crate::sync::realm::session::PreparedSession;
use crate::sync::run_request::{RunContext, RunPurpose, RunRequest};

/// What a run begins with.
#[derive(Debug)]
pub(in crate::sync) enum Beginning {
    /// Everything is read; then it goes on from here.
    Full {
        /// `None`: nothing is to be remembered (a dry run, one person).
        following: Option<Following>,
        cursor: Option<Cursor>,
    },
    /// Those are looked at whom the directory told.
    Delta { since: Cursor, delta: Delta },
}

/// Names the configuration of which a [`Following`] is.
pub(in crate::sync) fn configuration(config: &RealmConfig, prepared: &PreparedSession) -> String {
    format!("{:?} {}", config.directory.changes, prepared.mapping_hash)
}

/// The cursor from which a delta could go on; `None`: everything is to be read.
pub(in crate::sync) fn usable(
    config: &RealmConfig,
    row: &RealmRow,
    prepared: &PreparedSession,
) -> Result<Option<(Cursor, Following)>, String> {
    let (Some(text), true) = (&row.cursor, row.first_applied_at.is_some()) else {
        return Ok(None);
    };
    if row.mapping_hash.as_deref() != Some(&prepared.mapping_hash) {
        return Err("base, filter, attributes, phone rules, `phone-authority` or what is sent (`new-users`, `on-phone-change`, `[delivery]`) were changed since the last full pass: everything is read".into());
    }
    let following = Following::of(row, &configuration(config, prepared));
    let cursor: Cursor = serde_json::from_str(text)
        .map_err(|e| format!("the stored cursor cannot be read ({e}): everything is read"))?;
    if fits(config.directory.changes, cursor.way) {
        Ok(Some((cursor, following)))
    } else {
        Err(format!(
            "the stored cursor is of another way ({}) than `changes` says: everything is read",
            cursor.way
        ))
    }
}

/// Whether a cursor of this protocol serves the configured way.
fn fits(changes: ChangesWay, of: Way) -> bool {
    match changes {
        ChangesWay::Auto => true,
        ChangesWay::Full => false,
        ChangesWay::Syncrepl => of == Way::Syncrepl,
        ChangesWay::Push => of != Way::Timestamp,
        ChangesWay::DirSync => of == Way::DirSync,
        ChangesWay::Timestamp => of == Way::Timestamp,
    }
}

impl Engine {
    /// Moves a cursor with which nothing was told.
    pub(in crate::sync) async fn move_cursor(
        &self,
        realm: &RealmId,
        from: &Cursor,
        to: &Cursor,
    ) -> Result<(), StoreError> {
        let (Ok(from), Ok(to)) = (serde_json::to_string(from), serde_json::to_string(to)) else {
            return Ok(());
        };
        self.store.move_cursor(realm, &from, &to).await
    }

    /// Asks what changed, if a delta will do; else, or where the directory says that it cannot tell, everything is to be read,
    /// and the cursor is taken before that.
    pub(in crate::sync) async fn begin(
        &self,
        run: &mut Run,
        config: &RealmConfig,
        row: &RealmRow,
        ask: &RunRequest,
        prepared: &mut PreparedSession,
        ending: RunPurpose,
    ) -> Result<Beginning, RunFailure> {
        let nothing = Beginning::Full {
            following: None,
            cursor: None,
        };
        if ask.user.is_some() {
            return Ok(nothing);
        }
        // While a plan waits for its decision, every pass sees everything.
        if !ask.full && !ask.adopt && !ask.accept_older && row.held.is_none() {
            match usable(config, row, prepared) {
                Ok(None) => {}
                // Only to be measured by the full pass that follows.
                Ok(Some((_, following))) if following.fell_back && ending != RunPurpose::Ahead => {}
                Ok(Some((since, _))) => match told(ending, prepared, &since).await {
                    Ok(mut delta) => {
                        let along = self.taken_along(&row.id, prepared, &since, &mut delta);
                        let Some(why) = along.await? else {
                            run.mode = Mode::Delta;
                            return Ok(Beginning::Delta { since, delta });
                        };
                        reads_everything(run, why);
                    }
                    Err(NoDelta::Directory(error)) => return Err(error.into()),
                    Err(NoDelta::StartOver(why) | NoDelta::NotOffered(why)) => {
                        reads_everything(run, why);
                    }
                },
                Err(why) => reads_everything(run, why),
            }
        }
        if !matches!(ending, RunPurpose::ByTheBrake | RunPurpose::Measured) {
            return Ok(nothing);
        }
        let (following, cursor) = choose(config, row, prepared).await?;
        Ok(Beginning::Full {
            following: Some(following),
            cursor,
        })
    }

    /// While a plan is held, what the directory tells only marks the realm: asked once, until the plan is decided.
    pub(in crate::sync) async fn only_due(&self, asked: &RunContext<'_>) -> Result<(), RunError> {
        let (config, row) = (asked.config, asked.row);
        if row.due {
            return Ok(());
        }
        let something = async {
            let mut prepared = prepare(self, config, row, false).await?;
            match usable(config, row, &prepared) {
                Ok(Some((since, _))) => match prepared.changes_since(&since).await {
                    Ok(delta) => Ok(!delta.is_empty()),
                    Err(NoDelta::Directory(error)) => Err(RunFailure::from(error)),
                    Err(_) => Ok(true),
                },
                _ => Ok(true),
            }
        };
        match something.await {
            Ok(true) => Ok(self.store.set_due(&row.id, true).await?),
            Ok(false) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What the directory tells; what is not only shown is told whole.
async fn told(
    ending: RunPurpose,
    prepared: &mut PreparedSession,
    since: &Cursor,
) -> Result<Delta, NoDelta> {
    if ending == RunPurpose::Dry {
        prepared.changes_since(since).await
    } else {
        told_whole(prepared, since).await
    }
}

/// The same run goes on as a full pass, and says why.
fn reads_everything(run: &mut Run, why: String) {
    let (id, realm) = (run.run, &run.realm);
    tracing::warn!(run = %id, "{realm}: no delta: {why}");
    run.note = Some(why);
}

/// Chooses the way among those that the server offers, and takes the cursor.
async fn choose(
    config: &RealmConfig,
    row: &RealmRow,
    prepared: &mut PreparedSession,
) -> Result<(Following, Option<Cursor>), RunFailure> {
    let mut following = Following::of(row, &configuration(config, prepared));
    following.way = None;
    following.kind = prepared.kind();
    following.synonyms = Some(prepared.synonyms.clone());
    following.mark = prepared.session()?.mark().await;
    let wanted = way_of(config.directory.changes);
    if config.directory.changes == ChangesWay::Full {
        return Ok((following, None));
    }
    following.ways = prepared.ways().await?;
    let way = match wanted {
        None => following.ways.first().copied(),
        wanted => wanted,
    };
    let Some(way) = way else {
        return Ok((following, None));
    };
    let taken = prepared.cursor_now(way).await;
    let offered = following.ways.contains(&way);
    match taken {
        Ok(cursor) if offered => {
            // A realm that fell back keeps a cursor all the same, by which its next full pass is measured.
            following.way = (!following.fell_back).then_some(way);
            see_what_is_not_told(&row.id, prepared, &cursor, &mut following).await?;
            Ok((following, Some(cursor)))
        }
        Err(NoDelta::Directory(error)) => Err(error.into()),
        // A named way must be there: whoever asked for it would wait for changes in vain.
        taken if wanted.is_some() => {
            let why = match taken {
                Err(why) => why.to_string(),
                Ok(_) => format!("it offers {}", Way::list(&following.ways)),
            };
            Err(RunFailure::new(
                ErrorCode::Config,
                format!(
                    "the directory of realm `{}` does not offer the way that `changes` names: {why}. `changes = \"auto\"` takes the best that is there",
                    row.id
                ),
            ))
        }
        _ => Ok((following, None)),
    }
}

/// New words about what this way does not tell are logged.
async fn see_what_is_not_told(
    realm: &RealmId,
    prepared: &mut PreparedSession,
    cursor: &Cursor,
    following: &mut Following,
) -> Result<(), RunFailure> {
    following.blind_to = prepared.blind_to(cursor.way).await?;
    let blind = Blind::text(&following.blind_to);
    if let Some(blind) = blind
        .as_ref()
        .filter(|now| following.blind.as_ref() != Some(now))
    {
        tracing::warn!(%realm, "{realm}: deltas do not tell everything: {blind}");
    }
    following.blind = blind;
    Ok(())
}

/// Where the realm goes on after a full pass.
pub(in crate::sync) fn resume(cursor: Option<&Cursor>) -> CursorUpdate {
    match cursor.map(serde_json::to_string) {
        Some(Ok(text)) => CursorUpdate::At(text),
        _ => CursorUpdate::Nowhere,
    }
}
