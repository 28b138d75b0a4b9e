//! `[realm.directory]`: where people are read from, by whom, and how.

use toml::Spanned;
use url::Url;

use super::check::Check;
use super::file::Section;
use super::named::secret_keys;
use super::values::{DAY, SECOND};
use super::words::quote;
use super::{ChangesWay, DirectoryConfig, DirectoryKind, Secret};
use crate::model::{dn, filter};

impl Check<'_> {
    pub(super) fn directory<'s>(
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
            filter: self.filter(section, "filter"),
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
    ) -> (Option<String>, Option<Secret>) {
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
                "nothing says who reads: the bind is anonymous",
                help,
            );
        }
        (
            bind_dn.map(|t| (*t.get_ref()).to_owned()),
            self.secret(section, &keys),
        )
    }

    /// A key whose value is a filter.
    pub(super) fn filter(&self, section: &Section<'_>, key: &'static str) -> Option<String> {
        let text = self.text(section, key)?;
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
            );
        };
        match (way, ad) {
            (ChangesWay::DirSync, Some(false)) => fault("only Active Directory knows DirSync"),
            (ChangesWay::Syncrepl | ChangesWay::Push, Some(true)) => {
                fault("Active Directory does not know syncrepl");
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
pub(super) fn host(url: &Url) -> (String, u16) {
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
