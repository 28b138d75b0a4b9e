//! The file's shape: every key that there is. `docs/configuration.md` explains each.

/// What a key's value must look like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// A string.
    Text,
    /// A string that no excerpt shows.
    Secret,
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

use self::Shape::{Boolean, Duration, Integer, Percent, Table, Tables, Text, Texts};

const DELIVERY: &[Key] = &[
    key("kind", Text),
    key("url", Text),
    key("secret", Shape::Secret),
    key("secret-file", Text),
    key("secret-credential", Text),
    key("secret-env", Text),
    key("previous-secret", Shape::Secret),
    key("previous-secret-file", Text),
    key("previous-secret-credential", Text),
    key("previous-secret-env", Text),
    key("ca-file", Text),
    key("proxy", Text),
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
            key("url", Text),
            key("password", Shape::Secret),
            key("password-file", Text),
            key("password-credential", Text),
            key("password-env", Text),
            key("keep-runs", Duration),
        ]),
    ),
    key(
        "http",
        Table(&[
            key("listen", Text),
            key("public-url", Text),
            key("tls-cert", Text),
            key("tls-key", Text),
            key("behind-proxy", Boolean),
        ]),
    ),
    key("control", Table(&[key("socket", Text)])),
    key(
        "enrolment",
        Table(&[
            key("valid", Duration),
            key("self-enrolment", Boolean),
            key("key", Shape::Secret),
            key("key-file", Text),
            key("key-credential", Text),
            key("key-env", Text),
        ]),
    ),
    key("delivery", Table(DELIVERY)),
    key("log", Table(&[key("format", Text), key("level", Text)])),
    key(
        "realm",
        Tables(&[
            key("id", Text),
            key("name", Text),
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
                    key("servers", Texts),
                    key("start-tls", Boolean),
                    key("ca-file", Text),
                    key("client-cert", Text),
                    key("client-key", Text),
                    key("insecure-plaintext", Boolean),
                    key("bind-dn", Text),
                    key("bind-password", Shape::Secret),
                    key("bind-password-file", Text),
                    key("bind-password-credential", Text),
                    key("bind-password-env", Text),
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
                Table(&[key("hold", Duration), key("notify-previous", Boolean)]),
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
