//! What people type for an id: all of it, its beginning, or its end, which is what they see (`{id:#}`).

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::StoreError;
use super::db::{ReadConnection, on};
use crate::model::RealmId;
use crate::model::ids::{SHORT, ending, telling, telling_from};

/// Fewer digits of a beginning fit by accident.
const FEWEST: usize = 4;

/// Fewer digits of an end are somebody's name, or fit one of a million by accident.
const FEWEST_OF_END: usize = 6;

/// Ids that are told where several fit.
const TOLD: usize = 5;

/// The digits of what was typed, without hyphens; `None`: it is no part of an id, or too short for one.
pub(super) fn digits(typed: &str) -> Option<String> {
    let hex: String = typed
        .trim()
        .chars()
        .filter(|c| *c != '-')
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let fits = (FEWEST..=32).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then_some(hex)
}

/// Digits with others behind them up to a whole id.
fn filled(digits: &str, fill: &str) -> Option<Vec<u8>> {
    let padded = format!("{digits}{}", fill.repeat(32 - digits.len().min(32)));
    Uuid::parse_str(&padded)
        .ok()
        .map(|id| id.as_bytes().to_vec())
}

/// The ids of a table's rows, of one realm or of all, that begin or end with these digits. `condition` is words of our own that go
/// on with ` AND …`, or empty.
pub(super) async fn ids_like(
    link: &mut ReadConnection,
    table: &'static str,
    condition: &str,
    digits: &str,
    realm: Option<&RealmId>,
) -> Result<Vec<Uuid>, StoreError> {
    let (Some(from), Some(to)) = (filled(digits, "0"), filled(digits, "f")) else {
        return Ok(vec![]);
    };
    // Whole bytes of the end; the digit before them is compared below. A whole id is found by the index alone.
    let whole = digits.len() / 2;
    let ending = if (FEWEST_OF_END..32).contains(&digits.len()) {
        "substr(id, $3) = $4"
    } else {
        "FALSE AND substr(id, $3) = $4"
    };
    let zeros = "0".repeat(32 - 2 * whole);
    let end = Uuid::parse_str(&format!("{zeros}{}", &digits[digits.len() - 2 * whole..]))
        .map(|id| id.as_bytes()[16 - whole..].to_vec())
        .unwrap_or_default();
    let first = i32::try_from(17 - whole).unwrap_or(1);
    let sql = format!(
        "SELECT id FROM {table} WHERE (id BETWEEN $1 AND $2 OR {ending}) AND ($5 IS NULL OR realm = $5){condition} ORDER BY id LIMIT 1000"
    );
    let realm = realm.map(|r| r.as_str().to_owned());
    let rows = on!(link, c => sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql)).bind(from).bind(to).bind(first).bind(end).bind(realm).fetch_all(&mut *c).await)
        .map_err(StoreError::from_sqlx("look for an id"))?;
    Ok(rows
        .iter()
        .filter_map(|id| Uuid::from_slice(id).ok())
        .filter(|id| {
            let all = id.simple().to_string();
            all.starts_with(digits) || digits.len() >= FEWEST_OF_END && all.ends_with(digits)
        })
        .collect())
}

/// How many digits of its end tell the id of a row from those of all others of its table.
pub(super) async fn telling_in(
    link: &mut ReadConnection,
    table: &'static str,
    id: Uuid,
) -> Result<usize, StoreError> {
    let alike = ids_like(link, table, "", &ending(id, SHORT), None).await?;
    Ok(telling_from(&[id], &alike))
}

/// That several things fit: which, and what to do.
pub(super) fn ambiguous(what: &str, typed: &str, ids: &[Uuid]) -> StoreError {
    let length = telling(ids.iter().copied());
    let told = ids.iter().take(TOLD).map(|id| ending(*id, length));
    let mut told: Vec<String> = told.collect();
    if ids.len() > TOLD {
        told.push(format!("and {} more", ids.len() - TOLD));
    }
    StoreError::NotFound(format!(
        "several {what} begin or end with `{typed}`: {}; give more digits",
        told.join(", ")
    ))
}
