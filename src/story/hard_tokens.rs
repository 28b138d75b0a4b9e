//! Hard tokens as programs see them.

use serde_json::{Value, json};

use crate::store::HardTokenRow;

/// A hard token: an authenticator with its user, and until when it counts.
pub fn object(row: &HardTokenRow) -> Value {
    let token = &row.kept.authenticator;
    json!({
        "id": token.id,
        "kind": token.kind,
        "state": token.state,
        "serial": token.serial,
        "issuer": token.issuer,
        "created_at": token.created_at,
        "last_used_at": token.last_used_at,
        "drift": token.drift,
        "left": null,
        "user": token.user,
        "username": row.username,
        "realm": row.realm,
        "hash": token.hash,
        "digits": token.digits,
        "period": token.period,
        "valid_from": token.valid_from,
        "valid_until": token.valid_until,
    })
}
