//! `/api-tokens`: programs that may call, managed by one that may do everything.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Members;
use super::problem::{BadMember, Problem};
use crate::acts::{AnyAct, Caller, Door, MakeApiToken, MakeApiTokenRequest, RevokeApiToken};
use crate::api::Api;
use crate::api::control::{SHORT, last_line, order};
use crate::api::order::OrderKind;
use crate::model::{ApiToken, ApiTokenId, RealmId, Scope};

/// Items of a page, if nobody says.
const PAGE: usize = 100;
/// The longest page.
const LONGEST_PAGE: usize = 1000;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/api-tokens", get(list).post(make))
        .route("/api-tokens/{id}", delete(revoke))
}

/// Which page of a list.
#[derive(Deserialize)]
struct TokenPage {
    limit: Option<usize>,
    after: Option<String>,
}

async fn list(
    State(api): State<Api>,
    headers: HeaderMap,
    page: Result<Query<TokenPage>, QueryRejection>,
) -> Result<Response, Problem> {
    let engine = api.engine();
    let caller = api.tokens.caller(&engine, &headers, Scope::Admin).await?;
    let Ok(Query(TokenPage { limit, after })) = page else {
        return Err(bad_page("limit", "expected a number from 1 to 1000"));
    };
    let limit = limit.unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        return Err(bad_page("limit", "expected a number from 1 to 1000"));
    }
    let all = engine.store.api_tokens().await.map_err(|error| {
        tracing::error!(%error, "tokens cannot be read: {error}");
        Problem::unavailable("the store does not answer")
    })?;
    let mut seen: Vec<ApiToken> = all
        .into_iter()
        .filter(|token| caller.realm.is_none() || token.realm == caller.realm)
        .collect();
    if let Some(after) = after {
        let place = after
            .parse::<ApiTokenId>()
            .ok()
            .and_then(|id| seen.iter().position(|token| token.id == id))
            .ok_or_else(|| bad_page("after", "expected `next` of the page before"))?;
        seen.drain(..=place);
    }
    let more = seen.len() > limit;
    seen.truncate(limit);
    let next = seen.last().filter(|_| more).map(|token| token.id);
    Ok(Json(json!({ "items": seen, "next": next })).into_response())
}

async fn make(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let engine = api.engine();
    let caller = api
        .tokens
        .caller(&engine, &parts.headers, Scope::Admin)
        .await?;
    let mut members = Members::read(&parts.headers, body).await?;
    let request = MakeApiTokenRequest {
        name: members.needed("name", 100, false),
        scopes: members.words("scopes"),
        realm: members.text("realm", 100, false).map(RealmId::from),
        expires_ms: members
            .time("expires_at")
            .map(|end| end.since_ms(engine.clock.now())),
    };
    members.end()?;
    // What a token may do in one realm it hands on for that realm only.
    if caller.realm.is_some() && request.realm != caller.realm {
        return Err(Problem::forbidden(
            "this token may do something in one realm only, and so may what it makes: name that realm",
        ));
    }
    let made = act(&api, &caller, Box::new(MakeApiToken { request })).await?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

async fn revoke(
    State(api): State<Api>,
    headers: HeaderMap,
    // A path that is no text names no token.
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let engine = api.engine();
    let caller = api.tokens.caller(&engine, &headers, Scope::Admin).await?;
    let none = || Problem::not_found("there is no such token");
    let Path(id) = path.map_err(|_| none())?;
    let id: ApiTokenId = id.parse().map_err(|_| none())?;
    let all = engine.store.api_tokens().await.map_err(|error| {
        tracing::error!(%error, "tokens cannot be read: {error}");
        Problem::unavailable("the store does not answer")
    })?;
    let found = all.into_iter().find(|token| token.id == id);
    let seen = found.filter(|token| caller.realm.is_none() || token.realm == caller.realm);
    if seen.is_none_or(|token| token.revoked_at.is_some()) {
        return Err(none());
    }
    let token = id.to_string();
    act(&api, &caller, Box::new(RevokeApiToken { token })).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn act(api: &Api, caller: &ApiToken, act: Box<dyn AnyAct>) -> Result<Value, Problem> {
    let who = Caller::new(Some(format!("token:{}", caller.name)), Door::Api);
    let done = match order(api, OrderKind::Act(act), who, None).await {
        Ok(mut lines) => last_line(&mut lines, SHORT).await,
        Err(failure) => Err(failure),
    };
    done.map_err(|failure| Problem::of(&failure))
}

fn bad_page(name: &str, detail: &str) -> Problem {
    Problem::unusable(
        format!("the query cannot be used: `{name}`: {detail}"),
        vec![BadMember {
            pointer: format!("?{name}"),
            detail: detail.to_owned(),
        }],
    )
}
