//! `users add`, `edit`, `block`, `unblock`, `unlock`, `unfreeze`, `phone`, `remove`, `restore`, `adopt`.

use serde_json::json;

use super::args::{
    Methods, PhoneCommand, ShownSelection, UserFields, UserNames, UsersCommand, WaitingNumber,
    duration,
};
use super::audit::time;
use super::operator::{Operator, store_failure};
use super::selected::{Chosen, ManyAct, act_on_many, choose};
use super::users::{each_one, one};
use super::{CommandContext, render, text};
use crate::acts::{
    ActFailure, AddUser, AddUserRequest, ChangeUser, DecidePhone, DecidePhoneRequest, EditUser,
    EditUserRequest, FailureKind, UnfreezeRequest, UnfreezeUser, UnlockUser, UserActed, UserVerb,
    UserVerbRequest,
};
use crate::clock::Timestamp;
use crate::model::{ActionVerb, Edit, Phone, RealmId, State, User, UserId};
use crate::plan::approval::PhoneDecision;
use crate::plan::freeze::Counts;
use crate::plan::notices::can_be_sent;
use crate::store::Store;
use crate::story::users::objects;

pub(super) async fn by_hand(
    context: &CommandContext,
    what: UsersCommand,
) -> Result<u8, ActFailure> {
    match what {
        UsersCommand::Add {
            name,
            realm,
            fields,
        } => add(context, name, realm, fields).await,
        UsersCommand::Edit {
            user,
            realm,
            name,
            fields,
            until,
            if_version,
        } => {
            let until = match until.as_deref() {
                None => Edit::Keep,
                Some(text) => Edit::Set(match duration(text) {
                    Ok(ms) => context.clock.now().plus_ms(ms),
                    Err(_) => time(text)?,
                }),
            };
            let request = EditUserRequest {
                version: if_version,
                username: name,
                display_name: Edit::typed(fields.display_name),
                email: Edit::typed(fields.email),
                phone: Edit::typed(fields.phone),
                phone_until: until,
                note: Edit::typed(fields.note),
                two_factor: fields.two_factor.map(|Methods(methods)| methods),
            };
            if request
                == (EditUserRequest {
                    version: if_version,
                    ..EditUserRequest::default()
                })
            {
                return Err(ActFailure::new(
                    FailureKind::Usage,
                    "nothing is to be changed: say what, as `--phone` or `--note`",
                ));
            }
            let operator = context.operator().await?;
            let store = reading(context, &operator).await?;
            let user = one(&store, &user, realm).await?.id;
            let before = context.clock.now();
            let acted = operator.act(EditUser { user, request }).await;
            let told = match acted {
                Ok(acted) => tell(context, &store, &acted, "changed", fields.show_phones).await,
                Err(failure) => Err(failure),
            };
            let told = match told {
                Ok(()) if !context.json => tell_sent(&store, user, before).await,
                told => told,
            };
            operator.close().await;
            told.map(|()| 0)
        }
        UsersCommand::Block(who) => selected(context, who, UserVerb::Block, false).await,
        UsersCommand::Unblock(who) => selected(context, who, UserVerb::Unblock, false).await,
        UsersCommand::Unlock(who) => unlock(context, who).await,
        UsersCommand::Remove { who, now } => selected(context, who, UserVerb::Remove, now).await,
        UsersCommand::Restore(who) => named_only(context, who, UserVerb::Restore).await,
        UsersCommand::Adopt(who) => named_only(context, who, UserVerb::Adopt).await,
        UsersCommand::Phone(PhoneCommand::Accept(whose)) => {
            decide_phone(context, whose, PhoneDecision::Accept).await
        }
        UsersCommand::Phone(PhoneCommand::Refuse(whose)) => {
            decide_phone(context, whose, PhoneDecision::Refuse).await
        }
        UsersCommand::Unfreeze {
            user,
            realm,
            previous,
            accept: _,
            show_phones,
        } => {
            let number = if previous {
                Counts::Previous
            } else {
                Counts::Accept
            };
            let request = UnfreezeRequest {
                number,
                version: None,
            };
            let operator = context.operator().await?;
            let store = reading(context, &operator).await?;
            let user = one(&store, &user, realm).await?.id;
            let told = match operator.act(UnfreezeUser { user, request }).await {
                Ok(acted) => tell(context, &store, &acted, "frozen no more", show_phones).await,
                Err(failure) => Err(failure),
            };
            operator.close().await;
            told.map(|()| 0)
        }
        UsersCommand::List { .. } | UsersCommand::Show { .. } | UsersCommand::Import(_) => Ok(0),
    }
}

async fn decide_phone(
    context: &CommandContext,
    whose: WaitingNumber,
    decision: PhoneDecision,
) -> Result<u8, ActFailure> {
    let request = DecidePhoneRequest {
        decision,
        version: None,
    };
    let done = match decision {
        PhoneDecision::Accept => "accepted",
        PhoneDecision::Refuse => "refused",
    };
    let operator = context.operator().await?;
    let store = reading(context, &operator).await?;
    let user = one(&store, &whose.user, whose.realm).await?.id;
    let told = match operator.act(DecidePhone { user, request }).await {
        Ok(acted) => tell(context, &store, &acted, done, whose.show_phones).await,
        Err(failure) => Err(failure),
    };
    operator.close().await;
    told.map(|()| 0)
}

async fn add(
    context: &CommandContext,
    username: String,
    realm: String,
    fields: UserFields,
) -> Result<u8, ActFailure> {
    let act = AddUser {
        realm: RealmId::from(realm),
        request: AddUserRequest {
            username,
            display_name: fields.display_name,
            email: fields.email,
            phone: fields.phone,
            note: fields.note,
            two_factor: fields.two_factor.map(|Methods(methods)| methods),
        },
    };
    let operator = context.operator().await?;
    let told = match operator.act(act).await {
        Ok(acted) => {
            let store = reading(context, &operator).await?;
            tell(context, &store, &acted, "added", fields.show_phones).await
        }
        Err(failure) => Err(failure),
    };
    operator.close().await;
    told.map(|()| 0)
}

/// Those who are named, each on their own, or whoever fits, as one operation.
async fn selected(
    context: &CommandContext,
    who: ShownSelection,
    verb: UserVerb,
    now: bool,
) -> Result<u8, ActFailure> {
    let operator = context.operator().await?;
    let done = act_on(context, &operator, who, verb, now).await;
    operator.close().await;
    done
}

async fn act_on(
    context: &CommandContext,
    operator: &Operator,
    who: ShownSelection,
    verb: UserVerb,
    now: bool,
) -> Result<u8, ActFailure> {
    let store = reading(context, operator).await?;
    let ShownSelection { whom, show_phones } = who;
    let yes = whom.yes;
    match choose(context, &store, whom).await? {
        Chosen::Named(named) => {
            Ok(each(context, operator, &store, &named, (verb, now), show_phones).await)
        }
        chosen => {
            let verb = match verb {
                UserVerb::Block => ActionVerb::Block,
                UserVerb::Unblock => ActionVerb::Unblock,
                UserVerb::Remove | UserVerb::Restore | UserVerb::Adopt => ActionVerb::Remove,
            };
            let act = ManyAct {
                now,
                yes,
                ..ManyAct::of(verb)
            };
            let (_, code) = act_on_many(context, operator, &store, &chosen, act).await?;
            Ok(code)
        }
    }
}

/// Those who are named, each on their own.
async fn named_only(
    context: &CommandContext,
    who: UserNames,
    verb: UserVerb,
) -> Result<u8, ActFailure> {
    let operator = context.operator().await?;
    let done = async {
        let store = reading(context, &operator).await?;
        let named = each_one(&store, &who.users, who.realm.as_ref()).await?;
        Ok(each(
            context,
            &operator,
            &store,
            &named,
            (verb, false),
            who.show_phones,
        )
        .await)
    }
    .await;
    operator.close().await;
    done
}

/// The same with each of some users; one that fails does not keep the others from it.
async fn each(
    context: &CommandContext,
    operator: &Operator,
    store: &Store,
    named: &[User],
    (verb, now): (UserVerb, bool),
    show_phones: bool,
) -> u8 {
    let mut code = 0;
    for user in named {
        let act = ChangeUser {
            user: user.id,
            verb,
            request: UserVerbRequest { version: None, now },
        };
        let told = match operator.act(act).await {
            Ok(acted) => {
                // No name is left to tell of.
                let removed = format!("{} is removed", user.username);
                let done = match verb {
                    UserVerb::Block => "blocked",
                    UserVerb::Unblock => "unblocked",
                    UserVerb::Remove if now => &removed,
                    UserVerb::Remove => {
                        "suspended now, and removed when the grace is over; `realmsync users restore` takes it back"
                    }
                    UserVerb::Restore => "restored",
                    UserVerb::Adopt => "gets the directory's entry of the name at the next pass",
                };
                let already = match verb {
                    UserVerb::Block => "was blocked already",
                    UserVerb::Unblock => "was not blocked",
                    UserVerb::Remove => "was removed already",
                    UserVerb::Restore => "was not suspended",
                    UserVerb::Adopt => "waits for the directory's entry already",
                };
                let told = tell_or(context, store, &acted, (done, already), show_phones).await;
                let back = matches!(verb, UserVerb::Unblock | UserVerb::Restore);
                match told {
                    Ok(()) if back && acted.changed => tell_unsent(context, store, user).await,
                    told => told,
                }
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = told {
            code = render::failure(&failure.message, failure.exit);
        }
    }
    code
}

/// Lets those who are named, or whoever fits, guess again.
async fn unlock(context: &CommandContext, who: ShownSelection) -> Result<u8, ActFailure> {
    let operator = context.operator().await?;
    let done = unlock_by(context, &operator, who).await;
    operator.close().await;
    done
}

async fn unlock_by(
    context: &CommandContext,
    operator: &Operator,
    who: ShownSelection,
) -> Result<u8, ActFailure> {
    let store = reading(context, operator).await?;
    let ShownSelection { whom, show_phones } = who;
    let yes = whom.yes;
    let named = match choose(context, &store, whom).await? {
        Chosen::Named(named) => named,
        chosen => {
            let act = ManyAct {
                yes,
                ..ManyAct::of(ActionVerb::Unlock)
            };
            let (_, code) = act_on_many(context, operator, &store, &chosen, act).await?;
            return Ok(code);
        }
    };
    let mut code = 0;
    for user in named {
        let told = match operator.act(UnlockUser { user: user.id }).await {
            Ok(acted) => {
                let words = ("unlocked", "was not held back");
                tell_or(context, &store, &acted, words, show_phones).await
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = told {
            code = render::failure(&failure.message, failure.exit);
        }
    }
    Ok(code)
}

/// The store, to look users up in it and to show them.
pub(super) async fn reading(
    context: &CommandContext,
    operator: &Operator,
) -> Result<Store, ActFailure> {
    match operator.alone() {
        Some(at) => Ok(at.store().clone()),
        None => context.store().await,
    }
}

/// Shows a user after an act.
pub(super) async fn tell(
    context: &CommandContext,
    store: &Store,
    acted: &UserActed,
    done: &str,
    show_phones: bool,
) -> Result<(), ActFailure> {
    let words = (done, "is so already");
    tell_or(context, store, acted, words, show_phones).await
}

/// The same, with what is said where nothing was changed.
async fn tell_or(
    context: &CommandContext,
    store: &Store,
    acted: &UserActed,
    (done, already): (&str, &str),
    show_phones: bool,
) -> Result<(), ActFailure> {
    let users = store
        .users_by_id(&[acted.user])
        .await
        .map_err(|e| store_failure(&e))?;
    let Some(user) = users.first() else {
        return Ok(());
    };
    if context.json {
        let mut object = objects(store, &users, context.clock.now())
            .await
            .map_err(|e| store_failure(&e))?
            .remove(0);
        if !acted.warnings.is_empty() {
            object["warnings"] = json!(acted.warnings);
        }
        render::json(&object);
        return Ok(());
    }
    for warning in &acted.warnings {
        render::talk(&format!(
            "{} {}",
            render::paint("1;33", "warning:"),
            warning.detail
        ));
    }
    let done = if acted.changed {
        done.to_owned()
    } else {
        format!("{already}: nothing was changed")
    };
    render::line(&format!("{}: {done}", described(user, show_phones)));
    Ok(())
}

/// A number that changes may send the application by itself.
async fn tell_sent(store: &Store, user: UserId, before: Timestamp) -> Result<(), ActFailure> {
    let sent = store
        .enrolments(&[user])
        .await
        .map_err(|e| store_failure(&e))?;
    if let Some(link) = sent.first().filter(|link| link.sent_at >= before) {
        render::talk(&format!(
            "the application was sent with it, valid until {}; links before are void",
            text::when(link.expires_at)
        ));
    }
    Ok(())
}

/// Links that were open died with the block or the suspension: whoever needs the application is not sent it again by itself.
async fn tell_unsent(
    context: &CommandContext,
    store: &Store,
    who: &User,
) -> Result<(), ActFailure> {
    let now = context.clock.now();
    let users = store
        .users_by_id(&[who.id])
        .await
        .map_err(|e| store_failure(&e))?;
    let known = store
        .factor_facts(&users, now)
        .await
        .map_err(|e| store_failure(&e))?;
    for user in &users {
        let unsent = known
            .get(&user.id)
            .is_some_and(|facts| can_be_sent(user, facts));
        if unsent && !context.json {
            render::talk(&format!(
                "{} has no application, and no link is open: `realmsync send {:#}` sends one",
                user.username, user.id
            ));
        }
    }
    Ok(())
}

/// Who, in which realm, with which number.
fn described(user: &User, show_phones: bool) -> String {
    if user.state == State::Removed {
        return format!("{:#} in {}", user.id, user.realm);
    }
    let shown = |phone: &Phone| {
        if show_phones {
            phone.as_str().to_owned()
        } else {
            phone.masked()
        }
    };
    let number = match (&user.phone, &user.phone_pending) {
        (_, Some(waiting)) if user.phone_awaits_approval() => {
            format!(", {} when it is accepted", shown(waiting))
        }
        (_, Some(waiting)) => format!(", {} after its hold", shown(waiting)),
        (Some(phone), None) => format!(", {}", shown(phone)),
        (None, None) => String::new(),
    };
    format!("{} in {}{number}", user.username, user.realm)
}
