//! What programs ask on TCP, with an API token: `/api/v1/…`.

pub(crate) mod bearer;
mod body;
mod logons;
pub(super) mod look_up;
mod problem;
mod tokens;
mod verify;

use axum::Router;

use self::problem::Problem;
use super::Api;

/// The routes below `/api/v1`. Every answer that is no success is a problem.
pub(super) fn routes() -> Router<Api> {
    let inside = tokens::routes()
        .merge(verify::routes())
        .merge(logons::routes())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .fallback(async || Problem::not_found("no such path: see docs/api.md"));
    Router::new().nest("/api/v1", inside)
}
