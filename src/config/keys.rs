//! The file's shape: every key that there is. `docs/configuration.md` explains each.

/// What a key's value must look like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// A string.
    Text,
    /// A string that no excerpt shows.
    Secret,
    /// A URL.
    Url,
    /// URLs, or a single one.
    Urls,
    /// The absolute path of a file.
    Path,
    /// The name of a credential or an environment variable.
    Name,
    /// A string with a number and a unit.
    Duration,
    /// A string with a number and `%`.
    Percent,
    /// Strings, or a single one.
    Texts,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// `[table]`.
    Table(&'static [Key]),
    /// `[[table]]`, any number of them.
    Tables(&'static [Key]),
}

/// A key that the file may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
}

const fn key(name: &'static str, shape: Shape) -> Key {
    Key { name, shape }
}

use self::Shape::{
    Boolean, Duration, Integer, Name, Path, Percent, Secret, Table, Tables, Text, Texts, Url, Urls,
};

const DELIVERY: &[Key] = &[
    key("kind", Text),
    key("url", Url),
    key("secret", Secret),
    key("secret-file", Path),
    key("secret-credential", Name),
    key("secret-env", Name),
    key("previous-secret", Secret),
    key("previous-secret-file", Path),
    key("previous-secret-credential", Name),
    key("previous-secret-env", Name),
    key("ca-file", Path),
    key("proxy", Url),
    key("insecure-plaintext", Boolean),
    key("timeout", Duration),
    key("concurrency", Integer),
    key("retry-for", Duration),
];

/// Every key of the file.
pub(super) const FILE: &[Key] = &[
    key("version", Integer),
    key(
        "store",
        Table(&[
            key("url", Url),
            key("password", Secret),
            key("password-file", Path),
            key("password-credential", Name),
            key("password-env", Name),
            key("insecure-plaintext", Boolean),
            key("keep-runs", Duration),
        ]),
    ),
    key(
        "http",
        Table(&[
            key("listen", Text),
            key("public-url", Url),
            key("tls-cert", Path),
            key("tls-key", Path),
            key("behind-proxy", Boolean),
        ]),
    ),
    key("control", Table(&[key("socket", Path)])),
    key(
        "enrolment",
        Table(&[
            key("valid", Duration),
            key("valid-again", Duration),
            key("reminders", Texts),
            key("contact", Text),
            key("applications", Texts),
            key("self-enrolment", Boolean),
            key("key", Secret),
            key("key-file", Path),
            key("key-credential", Name),
            key("key-env", Name),
            key("previous-key", Secret),
            key("previous-key-file", Path),
            key("previous-key-credential", Name),
            key("previous-key-env", Name),
        ]),
    ),
    key(
        "logons",
        Table(&[key("automatic", Boolean), key("max-new-per-hour", Integer)]),
    ),
    key("delivery", Table(DELIVERY)),
    key("log", Table(&[key("format", Text), key("level", Text)])),
    key(
        "realm",
        Tables(&[
            key("id", Text),
            key("name", Text),
            key("issuer", Text),
            key("aliases", Texts),
            key("schedule", Text),
            key("full-schedule", Text),
            key("time-zone", Text),
            key("two-factor", Texts),
            key("new-users", Text),
            key("on-phone-change", Text),
            key("revoke", Text),
            key("phone-authority", Text),
            key("approve", Boolean),
            key(
                "directory",
                Table(&[
                    key("kind", Text),
                    key("servers", Urls),
                    key("start-tls", Boolean),
                    key("ca-file", Path),
                    key("client-cert", Path),
                    key("client-key", Path),
                    key("insecure-plaintext", Boolean),
                    key("bind-dn", Text),
                    key("bind-password", Secret),
                    key("bind-password-file", Path),
                    key("bind-password-credential", Name),
                    key("bind-password-env", Name),
                    key("base", Texts),
                    key("filter", Text),
                    key("page-size", Integer),
                    key("changes", Text),
                    key("poll", Duration),
                    key("connect-timeout", Duration),
                    key("run-timeout", Duration),
                    key("sentinel", Text),
                ]),
            ),
            key(
                "attributes",
                Table(&[
                    key("username", Texts),
                    key("display-name", Texts),
                    key("email", Texts),
                    key("phone", Texts),
                    key("country", Texts),
                    key("directory-id", Text),
                    key(
                        "disabled",
                        Table(&[key("attribute", Text), key("equals", Text)]),
                    ),
                ]),
            ),
            key(
                "phone",
                Table(&[
                    key("region", Text),
                    key("mobile-only", Boolean),
                    key("allow-premium", Boolean),
                ]),
            ),
            key(
                "phone-change",
                Table(&[
                    key("hold", Duration),
                    key("notify-previous", Boolean),
                    key("protect", Text),
                ]),
            ),
            key("removal", Table(&[key("grace", Duration)])),
            key(
                "brake",
                Table(&[
                    key("suspended", Percent),
                    key("restored", Percent),
                    key("phone-changed", Percent),
                    key("phone-lost", Percent),
                    key("renamed", Percent),
                    key("created", Percent),
                    key("removed", Percent),
                    key("floor", Integer),
                ]),
            ),
            key("delivery", Table(DELIVERY)),
        ]),
    ),
];

/// Whether a key of this name holds nothing secret in any table, so that its value may be shown in a file that is no TOML.
pub(super) fn is_plain(name: &str) -> bool {
    fn all(keys: &[Key], name: &str, there: &mut bool) -> bool {
        keys.iter().all(|k| match k.shape {
            Table(inner) | Tables(inner) => all(inner, name, there),
            Text | Texts | Duration | Percent | Integer | Boolean if k.name == name => {
                *there = true;
                true
            }
            _ => k.name != name,
        })
    }
    let mut there = false;
    all(FILE, name, &mut there) && there
}
