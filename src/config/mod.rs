//! The administrator's one file: read, checked whole, and turned into values that the rest of the program takes.

use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::tz::TimeZone;

use crate::clock::zones::ZoneData;
use crate::model::{IdForm, Limit, Policy, RealmId, TwoFactor};

mod attributes;
mod check;
pub mod crontab;
mod digest;
mod directory;
mod enrolment;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hide;
mod keys;
mod load;
mod mask;
mod named;
mod realm;
mod report;
mod salvage;
pub mod secret;
mod shown;
mod store_url;
#[cfg(test)]
mod tests;
mod values;
mod walk;
mod words;

pub use attributes::default_filter;
pub use digest::Digest;
pub use load::{Loaded, default_path, load, load_without_files};
pub use report::{Fault, Faults, Severity};
pub use salvage::{Salvaged, salvage};
pub use secret::{Environment, Secret, SecretError};

/// A checked configuration. Only [`load()`] makes one.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it came from.
    pub path: PathBuf,
    /// What the file says, to be compared with what another program read.
    pub digest: Digest,
    /// `[store]`.
    pub store: StoreConfig,
    /// `[http]`; `None`: no console, API or enrolment links.
    pub http: Option<HttpConfig>,
    /// `control.socket`.
    pub control_socket: PathBuf,
    /// `[enrolment]`.
    pub enrolment: EnrolmentConfig,
    /// `[logons]`.
    pub logons: LogonsConfig,
    /// `[delivery]`; `None`: no messages are made for realms without their own.
    pub delivery: Option<DeliveryConfig>,
    /// `[log]`.
    pub log: LogConfig,
    /// `[[realm]]`, in the file's order.
    pub realms: Vec<RealmConfig>,
    /// The rules of time zones that the realms' `time-zone` were read with.
    pub zone_data: ZoneData,
}

/// Where the store is.
#[derive(Clone, Debug)]
pub enum StoreUrl {
    /// `sqlite:/path/to/file`.
    Sqlite(PathBuf),
    /// `postgres://…`, without the password; `display` is safe to print.
    Postgres {
        /// The URL as configured, password included: never printed.
        url: secrecy::SecretString,
        /// The URL with the password masked.
        display: String,
    },
}

/// `[store]`.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// `url`.
    pub url: StoreUrl,
    /// `password`, for PostgreSQL.
    pub password: Option<Secret>,
    /// `keep-runs` in milliseconds.
    pub keep_runs_ms: i64,
}

/// `[http]`.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// `listen`.
    pub listen: SocketAddr,
    /// `public-url`, without a trailing slash.
    pub public_url: String,
    /// `tls-cert` and `tls-key`.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// `behind-proxy`.
    pub behind_proxy: bool,
}

/// `[logons]`.
#[derive(Clone, Debug)]
pub struct LogonsConfig {
    /// `automatic`: whoever is unknown is made by a logon.
    pub automatic: bool,
    /// `max-new-per-hour`, by each token.
    pub max_new_per_hour: i64,
}

impl Default for LogonsConfig {
    fn default() -> Self {
        Self {
            automatic: false,
            max_new_per_hour: 500,
        }
    }
}

/// `[enrolment]`.
#[derive(Clone, Debug)]
pub struct EnrolmentConfig {
    /// `valid` in milliseconds.
    pub valid_ms: i64,
    /// `valid-again` in milliseconds.
    pub valid_again_ms: i64,
    /// `reminders`: so many milliseconds after it was sent, a link that nobody used is sent again; ascending.
    pub reminders: Vec<i64>,
    /// `contact`: whom users ask, as the page says it.
    pub contact: Option<String>,
    /// `applications`: names, in the order in which they are recommended; empty: the well-known ones.
    pub applications: Vec<String>,
    /// `self-enrolment`.
    pub self_enrolment: bool,
    /// `key-…`; `None`: made once and kept in the store.
    pub key: Option<Secret>,
    /// `previous-key-…`: another key that secrets may have been kept with, while they are moved over.
    pub previous_key: Option<Secret>,
}

/// `[delivery]` or `[realm.delivery]`, of kind `webhook`.
#[derive(Clone)]
pub struct DeliveryConfig {
    /// `url`.
    pub url: url::Url,
    /// `secret-…`: `whsec_…`.
    pub secret: Secret,
    /// `previous-secret-…`: also signs while the secret is rotated.
    pub previous_secret: Option<Secret>,
    /// `ca-file`: a private CA in place of the system's roots.
    pub ca_file: Option<PathBuf>,
    /// `proxy`: used only if configured.
    pub proxy: Option<url::Url>,
    /// `timeout` in milliseconds, over the whole answer.
    pub timeout_ms: i64,
    /// `concurrency`: messages under way at once.
    pub concurrency: usize,
    /// `retry-for` in milliseconds.
    pub retry_for_ms: i64,
}

/// A token may be a part of a webhook's address.
impl std::fmt::Debug for DeliveryConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliveryConfig")
            .field("url", &shown::url(self.url.as_str()))
            .field("secret", &self.secret)
            .field("previous_secret", &self.previous_secret)
            .field("ca_file", &self.ca_file.as_deref().map(shown::path))
            .field(
                "proxy",
                &self.proxy.as_ref().map(|p| shown::url(p.as_str())),
            )
            .field("timeout_ms", &self.timeout_ms)
            .field("concurrency", &self.concurrency)
            .field("retry_for_ms", &self.retry_for_ms)
            .finish()
    }
}

/// `log.format`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the words are the documentation")]
pub enum LogFormat {
    Auto,
    Text,
    Json,
    Journald,
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `format`.
    pub format: LogFormat,
    /// `level`: error, warn, info, debug or trace.
    pub level: tracing::Level,
}

/// One `[[realm]]`.
#[derive(Clone, Debug)]
pub struct RealmConfig {
    /// `id`.
    pub id: RealmId,
    /// `name`; default: the id.
    pub name: String,
    /// `aliases`: other names by which services call the realm.
    pub aliases: Vec<String>,
    /// `schedule`: five-field crontab or an `@` word, already checked; kept as text, read by `service::schedule`.
    pub schedule: String,
    /// `full-schedule`.
    pub full_schedule: String,
    /// `time-zone`.
    pub time_zone: TimeZone,
    /// `issuer`, or the name: what applications show beside the name of a user.
    pub issuer: String,
    /// `revoke = "at-once"`.
    pub revoke_at_once: bool,
    /// `approve`: every plan is held.
    pub approve: bool,
    /// What a decision needs of the realm.
    pub policy: Policy,
    /// `[realm.directory]`.
    pub directory: DirectoryConfig,
    /// `[realm.attributes]` as the file gives them; `None`: default by kind (see [`DirectoryKind`]).
    pub attributes: AttributeOverrides,
    /// `[realm.phone]`.
    pub phone: PhoneConfig,
    /// `[realm.brake]`.
    pub brake: BrakeConfig,
    /// `[realm.delivery]`, or `[delivery]` where the realm has none.
    pub delivery: Option<DeliveryConfig>,
}

/// `kind`, and what follows from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the words are the documentation")]
pub enum DirectoryKind {
    #[serde(rename = "openldap")]
    OpenLdap,
    #[serde(rename = "389ds")]
    Ds389,
    ActiveDirectory,
    Generic,
}

/// How changes are heard of; issue-wide words of `changes`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the words are the documentation")]
pub enum ChangesWay {
    Auto,
    Full,
    Syncrepl,
    Push,
    DirSync,
    Timestamp,
}

/// `[realm.directory]`.
#[derive(Clone, Debug)]
pub struct DirectoryConfig {
    /// `kind`; `None`: `auto`, decided by the root DSE.
    pub kind: Option<DirectoryKind>,
    /// `servers`: `ldap://host[:port]` or `ldaps://host[:port]`, tried in order.
    pub servers: Vec<url::Url>,
    /// `start-tls`.
    pub start_tls: bool,
    /// `ca-file`; `None`: the system's roots.
    pub ca_file: Option<PathBuf>,
    /// `client-cert` and `client-key`.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// `insecure-plaintext`.
    pub insecure_plaintext: bool,
    /// `bind-dn`; `None`: SASL EXTERNAL with the client certificate, or anonymous.
    pub bind_dn: Option<String>,
    /// `bind-password-…`.
    pub bind_password: Option<Secret>,
    /// `base`: one or more DNs, none within another.
    pub base: Vec<String>,
    /// `filter`; `None`: default by kind.
    pub filter: Option<String>,
    /// `page-size`.
    pub page_size: i32,
    /// `changes`.
    pub changes: ChangesWay,
    /// `poll` in milliseconds; `None`: on schedule only.
    pub poll_ms: Option<i64>,
    /// `connect-timeout` in milliseconds.
    pub connect_timeout_ms: i64,
    /// `run-timeout` in milliseconds.
    pub run_timeout_ms: i64,
    /// `sentinel`: the DN of an entry that must be visible with a readable phone.
    pub sentinel: Option<String>,
}

impl DirectoryConfig {
    /// The same with the bind password at hand, read where it is said to be.
    pub fn with_secrets(&self, environment: &Environment) -> Result<Self, SecretError> {
        let mut resolved = self.clone();
        if let Some(secret) = &self.bind_password {
            resolved.bind_password = Some(Secret::Inline(secret.resolve(environment)?));
        }
        Ok(resolved)
    }
}

/// The disabled rule of `[realm.attributes]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DisabledRule {
    /// Disabled when the attribute has this value (compared without case).
    Equals {
        /// The attribute.
        attribute: String,
        /// The value.
        equals: String,
    },
    /// Disabled when the attribute, a number, has one of these bits set.
    Bits {
        /// The attribute.
        attribute: String,
        /// The mask.
        bits: i64,
    },
}

/// `[realm.attributes]`: what the file says; an attribute is a name or a list in order of preference.
#[derive(Clone, Default, Debug)]
#[expect(missing_docs, reason = "the names are those of the file")]
pub struct AttributeOverrides {
    pub username: Option<Vec<String>>,
    pub display_name: Option<Vec<String>>,
    pub email: Option<Vec<String>>,
    pub phone: Option<Vec<String>>,
    pub country: Option<Vec<String>>,
    pub directory_id: Option<String>,
    pub disabled: Option<DisabledRule>,
}

/// The attributes of a realm once its kind is known; `explicit` lists those that the file names (their absence from the schema is a fault).
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are those of the file")]
pub struct Attributes {
    pub username: Vec<String>,
    pub display_name: Vec<String>,
    pub email: Vec<String>,
    pub phone: Vec<String>,
    pub country: Vec<String>,
    pub directory_id: String,
    pub id_form: IdForm,
    pub disabled: DisabledRule,
    pub explicit: Vec<String>,
}

/// `[realm.phone]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PhoneConfig {
    /// `region`: ISO 3166-1 alpha-2, upper case.
    pub region: Option<String>,
    /// `mobile-only`.
    pub mobile_only: bool,
    /// `allow-premium`.
    pub allow_premium: bool,
}

/// `[realm.brake]`.
#[derive(Clone, PartialEq, Debug)]
pub struct BrakeConfig {
    /// Percent of the realm's users that are not removed (0 to 100), in the order of [`Limit::ALL`].
    pub percent: [f64; 7],
    /// `floor`: fewer than this never trips.
    pub floor: i64,
}

impl Default for BrakeConfig {
    /// What holds where the file says nothing: for realms that are not in it.
    fn default() -> Self {
        Self {
            percent: [5.0, 5.0, 5.0, 2.0, 5.0, 50.0, 5.0],
            floor: 10,
        }
    }
}

impl BrakeConfig {
    /// The percentage of one limit.
    pub fn percent_of(&self, limit: Limit) -> f64 {
        Limit::ALL
            .iter()
            .position(|l| *l == limit)
            .map_or(0.0, |i| self.percent[i])
    }
}

/// The methods that `two-factor` may list.
pub type Methods = Vec<TwoFactor>;
