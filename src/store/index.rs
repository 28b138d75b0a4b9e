//! What a pass needs to know of everybody: directory id, fingerprint, presence.

use super::db::on;
use super::{Db, Store, StoreError};
use crate::model::{DirectoryId, RealmId};

/// Users that come as one text. A row of its own for each would cost five times as much, and the index on directory ids would
/// lead to a random page for each: the table is read from one end to the other.
const CHUNK: i64 = 4000;

/// `<32 hex digits><+ present, - away><fingerprint, if known>`, parted by blanks, and the last key. A realm's users are changed
/// only under its lock, which the pass holds: chunk after chunk sees one state.
const SQLITE: &str = "
    SELECT MAX(pk), group_concat(
        hex(directory_id) || CASE WHEN state = 'active' OR state_reason = 'disabled' THEN '+' ELSE '-' END || COALESCE(fingerprint, ''), ' ')
    FROM (SELECT pk, directory_id, state, state_reason, fingerprint FROM users NOT INDEXED
          WHERE pk > $1 AND realm = $2 AND directory_id IS NOT NULL ORDER BY pk LIMIT $3)";
const POSTGRES: &str = "
    SELECT MAX(pk), string_agg(
        encode(directory_id, 'hex') || CASE WHEN state = 'active' OR state_reason = 'disabled' THEN '+' ELSE '-' END || COALESCE(fingerprint::text, ''), ' ')
    FROM (SELECT pk, directory_id, state, state_reason, fingerprint FROM users
          WHERE pk > $1 AND realm = $2 AND directory_id IS NOT NULL ORDER BY pk LIMIT $3) AS chunk";

impl Store {
    /// Calls `each` with directory id, fingerprint and whether present, for every user of the realm that has a directory id.
    pub async fn index(
        &self,
        realm: &RealmId,
        mut each: impl FnMut(DirectoryId, Option<u64>, bool),
    ) -> Result<(), StoreError> {
        let sql = match self.db {
            Db::Sqlite { .. } => SQLITE,
            Db::Postgres { .. } => POSTGRES,
        };
        let mut link = self.db.read().await?;
        let mut after = 0;
        loop {
            let chunk = on!(link, c => sqlx::query_as::<_, (Option<i64>, Option<String>)>(sql).bind(after).bind(realm.as_str()).bind(CHUNK).fetch_one(&mut *c).await)
                .map_err(StoreError::from_sqlx("read the index"))?;
            let (Some(last), Some(text)) = chunk else {
                return Ok(());
            };
            after = last;
            for word in text.split(' ') {
                let (id, fingerprint, present) = parsed(word).ok_or_else(|| {
                    StoreError::Nonsense("a directory id or fingerprint is no such".into())
                })?;
                each(id, fingerprint, present);
            }
        }
    }
}

fn parsed(word: &str) -> Option<(DirectoryId, Option<u64>, bool)> {
    let (hex, rest) = word.as_bytes().split_first_chunk::<32>()?;
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    let (present, fingerprint) = rest.split_first()?;
    let fingerprint = match fingerprint {
        [] => None,
        text => Some(std::str::from_utf8(text).ok()?.parse::<i64>().ok()?),
    };
    let fingerprint = fingerprint.map(i64::cast_unsigned);
    Some((DirectoryId(id), fingerprint, *present == b'+'))
}

fn digit(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        b'A'..=b'F' => Some(c - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        let id = DirectoryId([0xab; 16]);
        let hex = "aB".repeat(16);
        assert_eq!(parsed(&format!("{hex}+17")), Some((id, Some(17), true)));
        assert_eq!(parsed(&format!("{hex}-")), Some((id, None, false)));
        for bad in ["", "ab", &hex, &format!("{hex}+x"), &format!("x{hex}+1")] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
