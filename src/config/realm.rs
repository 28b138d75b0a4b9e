//! `[[realm]]`: everything of one realm, and what two of them must not share.

use std::collections::{HashMap, HashSet};

use jiff::tz::TimeZone;
use toml::Spanned;
use url::Url;

use super::check::Check;
use super::crontab;
use super::directory::host;
use super::file::Section;
use super::values::{DAY, SECOND};
use super::words::{nearest, quote};
use super::{
    AttributeOverrides, BrakeConfig, DeliveryConfig, DirectoryConfig, DisabledRule, PhoneConfig,
    RealmConfig,
};
use crate::model::person::fold_name;
use crate::model::{Policy, RealmId, TwoFactor, dn, filter};

/// A realm with the places of what is compared between realms.
struct ParsedRealm<'a> {
    config: Option<RealmConfig>,
    id: Option<Spanned<&'a str>>,
    issuer: Option<Spanned<&'a str>>,
    servers: Vec<Url>,
    bases: Vec<Spanned<&'a str>>,
}

impl Check<'_> {
    /// All realms; those in which a fault was told are left out.
    pub(super) fn realms(
        &self,
        sections: &[Section<'_>],
        delivery: Option<&DeliveryConfig>,
    ) -> Vec<RealmConfig> {
        let read: Vec<ParsedRealm<'_>> = sections.iter().map(|s| self.realm(s, delivery)).collect();
        self.one_realm_a_name(sections);
        for (i, later) in read.iter().enumerate() {
            for earlier in &read[..i] {
                self.two_realms(earlier, later);
            }
        }
        read.into_iter().filter_map(|r| r.config).collect()
    }

    fn two_realms(&self, earlier: &ParsedRealm<'_>, later: &ParsedRealm<'_>) {
        let (Some(a), Some(b)) = (&earlier.id, &later.id) else {
            return;
        };
        if a.get_ref().eq_ignore_ascii_case(b.get_ref()) {
            let differ = if a.get_ref() == b.get_ref() {
                "two realms have the id"
            } else {
                "but for its case, another realm has the id"
            };
            let line = self.source[..a.span().start].matches('\n').count() + 1;
            self.findings.fault(
                b.span(),
                format!("{differ} `{}`", quote(a.get_ref())),
                format!("the other is in line {line}; users belong to a realm by its id"),
            );
        }
        if let (Some(a), Some(b)) = (&earlier.issuer, &later.issuer)
            && a.get_ref().to_lowercase() == b.get_ref().to_lowercase()
        {
            let help = "where a name is in both, one entry in an application replaces the other"
                .to_owned();
            self.findings.warning(
                b.span(),
                format!("another realm has the issuer `{}`", quote(a.get_ref())),
                help,
            );
        }
        let same = later
            .servers
            .iter()
            .any(|s| earlier.servers.iter().any(|e| host(e) == host(s)));
        for base in later.bases.iter().filter(|_| same) {
            let overlap = earlier.bases.iter().find(|e| {
                dn::is_within(base.get_ref(), e.get_ref())
                    || dn::is_within(e.get_ref(), base.get_ref())
            });
            if let Some(other) = overlap {
                let message = format!(
                    "realm `{}` reads `{}` of the same directory",
                    quote(a.get_ref()),
                    quote(other.get_ref())
                );
                let help = "whoever both filters find belongs to the realm that came first, and is refused in the other".to_owned();
                self.findings.warning(base.span(), message, help);
            }
        }
    }

    fn realm<'s>(&self, section: &Section<'s>, house: Option<&DeliveryConfig>) -> ParsedRealm<'s> {
        let id = self
            .required(section, "id", "\"example.org\"")
            .filter(|id| self.realm_id(id));
        let name = self
            .text(section, "name")
            .map(|n| (*n.get_ref()).to_owned());
        let issuer = section.text("issuer").filter(|issuer| self.issuer(issuer));
        let aliases = self.aliases(section);
        let schedule = self.schedule(section, "schedule", "*/15 * * * *");
        let full_schedule = self.schedule(section, "full-schedule", "30 2 * * *");
        let time_zone = self.time_zone(section);
        let overrides = self.attributes(&section.section("attributes"));
        let (directory, servers, bases) = self.directory(&section.section("directory"), section);
        let policy = self.policy(section, directory.as_ref(), &overrides);
        let phone = self.phone(&section.section("phone"));
        let brake = self.brake(&section.section("brake"));
        let own = section.section("delivery");
        let delivery = if own.is_there() {
            self.delivery(&own)
        } else {
            house.cloned()
        };
        let revoke_at_once = self.word(
            section,
            "revoke",
            &[("on-activation", false), ("at-once", true)],
        );
        let config = id
            .as_ref()
            .zip(directory)
            .map(|(id, directory)| RealmConfig {
                id: RealmId::from(*id.get_ref()),
                issuer: issuer
                    .as_ref()
                    .map(|issuer| (*issuer.get_ref()).to_owned())
                    .or_else(|| name.clone())
                    .unwrap_or_else(|| (*id.get_ref()).to_owned()),
                name: name.unwrap_or_else(|| (*id.get_ref()).to_owned()),
                aliases: aliases
                    .iter()
                    .map(|alias| alias.get_ref().trim().to_owned())
                    .collect(),
                schedule,
                full_schedule,
                time_zone,
                revoke_at_once,
                approve: section.boolean("approve"),
                policy,
                directory,
                attributes: overrides,
                phone,
                brake,
                delivery,
            });
        ParsedRealm {
            config,
            id,
            issuer,
            servers,
            bases,
        }
    }

    /// What applications show beside a name: short, and without a colon, which parts the two.
    fn issuer(&self, issuer: &Spanned<&str>) -> bool {
        let text = issuer.get_ref();
        let good = !text.trim().is_empty()
            && text.chars().count() <= 40
            && !text.contains(':')
            && !text.chars().any(char::is_control);
        if !good {
            self.findings.fault(
                issuer.span(),
                format!("`{}` cannot be an issuer", quote(text)),
                "1 to 40 characters without `:`, as `\"Example\"`".to_owned(),
            );
        }
        good
    }

    fn realm_id(&self, id: &Spanned<&str>) -> bool {
        let text = *id.get_ref();
        let good = text
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@'))
            && text.starts_with(char::is_alphanumeric)
            && text.len() <= 100;
        if !good {
            let help =
                "letters, digits, `.`, `-`, `_` and `@`, at most 100; `name` may be anything"
                    .to_owned();
            self.findings.fault(
                id.span(),
                format!("`{}` cannot be the id of a realm", quote(text)),
                help,
            );
        }
        good
    }

    fn schedule(&self, section: &Section<'_>, key: &'static str, default: &str) -> String {
        let Some(text) = self.text(section, key) else {
            return default.to_owned();
        };
        if let Err(e) = crontab::parse(text.get_ref()) {
            let at = self.part(&text, e.at, e.len);
            self.findings.fault(
                at,
                e.message,
                "five fields as in crontab(5), as `*/15 9-17 * * 1-5`, or a word as `@hourly`"
                    .to_owned(),
            );
        }
        text.get_ref().trim().to_owned()
    }

    fn time_zone(&self, section: &Section<'_>) -> TimeZone {
        let Some(text) = self.text(section, "time-zone") else {
            return TimeZone::UTC;
        };
        self.zones.get(text.get_ref()).unwrap_or_else(|| {
            let names: Vec<String> = self.zones.names().collect();
            // `Bratislava` alone is as near as a slip of the pen.
            let city = names.iter().map(String::as_str).find(|n| {
                n.rsplit('/')
                    .next()
                    .is_some_and(|c| c.eq_ignore_ascii_case(text.get_ref()))
            });
            let help = city
                .or_else(|| nearest(text.get_ref(), names.iter().map(String::as_str)))
                .map_or_else(
                    || "a name of the IANA time zone database, as `Europe/Bratislava`".to_owned(),
                    |name| format!("did you mean `{name}`?"),
                );
            self.findings.fault(
                text.span(),
                format!("unknown time zone `{}`", quote(text.get_ref())),
                help,
            );
            TimeZone::UTC
        })
    }

    fn policy(
        &self,
        section: &Section<'_>,
        directory: Option<&DirectoryConfig>,
        overrides: &AttributeOverrides,
    ) -> Policy {
        let change = section.section("phone-change");
        let removal = section.section("removal");
        let grace_ms = self.duration(&removal, "grace", 30 * DAY, SECOND..=36_500 * DAY);
        if grace_ms < DAY {
            let help = "whoever is missing for that long loses all factors; \"30d\" gives time to notice a mistake".to_owned();
            self.findings.warning(
                removal.value_span("grace"),
                "the grace period is shorter than a day",
                help,
            );
        }
        // With `kind = "auto"` the phone attributes are not known before the directory is.
        let phone_attributes = match (&overrides.phone, directory.and_then(|d| d.kind)) {
            (Some(names), _) => names.clone(),
            (None, Some(kind)) => super::Attributes::for_kind(kind, overrides).phone,
            (None, None) => Vec::new(),
        };
        Policy {
            send_to_new: self.word(section, "new-users", &[("wait", false), ("send", true)]),
            only_provisioned: self.word(
                section,
                "on-phone-change",
                &[("always", false), ("provisioned", true)],
            ),
            hold_ms: self.duration(&change, "hold", 0, 0..=90 * DAY),
            notify_previous: change.boolean("notify-previous"),
            protect: self.filter(&change, "protect"),
            local_phones: self.word(
                section,
                "phone-authority",
                &[("directory", false), ("local", true)],
            ),
            phone_attributes,
            two_factor: self.two_factor(section),
            grace_ms,
        }
    }

    /// Other names of a realm, none of them empty.
    fn aliases<'s>(&self, section: &Section<'s>) -> Vec<Spanned<&'s str>> {
        let mut aliases = section.texts("aliases").unwrap_or_default();
        aliases.retain(|alias| {
            let empty = alias.get_ref().trim().is_empty();
            if empty {
                self.findings.fault(
                    alias.span(),
                    "another name of a realm is empty".to_owned(),
                    "write the NetBIOS name or the suffix, as \"EXAMPLE\", or take it out"
                        .to_owned(),
                );
            }
            !empty
        });
        aliases
    }

    /// No name may mean two realms.
    fn one_realm_a_name(&self, sections: &[Section<'_>]) {
        let mut names: HashMap<String, (usize, String)> = HashMap::new();
        for (place, section) in sections.iter().enumerate() {
            if let Some(id) = section.text("id") {
                let folded = fold_name(id.get_ref().trim());
                names
                    .entry(folded)
                    .or_insert((place, (*id.get_ref()).to_owned()));
            }
        }
        for (place, section) in sections.iter().enumerate() {
            let id = section.text("id").map_or("", |id| *id.get_ref());
            for name in section.texts("aliases").unwrap_or_default() {
                let folded = fold_name(name.get_ref().trim());
                match names.get(&folded) {
                    Some((other, of)) if *other != place => self.findings.fault(
                        name.span(),
                        format!(
                            "`{}` is a name of realm `{}` too",
                            quote(name.get_ref()),
                            quote(of)
                        ),
                        "services call one realm so: take it out of the other's `aliases`"
                            .to_owned(),
                    ),
                    Some(_) => {}
                    None => {
                        names.insert(folded, (place, id.to_owned()));
                    }
                }
            }
        }
    }

    fn two_factor(&self, section: &Section<'_>) -> Vec<TwoFactor> {
        let Some(words) = section.texts("two-factor") else {
            return vec![TwoFactor::AppOtp];
        };
        let mut methods = Vec::new();
        for word in &words {
            match word.get_ref().parse::<TwoFactor>() {
                Ok(method) if methods.contains(&method) => {
                    self.findings
                        .fault(word.span(), format!("`{method}` is listed twice"), None);
                }
                Ok(method) => methods.push(method),
                Err(_) => self.unknown_word(
                    word,
                    "two-factor",
                    TwoFactor::ALL.iter().map(|m| m.as_str()),
                ),
            }
        }
        methods.sort_unstable();
        methods
    }

    fn phone(&self, section: &Section<'_>) -> PhoneConfig {
        let region = self.text(section, "region").and_then(|text| {
            let region = text.get_ref().to_ascii_uppercase();
            if region.len() == 2
                && rlibphonenumber::PHONE_NUMBER_UTIL
                    .get_supported_regions()
                    .any(|r| *r.as_region_str() == *region)
            {
                return Some(region);
            }
            let help = match region.as_str() {
                "UK" => "the United Kingdom is `GB`",
                "EL" => "Greece is `GR`",
                _ => "two letters of ISO 3166-1, as `SK`",
            };
            self.findings.fault(
                text.span(),
                format!("unknown region `{}`", quote(text.get_ref())),
                help.to_owned(),
            );
            None
        });
        PhoneConfig {
            region,
            mobile_only: !section.has("mobile-only") || section.boolean("mobile-only"),
            allow_premium: section.boolean("allow-premium"),
        }
    }

    fn brake(&self, section: &Section<'_>) -> BrakeConfig {
        // In the order of `Limit::ALL`.
        let limits = [
            "suspended",
            "restored",
            "phone-changed",
            "phone-lost",
            "renamed",
            "created",
            "removed",
        ];
        let default = BrakeConfig::default();
        let mut percent = default.percent;
        for (key, percent) in limits.into_iter().zip(&mut percent) {
            *percent = self.percent(section, key, *percent);
        }
        BrakeConfig {
            percent,
            floor: self.integer(section, "floor", default.floor, 0..=1_000_000),
        }
    }

    fn attributes(&self, section: &Section<'_>) -> AttributeOverrides {
        let list = |key, needed| self.attribute_list(section, key, needed);
        let disabled = section.section("disabled");
        AttributeOverrides {
            username: list("username", true),
            display_name: list("display-name", false),
            email: list("email", false),
            phone: list("phone", true),
            country: list("country", false),
            directory_id: self
                .text(section, "directory-id")
                .filter(|t| self.attribute(t))
                .map(|t| (*t.get_ref()).to_owned()),
            disabled: disabled
                .is_there()
                .then(|| self.disabled_rule(&disabled))
                .flatten(),
        }
    }

    fn disabled_rule(&self, section: &Section<'_>) -> Option<DisabledRule> {
        let attribute = self
            .required(section, "attribute", "\"employeeType\"")
            .filter(|t| self.attribute(t));
        let equals = self.required(section, "equals", "\"former\"");
        Some(DisabledRule::Equals {
            attribute: (*attribute?.get_ref()).to_owned(),
            equals: (*equals?.get_ref()).to_owned(),
        })
    }

    fn attribute_list(
        &self,
        section: &Section<'_>,
        key: &'static str,
        needed: bool,
    ) -> Option<Vec<String>> {
        let names = section.texts(key)?;
        if names.is_empty() && needed {
            self.findings.fault(
                section.value_span(key),
                format!("`{key}` is empty"),
                format!("name an attribute, or leave `{key}` out"),
            );
        }
        let mut seen = HashSet::new();
        for name in &names {
            if self.attribute(name) && !seen.insert(name.get_ref().to_ascii_lowercase()) {
                self.findings.fault(
                    name.span(),
                    format!("`{}` is listed twice", quote(name.get_ref())),
                    None,
                );
            }
        }
        Some(names.iter().map(|n| (*n.get_ref()).to_owned()).collect())
    }

    fn attribute(&self, name: &Spanned<&str>) -> bool {
        let good = filter::is_attribute(name.get_ref()) && !name.get_ref().contains(';');
        if !good {
            let help = "a name as `telephoneNumber`, or a dotted number; options as `;lang-fi` are left to the directory".to_owned();
            self.findings.fault(
                name.span(),
                format!("`{}` is no attribute", quote(name.get_ref())),
                help,
            );
        }
        good
    }
}
