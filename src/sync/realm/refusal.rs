//! Why something is not done to a user: what the directory owns is said with its attribute and its servers.

use crate::model::{Field, StateReason, User};
use crate::plan::by_hand::HandRefusal;
use crate::sync::engine::Engine;

impl Engine {
    /// Why something is not done to a user, for people.
    pub fn why_not(&self, held: &User, refusal: HandRefusal) -> String {
        self.why(held, &held.username, refusal)
    }

    /// The same, with another word for the user: what is kept longer than they are does not name them.
    pub fn why(&self, held: &User, who: &str, refusal: HandRefusal) -> String {
        match refusal {
            HandRefusal::Removed => format!("user {:#} is removed, and nobody any more", held.id),
            HandRefusal::Unusable if held.blocked => format!(
                "{who} is blocked, and is sent nothing: lift the block first with `realmsync users unblock {:#}`",
                held.id
            ),
            HandRefusal::Unusable => format!(
                "{who} is suspended, and is sent nothing: see why with `realmsync explain {:#}`",
                held.id
            ),
            HandRefusal::Frozen => format!(
                "{} is frozen: somebody who was told of a change says that it was not theirs; find out, then say which number counts: \
                 `realmsync users unfreeze {:#} --previous`, or `--accept`; nothing is saved",
                held.username, held.id
            ),
            HandRefusal::NumberRefused => format!(
                "this number was refused for {}: nothing is saved; set it with `realmsync users edit --phone` if it counts after all",
                held.username
            ),
            HandRefusal::OfDirectory => format!(
                "{} comes from the directory of realm `{}` already",
                held.username, held.realm
            ),
            HandRefusal::Away => format!(
                "{} is suspended ({}), and an entry of the name is somebody new: `realmsync users restore {:#}` first",
                who,
                held.state_reason
                    .map_or("by nobody knows whom", StateReason::as_str),
                held.id
            ),
            HandRefusal::Owned(Field::StateReason) => format!(
                "{} comes from the directory{}: whoever is back there is restored by the next pass",
                who,
                self.owner(held, Field::State)
            ),
            HandRefusal::Owned(Field::State) => format!(
                "{} comes from the directory{}, and cannot be removed here, only blocked: `realmsync users block {:#}`; who is taken out of the directory is removed after the grace",
                who,
                self.owner(held, Field::State),
                held.id
            ),
            HandRefusal::Owned(field) => {
                let advice = if field == Field::Phone {
                    ", or set `phone-authority = \"local\"` in the realm"
                } else {
                    ""
                };
                format!(
                    "`{}` of {} comes from the directory{}: change it there{advice}; nothing is saved",
                    field.as_str(),
                    who,
                    self.owner(held, field)
                )
            }
        }
    }
}
