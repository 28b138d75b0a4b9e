//! From the file's tree to checked values. Every fault is told, none stops the others.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::file::{Findings, Section};
use super::named::secret_keys;
use super::secret::Environment;
use super::values::{DAY, MINUTE, SECOND, is_loopback, parse_duration, show_duration};
use super::words::quote;
use super::{
    Config, DeliveryConfig, Digest, EnrolmentConfig, HttpConfig, LogConfig, LogFormat,
    LogonsConfig, StoreConfig, StoreUrl,
};
use crate::clock::zones::Zones;

/// What all checks need.
pub(super) struct Check<'a> {
    /// The file's text, in which spans are places.
    pub(super) source: &'a str,
    pub(super) findings: &'a Findings,
    /// Where the files and secrets that are named are looked for; `None`: nothing that the file names is opened.
    pub(super) environment: Option<&'a Environment>,
    /// The file's name.
    pub(super) path: &'a Path,
    /// Nobody but its owner can read the file: it may hold secrets itself.
    pub(super) private: bool,
    /// The time zones that there are.
    pub(super) zones: Zones,
}

impl Check<'_> {
    /// The whole file. `None` only where a fault was told.
    pub(super) fn config(&self, document: &Section<'_>) -> Option<Config> {
        self.version(document);
        let store = self.store(&document.section("store"));
        let http = self.http(&document.section("http"));
        let control_socket = self.control_socket(&document.section("control"));
        let enrolment = self.enrolment(&document.section("enrolment"), http.is_some());
        let logons = self.logons(&document.section("logons"));
        let delivery = self.delivery(&document.section("delivery"));
        let log = self.log(&document.section("log"));
        let realms = self.realms(&document.sections("realm"), delivery.as_ref());
        if !document.has("realm") {
            let help = "without a `[[realm]]` nobody is read from a directory".to_owned();
            self.findings
                .add(true, None, "the file has no realm".into(), Some(help));
        }
        Some(Config {
            path: self.path.to_path_buf(),
            digest: Digest::of(self.source),
            store: store?,
            http,
            control_socket,
            enrolment,
            logons,
            delivery,
            log,
            realms,
            zone_data: self.zones.data().clone(),
        })
    }

    fn version(&self, document: &Section<'_>) {
        if !document.has("version") {
            self.findings.add(
                false,
                None,
                "`version` is missing".into(),
                Some("begin the file with `version = 1`".into()),
            );
        }
        if let Some(version) = document.integer("version").filter(|v| *v.get_ref() != 1) {
            let help = "this realmsync reads version 1".to_owned();
            self.findings.fault(
                version.span(),
                format!(
                    "version {} of the configuration is not known",
                    version.get_ref()
                ),
                help,
            );
        }
    }

    pub(super) fn store(&self, section: &Section<'_>) -> Option<StoreConfig> {
        let keys = secret_keys!("password");
        let keep_runs_ms = self.duration(section, "keep-runs", 400 * DAY, 2 * DAY..=36_500 * DAY);
        let given = keys.given(section);
        let insecure = section.boolean("insecure-plaintext");
        let password = self.secret(section, &keys);
        let default = || StoreUrl::Sqlite("/var/lib/realmsync/realmsync.db".into());
        let url = if section.has("url") {
            self.text(section, "url")
                .and_then(|text| self.store_url(&text, &given, insecure))
        } else {
            Some(default())
        };
        if let (Some(StoreUrl::Sqlite(_)), Some(key)) = (&url, given.first()) {
            let at = section.key_span(key).unwrap_or(section.span());
            self.findings.fault(
                at,
                format!("an SQLite file has no `{key}`"),
                Some(format!(
                    "leave `{key}` out, or name a PostgreSQL server in `url`"
                )),
            );
        }
        Some(StoreConfig {
            url: url?,
            password,
            keep_runs_ms,
        })
    }

    fn http(&self, section: &Section<'_>) -> Option<HttpConfig> {
        if !section.is_there() {
            return None;
        }
        let behind_proxy = section.boolean("behind-proxy");
        let listen = self
            .required(section, "listen", "\"127.0.0.1:8420\"")
            .and_then(|text| {
                let address = text.get_ref().parse::<SocketAddr>().ok();
                if address.is_none() {
                    let help =
                        "write an IP address and a port, as \"127.0.0.1:8420\" or \"[::1]:8420\""
                            .to_owned();
                    self.findings.fault(
                        text.span(),
                        format!("`{}` is no address to listen on", quote(text.get_ref())),
                        help,
                    );
                }
                address.map(|a| Spanned::new(text.span(), a))
            });
        let public_url = self
            .required(section, "public-url", "\"https://mfa.example.org\"")
            .and_then(|text| {
                let url = self.url(&text, &["https", "http"], "https://mfa.example.org")?;
                if url.query().is_some() || url.fragment().is_some() {
                    self.findings.fault(
                        text.span(),
                        "links are made by adding to this URL: it cannot have a `?` or `#`",
                        None,
                    );
                    return None;
                }
                if url.scheme() == "http" && !is_loopback(&url) {
                    let help = "use https, by `tls-cert` and `tls-key` or by a proxy".to_owned();
                    self.findings.warning(
                        text.span(),
                        "enrolment links would go over plain http, readable on the way",
                        help,
                    );
                }
                Some(url.as_str().trim_end_matches('/').to_owned())
            });
        let tls = self.pair(section, "tls-cert", "tls-key");
        if let Some(listen) = listen.as_ref().filter(|a| !a.get_ref().ip().is_loopback())
            && !behind_proxy
            && !section.has("tls-cert")
            && !section.has("tls-key")
        {
            let help = "set `tls-cert` and `tls-key`, or `behind-proxy = true` if a proxy in front speaks TLS".to_owned();
            self.findings.fault(
                listen.span(),
                format!(
                    "{} can be reached from elsewhere, without TLS",
                    listen.get_ref()
                ),
                help,
            );
        }
        Some(HttpConfig {
            listen: listen?.into_inner(),
            public_url: public_url?,
            tls,
            behind_proxy,
        })
    }

    pub(super) fn control_socket(&self, section: &Section<'_>) -> PathBuf {
        let default = || PathBuf::from("/run/realmsync/control.sock");
        let Some(path) = self.path(section, "socket") else {
            return default();
        };
        // sun_path of unix(7) holds 108 bytes with its NUL.
        if path.get_ref().as_os_str().len() > 107 {
            self.findings.fault(
                path.span(),
                "the path of a socket has at most 107 bytes",
                None,
            );
        }
        path.into_inner()
    }

    fn enrolment(&self, section: &Section<'_>, http: bool) -> EnrolmentConfig {
        let self_enrolment = section.boolean("self-enrolment");
        if self_enrolment && !http {
            self.findings.warning(
                section.value_span("self-enrolment"),
                "without `[http]` nobody can enrol",
                None,
            );
        }
        let valid_ms = self.duration(section, "valid", 7 * DAY, MINUTE..=365 * DAY);
        // Whoever makes the first links short means the others too.
        let again = DAY.min(valid_ms);
        EnrolmentConfig {
            valid_ms,
            valid_again_ms: self.duration(section, "valid-again", again, MINUTE..=365 * DAY),
            reminders: self.reminders(section, valid_ms),
            contact: self.contact(section),
            applications: self.applications(section),
            self_enrolment,
            key: self.secret(section, &secret_keys!("key")),
            previous_key: self.secret(section, &secret_keys!("previous-key")),
        }
    }

    /// When links are sent again, in ascending order.
    fn reminders(&self, section: &Section<'_>, valid_ms: i64) -> Vec<i64> {
        let mut all = vec![];
        for text in section.texts("reminders").unwrap_or_default() {
            let quoted = quote(text.get_ref());
            let (what, help) = match parse_duration(text.get_ref()) {
                Err(help) => (format!("`{quoted}` is no duration"), help),
                Ok(ms) if ms < MINUTE => (
                    format!("a reminder after \"{quoted}\" comes too early"),
                    "write how long after sending a link goes out again, as `[\"2d\", \"5d\"]`"
                        .to_owned(),
                ),
                Ok(ms) if ms >= valid_ms => (
                    format!("a reminder after \"{quoted}\" comes when the link is over"),
                    format!(
                        "links are valid for \"{}\" (`valid`)",
                        show_duration(valid_ms)
                    ),
                ),
                Ok(_) if all.len() == 10 => (
                    "there are ten reminders at most".to_owned(),
                    "leave some out".to_owned(),
                ),
                Ok(ms) => {
                    all.push(ms);
                    continue;
                }
            };
            self.findings.fault(text.span(), what, Some(help));
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whom users ask for help.
    fn contact(&self, section: &Section<'_>) -> Option<String> {
        let text = section.text("contact")?;
        let contact = text.get_ref().trim();
        if contact.is_empty()
            || contact.chars().count() > 200
            || contact.chars().any(char::is_control)
        {
            self.findings.fault(
                text.span(),
                "`contact` is one line of 1 to 200 characters",
                "write whom users ask, as `\"Helpdesk, +421 2 1234 5678\"`".to_owned(),
            );
            return None;
        }
        Some(contact.to_owned())
    }

    /// The applications that users are told of.
    fn applications(&self, section: &Section<'_>) -> Vec<String> {
        let mut names = vec![];
        for name in section.texts("applications").unwrap_or_default() {
            let text = name.get_ref().trim();
            let length = text.chars().count();
            if !(1..=40).contains(&length)
                || text.chars().any(char::is_control)
                || names.len() == 10
            {
                self.findings.fault(
                    name.span(),
                    "applications have names of 1 to 40 characters, and there are ten at most",
                    "write them as their shops do, as `[\"Aegis Authenticator\", \"2FAS\"]`"
                        .to_owned(),
                );
                break;
            }
            names.push(text.to_owned());
        }
        names
    }

    fn logons(&self, section: &Section<'_>) -> LogonsConfig {
        LogonsConfig {
            automatic: section.boolean("automatic"),
            max_new_per_hour: self.integer(
                section,
                "max-new-per-hour",
                LogonsConfig::default().max_new_per_hour,
                1..=1_000_000,
            ),
        }
    }

    /// `[delivery]` or `[realm.delivery]`.
    pub(super) fn delivery(&self, section: &Section<'_>) -> Option<DeliveryConfig> {
        if !section.is_there() {
            return None;
        }
        let kind = self.required(section, "kind", "\"webhook\"");
        if let Some(kind) = &kind {
            match *kind.get_ref() {
                "webhook" => {}
                word @ ("sms" | "email") => {
                    let help = "use `kind = \"webhook\"`, or leave the section out: then no messages are made".to_owned();
                    self.findings.fault(
                        kind.span(),
                        format!("delivery by `{word}` is not there yet"),
                        help,
                    );
                    return None;
                }
                _ => self.unknown_word(kind, "kind", ["webhook", "sms", "email"].into_iter()),
            }
        }
        let insecure = section.boolean("insecure-plaintext");
        let example = "https://provisioning.example.org/hooks/realmsync";
        let url = self.required(section, "url", &format!("\"{example}\"")).and_then(|text| {
            let url = self.url(&text, &["https", "http"], example)?;
            if url.scheme() == "http" && !is_loopback(&url) {
                if insecure {
                    self.findings.warning(text.span(), "phone numbers and enrolment links go to this URL without TLS, as `insecure-plaintext` says", None);
                } else {
                    let help = "use https://, or set `insecure-plaintext = true` if the network is as good as one machine".to_owned();
                    self.findings.fault(text.span(), "http:// is only allowed to this machine itself", help);
                }
            }
            Some(url)
        });
        let keys = secret_keys!("secret");
        if keys.given(section).is_empty() {
            let help =
                "add `secret-credential = \"webhook-secret\"`, `secret-file` or `secret-env`"
                    .to_owned();
            self.findings.fault(
                section.span(),
                format!(
                    "`secret` is missing {}: messages are signed with it",
                    section.label()
                ),
                help,
            );
        }
        let secret = self.signing_secret(section, &keys);
        let previous_secret = self.signing_secret(section, &secret_keys!("previous-secret"));
        let proxy = self
            .text(section, "proxy")
            .and_then(|text| self.url(&text, &["http", "https"], "http://proxy.example.org:3128"));
        let delivery = DeliveryConfig {
            ca_file: self.certificates(section, "ca-file"),
            timeout_ms: self.duration(section, "timeout", 15 * SECOND, SECOND..=10 * MINUTE),
            concurrency: usize::try_from(self.integer(section, "concurrency", 16, 1..=1024))
                .unwrap_or(16),
            retry_for_ms: self.duration(section, "retry-for", 3 * DAY, SECOND..=90 * DAY),
            url: url?,
            secret: secret?,
            previous_secret,
            proxy,
        };
        Some(delivery)
    }

    fn log(&self, section: &Section<'_>) -> LogConfig {
        let formats = [
            ("auto", LogFormat::Auto),
            ("text", LogFormat::Text),
            ("json", LogFormat::Json),
            ("journald", LogFormat::Journald),
        ];
        let levels = [
            ("info", tracing::Level::INFO),
            ("error", tracing::Level::ERROR),
            ("warn", tracing::Level::WARN),
            ("debug", tracing::Level::DEBUG),
            ("trace", tracing::Level::TRACE),
        ];
        LogConfig {
            format: self.word(section, "format", &formats),
            level: self.word(section, "level", &levels),
        }
    }
}
