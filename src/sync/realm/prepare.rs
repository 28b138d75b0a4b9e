//! What a run needs of its realm before anything is read: a session, the mapping of the server's kind, the rules.

use super::following::Following;
use super::lagging_server::not_behind;
use super::session::{PreparedSession, run_end};
use crate::config::{Attributes, RealmConfig};
use crate::directory::{self, Scope, Session};
use crate::model::{ErrorCode, Policy, RealmRow, Synonyms};
use crate::normalise::{Normaliser, mapping_hash};
use crate::runs::RunFailure;
use crate::sync::engine::Engine;

/// Connects, decides the kind, and derives the mapping from it.
pub(in crate::sync) async fn prepare(
    engine: &Engine,
    realm: &RealmConfig,
    row: &RealmRow,
    accept_older: bool,
) -> Result<PreparedSession, RunFailure> {
    let deadline = run_end(realm);
    let servers = realm.directory.with_secrets(&engine.env).map_err(|e| {
        RunFailure::new(
            ErrorCode::Config,
            format!(
                "bind-password of realm `{}`: {}; {}",
                realm.id, e.message, e.help
            ),
        )
    })?;
    let mut session = directory::connect(&servers, &engine.clock, deadline).await?;
    if let (Some(seen), false) = (&row.seen_state, accept_older) {
        let seen = serde_json::from_str(seen).map_err(|e| {
            RunFailure::new(
                ErrorCode::Store,
                format!("the realm's remembered server state is unreadable: {e}"),
            )
        })?;
        session = Box::pin(not_behind(session, servers, &seen, &engine.clock, deadline)).await?;
    }
    same_kind(&session, realm, row)?;
    let attributes = Attributes::for_kind(session.kind(), &realm.attributes);
    let filter = realm
        .directory
        .filter
        .clone()
        .unwrap_or_else(|| crate::config::default_filter(session.kind()).to_owned());
    let mapping_hash = mapping_hash(&realm.directory.base, &filter, &attributes, &realm.phone);
    let due = what_is_due(realm);
    let key = fingerprint_key(&mapping_hash, &due);
    let mapping_hash = mapping_hash + &due;
    let normaliser = Normaliser::new(&attributes, &realm.phone, key);
    let (synonyms, unproved) = match Following::synonyms_of(row, &mapping_hash) {
        _ if attributes.explicit.is_empty() => (Synonyms::default(), Vec::new()),
        Some(synonyms) => (synonyms, Vec::new()),
        // Where there is no schema, the first full pass of a mapping shows whether the attributes exist.
        None if session.root_dse().subschema.is_none() => {
            (Synonyms::default(), attributes.explicit.clone())
        }
        None => (
            schema_knows(&mut session, realm, &attributes).await?,
            Vec::new(),
        ),
    };
    let normaliser = normaliser.knowing(&synonyms);
    let scope = Scope {
        bases: realm.directory.base.clone(),
        filter,
        attributes: normaliser.requested(),
        id_attribute: normaliser.id_attribute(),
        id_form: attributes.id_form,
        page_size: realm.directory.page_size,
    };
    if let Some(sentinel) = &realm.directory.sentinel {
        check_sentinel(&mut session, sentinel, &scope, &normaliser).await?;
    }
    let policy = Policy {
        phone_attributes: attributes.phone.clone(),
        ..realm.policy.clone()
    };
    Ok(PreparedSession {
        session: Some(session),
        scope,
        normaliser,
        attributes,
        synonyms,
        unproved,
        mapping_hash,
        policy,
        deadline,
        accepts_older: accept_older,
    })
}

/// What the schema calls the attributes that the file names; one that it does not have is a fault of the file.
async fn schema_knows(
    session: &mut Session,
    realm: &RealmConfig,
    attributes: &Attributes,
) -> Result<Synonyms, RunFailure> {
    let schema = session.schema().await?;
    let unknown: Vec<&str> = attributes
        .explicit
        .iter()
        .map(String::as_str)
        .filter(|a| !schema.has_attribute(a))
        .collect();
    if !unknown.is_empty() {
        let text = format!(
            "the schema of {} has no attribute {}: mend [realm.attributes] of realm `{}`",
            session.server(),
            unknown.join(", "),
            realm.id
        );
        return Err(RunFailure::new(ErrorCode::Config, text));
    }
    Ok(schema.synonyms(&attributes.explicit))
}

/// A server that says less of itself than before would be read by other rules, in which nobody is who they were.
fn same_kind(session: &Session, realm: &RealmConfig, row: &RealmRow) -> Result<(), RunFailure> {
    let now = session.kind();
    match Following::kind_of(row) {
        Some(before) if realm.directory.kind.is_none() && before != now => Err(RunFailure::new(
            ErrorCode::Incomplete,
            format!(
                "{} says that it is {}, and the last full pass read {}; nothing was applied. Look at what stands between, and whether the account may read the root DSE; if the directory was replaced, name its kind with `kind` under [realm.directory] of realm `{}`",
                session.server(),
                now.named(),
                before.named(),
                realm.id
            ),
        )),
        _ => Ok(()),
    }
}

/// What of the rules decides whose number counts, and which messages are due to whom nothing changes, as words beside the mapping's hash: a switch is looked
/// at whole, in one plan. The rules that most realms have are no words.
fn what_is_due(realm: &RealmConfig) -> String {
    [
        (realm.policy.send_to_new, "+send"),
        (realm.policy.only_provisioned, "+provisioned"),
        (realm.delivery.is_none(), "+undelivered"),
        (realm.policy.local_phones, "+local"),
    ]
    .iter()
    .filter(|(is, _)| *is)
    .map(|(_, word)| *word)
    .collect()
}

/// The key of the fingerprints: of the mapping and of what is due, so that a switch of either looks at everybody.
fn fingerprint_key(mapping: &str, due: &str) -> u64 {
    let key = u64::from_str_radix(mapping.get(..16).unwrap_or_default(), 16).unwrap_or(0);
    if due.is_empty() {
        key
    } else {
        xxhash_rust::xxh3::xxh3_64_with_seed(due.as_bytes(), key)
    }
}

/// The mapping alone, without what is due.
pub(in crate::sync) fn mapping_of(hash: &str) -> &str {
    hash.split('+').next().unwrap_or(hash)
}

/// The sentinel must be visible and have a readable phone: whatever hides it may hide others.
pub(in crate::sync) async fn check_sentinel(
    session: &mut Session,
    dn: &str,
    scope: &Scope,
    normaliser: &Normaliser,
) -> Result<(), RunFailure> {
    use crate::model::PhoneReading;
    let fail = |what: &str| {
        RunFailure::new(
            ErrorCode::Sentinel,
            format!(
                "the sentinel {dn} {what}; nothing was applied. Look at the access rules of the sync account, or mend `sentinel`"
            ),
        )
    };
    let Some(entry) = session.entry(dn, &scope.attributes).await? else {
        return Err(fail("is not visible"));
    };
    let person = normaliser
        .person(&entry)
        .map_err(|refusal| fail(&format!("cannot be read: {}", refusal.reason)))?;
    let readable = match &person.phone {
        PhoneReading::Unknown => false,
        PhoneReading::Read(attributes) => attributes.iter().any(|a| !a.usable.is_empty()),
    };
    if readable {
        Ok(())
    } else {
        Err(fail("has no readable phone"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_part_of_the_key_where_it_is_not_as_in_most_realms() {
        let mapping = "00000000000000ff11";
        assert_eq!(
            fingerprint_key(mapping, ""),
            255,
            "as a store of before has it"
        );
        assert_ne!(fingerprint_key(mapping, "+send"), 255);
        assert_ne!(
            fingerprint_key(mapping, "+send"),
            fingerprint_key(mapping, "+provisioned")
        );
    }
    #[test]
    fn the_mapping_is_known_without_what_is_due() {
        assert_eq!(mapping_of("00ff+send+provisioned"), "00ff");
        // As a store of before knows it.
        assert_eq!(mapping_of("00ff"), "00ff");
    }
}
