//! Who we are to a server: the bind, and what its refusal means.

use ldap3::LdapResult;
use ldap3::controls::RawControl;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::error::{DirectoryError, PASSWORD_OVER, bind_advice, came};
use super::link::{Broken, ConnectionTask, why, within, words};
use super::password::{self, PasswordState};
use super::reach::Reach;
use super::request;
use super::session::{ConnectFailure, Session};
use crate::config::{DirectoryConfig, Environment};

/// What the configuration gives to bind with, with the password that was read once.
pub(super) enum Credentials {
    /// No bind at all.
    Nobody,
    /// A simple bind; neither is empty.
    Simple { dn: String, password: SecretString },
    /// SASL EXTERNAL: whom the client certificate names.
    Certificate,
}

impl Credentials {
    /// The credentials of a configuration; the error is one that no other server can mend.
    pub(super) fn of(config: &DirectoryConfig, reach: &Reach) -> Result<Self, DirectoryError> {
        let (dn, secret) = match (&config.bind_dn, &config.bind_password) {
            (Some(dn), Some(secret)) => (dn.clone(), secret),
            (Some(dn), None) => {
                return Err(DirectoryError::Config(reach.failure(
                    &format!("binding as `{dn}`"),
                    "no password is configured".into(),
                    "give `bind-password-file` or `bind-password-credential`",
                )));
            }
            (None, _) if config.client_cert.is_some() => return Ok(Self::Certificate),
            (None, _) => return Ok(Self::Nobody),
        };
        let fault = |came: String, next: &str| {
            DirectoryError::Config(reach.failure(&format!("binding as `{dn}`"), came, next))
        };
        let password = secret
            .resolve(&Environment::from_process())
            .map_err(|e| fault(e.message, &e.help))?;
        // A simple bind without a password is an anonymous one that succeeds (RFC 4513 § 5.1.2).
        if password.expose_secret().is_empty() || dn.trim().is_empty() {
            return Err(fault(
                "the name or the password is empty, which would be an anonymous bind".into(),
                "mend `bind-dn` and `bind-password`",
            ));
        }
        Ok(Self::Simple { dn, password })
    }

    fn deed(&self) -> String {
        match self {
            Self::Simple { dn, .. } => format!("binding as `{dn}`"),
            _ => "binding by the client certificate (SASL EXTERNAL)".to_owned(),
        }
    }

    /// The bind request; `None`: there is none to make.
    pub(super) fn request(&self) -> Option<Vec<u8>> {
        match self {
            Self::Nobody => None,
            Self::Simple { dn, password } => {
                Some(request::simple_bind(dn, password.expose_secret()))
            }
            Self::Certificate => Some(request::external_bind()),
        }
    }
}

impl Credentials {
    /// What the server said to a bind.
    pub(super) fn judged(&self, reach: &Reach, result: &LdapResult) -> Result<(), ConnectFailure> {
        let said = password::said(result);
        if result.rc == 0 && said == Some(PasswordState::MustChange) {
            let came = "success, and nothing else until the password is changed".to_owned();
            let failure = reach.failure(&self.deed(), came, PASSWORD_OVER);
            return Err((DirectoryError::Auth(failure), false));
        }
        if result.rc == 0 {
            return Ok(());
        }
        let advice = match said {
            Some(PasswordState::MustChange | PasswordState::Over) => PASSWORD_OVER,
            Some(PasswordState::Locked) => bind_advice(49, "data 775"),
            None => bind_advice(result.rc, &result.text),
        };
        let failure = reach.failure(&self.deed(), came(result.rc, &result.text), advice);
        Err(match result.rc {
            51 | 52 => (DirectoryError::Unreachable(failure), false),
            code => (DirectoryError::Auth(failure), code == 49),
        })
    }

    /// No answer to a bind.
    pub(super) async fn unanswered(
        &self,
        reach: &Reach,
        broken: Broken,
        link: Option<&mut ConnectionTask>,
    ) -> DirectoryError {
        let late = matches!(broken, Broken::Late(_));
        let broken = why(broken, link).await;
        if !(reach.ldaps || reach.start_tls)
            && let Some((came, next)) = reach.another_language(&broken).await
        {
            return DirectoryError::Unreachable(reach.failure(&self.deed(), came, next));
        }
        let (came, next, tls) = words(broken);
        // OpenLDAP misses a client certificate only now, and says so by hanging up.
        let unsure = !late && !tls && !reach.certificate && reach.ldaps;
        let next = if unsure {
            "does the server want a client certificate (`client-cert`)?"
        } else {
            next
        };
        let failure = reach.failure(&self.deed(), came, next);
        if tls {
            DirectoryError::Tls(failure)
        } else {
            DirectoryError::Unreachable(failure)
        }
    }
}

impl Session {
    pub(super) async fn bind(&mut self, until: Instant) -> Result<(), ConnectFailure> {
        let mut ldap = self.ldap.clone();
        // Not critical: a server that does not know it says nothing of the password.
        ldap.with_controls(vec![RawControl {
            ctype: password::POLICY.into(),
            crit: false,
            val: None,
        }]);
        let answer = match &*self.credentials {
            Credentials::Nobody => return Ok(()),
            Credentials::Simple { dn, password } => {
                within(until, ldap.simple_bind(dn, password.expose_secret())).await
            }
            Credentials::Certificate => within(until, ldap.sasl_external_bind()).await,
        };
        match answer {
            Ok(result) => {
                let said = password::said(&result);
                self.password_over = said == Some(PasswordState::Over);
                self.credentials.judged(&self.reach, &result)
            }
            Err(broken) => {
                let link = Some(&mut self.link);
                Err((
                    self.credentials.unanswered(&self.reach, broken, link).await,
                    false,
                ))
            }
        }
    }
}
