//! `/logons`: a service reports a logon. A name that a directory's realm does not hold is looked up there before it is said that nobody
//! has it.

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use serde_json::Value;
use tokio::time::timeout;

use super::body::{Members, whole};
use super::look_up::Allowed;
use super::problem::Problem;
use super::verify::{LONGEST_NAME, LONGEST_REALM, answer, digest, key, other_body};
use crate::acts::{
    ActFailure, Caller, Door, LogonAnswer, LookUp, NOBODY, RealmAct, ReportLogon, ServiceKind,
    Sync, SyncRequest, TOO_MANY,
};
use crate::api::Api;
use crate::api::control::{SHORT, at_once, last_line, order};
use crate::api::order::OrderKind;
use crate::model::person::fold_name;
use crate::model::{RealmId, Scope};
use crate::store::NameSought;
use crate::verification::{Answered, AskKey};

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/logons", post(report))
}

async fn report(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let engine = api.engine();
    let token = api
        .tokens
        .caller(&engine, &parts.headers, Scope::Logons)
        .await?;
    let key = key(&parts.headers)?;
    let bytes = whole(&parts.headers, body).await?;
    let mut members = Members::parse(&bytes)?;
    let username = members.needed("username", LONGEST_NAME, false);
    let realm = members.text("realm", LONGEST_REALM, false);
    let service_kind = members.word::<ServiceKind>("service_kind");
    let at = members.time("at");
    let second_factor = members.flag("second_factor");
    members.end()?;
    let who = Caller::new(Some(format!("service:{}", token.name)), Door::Api);
    let act = ReportLogon {
        token,
        username,
        realm: realm.filter(|realm| !realm.trim().is_empty()),
        service_kind,
        at,
        second_factor,
        key: key.map(|key| AskKey {
            key,
            body: digest("logons", &bytes),
        }),
    };
    let mut told = reported(&api, act.clone(), who.clone()).await?;
    if let Some(asked) = told.look_up.take() {
        if look_up(&api, &asked, &who).await? {
            told = reported(&api, act, who).await?;
        }
        if told.status == NOBODY {
            // Also whose entry is refused: each logon of theirs would be a look-up.
            let now = api.engine().clock.steady();
            for name in &asked.names {
                api.look_ups.missed(&asked.realm, name, now);
            }
            return Err(Problem::not_found(
                "nobody has this name, neither here nor in the realm's directory",
            ));
        }
    }
    if told.status == 422 {
        return Err(other_body());
    }
    Ok(answer(Answered {
        status: 200,
        body: told.body,
    }))
}

/// What comes of the report as things stand.
async fn reported(api: &Api, act: ReportLogon, who: Caller) -> Result<LogonAnswer, Problem> {
    let done = match order(api, at_once(act), who, None).await {
        Ok(mut lines) => last_line(&mut lines, SHORT).await,
        Err(failure) => Err(failure),
    };
    let told = done.map_err(|failure| {
        if failure.code == TOO_MANY {
            Problem::too_many(failure.message, Duration::from_mins(10))
        } else {
            Problem::of(&failure)
        }
    })?;
    serde_json::from_value(told)
        .map_err(|error| Problem::unavailable(format!("the answer cannot be read: {error}")))
}

/// How long a logon waits for the directory.
const WITHIN: Duration = Duration::from_secs(5);

/// Has a realm's directory asked for names, one after the other, until one is found: as `sync REALM --user NAME` does it. `false`:
/// nobody has any of them.
///
/// # Errors
/// 503 with `Retry-After` when the directory does not answer, or the realm cannot be looked at now; 429 when too many names were
/// looked up.
async fn look_up(api: &Api, asked: &LookUp, who: &Caller) -> Result<bool, Problem> {
    let realm = &asked.realm;
    let gate = api.look_ups.gate(realm);
    let Ok(_one_at_a_time) = timeout(WITHIN, gate.lock()).await else {
        let why = format!("realm `{realm}` is busy with other names: try again");
        return Err(Problem::unavailable_for(why, WITHIN));
    };
    let clock = api.engine().clock;
    for name in &asked.names {
        // Another request may have had the same name looked up meanwhile.
        let sought = NameSought {
            realm: Some(realm.clone()),
            key: fold_name(name),
        };
        match api.engine().store.present_named(&[sought]).await {
            Ok(found) if found.is_empty() => {}
            Ok(_) => return Ok(true),
            Err(error) => {
                tracing::error!(%error, "a name cannot be looked for: {error}");
                return Err(Problem::unavailable("the store does not answer"));
            }
        }
        match api.look_ups.allow(realm, name, clock.steady()) {
            Allowed::Yes => {}
            Allowed::Missed => continue,
            Allowed::TooMany(wait) => {
                tracing::warn!(%realm, "{realm}: services report many names that nobody has; more are not looked up within a minute");
                let why = format!("too many unknown names of realm `{realm}` were looked up");
                return Err(Problem::too_many(why, wait));
            }
            Allowed::Down(wait) => return Err(down(realm, wait)),
        }
        let request = SyncRequest {
            user: Some(name.clone()),
            ..SyncRequest::default()
        };
        let act = RealmAct::Sync(Sync::asked(realm.clone(), request));
        let done = match order(api, OrderKind::InRealm(act), who.clone(), None).await {
            Ok(mut lines) => last_line(&mut lines, WITHIN).await,
            Err(failure) => Err(failure),
        };
        match came(&done) {
            Came::Found => return Ok(true),
            Came::Nobody => api.look_ups.missed(realm, name, clock.steady()),
            Came::NotNow(why) => {
                let why = format!("realm `{realm}` cannot be looked at now: {why}");
                return Err(Problem::unavailable_for(why, Duration::from_mins(1)));
            }
            Came::Down => {
                api.look_ups.down(realm, clock.steady());
                return Err(down(realm, Duration::from_secs(5)));
            }
        }
    }
    Ok(false)
}

fn down(realm: &RealmId, wait: Duration) -> Problem {
    let why = format!("the directory of realm `{realm}` does not answer: nothing was done");
    Problem::unavailable_for(why, wait)
}

/// What came of looking a name up.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Came {
    Found,
    Nobody,
    /// The realm waits for somebody.
    NotNow(String),
    /// The directory does not answer, or not in time.
    Down,
}

/// What the end of a run, or why there was none, says.
fn came(done: &Result<Value, ActFailure>) -> Came {
    match done {
        Ok(run) => match run["outcome"].as_str() {
            Some("applied" | "unchanged") => Came::Found,
            Some("held") => Came::NotNow("a plan waits for a decision".to_owned()),
            _ => Came::Down,
        },
        Err(failure) if failure.code == "not-found" => Came::Nobody,
        Err(failure) if failure.code == "refused" => Came::NotNow(failure.message.clone()),
        Err(_) => Came::Down,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acts::FailureKind;

    #[test]
    fn only_a_run_that_looked_says_that_somebody_is_there() {
        let failed = |kind| Err(ActFailure::new(kind, "why"));
        for (done, wanted) in [
            (Ok(serde_json::json!({"outcome": "applied"})), Came::Found),
            (Ok(serde_json::json!({"outcome": "unchanged"})), Came::Found),
            (Ok(serde_json::json!({"outcome": "failed"})), Came::Down),
            (failed(FailureKind::NotFound), Came::Nobody),
            (failed(FailureKind::Refused), Came::NotNow("why".into())),
            (failed(FailureKind::Stopping), Came::Down),
        ] {
            assert_eq!(came(&done), wanted, "{done:?}");
        }
        let held = Ok(serde_json::json!({"outcome": "held"}));
        assert!(matches!(came(&held), Came::NotNow(_)));
    }
}
