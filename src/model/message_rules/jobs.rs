//! What a decision means for the messages of a user that are there already.

use crate::model::{Intent, Job, JobReason, JobState, JobType, Phone, User};

/// What the rules look at in a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Its place in the order of making.
    pub seq: i64,
    /// What it says.
    pub r#type: JobType,
    /// Where it stands.
    pub state: JobState,
    /// An attempt was made whose end is unknown.
    pub uncertain: bool,
    /// Its body is there, so that it can be sent (again).
    pub body: bool,
}

impl From<&Job> for Standing {
    fn from(job: &Job) -> Self {
        Self {
            seq: job.seq,
            r#type: job.r#type,
            state: job.state,
            uncertain: job.uncertain,
            body: job.body.is_some(),
        }
    }
}

impl Standing {
    /// Not on its way, and to be sent some time.
    fn waits(&self) -> bool {
        matches!(self.state, JobState::Waiting | JobState::Held)
    }

    /// Never attempted, or every attempt was answered with a refusal.
    fn unsent(&self) -> bool {
        self.waits() && !self.uncertain
    }

    /// Given up or refused, though an administrator may have it tried again.
    fn given_up(&self) -> bool {
        matches!(self.state, JobState::Dead | JobState::Final) && self.body
    }

    /// The receiver has it, or may have it.
    pub fn may_have_arrived(&self) -> bool {
        self.state == JobState::Delivered || self.end_unknown()
    }

    /// The receiver may have it, and nobody knows.
    fn end_unknown(&self) -> bool {
        self.state == JobState::Sending || (self.uncertain && self.state != JobState::Delivered)
    }
}

/// What happens to a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UserEvent {
    /// A newer provision or reprovision is made.
    Newer,
    /// Phone and provisioned phone are equal again.
    EqualAgain,
    /// The user stopped being usable.
    Unusable,
    /// The run that made the message is undone.
    Undone,
    /// The user is removed.
    Removed,
}

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Becomes {
    /// As it is.
    Stays,
    /// Never sent.
    Dropped,
    /// Its body goes, so that nobody has it tried again.
    Erased,
}

/// Whether the message carries the application, and with it a number.
pub fn is_application(kind: JobType) -> bool {
    matches!(kind, JobType::Provision | JobType::Reprovision)
}

/// Whether a person is to read the message, who is told nothing once they are not usable.
pub fn is_for_the_person(kind: JobType) -> bool {
    matches!(
        kind,
        JobType::PhoneNotice | JobType::Reminder | JobType::Notice
    )
}

/// What becomes of a message when this happens to its user.
///
/// What is being sent always stays: only its end says what it is (see [`come_back`](super::come_back)). What the receiver may have is
/// dropped only where a newer message says more, or where nobody is left to be told about.
pub fn becomes(job: &Standing, event: UserEvent) -> Becomes {
    let concerned = match event {
        UserEvent::Newer => is_application(job.r#type) || job.r#type == JobType::Reminder,
        UserEvent::EqualAgain => is_application(job.r#type),
        UserEvent::Unusable => is_application(job.r#type) || is_for_the_person(job.r#type),
        UserEvent::Undone | UserEvent::Removed => true,
    };
    let (dropped, erased) = match event {
        UserEvent::Newer | UserEvent::Removed => (job.waits(), job.given_up()),
        UserEvent::EqualAgain | UserEvent::Unusable => (job.unsent(), job.given_up()),
        UserEvent::Undone => (job.unsent(), false),
    };
    match (concerned, dropped, erased) {
        (true, true, _) => Becomes::Dropped,
        (true, false, true) => Becomes::Erased,
        _ => Becomes::Stays,
    }
}

/// Whether an administrator may have a message tried now. `newer`: the receiver has, or may have, a later one of the same user, so
/// that this one would undo it.
pub fn may_retry(job: &Standing, newer: bool) -> bool {
    job.state == JobState::Waiting || (job.given_up() && !newer)
}

/// Whether an administrator may drop a message: not what is being sent, nor what is settled.
pub fn may_drop(job: &Standing) -> bool {
    job.waits() || matches!(job.state, JobState::Dead | JobState::Final)
}

/// What becomes of a user's links.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Links {
    /// As they are.
    Stay,
    /// Those of dropped messages are void: they never left the house.
    OfDropped,
    /// All open ones are void.
    All,
}

/// The number and the mark of the newest provision or reprovision, as the user's row keeps them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TellingMark {
    /// `phone_told`.
    pub phone: Option<Phone>,
    /// `told`.
    pub told: bool,
}

/// What an intent comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IntentEffect {
    /// Messages that do not stay.
    pub jobs: Vec<(i64, Becomes)>,
    /// Why they are dropped, as they show it.
    pub why: &'static str,
    /// A message to be made: its type, its reason, and the number before.
    pub say: Option<(JobType, JobReason, Option<Phone>)>,
    /// What the user was told last; `None`: as it is.
    pub told: Option<TellingMark>,
    /// The links that were sent before.
    pub links: Links,
}

impl IntentEffect {
    fn event(event: UserEvent, why: &'static str, jobs: &[Standing]) -> Self {
        let change = |job: &Standing| match becomes(job, event) {
            Becomes::Stays => None,
            other => Some((job.seq, other)),
        };
        Self {
            jobs: jobs.iter().filter_map(change).collect(),
            why,
            say: None,
            told: None,
            links: Links::Stay,
        }
    }

    /// Whether a message of these types is dropped.
    fn drops(&self, jobs: &[Standing], kind: fn(JobType) -> bool) -> bool {
        jobs.iter()
            .any(|job| kind(job.r#type) && self.jobs.contains(&(job.seq, Becomes::Dropped)))
    }
}

/// Carries an intent out. `user` is the post-image, `provisioned` the number that the outside world knows by now, which may be
/// another one than when the decision was made; `jobs` are the user's, in any order, and may lack those that are dropped.
/// `delivers`: the user's realm has a receiver, without which no message is made.
pub fn effect_of(
    intent: &Intent,
    user: &User,
    provisioned: Option<&Phone>,
    jobs: &[Standing],
    delivers: bool,
) -> IntentEffect {
    match intent {
        Intent::Say { r#type, reason, .. } if is_application(*r#type) => {
            if delivers {
                tell(user, provisioned, jobs, *r#type, *reason)
            } else {
                IntentEffect::event(UserEvent::Newer, "", &[])
            }
        }
        Intent::Say {
            r#type,
            reason,
            previous_phone,
            ..
        } => {
            let mut carried = if *r#type == JobType::Deprovision {
                IntentEffect {
                    links: Links::All,
                    ..IntentEffect::event(UserEvent::Removed, "removed", jobs)
                }
            } else {
                IntentEffect::event(UserEvent::Newer, "", &[])
            };
            if delivers {
                carried.say = Some((*r#type, *reason, previous_phone.clone()));
            }
            carried
        }
        Intent::Allow => IntentEffect::event(UserEvent::Newer, "", &[]),
        Intent::Unsay => take_back(user, provisioned, jobs, delivers),
        Intent::Withdraw { reason } | Intent::Forget { reason } => {
            let mut carried = IntentEffect::event(UserEvent::Unusable, reason.as_str(), jobs);
            if carried.drops(jobs, is_application) {
                carried.told = Some(TellingMark {
                    phone: None,
                    told: false,
                });
            }
            carried.links = Links::All;
            carried
        }
    }
}

/// A new invitation with the number in use.
fn tell(
    user: &User,
    provisioned: Option<&Phone>,
    jobs: &[Standing],
    kind: JobType,
    reason: JobReason,
) -> IntentEffect {
    // For somebody who never had the application, a silent baseline is no earlier number.
    let previous =
        provisioned.filter(|p| kind == JobType::Reprovision || Some(*p) != user.phone.as_ref());
    IntentEffect {
        say: Some((kind, reason, previous.cloned())),
        told: Some(TellingMark {
            phone: user.phone.clone(),
            told: true,
        }),
        links: Links::All,
        ..IntentEffect::event(UserEvent::Newer, "superseded", jobs)
    }
}

/// Phone and provisioned phone are equal again: what is unsent is not needed, and what may have arrived is corrected.
fn take_back(
    user: &User,
    provisioned: Option<&Phone>,
    jobs: &[Standing],
    delivers: bool,
) -> IntentEffect {
    let applications = || jobs.iter().filter(|job| is_application(job.r#type));
    let delivered = applications().filter(|job| job.state == JobState::Delivered);
    let last_delivered = delivered.map(|job| job.seq).max();
    // An attempt whose end is unknown counts until a later message was accepted, even if its message is dead or superseded by now.
    let unknown =
        applications().any(|job| job.end_unknown() && last_delivered.is_none_or(|d| job.seq > d));
    let differs = unknown || provisioned != user.phone.as_ref();
    if differs && delivers && user.usable() && user.phone.is_some() {
        let (kind, reason) = (JobType::Reprovision, JobReason::PhoneChanged);
        return tell(user, provisioned, jobs, kind, reason);
    }
    let mut carried = IntentEffect::event(UserEvent::EqualAgain, "equal again", jobs);
    if carried.drops(jobs, is_application) {
        carried.links = Links::OfDropped;
        carried.told = Some(TellingMark {
            phone: None,
            told: false,
        });
    }
    carried
}
