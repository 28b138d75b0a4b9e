//! What a pass needs to know of everybody: directory id, fingerprint, presence.

use super::answer::answered;
use super::db::{EngineConnection, on};
use super::{Store, StoreError};
use crate::model::{DirectoryId, RealmId};

/// Users that come as one text. A row of its own for each would cost five times as much, and the index on directory ids would
/// lead to a random page for each: the table is read from one end to the other. (Tests have few people, and several chunks of them.)
const CHUNK: i64 = if cfg!(feature = "failpoints") {
    50
} else {
    4000
};

/// `<32 hex digits><+ present, - away><fingerprint, if known>`, parted by blanks, and the last key. A realm's users are changed
/// only under its lock, which the pass holds: chunk after chunk sees one state.
const SQLITE: &str = "
    SELECT MAX(pk), group_concat(
        hex(directory_id) || CASE WHEN state = 'active' OR state_reason = 'disabled' THEN '+' ELSE '-' END || COALESCE(fingerprint, ''), ' ')
    FROM (SELECT pk, directory_id, state, state_reason, fingerprint FROM users NOT INDEXED
          WHERE pk > $1 AND realm = $2 AND directory_id IS NOT NULL ORDER BY pk LIMIT $3)";
/// 16 bytes of directory id, and 8 of the fingerprint's 62 bits `f` (0: not known) as `f` of who is present and `-1 - f` of who is
/// away: whatever stands in the column, presence does not depend on it.
const POSTGRES: &str = "
    SELECT MAX(pk), string_agg(directory_id || int8send(
        CASE WHEN state = 'active' OR state_reason = 'disabled' THEN f ELSE -1 - f END), ''::bytea)
    FROM (SELECT pk, directory_id, state, state_reason, COALESCE(fingerprint, 0) & 4611686018427387903 AS f FROM users
          WHERE pk > $1 AND realm = $2 AND directory_id IS NOT NULL ORDER BY pk LIMIT $3) AS chunk";

/// A user in the index: directory id, fingerprint, whether present.
pub type Indexed = (DirectoryId, Option<u64>, bool);

/// Some of a realm's users who have a directory id, and where the next of them begin.
pub type IndexChunk = (Vec<Indexed>, i64);

impl Store {
    /// The next of a realm's users, `after` where the last chunk ended (0: from the beginning). `None`: there are no more.
    pub async fn index_chunk(
        &self,
        realm: &RealmId,
        after: i64,
    ) -> Result<Option<IndexChunk>, StoreError> {
        let failed = StoreError::from_sqlx("read the index");
        let odd = || StoreError::Nonsense("a directory id or fingerprint is no such".into());
        let mut link = self.db.read().await?;
        let (last, users) = match link.side() {
            EngineConnection::Sqlite(c) => {
                let asking = sqlx::query_as::<_, (Option<i64>, Option<String>)>(SQLITE);
                let asking = asking.bind(after).bind(realm.as_str()).bind(CHUNK);
                let (last, words) = asking.fetch_one(c).await.map_err(&failed)?;
                let words = words.as_deref().unwrap_or_default();
                let words = words.split(' ').filter(|word| !word.is_empty());
                (last, words.map(parsed).collect::<Option<Vec<_>>>())
            }
            EngineConnection::Postgres(c) => {
                let asking = sqlx::query_as::<_, (Option<i64>, Option<Vec<u8>>)>(POSTGRES);
                let asking = asking.bind(after).bind(realm.as_str()).bind(CHUNK);
                let asked = answered(asking.fetch_one(c)).await;
                let (last, bytes) = asked.map_err(&failed)?;
                let bytes = bytes.unwrap_or_default();
                (last, bytes.chunks(24).map(read).collect())
            }
        };
        let Some(after) = last else { return Ok(None) };
        Ok(Some((users.ok_or_else(odd)?, after)))
    }

    /// Users of the realm who are not removed and have no directory id, so that the index lacks them.
    pub async fn not_indexed(&self, realm: &RealmId) -> Result<i64, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM users WHERE realm = $1 AND directory_id IS NULL AND state <> 'removed'";
        let mut link = self.db.read().await?;
        on!(link, c => sqlx::query_scalar::<_, i64>(SQL).bind(realm.as_str()).fetch_one(&mut *c).await)
            .map_err(StoreError::from_sqlx("count users"))
    }

    /// Calls `each` with directory id, fingerprint and whether present, for every user of the realm that has a directory id.
    pub async fn index(
        &self,
        realm: &RealmId,
        mut each: impl FnMut(DirectoryId, Option<u64>, bool),
    ) -> Result<(), StoreError> {
        let mut after = 0;
        while let Some((users, last)) = self.index_chunk(realm, after).await? {
            after = last;
            for (id, fingerprint, present) in users {
                each(id, fingerprint, present);
            }
        }
        Ok(())
    }
}

fn read(user: &[u8]) -> Option<Indexed> {
    let (id, rest) = user.split_first_chunk::<16>()?;
    let value = i64::from_be_bytes(rest.try_into().ok()?);
    let present = value >= 0;
    let fingerprint = if present { value } else { -1 - value }.cast_unsigned();
    Some((
        DirectoryId(*id),
        (fingerprint != 0).then_some(fingerprint),
        present,
    ))
}

fn parsed(word: &str) -> Option<Indexed> {
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
    fn bytes_are_read() {
        let id = DirectoryId([0xab; 16]);
        let user = |value: i64| [id.0.as_slice(), &value.to_be_bytes()].concat();
        assert_eq!(read(&user(17)), Some((id, Some(17), true)));
        assert_eq!(read(&user(0)), Some((id, None, true)));
        assert_eq!(read(&user(-1)), Some((id, None, false)));
        assert_eq!(read(&user(-18)), Some((id, Some(17), false)));
        let most = i64::MAX.cast_unsigned();
        assert_eq!(read(&user(i64::MIN)), Some((id, Some(most), false)));
        assert_eq!(read(&user(17)[..23]), None);
        assert_eq!(read(&[]), None);
    }

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
