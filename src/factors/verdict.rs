//! What comes of a code: whose it is, and what the store knows of them, is given; what is to be written comes out.
//!
//! ```text
//!   blocked, suspended, frozen ─▶ said, unread
//!   a recovery or bypass code ──▶ right: taken, and whatever holds guesses back is over
//!   a one-time code ─▶ has the user something that makes one? ─▶ are guesses held back? ─▶ every authenticator is tried
//! ```

use super::keys::KeyId;
use super::otp::Generator;
use super::throttle::{Failures, Gate, gate};
use super::typed::Typed;
use super::window::{Found, Moving, Progress, expected, far, find, follows};
use crate::clock::Timestamp;
use crate::model::{
    AuthenticatorId, AuthenticatorKind, State, TwoFactor, Verdict, VerifyMethod, VerifyReason,
};

/// How long the second of two codes is waited for, in milliseconds.
pub const SECOND_WITHIN: i64 = 5 * 60 * 1000;

/// An authenticator that is active, with its secret.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Which.
    pub id: AuthenticatorId,
    /// An application, or a hard token of which kind.
    pub kind: AuthenticatorKind,
    /// What it makes codes with.
    pub generator: Generator,
    /// Seconds of a step.
    pub period: u32,
    /// The lowest step or counter that was not used yet.
    pub next: i64,
    /// Whole steps, learned.
    pub drift: i64,
    /// One code is not enough this time.
    pub two_codes: bool,
    /// Step or counter of the first of two codes, and until when the second one is waited for.
    pub first: Option<(i64, Timestamp)>,
    /// From when its codes count.
    pub valid_from: Option<Timestamp>,
    /// Until when.
    pub valid_until: Option<Timestamp>,
}

/// A recovery or bypass code of the user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpareCode {
    /// What the store keeps of it.
    pub digest: Vec<u8>,
    /// Under which enrolment key; `None`: its name cannot be read.
    pub key: Option<KeyId>,
    /// It was made before the store went on from a copy: it may have been used since, and proves nobody by itself.
    pub before_copy: bool,
    /// Recovery or bypass.
    pub method: VerifyMethod,
    /// The codes that were shown together.
    pub set: AuthenticatorId,
    /// How often it may still be used.
    pub uses_left: i64,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// A user as a verification sees them.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Where the user stands.
    pub state: State,
    /// An administrator's own mark.
    pub blocked: bool,
    /// They said that a changed number is not theirs.
    pub frozen: bool,
    /// Their methods.
    pub methods: Vec<TwoFactor>,
    /// Guesses so far.
    pub failures: Failures,
    /// They have an active authenticator.
    pub has_authenticator: bool,
    /// Active authenticators; needed only for a one-time code.
    pub candidates: Vec<Candidate>,
    /// Their recovery and bypass codes, also those that are used up; needed only for a code of letters.
    pub spare: Vec<SpareCode>,
}

/// What is to be written, and what is answered once it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judged {
    /// The answer. A code that counts is taken only if the store takes what follows.
    pub verdict: Verdict,
    /// A code of an authenticator is to be used up.
    pub step: Option<UsedStep>,
    /// A recovery or bypass code is to be used.
    pub spare: Option<Vec<u8>>,
    /// The first of two codes of these, at this step or counter, or a code of which it was told that it will be right. It does not count
    /// by itself any more.
    pub first: Vec<(AuthenticatorId, i64)>,
    /// Why the reason is a clock: it is so many seconds ahead, or behind if negative; `None`: the code is the first of two.
    pub clock_off: Option<i64>,
}

/// A code that is used up: all before it are too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UsedStep {
    /// Of which authenticator.
    pub authenticator: AuthenticatorId,
    /// Its step or counter.
    pub at: i64,
    /// The drift from now on.
    pub drift: i64,
}

impl Judged {
    /// An answer after which nothing is written.
    pub fn only(verdict: Verdict) -> Self {
        Self {
            verdict,
            step: None,
            spare: None,
            first: vec![],
            clock_off: None,
        }
    }

    /// The same code again: what the store says if somebody else has used it a moment ago.
    #[must_use]
    pub fn lost(self) -> Self {
        let Verdict {
            method,
            authenticator,
            ..
        } = self.verdict;
        Self::only(Verdict {
            method,
            authenticator,
            ..Verdict::rejected(VerifyReason::Replayed)
        })
    }
}

impl Candidate {
    fn method(&self) -> VerifyMethod {
        if self.kind.is_hard_token() {
            VerifyMethod::HardToken
        } else {
            VerifyMethod::AppOtp
        }
    }

    fn needs(&self) -> TwoFactor {
        if self.kind.is_hard_token() {
            TwoFactor::HardToken
        } else {
            TwoFactor::AppOtp
        }
    }

    fn moving(&self) -> Moving {
        match self.kind {
            AuthenticatorKind::Hotp => Moving::Counter,
            AuthenticatorKind::Totp => Moving::Clock {
                period: self.period,
                drift: self.drift,
            },
            _ => Moving::Application {
                period: self.period,
            },
        }
    }

    fn in_dates(&self, now: Timestamp) -> bool {
        self.valid_from.is_none_or(|from| from <= now)
            && self.valid_until.is_none_or(|until| now < until)
    }
}

/// What one authenticator makes of a code.
enum CodeTried {
    Right(UsedStep),
    Replayed,
    /// A clock is wrong by so many seconds; of an application that is ahead, the step that is told of.
    WrongClock(i64, Option<i64>),
    /// The first of two.
    First(i64),
    Wrong,
}

fn attempt(candidate: &Candidate, code: &Typed, now: Timestamp) -> CodeTried {
    let seconds = now.0.div_euclid(1000);
    let (moving, progress) = (
        candidate.moving(),
        Progress {
            next: candidate.next,
        },
    );
    let generator = &candidate.generator;
    let found = find(generator, moving, progress, code, seconds);
    let used = |at: i64, drift: i64| {
        CodeTried::Right(UsedStep {
            authenticator: candidate.id,
            at,
            drift,
        })
    };
    if !candidate.two_codes
        && let Found::Accepted { at, drift } = found
    {
        return used(at, drift);
    }
    // Applications learn no drift: a code that is far away stays so.
    if candidate.two_codes || candidate.kind.is_hard_token() {
        let waited = candidate.first.filter(|(_, until)| now < *until);
        if let Some((first, _)) = waited
            && let Some((at, drift)) = follows(generator, moving, progress, first, code, seconds)
        {
            return used(at, drift);
        }
        let first = match found {
            Found::Accepted { at, .. } => Some(at),
            Found::Replayed => None,
            _ if candidate.kind.is_hard_token() => far(generator, moving, progress, code, seconds),
            _ => None,
        };
        if let Some(first) = first {
            return CodeTried::First(first);
        }
    }
    match found {
        Found::Accepted { at, .. } => CodeTried::First(at),
        Found::Replayed => CodeTried::Replayed,
        Found::WrongClock(offset) => {
            let ahead = (offset > 0).then(|| expected(moving, seconds) + offset);
            CodeTried::WrongClock(offset * i64::from(candidate.period), ahead)
        }
        Found::Wrong => CodeTried::Wrong,
    }
}

/// What comes of a code of this user now. `matches` says which of the spare codes it is: those of the user whose digest, under any key, is
/// that of the code.
pub fn judge(
    subject: &Subject,
    code: &Typed,
    matches: impl Fn(&SpareCode) -> bool,
    now: Timestamp,
) -> Judged {
    let stands = if subject.state == State::Removed {
        Some(VerifyReason::UnknownUser)
    } else if subject.blocked {
        Some(VerifyReason::Blocked)
    } else if subject.state == State::Suspended {
        Some(VerifyReason::Suspended)
    } else if subject.frozen {
        Some(VerifyReason::Frozen)
    } else {
        None
    };
    if let Some(reason) = stands {
        return Judged::only(Verdict::rejected(reason));
    }
    if let Typed::Letters(_) = code {
        return spare(subject, matches, now);
    }
    let (on, off): (Vec<&Candidate>, Vec<&Candidate>) = subject
        .candidates
        .iter()
        .partition(|candidate| subject.methods.contains(&candidate.needs()));
    if on.is_empty() {
        return Judged::only(Verdict::rejected(nothing_on(subject, !off.is_empty())));
    }
    if let Some(held_back) = held_back(subject.failures, now) {
        return held_back;
    }
    let mut judged = Judged::only(Verdict::rejected(VerifyReason::WrongCode));
    // What says most of all that was tried; each of them is, whatever was found.
    let mut weight = 0;
    let mut say = |more: u8, verdict: Verdict, step: Option<UsedStep>, judged: &mut Judged| {
        if more > weight {
            weight = more;
            (judged.verdict, judged.step) = (verdict, step);
        }
    };
    for candidate in &on {
        let of = |verdict: Verdict| verdict.of(candidate.method(), candidate.id);
        let counts = candidate.in_dates(now);
        match attempt(candidate, code, now) {
            CodeTried::Right(step) if counts => {
                let verdict = Verdict::accepted(candidate.method(), candidate.id);
                say(5, verdict, Some(step), &mut judged);
            }
            CodeTried::Right(_) => say(
                4,
                of(Verdict::rejected(VerifyReason::Expired)),
                None,
                &mut judged,
            ),
            CodeTried::Replayed => say(
                3,
                of(Verdict::rejected(VerifyReason::Replayed)),
                None,
                &mut judged,
            ),
            CodeTried::First(at) => {
                if counts {
                    judged.first.push((candidate.id, at));
                }
                // Far away by chance as likely as not: only what is near, or asked for, is said.
                let near = candidate.two_codes
                    || matches!(
                        find(
                            &candidate.generator,
                            candidate.moving(),
                            Progress {
                                next: candidate.next
                            },
                            code,
                            now.0.div_euclid(1000)
                        ),
                        Found::WrongClock(_)
                    );
                if near {
                    say(
                        2,
                        of(Verdict::rejected(VerifyReason::Clock)),
                        None,
                        &mut judged,
                    );
                }
            }
            CodeTried::WrongClock(seconds, ahead) => {
                judged.clock_off = Some(seconds);
                // Whoever guessed it is told that it will be right: it must not count then.
                judged.first.extend(ahead.map(|at| (candidate.id, at)));
                say(
                    2,
                    of(Verdict::rejected(VerifyReason::Clock)),
                    None,
                    &mut judged,
                );
            }
            CodeTried::Wrong => {}
        }
    }
    if judged.step.is_some() {
        judged.first.clear();
    }
    if judged.verdict.reason != Some(VerifyReason::Clock) {
        judged.clock_off = None;
    }
    judged
}

/// Why nobody looks at a one-time code of a user without an authenticator that is switched on. Any code is answered alike: whoever guesses
/// learns nothing of what is switched off.
fn nothing_on(subject: &Subject, some_off: bool) -> VerifyReason {
    let makes_codes =
        |method: &TwoFactor| matches!(method, TwoFactor::AppOtp | TwoFactor::HardToken);
    if some_off || subject.methods.is_empty() {
        VerifyReason::MethodOff
    } else if subject.methods.iter().any(makes_codes) {
        VerifyReason::NotEnrolled
    } else {
        VerifyReason::Unsupported
    }
}

/// What is answered while guesses are held back.
fn held_back(failures: Failures, now: Timestamp) -> Option<Judged> {
    let retry_after = match gate(failures, now) {
        Gate::Open => return None,
        Gate::Delayed(ms) => Some(ms.saturating_add(999) / 1000),
        Gate::Locked => None,
    };
    Some(Judged::only(Verdict {
        retry_after,
        ..Verdict::rejected(VerifyReason::Locked)
    }))
}

/// A code of letters. It cannot be guessed, so nothing holds a right one back.
fn spare(subject: &Subject, matches: impl Fn(&SpareCode) -> bool, now: Timestamp) -> Judged {
    let mut found: Option<&SpareCode> = None;
    for code in &subject.spare {
        if matches(code) {
            found = Some(code);
        }
    }
    let rejected = |reason: VerifyReason| {
        if let Some(held_back) = held_back(subject.failures, now) {
            return held_back;
        }
        let verdict = Verdict::rejected(reason);
        Judged::only(match found {
            Some(code) => verdict.of(code.method, code.set),
            None => verdict,
        })
    };
    match found {
        Some(code) if code.uses_left <= 0 || code.before_copy => rejected(VerifyReason::Replayed),
        Some(code) if code.expires_at.is_some_and(|end| end <= now) => {
            rejected(VerifyReason::Expired)
        }
        Some(code) => Judged {
            spare: Some(code.digest.clone()),
            ..Judged::only(Verdict::accepted(code.method, code.set))
        },
        None if subject.spare.is_empty() && !subject.has_authenticator => {
            Judged::only(Verdict::rejected(VerifyReason::NotEnrolled))
        }
        None => rejected(VerifyReason::WrongCode),
    }
}

#[cfg(test)]
mod tests;
