//! One user's story for people: each value with its origin, and what waits.

use super::origin;
use crate::cli::{render, text};
use crate::config::{Attributes, Config};
use crate::model::{Field, PhoneSource, State, StateReason, phone};
use crate::story::explain::{Explanation, TOLD};
use crate::story::origin::either;

/// A story for people.
pub(super) struct ExplainText<'a> {
    pub story: &'a Explanation,
    pub config: &'a Config,
    pub show_phones: bool,
}

impl ExplainText<'_> {
    /// Tells it.
    pub(super) fn tell(&self) {
        let show_phones = self.show_phones;
        let digits = self.story.run_digits;
        let u = &self.story.user;
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
            "{} in realm {} ({:#.digits$})",
            render::paint("1", &text::one_line(&u.username)),
            u.realm,
            u.id,
            digits = self.story.user_digits
        ));
        for value in self.story.values(self.config) {
            let label = value.field.as_str().replace('_', " ");
            let shown = match (value.field, &value.value) {
                (Field::State, _) => self.standing(),
                (Field::Phone, Some(p)) => show(p),
                (Field::Phone, None) => "none".to_owned(),
                (_, Some(v)) => v.clone(),
                (_, None) => continue,
            };
            row(&label, &shown);
            let origin = origin::in_words(&value, show_phones, digits);
            if !origin.is_empty() {
                render::line(&render::paint(
                    "2",
                    &format!("  {:<14}{}", "", text::one_line(&origin)),
                ));
            }
            if value.field == Field::Phone {
                self.about_the_phone(&show, &row);
            }
        }
        row("receiver", &self.receiver(&show));
        for job in &self.story.jobs {
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
        self.what_waits();
        if !self.story.history.is_empty() {
            render::line("\nhistory, newest first:");
        }
        for change in self.story.history.iter().take(TOLD) {
            let by = change
                .by
                .as_deref()
                .map(|b| format!(" by {b}"))
                .unwrap_or_default();
            let run = change
                .run
                .map(|r| format!(" in run {r:#.digits$}"))
                .unwrap_or_default();
            render::line(&format!(
                "  {}{run}{by}\n    {}",
                text::when(change.at),
                text::change(change, show_phones)
            ));
        }
    }

    /// Why there is no number, why one is kept, what waits.
    fn about_the_phone(&self, show: &impl Fn(&str) -> String, row: &impl Fn(&str, &str)) {
        let u = &self.story.user;
        for refused in &self.story.refused {
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
        let realm = self.config.realms.iter().find(|r| r.id == u.realm);
        match (&u.phone, self.story.refused.is_empty()) {
            (Some(_), false) if u.phone_source == Some(PhoneSource::Directory) => row(
                "  kept",
                "a value that is refused never erases one that was good",
            ),
            (None, true) if u.phone_pending.is_none() => {
                let mapped = realm
                    .map(|r| either(&Attributes::for_kind(self.story.kind(r), &r.attributes).phone))
                    .unwrap_or_default();
                row(
                    "  why",
                    &format!("the entry has no value in {mapped} that the account may read"),
                );
            }
            _ => {}
        }
        if let Some(p) = &u.phone_pending {
            let waits = match (u.phone_waits_until(), u.phone_hold_ends()) {
                (Some(until), _) => {
                    format!("takes effect at {} (phone-change.hold)", text::when(until))
                }
                (None, hold) => format!(
                    "is used when an administrator accepts it: `realmsync users phone accept`, or `refuse` (phone-change.protect){}",
                    hold.filter(|_| realm.is_some_and(|r| r.policy.hold_ms > 0))
                        .map(|t| format!(", and not before {}", text::when(t)))
                        .unwrap_or_default()
                ),
            };
            row("  waits", &format!("{} {waits}", show(p.as_str())));
        }
    }

    fn standing(&self) -> String {
        let u = &self.story.user;
        let since = u
            .suspended_at
            .map(|t| format!(" since {}", text::when(t)))
            .unwrap_or_default();
        let gone = || match (self.story.grace_ms, u.suspended_clock, &self.story.row) {
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
        let u = &self.story.user;
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

    fn what_waits(&self) {
        let Some(row) = &self.story.row else { return };
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
        if let Some(at) = self.story.last_success {
            render::line(&format!(
                "  looked at     {} for the last time with success",
                text::when(at)
            ));
        }
        if let (Some(held), false) = (row.held, self.story.planned.is_empty()) {
            render::line(&format!(
                "\nheld plan {held:#.digits$} would change:",
                digits = self.story.run_digits
            ));
            self.story
                .planned
                .iter()
                .for_each(|c| render::line(&format!("    {}", text::change(c, self.show_phones))));
        }
    }
}
