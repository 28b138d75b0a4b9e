//! One server: who we are to it, what it says of itself, and whether its schema knows what the configuration names.

use std::time::Duration;

use tokio::time::Instant;

use super::{Report, Stopped, people, ways};
use crate::cli::CommandContext;
use crate::config::{Attributes, DisabledRule, RealmConfig, default_filter};
use crate::directory::{DirectoryError, Schema, Scope, Session, connect_one};
use crate::model::{PhoneReading, filter};
use crate::normalise::Normaliser;

/// Paged results (RFC 2696).
const PAGED: &str = "1.2.840.113556.1.4.319";

pub(super) async fn look(
    context: &CommandContext,
    realm: &RealmConfig,
    server: &url::Url,
    report: &mut Report,
) -> Result<(), Stopped> {
    let directory = realm
        .directory
        .with_secrets(&context.env)
        .map_err(|e| Stopped::Secret {
            invisible: e.invisible,
            message: format!("bind-password: {}; {}", e.message, e.help),
        })?;
    let run_timeout =
        Duration::from_millis(u64::try_from(directory.run_timeout_ms).unwrap_or(3_600_000));
    let mut session = connect_one(
        &directory,
        server,
        &context.clock,
        Instant::now() + run_timeout,
    )
    .await?;
    introduce(&mut session, realm, report).await?;
    let attributes = Attributes::for_kind(session.kind(), &realm.attributes);
    let filter = realm
        .directory
        .filter
        .clone()
        .unwrap_or_else(|| default_filter(session.kind()).to_owned());
    let schema = match session.root_dse().subschema {
        Some(_) => session.schema().await?,
        None => Schema::default(),
    };
    if schema.attribute_types.is_empty() {
        report.mend("the schema cannot be read: attributes and filter are not checked against it; allow the account to read the subschema entry");
    } else {
        unknown_attributes(&schema, &attributes, realm, report);
        unknown_in_filter(&schema, &filter, "filter", report);
        if let Some(protect) = &realm.policy.protect {
            unknown_in_filter(&schema, protect, "protect", report);
        }
    }
    let synonyms = schema.synonyms(&attributes.explicit);
    let normaliser = Normaliser::new(&attributes, &realm.phone, 0).knowing(&synonyms);
    let scope = Scope {
        bases: realm.directory.base.clone(),
        filter,
        attributes: normaliser.requested(),
        id_attribute: normaliser.id_attribute(),
        id_form: attributes.id_form,
        page_size: realm.directory.page_size,
    };
    if let Some(dn) = &realm.directory.sentinel {
        sentinel(&mut session, dn, &scope, &normaliser, report).await?;
    }
    by_id(&mut session, &scope, report).await?;
    if let Some(protect) = &realm.policy.protect {
        match session.matching(&scope, protect).await? {
            0 => report.mend(format!("nobody in scope matches `protect` of [realm.phone-change]: nobody's new number waits for an administrator; mend {protect}, or let the account read what it names")),
            n => report.found(format!(
                "`protect` matches {n} in scope: another number of theirs waits for `realmsync users phone accept`"
            )),
        }
    }
    ways::look(&mut session, &scope, realm, report).await?;
    let unproved = if schema.attribute_types.is_empty() {
        attributes.explicit.clone()
    } else {
        Vec::new()
    };
    people::read(
        session,
        scope,
        &normaliser,
        realm,
        &attributes,
        unproved,
        report,
    )
    .await?;
    Ok(())
}

async fn introduce(
    session: &mut Session,
    realm: &RealmConfig,
    report: &mut Report,
) -> Result<(), DirectoryError> {
    let bound = realm.directory.bind_dn.as_deref();
    let whom = match (session.who_am_i().await?, bound) {
        (Some(who), _) if !who.trim_start_matches("dn:").is_empty() => {
            format!("the server takes the account for {who}")
        }
        (Some(_), _) => "the server takes the account for nobody (anonymous)".into(),
        (None, Some(dn)) => format!("bound as {dn} (the server cannot say whom it takes that for)"),
        (None, None) => "bound without a name".into(),
    };
    report.found(whom);
    let root = session.root_dse();
    let contexts = if root.naming_contexts.is_empty() {
        "none told".to_owned()
    } else {
        root.naming_contexts.join("; ")
    };
    report.found(format!(
        "{}; naming contexts: {contexts}",
        session.kind().named()
    ));
    if !root.has_control(PAGED) {
        report.mend("the server offers no paged results: no full pass of it can be proved complete; turn them on (OpenLDAP and 389-ds have them by default), or ask another server");
    }
    for base in &realm.directory.base {
        if !root.naming_contexts.is_empty() && root.naming_context(base).is_none() {
            report.mend(format!(
                "`{base}` lies in none of the server's naming contexts; mend `base`"
            ));
        }
    }
    Ok(())
}

/// An attribute that the schema lacks is a fault where the file names it, and none where it is a default.
fn unknown_attributes(
    schema: &Schema,
    attributes: &Attributes,
    realm: &RealmConfig,
    report: &mut Report,
) {
    let explicit = |name: &str| {
        attributes
            .explicit
            .iter()
            .any(|e| e.eq_ignore_ascii_case(name))
    };
    let lists = [
        &attributes.username,
        &attributes.display_name,
        &attributes.email,
        &attributes.phone,
        &attributes.country,
    ];
    let (DisabledRule::Equals {
        attribute: disabled,
        ..
    }
    | DisabledRule::Bits {
        attribute: disabled,
        ..
    }) = &attributes.disabled;
    let single = [
        (disabled, realm.attributes.disabled.is_some()),
        (&attributes.directory_id, true),
    ];
    let all = lists
        .into_iter()
        .flatten()
        .map(|name| (name, explicit(name)))
        .chain(single);
    for (name, named) in all.filter(|(name, _)| !schema.has_attribute(name)) {
        if name == &attributes.directory_id {
            report.mend(format!("the schema has no attribute `{name}`, by which people are told apart; mend `directory-id` in [realm.attributes], or `kind`"));
        } else if named {
            report.mend(format!("the schema has no attribute `{name}`, which [realm.attributes] names; mend it, or load the schema that has it"));
        } else if name == disabled {
            report.found(format!("the schema has no `{name}` (a default): nobody will count as disabled; set `disabled` in [realm.attributes] if the directory says it otherwise"));
        } else {
            report.found(format!(
                "the schema has no `{name}` (a default; nothing is missing by that)"
            ));
        }
    }
    if lists[0]
        .iter()
        .chain(lists[3])
        .all(|name| schema.has_attribute(name))
    {
        report.found("the schema knows the attributes of user name and phone");
    }
}

fn unknown_in_filter(schema: &Schema, text: &str, key: &str, report: &mut Report) {
    let Ok(parsed) = filter::parse(text) else {
        return;
    };
    let mut fine = true;
    for name in parsed
        .attributes()
        .into_iter()
        .filter(|a| !schema.has_attribute(a))
    {
        fine = false;
        report.mend(format!("the filter names `{name}`, which the schema does not have: that part matches nobody; mend `{key}`"));
    }
    for class in parsed
        .values_of("objectclass")
        .into_iter()
        .filter(|c| *c != "*" && !schema.has_object_class(c))
    {
        fine = false;
        report.mend(format!("the filter names the object class `{class}`, which the schema does not have; mend `{key}`"));
    }
    if fine {
        report.found(format!("the schema knows everything in the filter {text}"));
    }
}

/// Who is not found by id would count as gone.
async fn by_id(
    session: &mut Session,
    scope: &Scope,
    report: &mut Report,
) -> Result<(), DirectoryError> {
    let name = &scope.id_attribute;
    match session.finds_by_id(scope).await? {
        Some(true) => report.found(format!(
            "a person who was read is found again by `{name}`"
        )),
        Some(false) => report.mend(format!("a person who was read is not found again by `{name}`: nobody can be told to be gone, and runs fail; give the account the right to search by it, or name another attribute as `directory-id`")),
        // Reading everybody says why.
        None => {}
    }
    Ok(())
}

/// The same that each run asks of the sentinel.
async fn sentinel(
    session: &mut Session,
    dn: &str,
    scope: &Scope,
    normaliser: &Normaliser,
    report: &mut Report,
) -> Result<(), DirectoryError> {
    let entry = session.entry(dn, &scope.attributes).await?;
    let phone = entry.as_ref().map(|entry| {
        normaliser
            .person(entry)
            .is_ok_and(|person| match person.phone {
                PhoneReading::Read(attributes) => attributes.iter().any(|a| !a.usable.is_empty()),
                PhoneReading::Unknown => false,
            })
    });
    match phone {
        Some(true) => report.found(format!("the sentinel {dn} is seen, with its phone")),
        Some(false) => report.mend(format!("the sentinel {dn} shows no phone that can be used: every run fails; allow the account to read it, give it a number, or mend `sentinel`")),
        None => report.mend(format!("the sentinel {dn} is not seen: every run fails; allow the account to see it, or mend `sentinel`")),
    }
    Ok(())
}
