//! `[[realm]]`: everything of one realm, and what two of them must not share.

use std::collections::HashSet;

use toml::Spanned;
use url::Url;

use super::check::{Check, secret_keys};
use super::crontab;
use super::file::{Section, nearest, quote};
use super::values::{DAY, SECOND};
use super::{
    AttributeOverrides, BrakeConfig, ChangesWay, DeliveryConfig, DirectoryConfig, DirectoryKind,
    DisabledRule, PhoneConfig, RealmConfig,
};
use crate::model::{Policy, RealmId, TwoFactor, dn, filter};

/// A realm with the places of what is compared between realms.
struct Read<'a> {
    config: Option<RealmConfig>,
    id: Option<Spanned<&'a str>>,
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
        let read: Vec<Read<'_>> = sections.iter().map(|s| self.realm(s, delivery)).collect();
        for (i, later) in read.iter().enumerate() {
            for earlier in &read[..i] {
                self.two_realms(earlier, later);
            }
        }
        read.into_iter().filter_map(|r| r.config).collect()
    }

    fn two_realms(&self, earlier: &Read<'_>, later: &Read<'_>) {
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

    fn realm<'s>(&self, section: &Section<'s>, house: Option<&DeliveryConfig>) -> Read<'s> {
        let id = self
            .required(section, "id", "\"example.org\"")
            .filter(|id| self.realm_id(id));
        let name = self
            .text(section, "name")
            .map(|n| (*n.get_ref()).to_owned());
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
                name: name.unwrap_or_else(|| (*id.get_ref()).to_owned()),
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
        Read {
            config,
            id,
            servers,
            bases,
        }
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

    fn time_zone(&self, section: &Section<'_>) -> chrono_tz::Tz {
        let Some(text) = self.text(section, "time-zone") else {
            return chrono_tz::UTC;
        };
        text.get_ref().parse().unwrap_or_else(|_| {
            // `Bratislava` alone is as near as a slip of the pen.
            let names = || chrono_tz::TZ_VARIANTS.iter().map(|z| z.name());
            let city = names().find(|n| {
                n.rsplit('/')
                    .next()
                    .is_some_and(|c| c.eq_ignore_ascii_case(text.get_ref()))
            });
            let help = city
                .or_else(|| nearest(text.get_ref(), names()))
                .map_or_else(
                    || "a name of the IANA time zone database, as `Europe/Bratislava`".to_owned(),
                    |name| format!("did you mean `{name}`?"),
                );
            self.findings.fault(
                text.span(),
                format!("unknown time zone `{}`", quote(text.get_ref())),
                help,
            );
            chrono_tz::UTC
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

    fn two_factor(&self, section: &Section<'_>) -> Vec<TwoFactor> {
        let Some(words) = section.texts("two-factor") else {
            return vec![TwoFactor::AppOtp];
        };
        let mut methods = Vec::new();
        for word in &words {
            match word.get_ref().parse::<TwoFactor>() {
                Ok(method) if methods.contains(&method) => {
                    self.findings
                        .fault(word.span(), format!("`{method}` is listed twice"), None)
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
            if region.len() == 2 && rlibphonenumber::Region::from_code(&region).is_ok() {
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
            ("suspended", 5.0),
            ("restored", 5.0),
            ("phone-changed", 5.0),
            ("phone-lost", 2.0),
            ("renamed", 5.0),
            ("created", 50.0),
            ("removed", 5.0),
        ];
        BrakeConfig {
            percent: limits.map(|(key, default)| self.percent(section, key, default)),
            floor: self.integer(section, "floor", 10, 0..=1_000_000),
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

    fn directory<'s>(
        &self,
        section: &Section<'s>,
        realm: &Section<'s>,
    ) -> (Option<DirectoryConfig>, Vec<Url>, Vec<Spanned<&'s str>>) {
        if !section.is_there() {
            if !realm.has("directory") {
                let help =
                    "add `[realm.directory]` with `servers`, `base` and who binds".to_owned();
                self.findings
                    .fault(realm.span(), "the realm has no directory", help);
            }
            return (None, Vec::new(), Vec::new());
        }
        let kinds = [
            ("auto", None),
            ("openldap", Some(DirectoryKind::OpenLdap)),
            ("389ds", Some(DirectoryKind::Ds389)),
            ("active-directory", Some(DirectoryKind::ActiveDirectory)),
            ("generic", Some(DirectoryKind::Generic)),
        ];
        let kind = self.word(section, "kind", &kinds);
        let start_tls = section.boolean("start-tls");
        let insecure_plaintext = section.boolean("insecure-plaintext");
        let servers = self.servers(section, start_tls, insecure_plaintext);
        let bases = self.bases(section);
        let client_cert = self.pair(section, "client-cert", "client-key");
        let (bind_dn, bind_password) = self.bind(section, kind, client_cert.is_some());
        let directory = DirectoryConfig {
            kind,
            servers: servers.clone(),
            start_tls,
            ca_file: self.certificates(section, "ca-file"),
            client_cert,
            insecure_plaintext,
            bind_dn,
            bind_password,
            base: bases.iter().map(|b| (*b.get_ref()).to_owned()).collect(),
            filter: self.filter(section),
            page_size: i32::try_from(self.integer(section, "page-size", 1000, 1..=10_000))
                .unwrap_or(1000),
            changes: self.changes(section, kind),
            poll_ms: self.poll(section),
            connect_timeout_ms: self.duration(
                section,
                "connect-timeout",
                10 * SECOND,
                SECOND..=600 * SECOND,
            ),
            run_timeout_ms: self.duration(section, "run-timeout", 3600 * SECOND, SECOND..=7 * DAY),
            sentinel: self
                .text(section, "sentinel")
                .filter(|t| self.dn(t))
                .map(|t| (*t.get_ref()).to_owned()),
        };
        (Some(directory), servers, bases)
    }

    fn servers(&self, section: &Section<'_>, start_tls: bool, insecure: bool) -> Vec<Url> {
        let example = "[\"ldaps://ldap.example.org\"]";
        self.present(section, "servers", example);
        let Some(texts) = section.texts("servers") else {
            return Vec::new();
        };
        if texts.is_empty() && section.value_span("servers").len() <= 2 {
            self.findings.fault(
                section.value_span("servers"),
                "`servers` is empty",
                format!("name one, as {example}"),
            );
        }
        let mut servers: Vec<Url> = Vec::new();
        for text in &texts {
            let Some(url) = self.url(text, &["ldaps", "ldap"], "ldaps://ldap.example.org") else {
                continue;
            };
            if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some()
            {
                let help =
                    "write the server alone; what is searched is said by `base` and `filter`"
                        .to_owned();
                self.findings
                    .fault(text.span(), "a server has no path", help);
                continue;
            }
            match (url.scheme(), start_tls, insecure) {
                ("ldaps", true, _) => {
                    let help = "write ldap:// for StartTLS, or leave out `start-tls`".to_owned();
                    self.findings.fault(
                        text.span(),
                        "ldaps:// speaks TLS from its first byte: StartTLS cannot be asked for",
                        help,
                    );
                }
                ("ldap", false, false) => {
                    let help = "write ldaps://, or set `start-tls = true`; `insecure-plaintext = true` if nobody can listen on the way".to_owned();
                    self.findings.fault(
                        text.span(),
                        "ldap:// would send the password without TLS",
                        help,
                    );
                }
                ("ldap", false, true) => {
                    self.findings.warning(text.span(), "the password and everybody's data go to this server without TLS, as `insecure-plaintext` says", None);
                }
                _ => {}
            }
            if servers.iter().any(|s| host(s) == host(&url)) {
                self.findings
                    .warning(text.span(), "this server is listed twice", None);
            }
            servers.push(url);
        }
        servers
    }

    fn bases<'s>(&self, section: &Section<'s>) -> Vec<Spanned<&'s str>> {
        let example = "[\"ou=people,dc=example,dc=org\"]";
        self.present(section, "base", example);
        let Some(texts) = section.texts("base") else {
            return Vec::new();
        };
        if texts.is_empty() && section.value_span("base").len() <= 2 {
            self.findings.fault(
                section.value_span("base"),
                "`base` is empty",
                format!("name a DN, as {example}"),
            );
        }
        let mut bases: Vec<Spanned<&str>> = Vec::new();
        for text in texts {
            if !self.dn(&text) {
                continue;
            }
            let overlap = bases.iter().find(|b| {
                dn::is_within(text.get_ref(), b.get_ref())
                    || dn::is_within(b.get_ref(), text.get_ref())
            });
            if let Some(other) = overlap {
                let message = format!(
                    "`{}` and `{}` overlap: everybody below would be read twice",
                    quote(other.get_ref()),
                    quote(text.get_ref())
                );
                self.findings.fault(
                    text.span(),
                    message,
                    "keep the one that holds the other".to_owned(),
                );
            }
            bases.push(text);
        }
        bases
    }

    /// A DN that is not the root.
    fn dn(&self, text: &Spanned<&str>) -> bool {
        match dn::parse(text.get_ref()) {
            Ok(dn) if dn.rdns.is_empty() => {
                self.findings.fault(
                    text.span(),
                    "the DN is empty",
                    "write it as `ou=people,dc=example,dc=org`".to_owned(),
                );
                false
            }
            Ok(_) => true,
            Err(e) => {
                self.findings.fault(
                    self.part(text, e.at, 1),
                    format!("this is no DN: {}", e.message),
                    "write it as `ou=people,dc=example,dc=org`".to_owned(),
                );
                false
            }
        }
    }

    fn bind(
        &self,
        section: &Section<'_>,
        kind: Option<DirectoryKind>,
        certificate: bool,
    ) -> (Option<String>, Option<super::Secret>) {
        let keys = secret_keys!("bind-password");
        let given = keys.given(section);
        let bind_dn = self.text(section, "bind-dn").filter(|text| {
            // Active Directory also takes `svc@example.org` and `EXAMPLE\svc` (MS-ADTS 5.1.1.1.1).
            let name = text.get_ref();
            let account = !name.contains('=') && (name.contains('@') || name.contains('\\'));
            let may_be_ad = matches!(kind, None | Some(DirectoryKind::ActiveDirectory));
            (account && may_be_ad) || self.dn(text)
        });
        if section.has("bind-dn") && given.is_empty() {
            let help = "a bind without a password is an anonymous one; add `bind-password-credential` or `bind-password-file`".to_owned();
            self.findings.fault(
                section.key_span("bind-dn").unwrap_or(section.span()),
                "`bind-dn` without a password",
                help,
            );
        }
        if let Some(key) = given.first().filter(|_| !section.has("bind-dn")) {
            let at = section.key_span(key).unwrap_or(section.span());
            self.findings.fault(
                at,
                format!("`{key}` without `bind-dn`"),
                "add `bind-dn`, the account that reads the directory".to_owned(),
            );
        }
        if !section.has("bind-dn")
            && given.is_empty()
            && !certificate
            && !section.has("client-cert")
        {
            let help = "most directories show an anonymous reader little or nothing; add `bind-dn` and `bind-password-credential`".to_owned();
            self.findings.warning(
                section.span(),
                format!(
                    "{} says not who reads: the bind is anonymous",
                    section.label()
                ),
                help,
            );
        }
        (
            bind_dn.map(|t| (*t.get_ref()).to_owned()),
            self.secret(section, &keys),
        )
    }

    fn filter(&self, section: &Section<'_>) -> Option<String> {
        let text = self.text(section, "filter")?;
        match filter::parse(text.get_ref()) {
            Ok(_) => Some((*text.get_ref()).to_owned()),
            Err(e) => {
                let help = "a filter as in RFC 4515, as `(&(objectClass=inetOrgPerson)(!(employeeType=former)))`".to_owned();
                self.findings.fault(
                    self.part(&text, e.at, 1),
                    format!("this is no filter: {}", e.message),
                    help,
                );
                None
            }
        }
    }

    fn changes(&self, section: &Section<'_>, kind: Option<DirectoryKind>) -> ChangesWay {
        let ways = [
            ("auto", ChangesWay::Auto),
            ("full", ChangesWay::Full),
            ("syncrepl", ChangesWay::Syncrepl),
            ("push", ChangesWay::Push),
            ("dirsync", ChangesWay::DirSync),
            ("timestamp", ChangesWay::Timestamp),
        ];
        let way = self.word(section, "changes", &ways);
        let ad = kind.map(|k| k == DirectoryKind::ActiveDirectory);
        let fault = |message: &str| {
            self.findings.fault(
                section.value_span("changes"),
                message,
                "`auto` takes the best way that the directory knows".to_owned(),
            )
        };
        match (way, ad) {
            (ChangesWay::DirSync, Some(false)) => fault("only Active Directory knows DirSync"),
            (ChangesWay::Syncrepl | ChangesWay::Push, Some(true)) => {
                fault("Active Directory does not know syncrepl")
            }
            _ => {}
        }
        way
    }

    /// `""` means: on schedule only.
    fn poll(&self, section: &Section<'_>) -> Option<i64> {
        let off = section.text("poll").is_some_and(|t| t.get_ref().is_empty());
        (!off).then(|| self.duration(section, "poll", 10 * SECOND, SECOND..=DAY))
    }
}

/// A server, however its URL is written.
fn host(url: &Url) -> (String, u16) {
    let default = if url.scheme() == "ldaps" { 636 } else { 389 };
    let host = url
        .host_str()
        .unwrap_or_default()
        .trim_end_matches('.')
        .to_ascii_lowercase();
    // The two well-known ports are the same server, spoken to in two ways.
    let port = url.port().unwrap_or(default);
    (host, if port == 636 { 389 } else { port })
}
