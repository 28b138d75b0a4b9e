//! How refusals are written into rows, of those that stand and of those that are staged.

/// Refusals of one statement: the way to PostgreSQL and back costs more than a row.
pub(super) const ROWS: usize = 100;

/// Ids in one statement: both engines take more, but the text stays short.
pub(super) const LIST: usize = 500;

/// No text of PostgreSQL can hold a NUL, and a directory's value may: one bad entry stops nobody. The key is of the value as it came.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Adds the columns of a refusal, from its key on, to a row of values.
macro_rules! push_refusal {
    ($row:expr, $key:expr, $refusal:expr) => {{
        let r = $refusal;
        $row.push_bind(*$key)
            .push_bind($crate::store::refused_rows::storable(&r.dn))
            .push_bind(r.directory_id.map(|id| id.0.to_vec()))
            .push_bind(
                r.username
                    .as_deref()
                    .map($crate::store::refused_rows::storable),
            )
            .push_bind(
                r.attribute
                    .as_deref()
                    .map($crate::store::refused_rows::storable),
            )
            .push_bind(r.raw.as_deref().map($crate::store::refused_rows::storable))
            .push_bind($crate::store::refused_rows::storable(&r.reason))
            .push_bind(r.entry)
    }};
}
pub(super) use push_refusal;
