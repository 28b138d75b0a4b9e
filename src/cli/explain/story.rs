//! One user's story for people: each value with its origin, and what waits.

use std::collections::HashMap;

use super::origin::either;
use crate::cli::{Context, render, text};
use crate::clock::Timestamp;
use crate::config::Attributes;
use crate::model::{
    Change, Field, Job, PhoneSource, RealmRow, Run, RunId, State, StateReason, User, phone,
};
use crate::store::RefusedRow;

/// Changes shown.
const SHOWN: usize = 20;

/// Everything that the store knows of a user.
pub(super) struct Story {
    pub user: User,
    pub row: Option<RealmRow>,
    pub last_success: Option<Timestamp>,
    /// `None`: the realm is not in the configuration.
    pub grace_ms: Option<i64>,
    /// Newest first.
    pub history: Vec<Change>,
    pub runs: HashMap<RunId, Run>,
    pub refused: Vec<RefusedRow>,
    /// What a held plan would change.
    pub planned: Vec<Change>,
    pub jobs: Vec<Job>,
}

impl Story {
    /// The story for people.
    pub(super) fn tell(&self, context: &Context, show_phones: bool) {
        let u = &self.user;
        let show = |p: &str| {
            if show_phones {
                p.to_owned()
            } else {
                phone::mask(p)
            }
        };
        let row =
            |what: &str, says: &str| render::line(&format!("  {what:<14}{}", text::one_line(says)));
        render::line(&format!(
            "{} in realm {} ({:#})",
            render::paint("1", &text::one_line(&u.username)),
            u.realm,
            u.id
        ));
        for value in self.values(context) {
            let label = value.field.as_str().replace('_', " ");
            let shown = match (value.field, &value.value) {
                (Field::State, _) => self.standing(),
                (Field::Phone, Some(p)) => show(p),
                (Field::Phone, None) => "none".to_owned(),
                (_, Some(v)) => v.clone(),
                (_, None) => continue,
            };
            row(&label, &shown);
            let origin = value.origin(show_phones);
            if !origin.is_empty() {
                render::line(&render::paint(
                    "2",
                    &format!("  {:<14}{}", "", text::one_line(&origin)),
                ));
            }
            if value.field == Field::Phone {
                self.about_the_phone(context, &show, &row);
            }
        }
        row("receiver", &self.receiver(&show));
        for job in &self.jobs {
            let error = job
                .last_error
                .as_deref()
                .map(|e| format!("; the last met: {e}"))
                .unwrap_or_default();
            row(
                "message",
                &format!(
                    "{} is {}, after {}{error}",
                    job.r#type,
                    job.state,
                    text::count(job.attempts, "attempt")
                ),
            );
        }
        self.what_waits(show_phones);
        if !self.history.is_empty() {
            render::line("\nhistory, newest first:");
        }
        for change in self.history.iter().take(SHOWN) {
            let by = change
                .by
                .as_deref()
                .map(|b| format!(" by {b}"))
                .unwrap_or_default();
            let run = change
                .run
                .map(|r| format!(" in run {r:#}"))
                .unwrap_or_default();
            render::line(&format!(
                "  {}{run}{by}\n    {}",
                text::when(change.at),
                text::change(change, show_phones)
            ));
        }
    }

    /// Why there is no number, why one is kept, what waits.
    fn about_the_phone(
        &self,
        context: &Context,
        show: &impl Fn(&str) -> String,
        row: &impl Fn(&str, &str),
    ) {
        let u = &self.user;
        for refused in &self.refused {
            let r = &refused.refusal;
            let raw = r.raw.as_deref().map(show).unwrap_or_default();
            row(
                "  refused",
                &format!(
                    "{} `{raw}`: {} (since {})",
                    r.attribute.as_deref().unwrap_or("entry"),
                    r.reason,
                    text::when(refused.since)
                ),
            );
        }
        let realm = context.config.realms.iter().find(|r| r.id == u.realm);
        match (&u.phone, self.refused.is_empty()) {
            (Some(_), false) if u.phone_source == Some(PhoneSource::Directory) => row(
                "  kept",
                "a value that is refused never erases one that was good",
            ),
            (None, true) if u.phone_pending.is_none() => {
                let mapped = realm
                    .map(|r| either(&Attributes::for_kind(self.kind(r), &r.attributes).phone))
                    .unwrap_or_default();
                row(
                    "  why",
                    &format!("the entry has no value in {mapped} that the account may read"),
                );
            }
            _ => {}
        }
        if let (Some(p), Some(until)) = (&u.phone_pending, u.phone_pending_until) {
            row(
                "  waits",
                &format!(
                    "{} takes effect at {} (phone-change.hold)",
                    show(p.as_str()),
                    text::when(until)
                ),
            );
        }
    }

    fn standing(&self) -> String {
        let u = &self.user;
        let since = u
            .suspended_at
            .map(|t| format!(" since {}", text::when(t)))
            .unwrap_or_default();
        let gone = || match (self.grace_ms, u.suspended_clock, &self.row) {
            (Some(grace), Some(from), Some(row)) => format!(
                "; removed after {} more of the realm's own clock",
                text::span((from + grace - row.clock_ms).max(0))
            ),
            _ => String::new(),
        };
        match (u.state, u.state_reason) {
            (State::Active, _) if u.blocked => {
                "active, but blocked by an administrator; no pass lifts that".into()
            }
            (State::Active, _) => "active".into(),
            (State::Suspended, Some(StateReason::Deleted)) => format!(
                "suspended{since}: the directory id was found nowhere{}",
                gone()
            ),
            (State::Suspended, Some(StateReason::OutOfScope)) => format!(
                "suspended{since}: the entry is outside of base and filter{}",
                gone()
            ),
            (State::Suspended, Some(StateReason::Disabled)) => {
                format!("suspended{since}: the directory says disabled; never removed for that")
            }
            (State::Suspended, Some(StateReason::Undone)) => {
                format!("suspended{since}: the creation was undone; no pass lifts that")
            }
            (State::Suspended, None) => format!("suspended{since}"),
            (State::Removed, _) => "removed: personal data is erased".into(),
        }
    }

    fn receiver(&self, show: &impl Fn(&str) -> String) -> String {
        let u = &self.user;
        let never = !u.provisioned && u.phone_told.is_none();
        match (&u.phone_provisioned, &u.phone) {
            (Some(p), _) if never => format!(
                "was never sent anything; a number other than {} will be a change",
                show(p.as_str())
            ),
            (None, _) => "was never told a number, and holds none to compare with".to_owned(),
            (Some(p), Some(now)) if p == now => "knows the number in use".to_owned(),
            (Some(p), _) => format!("still knows {}", show(p.as_str())),
        }
    }

    fn what_waits(&self, show_phones: bool) {
        let Some(row) = &self.row else { return };
        if row.orphaned {
            render::line(
                "  realm         is not in the configuration any more: nothing runs, ages or is sent",
            );
        } else if row.paused {
            render::line(&format!(
                "  realm         is paused: `realmsync resume {}` lets it run again",
                row.id
            ));
        }
        if let Some(at) = self.last_success {
            render::line(&format!(
                "  looked at     {} for the last time with success",
                text::when(at)
            ));
        }
        if let (Some(held), false) = (row.held, self.planned.is_empty()) {
            render::line(&format!("\nheld plan {held:#} would change:"));
            self.planned
                .iter()
                .for_each(|c| render::line(&format!("    {}", text::change(c, show_phones))));
        }
    }
}
