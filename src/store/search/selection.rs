//! Conditions over users and the pages of a list, as text and values.

use crate::clock::Timestamp;
use crate::model::{
    EnrolmentFilter, PhoneFilter, State, UserFilter, UserOrigin, UserPlace, UserSort, UserStatus,
};

/// Which page of a list.
#[derive(Clone, Debug)]
pub struct UserPage<'a> {
    /// In which order.
    pub sort: UserSort,
    /// Behind this place; `None`: from the beginning.
    pub after: Option<&'a UserPlace>,
    /// At most so many.
    pub limit: i64,
    /// By which time a link has ended.
    pub now: Timestamp,
}

impl UserPage<'_> {
    /// The first so many by name.
    pub fn first(limit: i64, now: Timestamp) -> Self {
        Self {
            sort: UserSort::Name,
            after: None,
            limit,
            now,
        }
    }
}

/// A value of a statement that is put together.
pub(in crate::store) enum SqlValue {
    Text(String),
    Int(i64),
    Bytes(Vec<u8>),
}

/// A condition over `users`, and its values.
pub(in crate::store) struct SqlSelection {
    pub(super) text: String,
    pub(super) values: Vec<SqlValue>,
}

impl SqlSelection {
    fn new() -> Self {
        Self {
            text: String::new(),
            values: vec![],
        }
    }

    /// The place of a value.
    fn value(&mut self, value: SqlValue) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    fn text(&mut self, value: &str) -> String {
        self.value(SqlValue::Text(value.to_owned()))
    }

    fn and(&mut self, condition: &str) {
        if !self.text.is_empty() {
            self.text.push_str(" AND ");
        }
        self.text.push_str(condition);
    }

    /// Whether the engines decide all that a filter asks for: beyond ASCII their lower case is not Unicode's.
    pub(in crate::store) fn says_all(filter: &UserFilter) -> bool {
        filter.search.as_ref().is_none_or(|text| text.is_ascii())
    }

    /// All that a filter asks for, the state too.
    pub(in crate::store) fn whole(filter: &UserFilter, now: Timestamp) -> Self {
        let mut all = Self::of(filter, now);
        match filter.state {
            Some(state) => {
                let place = all.text(state.as_str());
                all.and(&format!("state = {place}"));
            }
            None => all.and("state <> 'removed'"),
        }
        all
    }

    /// The place of some bytes.
    pub(in crate::store) fn bytes(&mut self, value: Vec<u8>) -> String {
        self.value(SqlValue::Bytes(value))
    }

    /// The condition, and the values of its places.
    pub(in crate::store) fn into_parts(self) -> (String, Vec<SqlValue>) {
        (self.text, self.values)
    }

    /// What a filter asks for, but for the state.
    pub(super) fn of(filter: &UserFilter, now: Timestamp) -> Self {
        const PROVED: &str = "EXISTS (SELECT 1 FROM user_factors f WHERE f.user_id = users.id AND f.proved_at IS NOT NULL)";
        let mut all = Self::new();
        if let Some(realm) = &filter.realm {
            let place = all.text(realm.as_str());
            all.and(&format!("realm = {place}"));
        }
        if let Some(method) = filter.method {
            let place = all.text(&format!("%,{},%", method.as_str()));
            all.and(&format!("',' || two_factor || ',' LIKE {place}"));
        }
        match filter.status {
            None => {}
            Some(UserStatus::Off) => all.and("two_factor = ''"),
            Some(UserStatus::Enabled) => all.and(&format!("two_factor <> '' AND NOT {PROVED}")),
            Some(UserStatus::Used) => all.and(&format!("two_factor <> '' AND {PROVED}")),
        }
        if let Some(enrolment) = filter.enrolment {
            // The newest that was not withdrawn.
            const NEWEST: &str = "FROM enrolments e WHERE e.user_id = users.id AND e.state <> 'void' AND NOT EXISTS (
                SELECT 1 FROM enrolments n WHERE n.user_id = e.user_id AND n.state <> 'void'
                AND (n.created_at > e.created_at OR n.created_at = e.created_at AND n.id > e.id))";
            let there = match enrolment {
                EnrolmentFilter::None => {
                    "NOT EXISTS (SELECT 1 FROM enrolments e WHERE e.user_id = users.id AND e.state <> 'void')".to_owned()
                }
                EnrolmentFilter::Active => {
                    format!("EXISTS (SELECT 1 {NEWEST} AND e.state = 'used')")
                }
                EnrolmentFilter::Open | EnrolmentFilter::Expired => {
                    let ends = if enrolment == EnrolmentFilter::Open { ">" } else { "<=" };
                    let place = all.value(SqlValue::Int(now.0));
                    format!("EXISTS (SELECT 1 {NEWEST} AND e.state = 'open' AND e.expires_at {ends} {place})")
                }
            };
            all.and(&there);
        }
        match filter.phone {
            None => {}
            Some(PhoneFilter::None) => all.and("phone IS NULL"),
            Some(PhoneFilter::Waiting) => all.and("phone_pending_until IS NOT NULL"),
            Some(PhoneFilter::Refused) => all.and(
                "EXISTS (SELECT 1 FROM refused r WHERE r.realm = users.realm AND r.directory_id = users.directory_id AND NOT r.entry)",
            ),
        }
        if let Some(origin) = filter.origin {
            if origin == UserOrigin::Directory {
                all.and("origin IS NULL");
            } else {
                let place = all.text(origin.as_str());
                all.and(&format!("origin = {place}"));
            }
        }
        if filter.blocked {
            all.and("blocked");
        }
        if filter.held_back {
            // Few of many, by their indexes; from the fifth wrong code on a delay follows each.
            all.and("id IN (SELECT user_id FROM user_factors WHERE locked_at IS NOT NULL UNION SELECT user_id FROM user_factors WHERE in_a_row >= 5)");
        }
        if let Some(search) = &filter.search {
            let place = all.text(&pattern(search));
            all.and(&format!(
                "LOWER(username || ' ' || COALESCE(display_name, '') || ' ' || COALESCE(email, '') || ' ' || COALESCE(phone, '')) LIKE {place} ESCAPE '!'"
            ));
        }
        all
    }

    /// The text of a page, whose values are in [`Self::values`] then. The columns name at least realm, `username_key` and id.
    pub(super) fn page(
        mut self,
        columns: &str,
        filter: &UserFilter,
        page: &UserPage<'_>,
        rows: i64,
    ) -> Self {
        let (backwards, behind) = if page.sort.is_down() {
            (" DESC", "<")
        } else {
            ("", ">")
        };
        let one = format!("realm{backwards}, username_key{backwards}, id{backwards}");
        let (order, key) = match (page.sort.is_by_name(), filter.state) {
            (false, _) => (format!("id{backwards}"), "id"),
            // Of nobody there is a name.
            (true, Some(State::Removed)) => {
                (format!("realm{backwards}, id{backwards}"), "realm, id")
            }
            (true, _) => (one.clone(), "realm, username_key, id"),
        };
        if let Some(after) = page.after {
            let (realm, name, id) = (
                SqlValue::Text(after.realm.as_str().to_owned()),
                SqlValue::Text(after.name.clone()),
                SqlValue::Bytes(after.id.0.as_bytes().to_vec()),
            );
            // A realm that is the same for all takes no part in the comparison, so that the index leads to the place.
            let parts: Vec<SqlValue> = match (key, filter.realm.is_some()) {
                ("id", _) | ("realm, id", true) => vec![id],
                ("realm, id", false) => vec![realm, id],
                (_, true) => vec![name, id],
                (_, false) => vec![realm, name, id],
            };
            let columns = ["realm", "username_key", "id"];
            let columns = match (key, parts.len()) {
                ("realm, id", 2) => "realm, id".to_owned(),
                (_, n) => columns[3 - n..].join(", "),
            };
            let places: Vec<String> = parts.into_iter().map(|part| self.value(part)).collect();
            self.and(&format!("({columns}) {behind} ({})", places.join(", ")));
        }
        let limit = self.value(SqlValue::Int(rows));
        let states: &[&str] = match (filter.state, page.sort.is_by_name()) {
            (Some(State::Active), _) => &[ACTIVE],
            (Some(State::Suspended), _) => &["state = 'suspended'"],
            (Some(State::Removed), _) => &["state = 'removed'"],
            (None, true) => &[ACTIVE, "state = 'suspended'"],
            (None, false) => &["state <> 'removed'"],
        };
        let rest = std::mem::take(&mut self.text);
        let and = if rest.is_empty() { "" } else { " AND " };
        let branches: Vec<String> = states
            .iter()
            .map(|state| {
                format!(
                    "SELECT {columns} FROM users WHERE {state}{and}{rest} ORDER BY {order} LIMIT {limit}"
                )
            })
            .collect();
        self.text = match branches.as_slice() {
            [only] => only.clone(),
            several => {
                let all: Vec<String> = several
                    .iter()
                    .zip(["a", "b"])
                    .map(|(branch, name)| format!("SELECT * FROM ({branch}) AS {name}"))
                    .collect();
                format!("{} ORDER BY {one} LIMIT {limit}", all.join(" UNION ALL "))
            }
        };
        self
    }
}

/// The condition of `users_name` word for word, or SQLite does not take the index.
const ACTIVE: &str = "(state = 'active' OR state_reason = 'disabled') AND state = 'active'";

/// Binds the values of a statement that was put together.
macro_rules! bind_all {
    ($query:expr, $values:expr) => {{
        let mut query = $query;
        for value in $values {
            query = match value {
                $crate::store::search::SqlValue::Text(text) => query.bind(text),
                $crate::store::search::SqlValue::Int(n) => query.bind(n),
                $crate::store::search::SqlValue::Bytes(bytes) => query.bind(bytes),
            };
        }
        query
    }};
}
pub(in crate::store) use bind_all;

/// What the engine can look for. Beyond ASCII its lower case is not Unicode's (SQLite knows no other than ASCII's, PostgreSQL what
/// the database was made with), so there it takes any text, and `speaks_of` decides.
fn pattern(search: &str) -> String {
    use unicode_normalization::UnicodeNormalization as _;
    let mut pattern = String::from("%");
    for c in search.nfc() {
        match c {
            '%' | '_' | '!' => pattern.extend(['!', c]),
            c if c.is_ascii() => pattern.push(c.to_ascii_lowercase()),
            _ if pattern.ends_with('%') && !pattern.ends_with("!%") => {}
            _ => pattern.push('%'),
        }
    }
    pattern.push('%');
    pattern
}
