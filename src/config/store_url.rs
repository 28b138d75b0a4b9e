//! `store.url`: the file of SQLite, or PostgreSQL's URL with the parameters that have an effect.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use toml::Spanned;
use url::Url;

use super::StoreUrl;
use super::check::Check;
use super::shown;
use super::words::nearest;

const EXAMPLE: &str =
    "write `sqlite:/var/lib/realmsync/realmsync.db` or `postgres://user@host/realmsync`";

/// Parameters of a PostgreSQL URL that have an effect.
const PARAMETERS: [&str; 17] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "options",
    "statement-cache-capacity",
    "ssl-mode",
    "ssl-root-cert",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
];

/// Parameters of libpq that realmsync would ignore, with what there is instead.
const IGNORED: [(&str, &str); 9] = [
    (
        "target_session_attrs",
        "leave it out, and name an address that always leads to the primary",
    ),
    (
        "load_balance_hosts",
        "leave it out, and name an address that always leads to the primary",
    ),
    (
        "application_name",
        "leave it out: the leases of the daemons need a name of their own",
    ),
    (
        "passfile",
        "leave it out, and name the file of the password by `password-file`",
    ),
    (
        "connect_timeout",
        "leave it out: realmsync sets its own limits",
    ),
    (
        "channel_binding",
        "leave it out; `sslmode=verify-full` proves who the server is",
    ),
    ("gssencmode", "leave it out, and use `sslmode`"),
    ("keepalives", "leave it out: realmsync sets its own limits"),
    ("client_encoding", "leave it out: realmsync speaks UTF-8"),
];

/// From what sends everything in the clear to what proves who the server is.
const SSL_MODES: [&str; 6] = [
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

impl Check<'_> {
    /// The store's place. `insecure`: `insecure-plaintext` is set; `passwords`: the keys that give the password beside the URL.
    pub(super) fn store_url(
        &self,
        text: &Spanned<&str>,
        passwords: &[&str],
        insecure: bool,
    ) -> Option<StoreUrl> {
        if let Some(rest) = text.get_ref().strip_prefix("sqlite:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.contains(['?', '#', '\0']) {
                return self.refuse(text, "an SQLite store is named by its path alone", EXAMPLE);
            }
            if !path.starts_with('/') || path.ends_with('/') {
                return self.refuse(text, "the store's file must be an absolute path", EXAMPLE);
            }
            return Some(StoreUrl::Sqlite(path.into()));
        }
        self.postgres(text, passwords, insecure)
    }

    fn refuse<T>(&self, text: &Spanned<&str>, message: &str, help: &str) -> Option<T> {
        self.findings
            .fault(text.span(), message, Some(help.to_owned()));
        None
    }

    fn postgres(
        &self,
        text: &Spanned<&str>,
        passwords: &[&str],
        insecure: bool,
    ) -> Option<StoreUrl> {
        let Some((scheme, rest)) = text.get_ref().split_once("://") else {
            let message = if text.get_ref().contains('=') {
                "this is a connection string of another kind, and no URL"
            } else {
                "this is no URL"
            };
            return self.refuse(text, message, EXAMPLE);
        };
        if !matches!(scheme, "postgres" | "postgresql") {
            return self.refuse(text, "the store is either SQLite or PostgreSQL", EXAMPLE);
        }
        let authority = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains(',') {
            return self.several_hosts(text);
        }
        let url = match Url::parse(text.get_ref()) {
            Ok(url) => url,
            Err(e) => return self.refuse(text, &format!("this is no URL: {e}"), EXAMPLE),
        };
        if url.fragment().is_some() {
            let help = "write a `#` in the password or the name as `%23`";
            return self.refuse(text, "nothing after a `#` would be used", help);
        }
        if !self.parameters(text, &url)? {
            return None;
        }
        if url.password() == Some("") {
            let help = "leave out the `:` after the user, or use `password-file`";
            return self.refuse(text, "the password in the URL is empty", help);
        }
        if url.password().is_some() || parameter(&url, &["password"]).is_some() {
            if let Some(key) = passwords.first() {
                let message = format!("more than one source for `password`: this URL and `{key}`");
                return self.refuse(text, &message, "keep one of them");
            }
            self.inline(text.span(), "password-file");
        }
        self.in_the_clear(text, &url, insecure);
        Some(StoreUrl::Postgres {
            url: SecretString::from(*text.get_ref()),
            display: shown::url(text.get_ref()),
        })
    }

    fn several_hosts<T>(&self, text: &Spanned<&str>) -> Option<T> {
        let help = "name one address that always leads to the primary: a name, a virtual address or a proxy";
        self.refuse(
            text,
            "the URL names several hosts, and realmsync connects to one",
            help,
        )
    }

    /// Whether each parameter has an effect and a value that can be. `None` where nothing more can be said of the URL.
    fn parameters(&self, text: &Spanned<&str>, url: &Url) -> Option<bool> {
        let mut good = true;
        let mut seen: Vec<String> = Vec::new();
        let mut fault = |message: String, help: String| {
            self.findings.fault(text.span(), message, help);
            good = false;
        };
        for (name, value) in url.query_pairs() {
            let quoted = if shown::parameter(&name) {
                format!("`{name}`")
            } else {
                "a parameter".to_owned()
            };
            if seen.iter().any(|s| *s == name) {
                fault(
                    format!("{quoted} is there twice in the URL"),
                    "keep one of them".into(),
                );
                continue;
            }
            seen.push(name.to_string());
            let option = name
                .strip_prefix("options[")
                .is_some_and(|n| n.ends_with(']'));
            if let Some((_, help)) = IGNORED.iter().find(|(ignored, _)| *ignored == name) {
                fault(
                    format!("{quoted} in the URL would be ignored"),
                    (*help).into(),
                );
            } else if !PARAMETERS.contains(&&*name) && !option {
                let known = PARAMETERS.iter().take(12).copied();
                let all = known.clone().collect::<Vec<_>>().join(", ");
                let help = nearest(&name, known.chain(IGNORED.map(|(n, _)| n))).map_or_else(
                    || format!("the parameters of the URL are {all}"),
                    |near| format!("did you mean `{near}`?"),
                );
                fault(format!("unknown parameter {quoted} in the URL"), help);
            }
            match &*name {
                "sslmode" | "ssl-mode" if !SSL_MODES.contains(&&*value) => {
                    let all = SSL_MODES.join(", ");
                    let help = nearest(&value, SSL_MODES).map_or_else(
                        || format!("it is one of {all}"),
                        |near| format!("did you mean `{near}`? It is one of {all}"),
                    );
                    fault(format!("unknown value of {quoted} in the URL"), help);
                }
                "port" if value.parse::<u16>().is_ok_and(|p| p > 0) => {}
                "port" => fault(
                    "the port in the URL is no port".into(),
                    "it is a number from 1 to 65535".into(),
                ),
                "host" | "hostaddr" if value.contains(',') => return self.several_hosts(text),
                "hostaddr" if value.parse::<IpAddr>().is_err() => fault(
                    "`hostaddr` in the URL is no IP address".into(),
                    "write a name as `host`".into(),
                ),
                _ => {}
            }
        }
        Some(good)
    }

    /// A database on another machine is spoken to by TLS alone, unless the file says that it need not be.
    fn in_the_clear(&self, text: &Spanned<&str>, url: &Url, insecure: bool) {
        let variable = |name: &str| {
            let value = self.environment.and_then(|e| e.var(name));
            value.and_then(|v| v.to_str()).map(str::to_owned)
        };
        let host = parameter(url, &["host", "hostaddr"])
            .or_else(|| url.host_str().filter(|h| !h.is_empty()).map(str::to_owned))
            .or_else(|| variable("PGHOSTADDR"))
            .or_else(|| variable("PGHOST"))
            .unwrap_or_default();
        let mode = parameter(url, &["sslmode", "ssl-mode"]).or_else(|| variable("PGSSLMODE"));
        let safe = matches!(
            mode.as_deref(),
            Some("require" | "verify-ca" | "verify-full")
        );
        if is_local(&host) || safe {
            return;
        }
        if insecure {
            self.findings.warning(
                text.span(),
                "everybody's data may go to this database without TLS, as `insecure-plaintext` says",
                None,
            );
        } else {
            let help = "add `?sslmode=verify-full` to the URL (with `sslrootcert=/path` for a private CA), or set `insecure-plaintext = true` if the network is as good as one machine".to_owned();
            self.findings.fault(
                text.span(),
                "the database is on another machine, and TLS is not asked for",
                help,
            );
        }
    }
}

/// The last value of a parameter, as the driver takes it.
fn parameter(url: &Url, names: &[&str]) -> Option<String> {
    url.query_pairs()
        .filter(|(name, _)| names.contains(&&**name))
        .last()
        .map(|(_, value)| value.into_owned())
}

/// Whether a database's host is this machine: nothing, the folder of a socket, or a loopback address.
fn is_local(host: &str) -> bool {
    let host = percent_decode_str(host).decode_utf8_lossy();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.is_empty()
        || host.starts_with(['/', '@'])
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
