//! `/logons`: a service reports a logon.

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;

use super::body::{Members, whole};
use super::problem::Problem;
use super::verify::{LONGEST_NAME, LONGEST_REALM, answer, digest, key, other_body};
use crate::acts::{Caller, Door, ReportLogon, ServiceKind, TOO_MANY};
use crate::api::Api;
use crate::api::control::{SHORT, at_once, last_line, order};
use crate::model::Scope;
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
    let done = match order(&api, at_once(act), who, None).await {
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
    if told["status"] == 422 {
        return Err(other_body());
    }
    Ok(answer(Answered {
        status: 200,
        body: told["body"].as_str().unwrap_or_default().to_owned(),
    }))
}
