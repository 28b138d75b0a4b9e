//! An intent to tell the outside world something.

use serde::{Deserialize, Serialize};

use super::user::words;
use super::{EnrolmentId, JobId, Phone, RealmId, RunId, UserId};
use crate::clock::Timestamp;

words! {
    /// The message's type, as the receiver reads it.
    JobType {
        /// A new user gets the application.
        Provision = "user.provision",
        /// The number changed: send the application again.
        Reprovision = "user.reprovision",
        /// No longer usable; the receiver keeps the factors.
        Suspend = "user.suspend",
        /// Usable again.
        Restore = "user.restore",
        /// Another name.
        Rename = "user.rename",
        /// Removed: the receiver forgets the user.
        Deprovision = "user.deprovision",
        /// To the previous number: a new one was set.
        PhoneNotice = "user.phone_notice",
        /// The link that was sent is sent again: nobody has used it.
        Reminder = "user.reminder",
        /// To the user: what happened to their factors.
        Notice = "user.notice",
    }
}

words! {
    /// Why a message is sent.
    JobReason {
        /// A new user under `new-users = "send"`.
        Created = "created",
        /// An administrator sent the application.
        Sent = "sent",
        /// Another number.
        PhoneChanged = "phone_changed",
        /// A number where there was none.
        PhoneGiven = "phone_given",
        /// Usable again by the directory.
        Restored = "restored",
        /// Usable again by an administrator.
        Unblocked = "unblocked",
        /// Taken over by another realm.
        Moved = "moved",
        /// Kept through a rebuilt directory.
        Adopted = "adopted",
        /// The directory id was found nowhere.
        Deleted = "deleted",
        /// The entry left base or filter.
        OutOfScope = "out_of_scope",
        /// The directory says disabled.
        Disabled = "disabled",
        /// `undo` took the creation back.
        Undone = "undone",
        /// An administrator blocked the user.
        Blocked = "blocked",
        /// Another user name.
        Renamed = "renamed",
        /// The grace period is over.
        GraceOver = "grace_over",
        /// An administrator removed the user.
        Removed = "removed",
        /// Somebody who was told of a change said that it was not theirs.
        Frozen = "frozen",
        /// An application was set up.
        Activated = "activated",
        /// An administrator sent the application without asking for the former one.
        ApplicationLost = "application_lost",
        /// A recovery code was used.
        RecoveryCodeUsed = "recovery_code_used",
        /// The same, and two are left, or fewer.
        RecoveryCodesLow = "recovery_codes_low",
        /// There are new recovery codes in place of those before.
        RecoveryCodesRenewed = "recovery_codes_renewed",
        /// An administrator made a temporary code.
        BypassMade = "bypass_made",
    }
}

impl JobReason {
    /// Whether what happened lets somebody in who may not be the user: the notice of it has a link by which they say so.
    pub fn lets_somebody_in(self) -> bool {
        matches!(
            self,
            Self::Activated | Self::ApplicationLost | Self::RecoveryCodesRenewed | Self::BypassMade
        )
    }
}

words! {
    /// What became of a job.
    JobState {
        /// To be sent at `next_attempt_at`.
        Waiting = "waiting",
        /// Claimed by a worker.
        Sending = "sending",
        /// Put on hold by the brake, an administrator, or a restored copy of the store.
        Held = "held",
        /// Accepted.
        Delivered = "delivered",
        /// Refused for good by the receiver (400, 409, 410, 413, 415, 422).
        Final = "final",
        /// `retry-for` is over.
        Dead = "dead",
        /// Not needed any more: superseded, equal again, the user suspended, or by an administrator.
        Dropped = "dropped",
    }
}

/// What a decision wants said. The plan stages these beside the user's post-image; apply turns them into jobs by
/// fixed rules (see `message_rules`), in the transaction of the change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Intent {
    /// Make a job of this type. `Provision` and `Reprovision` supersede older unsent ones of the user and come with a new enrolment.
    Say {
        /// The message's type.
        r#type: JobType,
        /// Why.
        reason: JobReason,
        /// Provision and reprovision: the provisioned phone before. Notice: the number to write to.
        previous_phone: Option<Phone>,
        /// Rename only.
        previous_username: Option<String>,
    },
    /// Phone and provisioned phone are equal again: drop the unsent provision or reprovision job; after an attempt
    /// whose end is unknown, tell the newest number instead (reason `phone_changed`).
    Unsay,
    /// The user stopped being usable: drop unsent provision, reprovision and notice jobs with this reason, and void open enrolments.
    Withdraw {
        /// The reason that the dropped jobs show.
        reason: JobReason,
    },
    /// The directory gives another number than the one that was refused: that one would be a change like any other.
    Allow,
    /// The user may be somebody else than before, who has the name only: as [`Intent::Withdraw`], and all factors go too.
    Forget {
        /// The reason that the dropped jobs show.
        reason: JobReason,
    },
}

/// One message on its way out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// The key, the same on every attempt.
    pub id: JobId,
    /// Order of making: jobs of one user, and of one name in a realm, go out in this order.
    pub seq: i64,
    /// The realm whose delivery carries it.
    pub realm: RealmId,
    /// Whom it is about.
    pub user: UserId,
    /// The name when the job was made.
    pub username: String,
    /// What it says.
    pub r#type: JobType,
    /// The JSON that is sent, byte for byte; the enrolment's token stands in it as `{{token}}` and is filled in at each
    /// attempt from the enrolment's id, so that the store never holds it. `None` once settled.
    pub body: Option<String>,
    /// Whose token goes into the body; `None`: no link.
    pub enrolment: Option<EnrolmentId>,
    /// The number that the message tells (provision, reprovision), to be the provisioned phone when accepted.
    pub phone: Option<Phone>,
    /// Where it stands.
    pub state: JobState,
    /// An attempt was made whose end is unknown (time-out, reset, a crash between send and settle).
    pub uncertain: bool,
    /// How many attempts were begun.
    pub attempts: i64,
    /// When it may be tried (again).
    pub next_attempt_at: Timestamp,
    /// The end of `retry-for`; moved on while the job or its realm stands still.
    pub give_up_at: Timestamp,
    /// What the last attempt met, for people.
    pub last_error: Option<String>,
    /// The run that caused it.
    pub run: Option<RunId>,
    /// When it was made.
    pub created_at: Timestamp,
}
