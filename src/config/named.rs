//! What the file only names: secrets by their sources, certificates and keys.

use std::ops::Range;
use std::path::PathBuf;

use base64::Engine as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret as _, SecretString};
use toml::Spanned;

use super::check::Check;
use super::file::Section;
use super::secret::Secret;
use super::shown;

/// The four keys of a secret.
pub(super) struct SecretKeys {
    pub(super) inline: &'static str,
    pub(super) file: &'static str,
    pub(super) credential: &'static str,
    pub(super) env: &'static str,
}

/// The keys `X`, `X-file`, `X-credential` and `X-env`.
macro_rules! secret_keys {
    ($name:literal) => {
        $crate::config::named::SecretKeys {
            inline: $name,
            file: concat!($name, "-file"),
            credential: concat!($name, "-credential"),
            env: concat!($name, "-env"),
        }
    };
}
pub(super) use secret_keys;

impl SecretKeys {
    pub(super) fn given(&self, section: &Section<'_>) -> Vec<&'static str> {
        [self.file, self.credential, self.env, self.inline]
            .into_iter()
            .filter(|k| section.has(k))
            .collect()
    }
}

impl Check<'_> {
    /// A secret by its one source; `None` also where there is none, which the caller judges.
    pub(super) fn secret(&self, section: &Section<'_>, keys: &SecretKeys) -> Option<Secret> {
        self.seen_secret(section, keys).map(|(secret, _)| secret)
    }

    /// The secret, and its text where it can be seen now.
    fn seen_secret(
        &self,
        section: &Section<'_>,
        keys: &SecretKeys,
    ) -> Option<(Secret, Option<SecretString>)> {
        let given = keys.given(section);
        for extra in given.iter().skip(1) {
            let at = section.key_span(extra).unwrap_or(section.span());
            self.findings.fault(
                at,
                format!(
                    "more than one source for `{}`: `{}` and `{extra}`",
                    keys.inline, given[0]
                ),
                Some("keep one of them".to_owned()),
            );
        }
        let key = *given.first()?;
        let span = section.value_span(key);
        let secret = if key == keys.file {
            Secret::File(self.path(section, key)?.into_inner())
        } else if key == keys.credential {
            let name = self.text(section, key)?;
            if name.get_ref().contains('/')
                || name.get_ref().starts_with('.')
                || name.get_ref().chars().any(char::is_control)
            {
                let help =
                    "it is the name before the `:` in the unit's `LoadCredential=`".to_owned();
                self.findings.fault(
                    name.span(),
                    format!("`{key}` is no name of a credential"),
                    help,
                );
                return None;
            }
            Secret::Credential((*name.get_ref()).to_owned())
        } else if key == keys.env {
            let name = self.text(section, key)?;
            if !name
                .get_ref()
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
            {
                self.findings.fault(
                    name.span(),
                    "this is no name of an environment variable",
                    Some("it holds letters, digits and `_`".to_owned()),
                );
                return None;
            }
            Secret::Env((*name.get_ref()).to_owned())
        } else {
            let text = section.text(key)?;
            if text.get_ref().trim().is_empty() {
                let help = format!("use `{}` or `{}`", keys.file, keys.credential);
                self.findings
                    .fault(text.span(), format!("`{key}` is empty"), help);
                return None;
            }
            self.inline(section.key_span(key).unwrap_or(span.clone()), keys.file);
            Secret::Inline(SecretString::from(*text.get_ref()))
        };
        let seen = match self.environment.map(|e| secret.resolve(e)) {
            Some(Ok(text)) => Some(text),
            Some(Err(e)) => {
                self.findings
                    .add(e.invisible, Some(span), e.message, Some(e.help));
                None
            }
            None => None,
        };
        Some((secret, seen))
    }

    /// A secret that signs webhooks: base64, with or without the prefix of Standard Webhooks.
    pub(super) fn signing_secret(
        &self,
        section: &Section<'_>,
        keys: &SecretKeys,
    ) -> Option<Secret> {
        let (secret, seen) = self.seen_secret(section, keys)?;
        if let Some(text) = seen {
            let text = text.expose_secret();
            let decoded = base64::engine::general_purpose::STANDARD
                .decode(text.strip_prefix("whsec_").unwrap_or(text));
            let at = keys
                .given(section)
                .first()
                .map_or(section.span(), |k| section.value_span(k));
            let help = "make one with `echo whsec_$(head -c 32 /dev/urandom | base64)`".to_owned();
            match decoded {
                Ok(bytes) if bytes.len() >= 24 => {}
                Ok(_) => self.findings.warning(
                    at,
                    format!(
                        "`{}` is shorter than the 24 bytes that Standard Webhooks ask for",
                        keys.inline
                    ),
                    help,
                ),
                Err(_) => self.findings.fault(
                    at,
                    format!(
                        "`{}` is not `whsec_` and base64, as Standard Webhooks want it",
                        keys.inline
                    ),
                    help,
                ),
            }
        }
        Some(secret)
    }

    /// A secret stands in the file itself.
    pub(super) fn inline(&self, at: Range<usize>, instead: &str) {
        if !self.private {
            let help = format!("chmod 600 {}, or use `{instead}`", self.path.display());
            self.findings
                .fault(at, "a secret stands in a file that others can read", help);
        }
    }

    /// A certificate and its key: both or none, and nobody else may read the key.
    pub(super) fn pair(
        &self,
        section: &Section<'_>,
        cert: &'static str,
        key: &'static str,
    ) -> Option<(PathBuf, PathBuf)> {
        for (here, missing) in [(cert, key), (key, cert)] {
            if section.has(here) && !section.has(missing) {
                let at = section.key_span(here).unwrap_or(section.span());
                self.findings.fault(
                    at,
                    format!("`{here}` without `{missing}`"),
                    Some(format!("add `{missing}`, or leave out `{here}`")),
                );
            }
        }
        let certificate = self.certificates(section, cert);
        let path = self.path(section, key);
        if let Some(path) = &path {
            self.private_key(path);
        }
        Some((certificate?, path?.into_inner()))
    }

    fn private_key(&self, path: &Spanned<PathBuf>) {
        use std::os::unix::fs::PermissionsExt as _;
        let Some((bytes, mode)) = self.bytes(path, |m| m.permissions().mode()) else {
            return;
        };
        let shown = shown::path(path.get_ref());
        if mode & 0o077 != 0 {
            self.findings.fault(
                path.span(),
                format!("{shown} can be read by others (mode {:04o})", mode & 0o7777),
                Some(format!("chmod 600 {shown}")),
            );
        }
        if PrivateKeyDer::from_pem_slice(&bytes).is_err() {
            self.findings.fault(
                path.span(),
                format!("{shown} holds no private key in PEM"),
                Some("it must hold `-----BEGIN PRIVATE KEY-----`, not encrypted".to_owned()),
            );
        }
    }

    /// A file of certificates in PEM.
    pub(super) fn certificates(&self, section: &Section<'_>, key: &'static str) -> Option<PathBuf> {
        let path = self.path(section, key)?;
        if let Some((bytes, ())) = self.bytes(&path, |_| ()) {
            let good = CertificateDer::pem_slice_iter(&bytes)
                .collect::<Result<Vec<_>, _>>()
                .is_ok_and(|list| !list.is_empty());
            if !good {
                let help = "it must hold `-----BEGIN CERTIFICATE-----` and base64".to_owned();
                self.findings.fault(
                    path.span(),
                    format!(
                        "{} holds no certificate in PEM",
                        shown::path(path.get_ref())
                    ),
                    help,
                );
            }
        }
        Some(path.into_inner())
    }

    /// A file that the configuration names; `None`: it is not looked at, or was told as a fault.
    fn bytes<T>(
        &self,
        path: &Spanned<PathBuf>,
        about: impl Fn(&std::fs::Metadata) -> T,
    ) -> Option<(Vec<u8>, T)> {
        use std::io::Read as _;
        let fault = |message: String, help: String| {
            self.findings.fault(path.span(), message, help);
            None
        };
        let file = match self.environment?.open(path.get_ref()) {
            Ok(file) => file,
            Err(e) => return fault(e.message, e.help),
        };
        let mut bytes = Vec::new();
        // The system's whole bundle of roots has 0.2 MB.
        match (file.metadata(), file.take(4 << 20).read_to_end(&mut bytes)) {
            (Ok(metadata), Ok(_)) => Some((bytes, about(&metadata))),
            (Err(e), _) | (_, Err(e)) => fault(
                format!("cannot read {}: {e}", shown::path(path.get_ref())),
                "check the path".into(),
            ),
        }
    }
}
