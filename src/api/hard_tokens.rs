//! The control API of hard tokens: `/api/v1/hard-tokens/…`.

use axum::Router;
use axum::extract::{DefaultBodyLimit, Json, Path};
use axum::routing::post;
use serde::Serialize;

use super::Api;
use super::control::{Call, JsonBody, at_once, invalid};
use super::routes::{Route, segment};
use crate::acts::{
    AssignToken, AssignTokenRequest, ChangeToken, ImportTokens, ImportTokensRequest, ResyncToken,
    ResyncTokenRequest, TokenActed, TokenVerb, TokenVerbRequest, TokensImported,
};
use crate::factors::seeds::LONGEST_FILE;

/// A file in base64, its keys, and the names of the fields.
const IMPORT: usize = LONGEST_FILE / 3 * 4 + 64 * 1024;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route(
            "/api/v1/hard-tokens/import",
            post(
                async |call: Call, body: JsonBody<ImportTokensRequest>| match body {
                    // A passphrase takes its time: the answer is a stream, which no clock cuts off.
                    Ok(Json(request)) => call.long(at_once(ImportTokens { request })).await,
                    Err(why) => invalid(&why),
                },
            )
            .layer(DefaultBodyLimit::max(IMPORT)),
        )
        .route(
            "/api/v1/hard-tokens/{serial}/assign",
            post(
                async |call: Call,
                       Path(serial): Path<String>,
                       body: JsonBody<AssignTokenRequest>| {
                    match body {
                        Ok(Json(request)) => {
                            call.short(at_once(AssignToken { serial, request })).await
                        }
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
        .route(
            "/api/v1/hard-tokens/{serial}/resync",
            post(
                async |call: Call,
                       Path(serial): Path<String>,
                       body: JsonBody<ResyncTokenRequest>| {
                    match body {
                        Ok(Json(request)) => {
                            call.short(at_once(ResyncToken { serial, request })).await
                        }
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
        .route(
            "/api/v1/hard-tokens/{serial}/{verb}",
            post(
                async |call: Call,
                       Path((serial, verb)): Path<(String, TokenVerb)>,
                       body: JsonBody<TokenVerbRequest>| {
                    match body {
                        Ok(Json(request)) => {
                            let act = ChangeToken {
                                serial,
                                verb,
                                request,
                            };
                            call.short(at_once(act)).await
                        }
                        Err(why) => invalid(&why),
                    }
                },
            ),
        )
}

impl Route for ImportTokens {
    type Answer = TokensImported;

    fn path(&self) -> String {
        "hard-tokens/import".to_owned()
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for AssignToken {
    type Answer = TokenActed;

    fn path(&self) -> String {
        format!("hard-tokens/{}/assign", segment(&self.serial))
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for ResyncToken {
    type Answer = TokenActed;

    fn path(&self) -> String {
        format!("hard-tokens/{}/resync", segment(&self.serial))
    }

    fn body(&self) -> impl Serialize {
        &self.request
    }
}

impl Route for ChangeToken {
    type Answer = TokenActed;

    fn path(&self) -> String {
        format!(
            "hard-tokens/{}/{}",
            segment(&self.serial),
            self.verb.as_str()
        )
    }

    fn body(&self) -> impl Serialize {
        self.request
    }
}
