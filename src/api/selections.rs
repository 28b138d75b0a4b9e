//! Users listed, and what is done to many of them: the part of the control API that takes filters.

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Json, Path, Query};
use axum::routing::{delete, get, post};

use super::Api;
use super::control::{Call, JsonBody, at_once, invalid, refuse};
use crate::acts::{
    ActionRequest, BypassRequest, CancelOperation, ListUsers, MakeBypass, ShowLinks, ShowOperation,
    ShowUser, StartAction, SwitchMethods, SwitchRequest,
};
use crate::model::{
    EnrolmentFilter, EnrolmentId, OperationId, PhoneFilter, RealmId, State, TwoFactor, UserFilter,
    UserId, UserOrigin, UserSort, UserStatus,
};

/// Bytes of a request that names users: a million ids, and some.
const NAMED: usize = 48 * 1024 * 1024;

/// The routes.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route(
            "/api/v1/users",
            get(
                async |call: Call, query: Result<Query<UsersQuery>, QueryRejection>| match query {
                    Ok(Query(query)) => call.short(at_once(query.act())).await,
                    Err(why) => refuse(&why.body_text()),
                },
            ),
        )
        .route(
            "/api/v1/users/{user}",
            get(async |call: Call, Path(user): Path<UserId>| {
                call.short(at_once(ShowUser { user })).await
            }),
        )
        .route(
            "/api/v1/users/{user}/two-factor",
            post(
                async |call: Call, Path(user): Path<UserId>, body: JsonBody<SwitchRequest>| {
                    match body {
                        Ok(Json(request)) => {
                            call.short(at_once(SwitchMethods { user, request })).await
                        }
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
        .route(
            "/api/v1/users/{user}/bypass",
            post(
                async |call: Call, Path(user): Path<UserId>, body: JsonBody<BypassRequest>| {
                    match body {
                        Ok(Json(request)) => {
                            call.short(at_once(MakeBypass { user, request })).await
                        }
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
        .route(
            "/api/v1/actions",
            post(
                async |call: Call, body: JsonBody<ActionRequest>| match body {
                    Ok(Json(request)) => call.short(at_once(StartAction { request })).await,
                    Err(why) => invalid(&why),
                },
            )
            .layer(DefaultBodyLimit::max(NAMED)),
        )
        .route(
            "/api/v1/operations/{operation}/enrolments",
            get(
                async |call: Call,
                       Path(operation): Path<OperationId>,
                       query: Result<Query<LinksQuery>, QueryRejection>| {
                    match query {
                        Ok(Query(LinksQuery { after })) => {
                            call.short(at_once(ShowLinks { operation, after })).await
                        }
                        Err(why) => refuse(&why.body_text()),
                    }
                },
            ),
        )
        .route(
            "/api/v1/operations/{operation}",
            get(async |call: Call, Path(operation): Path<OperationId>| {
                call.short(at_once(ShowOperation { operation })).await
            })
            .merge(delete(
                async |call: Call, Path(operation): Path<OperationId>| {
                    call.short(at_once(CancelOperation { operation })).await
                },
            )),
        )
}

/// Which page of links.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LinksQuery {
    after: Option<EnrolmentId>,
}

/// The filters of a list, and which page. Flattened filters would read numbers as texts, so each stands here.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersQuery {
    realm: Option<RealmId>,
    state: Option<State>,
    status: Option<UserStatus>,
    method: Option<TwoFactor>,
    enrolment: Option<EnrolmentFilter>,
    phone: Option<PhoneFilter>,
    origin: Option<UserOrigin>,
    blocked: Option<bool>,
    held_back: Option<bool>,
    search: Option<String>,
    sort: Option<UserSort>,
    after: Option<String>,
    limit: Option<i64>,
}

impl UsersQuery {
    fn act(self) -> ListUsers {
        ListUsers {
            filter: UserFilter {
                realm: self.realm,
                state: self.state,
                status: self.status,
                method: self.method,
                enrolment: self.enrolment,
                phone: self.phone,
                origin: self.origin,
                blocked: self.blocked.unwrap_or(false),
                held_back: self.held_back.unwrap_or(false),
                search: self.search,
            },
            sort: self.sort.unwrap_or(UserSort::Name),
            after: self.after,
            limit: self.limit,
        }
    }
}
