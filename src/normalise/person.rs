//! An entry's values put together to a person.

use std::str::from_utf8;

use super::mapping::{Normaliser, Wanted};
use super::phone::{self, PhoneFault};
use super::region::{self, CountryReading};
use super::text::{self, TextFault};
use crate::model::{
    AttributeReading, DirectoryId, IdForm, Known, Others, Person, PhoneReading, PhoneValue,
    RawEntry, Refusal, UserName,
};
use rlibphonenumber::Region;

/// What the country attributes say, and which of them said it.
struct CountryHint<'a> {
    said: CountryReading,
    attribute: &'a str,
}

/// The usable values of one attribute, mostly a single one.
#[derive(Default)]
struct Usable {
    only: Option<String>,
    more: Vec<String>,
}

impl Usable {
    fn add(&mut self, value: String) {
        if self.only.is_none() {
            self.only = Some(value);
        } else {
            self.more.push(value);
        }
    }

    /// The value that counts, and the others.
    fn chosen(mut self, wanted: &Wanted, entry: &RawEntry) -> Option<(String, Vec<String>)> {
        if self.more.is_empty() {
            return self.only.map(|only| (only, Vec::new()));
        }
        self.more.extend(self.only);
        text::choose(|kind| wanted.is(kind), self.more, entry.dn())
    }
}

/// The refusals of one entry while they are gathered.
struct EntryRefusals<'a> {
    entry: &'a RawEntry,
    list: Vec<Refusal>,
}

impl EntryRefusals<'_> {
    fn add(&mut self, attribute: Option<&Wanted>, raw: Option<&[u8]>, reason: String, whole: bool) {
        self.list.push(Refusal {
            dn: self.entry.dn_shown(),
            directory_id: None,
            username: None,
            attribute: attribute.map(|w| w.shown.clone()),
            raw: raw.map(|v| String::from_utf8_lossy(v).into_owned()),
            reason,
            entry: whole,
        });
    }
}

impl Normaliser {
    /// The entry's immutable id. `Err`: the entry cannot be used at all.
    #[expect(
        clippy::result_large_err,
        reason = "the refusal is what the caller stores; it is rare, and a box would be one more thing to unpack"
    )]
    pub fn directory_id(&self, entry: &RawEntry) -> Result<DirectoryId, Refusal> {
        let mut refused = EntryRefusals {
            entry,
            list: Vec::new(),
        };
        let name = &self.id.shown;
        let mut values = self.id.values(entry);
        let (first, second) = (values.next(), values.next());
        let reason = match (first, second) {
            (Some(value), None) => match id(value, self.id_form) {
                Some(id) => return Ok(id),
                None => format!(
                    "`{name}` cannot be read as an id: check `directory-id` under [realm.attributes]"
                ),
            },
            (None, _) => format!(
                "no `{name}`, by which a person is known: give the account the right to read it, or check `directory-id` under [realm.attributes]"
            ),
            (Some(_), Some(_)) => format!(
                "`{name}` has several values, so it is no id: check `directory-id` under [realm.attributes]"
            ),
        };
        refused.add(Some(&self.id), None, reason, true);
        Err(refused.list.remove(0))
    }

    /// The person whom an entry of a full pass or a look-up describes: an attribute that is not there is absent. `Err`: the entry
    /// has no readable id. A missing or bad user name is `username: Err(…)` and a refusal of the whole entry in `refused`.
    #[expect(
        clippy::result_large_err,
        reason = "the refusal is what the caller stores; it is rare, and a box would be one more thing to unpack"
    )]
    pub fn person(&self, entry: &RawEntry) -> Result<Person, Refusal> {
        let directory_id = self.directory_id(entry)?;
        let mut refused = EntryRefusals {
            entry,
            list: Vec::new(),
        };
        let entry_uuid = self.entry_uuid.as_ref().and_then(|wanted| {
            let mut values = wanted.values(entry);
            let only = values.next().filter(|_| values.next().is_none())?;
            id(only, IdForm::Uuid)
        });
        let mut others = Others::default();
        let username = self.username(entry, &mut refused, &mut others.username);
        let display_name = first_usable(
            &self.display_name,
            entry,
            text::name,
            &mut refused,
            &mut others.display_name,
        );
        let email = first_usable(
            &self.email,
            entry,
            text::email,
            &mut refused,
            &mut others.email,
        );
        let phone = PhoneReading::Read(self.phones(entry, &mut refused));
        let (enabled, unreadable) = self.enabled(entry);
        for value in unreadable {
            refused.add(Some(&self.disabled), Some(value), format!("`{}` is no number, so whether the person is disabled is not known: enter a number", self.disabled.shown), false);
        }
        let mut refused = refused.list;
        if !refused.is_empty() {
            for refusal in &mut refused {
                refusal.directory_id = Some(directory_id);
                refusal.username = username.as_ref().ok().map(|n| n.shown.clone());
            }
            // The order of attributes and values means nothing, here neither; `mobile` and `mobile;lang-fi` may hold the same.
            refused.sort_by(|a, b| {
                (!a.entry, &a.attribute, &a.raw, &a.reason).cmp(&(
                    !b.entry,
                    &b.attribute,
                    &b.raw,
                    &b.reason,
                ))
            });
            refused.dedup();
        }
        let dn = entry.dn_shown();
        let fingerprint = self.fingerprint(entry);
        Ok(Person {
            directory_id,
            entry_uuid,
            dn,
            username,
            display_name,
            email,
            enabled,
            phone,
            refused,
            others,
            fingerprint,
        })
    }

    /// The first configured attribute that has a value gives the name, even if that value is refused: to fall through to another
    /// attribute would rename a person because of a typing error.
    fn username(
        &self,
        entry: &RawEntry,
        refused: &mut EntryRefusals<'_>,
        others: &mut Vec<UserName>,
    ) -> Result<UserName, String> {
        let name = |shown: String| {
            let key = super::name_key(&shown);
            UserName { shown, key }
        };
        for wanted in &self.username {
            let (mut usable, mut faults) = (Usable::default(), Vec::new());
            for value in wanted.values(entry) {
                match text::utf8(value).and_then(text::name) {
                    Ok(name) => usable.add(name),
                    Err(fault) => faults.push((value, fault)),
                }
            }
            if usable.only.is_none() && faults.is_empty() {
                continue;
            }
            let chosen = usable.chosen(wanted, entry);
            // One report is enough where no value can be used: it is about the entry.
            faults.sort_by(|a, b| a.0.cmp(b.0));
            for (value, fault) in &faults {
                refused.add(
                    Some(wanted),
                    Some(value),
                    format!("no user name can be read from `{}`: {fault}", wanted.shown),
                    chosen.is_none(),
                );
                if chosen.is_none() {
                    return Err(format!(
                        "no user name can be read from `{}`: {fault}",
                        wanted.shown
                    ));
                }
            }
            if let Some((shown, more)) = chosen {
                others.extend(more.into_iter().map(name));
                return Ok(name(shown));
            }
        }
        let names: Vec<String> = self
            .username
            .iter()
            .map(|w| format!("`{}`", w.shown))
            .collect();
        let reason = format!(
            "no user name: the entry has no {}; give it one, or map another attribute to `username` under [realm.attributes]",
            names.join(" or ")
        );
        refused.add(None, None, reason.clone(), true);
        Err(reason)
    }

    /// One reading for each configured attribute, in their order.
    fn phones(&self, entry: &RawEntry, refused: &mut EntryRefusals<'_>) -> Vec<AttributeReading> {
        let mut hint = None;
        self.phone
            .iter()
            .map(|wanted| self.reading(wanted, entry, &mut hint, refused))
            .collect()
    }

    fn reading<'a>(
        &'a self,
        wanted: &Wanted,
        entry: &RawEntry,
        hint: &mut Option<CountryHint<'a>>,
        refused: &mut EntryRefusals<'_>,
    ) -> AttributeReading {
        let mut reading = AttributeReading {
            attribute: wanted.shown.clone(),
            usable: Vec::new(),
            refused: 0,
        };
        for value in wanted.values(entry) {
            match self.phone_value(value, entry, hint) {
                Ok(usable) => reading.usable.push(usable),
                Err(fault) => {
                    reading.refused += 1;
                    refused.add(Some(wanted), Some(value), fault.to_string(), false);
                }
            }
        }
        if reading.usable.len() > 1 {
            // Of two spellings of one number the smaller one is kept, so that the order of values means nothing.
            reading
                .usable
                .sort_by(|a, b| (&a.phone, &a.raw).cmp(&(&b.phone, &b.raw)));
            reading
                .usable
                .dedup_by(|later, kept| later.phone == kept.phone);
        }
        reading
    }

    fn phone_value<'a>(
        &'a self,
        value: &[u8],
        entry: &RawEntry,
        hint: &mut Option<CountryHint<'a>>,
    ) -> Result<PhoneValue, PhoneFault> {
        let text = from_utf8(value).map_err(|_| PhoneFault::NotUtf8)?;
        let mut region = || self.national_region(hint.get_or_insert_with(|| self.hint(entry)));
        let (number, region) = phone::read(text, &mut region)?;
        number.allowed(&self.rules)?;
        // One piece of memory, of its length from the beginning: every number has such a text.
        let rule = match (region, hint) {
            (None, _) => "international".to_owned(),
            (
                Some(region),
                Some(CountryHint {
                    said: CountryReading::Country(_),
                    attribute,
                }),
            ) => [
                "national, region ",
                &region.as_region_str(),
                " from ",
                attribute,
            ]
            .concat(),
            (Some(region), _) => [
                "national, region ",
                &region.as_region_str(),
                " of the realm",
            ]
            .concat(),
        };
        Ok(PhoneValue {
            phone: number.phone,
            raw: text.to_owned(),
            rule,
        })
    }

    /// The first country attribute that says anything decides, also when it cannot be understood.
    fn hint(&self, entry: &RawEntry) -> CountryHint<'_> {
        for wanted in &self.country {
            let read = if wanted.names().any(region::holds_languages) {
                region::of_language
            } else {
                region::of_country
            };
            let values = wanted
                .values(entry)
                .map(|v| from_utf8(v).map_or(CountryReading::NotUnderstood, read));
            let said = values.fold(CountryReading::Nothing, CountryReading::and);
            if said != CountryReading::Nothing {
                return CountryHint {
                    said,
                    attribute: &wanted.shown,
                };
            }
        }
        CountryHint {
            said: CountryReading::Nothing,
            attribute: "",
        }
    }

    fn national_region(&self, hint: &CountryHint<'_>) -> Result<Region, PhoneFault> {
        match hint.said {
            CountryReading::Country(region) => Ok(region),
            CountryReading::NotUnderstood => {
                Err(PhoneFault::HintNotUnderstood(hint.attribute.to_owned()))
            }
            CountryReading::Nothing => self
                .rules
                .region
                .as_deref()
                .and_then(region::country)
                .ok_or(PhoneFault::NoRegion),
        }
    }
}

/// An id as the directory sends it: `objectGUID` as 16 bytes, the others as text.
fn id(value: &[u8], form: IdForm) -> Option<DirectoryId> {
    match form {
        IdForm::Guid => <[u8; 16]>::try_from(value).ok().map(DirectoryId),
        IdForm::Uuid | IdForm::NsUniqueId => DirectoryId::parse(from_utf8(value).ok()?, form),
    }
}

/// The first attribute with a usable value decides. Only refused values: *unknown*, so that what is held is kept.
fn first_usable(
    wanted: &[Wanted],
    entry: &RawEntry,
    read: fn(&str) -> Result<String, TextFault>,
    refused: &mut EntryRefusals<'_>,
    others: &mut Vec<String>,
) -> Known<Option<String>> {
    let mut any_refused = false;
    for wanted in wanted {
        let mut usable = Usable::default();
        for value in wanted.values(entry) {
            match text::utf8(value).and_then(read) {
                Ok(text) => usable.add(text),
                // What is empty says that there is none, as people without the right to delete an attribute say it.
                Err(TextFault::Empty) => {}
                Err(fault) => {
                    any_refused = true;
                    refused.add(Some(wanted), Some(value), fault.to_string(), false);
                }
            }
        }
        if let Some((chosen, more)) = usable.chosen(wanted, entry) {
            *others = more;
            return Known::Known(Some(chosen));
        }
    }
    if any_refused {
        Known::Unknown
    } else {
        Known::Known(None)
    }
}
