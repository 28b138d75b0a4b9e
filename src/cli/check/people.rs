//! The people of one server: a few shown as they would become, and how many could be reached.

use tokio::sync::mpsc;

use super::{CheckKind, Report};
use crate::cli::{render::Bar, text};
use crate::config::{Attributes, RealmConfig};
use crate::directory::{DirectoryError, Scope, Session};
use crate::model::{Known, Person, PhoneReading, RawEntry, phone};
use crate::normalise::Normaliser;

/// People shown of each server.
const SHOWN: usize = 5;

/// People normalised to say how many have a usable phone.
const SAMPLE: usize = 1000;

/// What the sample came to.
#[derive(Default)]
struct Tally {
    seen: usize,
    sampled: usize,
    /// With a phone that can be used.
    reached: usize,
    /// With any value in a phone attribute.
    any_phone: usize,
    /// With a phone value that is refused because nothing says of which country it is.
    no_country: usize,
    refused_phones: usize,
    nameless: usize,
    /// Entries that are nobody at all.
    unusable: usize,
    disabled: usize,
    /// With a value in the country attributes.
    country: usize,
}

/// Reads everybody, which alone shows a size limit; looks closer at the first. `unproved`: attributes that the file names, and no
/// schema has.
pub(super) async fn read(
    mut session: Session,
    scope: Scope,
    normaliser: &Normaliser,
    realm: &RealmConfig,
    attributes: &Attributes,
    mut unproved: Vec<String>,
    report: &mut Report,
) -> Result<(), DirectoryError> {
    let bar = Bar::reading(session.server());
    let (pages, mut arriving) = mpsc::channel::<Vec<RawEntry>>(2);
    let mut reading = tokio::task::JoinSet::new();
    reading.spawn(async move {
        session
            .read(&scope, pages)
            .await
            .map(|complete| complete.entries().to_vec())
    });
    let mut tally = Tally::default();
    while let Some(page) = arriving.recv().await {
        tally.seen += page.len();
        bar.at(tally.seen as u64, 0);
        for entry in &page {
            unproved.retain(|name| !normaliser.has(entry, name));
        }
        for entry in page.iter().take(SAMPLE.saturating_sub(tally.sampled)) {
            tally.sampled += 1;
            tally.country += usize::from(
                attributes
                    .country
                    .iter()
                    .any(|name| normaliser.has(entry, name)),
            );
            match normaliser.person(entry) {
                Ok(person) => {
                    tally.count(&person);
                    if tally.sampled <= SHOWN {
                        report.add(CheckKind::Person, shown(&person));
                    }
                }
                Err(refusal) => {
                    tally.unusable += 1;
                    if tally.sampled <= SHOWN {
                        report.add(
                            CheckKind::Person,
                            format!("{} would be refused: {}", refusal.dn, refusal.reason),
                        );
                    }
                }
            }
        }
    }
    drop(bar);
    match reading.join_next().await {
        Some(Ok(Ok(counts))) => {
            let each = if counts.len() > 1 {
                format!(
                    " ({})",
                    counts
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join(" + ")
                )
            } else {
                String::new()
            };
            report.found(format!(
                "a full pass is complete: {}{each}",
                entries(tally.seen)
            ));
        }
        Some(Ok(Err(error))) if tally.seen == 0 => return Err(error),
        Some(Ok(Err(error))) => report.mend(format!(
            "a full pass breaks off after {}: {error}",
            entries(tally.seen)
        )),
        _ => report.mend("the reading task ended unasked"),
    }
    if tally.seen > 0 && !unproved.is_empty() {
        report.mend(format!("nobody has any value in {}, which [realm.attributes] names, and no schema says that it exists: runs fail; mend the name, let the account read it, or take it out", unproved.join(", ")));
    }
    tally.tell(realm, attributes, report);
    Ok(())
}

fn entries(n: usize) -> String {
    text::count(i64::try_from(n).unwrap_or(i64::MAX), "entry")
}

impl Tally {
    fn count(&mut self, person: &Person) {
        let PhoneReading::Read(attributes) = &person.phone else {
            return;
        };
        self.reached += usize::from(attributes.iter().any(|a| !a.usable.is_empty()));
        self.any_phone += usize::from(
            attributes
                .iter()
                .any(|a| !a.usable.is_empty() || a.refused > 0),
        );
        self.nameless += usize::from(person.username.is_err());
        self.disabled += usize::from(person.enabled == Known::Known(false));
        let phones: Vec<_> = person
            .refused
            .iter()
            .filter(|r| !r.entry && r.attribute.is_some())
            .collect();
        self.refused_phones += usize::from(!phones.is_empty());
        self.no_country +=
            usize::from(phones.iter().any(|r| r.reason.contains("of which country")));
    }

    /// What was found, and what an administrator should mend.
    fn tell(&self, realm: &RealmConfig, attributes: &Attributes, report: &mut Report) {
        let Self {
            sampled, reached, ..
        } = *self;
        if sampled == 0 {
            return;
        }
        let phones = attributes.phone.join(", ");
        report.found(format!(
            "{reached} of {sampled} looked at have a phone that can be used; {} are disabled",
            self.disabled
        ));
        if self.refused_phones > 0 {
            let says = format!(
                "{} of {sampled} have a value that cannot be used; after a run `realmsync refused` lists each with its reason",
                self.refused_phones
            );
            // More than one of ten is no matter of single entries.
            if self.refused_phones * 10 > sampled {
                report.mend(says);
            } else {
                report.found(says);
            }
        }
        if self.any_phone == 0 {
            report.mend(format!("nobody shows any value in {phones}: allow the account to read it, or mend `phone` in [realm.attributes]"));
        } else if reached == 0 {
            report.mend(format!("no value in {phones} can be used as a phone: see the reasons above, and look at [realm.phone]"));
        }
        if self.no_country > 0 {
            let hint = match (&realm.phone.region, self.country) {
                (None, 0) => format!(
                    "nobody shows {}, and the realm has no `region`: set `region` in [realm.phone]",
                    attributes.country.join(" or ")
                ),
                (None, _) => format!(
                    "not everybody shows {}: fill it, or set `region` in [realm.phone]",
                    attributes.country.join(" or ")
                ),
                (Some(_), _) => format!(
                    "their {} is not understood: mend it, or `country` in [realm.attributes]",
                    attributes.country.join(" or ")
                ),
            };
            report.mend(format!(
                "{} of {sampled} have a national number, and nothing says of which country; {hint}",
                self.no_country
            ));
        }
        if self.unusable == sampled {
            report.mend(format!("no entry shows a readable `{}`, by which people are told apart: allow the account to read it, or mend `directory-id`", attributes.directory_id));
        } else if self.nameless + self.unusable == sampled {
            report.mend(format!("nobody has a user name: allow the account to read {}, or mend `username` in [realm.attributes]", attributes.username.join(", ")));
        } else if self.nameless + self.unusable > 0 {
            let without = self.nameless + self.unusable;
            let says =
                format!("{without} of {sampled} have no user name or id, and would be no users");
            if without * 2 > sampled {
                report.mend(format!(
                    "{says}: mend `filter`, or `username` in [realm.attributes]"
                ));
            } else {
                report.found(says);
            }
        }
        if self.disabled == sampled {
            report.mend("everybody would be disabled: mend `disabled` in [realm.attributes]");
        }
    }
}

/// What would become of a person; numbers masked.
fn shown(person: &Person) -> String {
    let name = person.username.as_ref().map_or_else(
        |why| format!("no user ({why})"),
        |n| format!("`{}`", n.shown),
    );
    let state = match person.enabled {
        Known::Known(true) => "active",
        Known::Known(false) => "disabled",
        Known::Unknown => "active or disabled, which cannot be read",
    };
    let usable = match &person.phone {
        PhoneReading::Read(attributes) => attributes.iter().find_map(|a| {
            a.usable
                .first()
                .map(|v| format!("{} from {} ({})", v.phone.masked(), a.attribute, v.rule))
        }),
        PhoneReading::Unknown => None,
    };
    let refused: Vec<String> = person
        .refused
        .iter()
        .filter(|r| !r.entry)
        .map(|r| {
            format!(
                "{} `{}` refused: {}",
                r.attribute.as_deref().unwrap_or("entry"),
                r.raw.as_deref().map(phone::mask).unwrap_or_default(),
                r.reason
            )
        })
        .collect();
    let rest = if refused.is_empty() {
        String::new()
    } else {
        format!("; {}", refused.join("; "))
    };
    format!(
        "{} would be {name}, {state}, phone {}{rest}",
        person.dn,
        usable.as_deref().unwrap_or("none")
    )
}
