//! What can go wrong with a directory: one line that names the server, what was done, what came, and what to do next.

use std::fmt;

use crate::model::ErrorCode;

/// A failure at one server. Displayed as `server: what: came; next`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerFailure {
    /// The server's URL, without credentials.
    pub server: String,
    /// What was being done: `binding as cn=sync,…`.
    pub what: String,
    /// What came instead of success.
    pub came: String,
    /// What to do about it; empty when there is nothing to add.
    pub next: String,
}

impl fmt::Display for ServerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.server, self.what, self.came)?;
        if self.next.is_empty() {
            Ok(())
        } else {
            write!(f, "; {}", self.next)
        }
    }
}

/// Why a directory could not be used, or not be read completely. Nothing that ends in one of these makes anyone absent.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum DirectoryError {
    /// The configuration does not allow it: a secret or certificate file that cannot be read, a filter that is none.
    #[error("{0}")]
    Config(ServerFailure),
    /// No answer, or the connection broke before there was a session.
    #[error("{0}")]
    Unreachable(ServerFailure),
    /// The server does not let the account in, or took it for nobody.
    #[error("{0}")]
    Auth(ServerFailure),
    /// The certificate, the handshake or StartTLS.
    #[error("{0}")]
    Tls(ServerFailure),
    /// Something of what was asked for could not be read.
    #[error("{0}")]
    Incomplete(ServerFailure),
    /// Success, and nobody there.
    #[error("{0}")]
    Empty(ServerFailure),
    /// The server is behind what was already seen.
    #[error("{0}")]
    Stale(ServerFailure),
    /// The sentinel was not seen, or not as it must be.
    #[error("{0}")]
    Sentinel(ServerFailure),
    /// Every server failed, in the order in which they were asked.
    #[error("no server could be used: {}", joined(.0))]
    Servers(Vec<DirectoryError>),
}

fn joined(failures: &[DirectoryError]) -> String {
    failures
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" | ")
}

impl DirectoryError {
    /// The run's `error_code`. Of several servers' failures the one that an administrator must mend counts:
    /// a refused account or certificate says more than a server that is down.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Config(_) => ErrorCode::Config,
            Self::Unreachable(_) => ErrorCode::Unreachable,
            Self::Auth(_) => ErrorCode::Auth,
            Self::Tls(_) => ErrorCode::Tls,
            Self::Incomplete(_) => ErrorCode::Incomplete,
            Self::Empty(_) => ErrorCode::Empty,
            Self::Stale(_) => ErrorCode::Stale,
            Self::Sentinel(_) => ErrorCode::Sentinel,
            Self::Servers(failures) => {
                let codes: Vec<ErrorCode> = failures.iter().map(Self::code).collect();
                [ErrorCode::Auth, ErrorCode::Tls, ErrorCode::Config]
                    .into_iter()
                    .find(|c| codes.contains(c))
                    .unwrap_or(ErrorCode::Unreachable)
            }
        }
    }

    /// The server is behind what was already seen; `why` is what [`super::ServerState::behind`] said.
    pub fn stale(server: &str, why: &str) -> Self {
        Self::Stale(ServerFailure {
            server: server.into(),
            what: "comparing with what was already seen".into(),
            came: why.into(),
            next: "nothing is applied: wait until it has caught up, or take it once with `sync --accept-older`".into(),
        })
    }

    /// The sentinel `dn` was not seen, or `came` says what it lacks.
    pub fn sentinel(server: &str, dn: &str, came: &str) -> Self {
        Self::Sentinel(ServerFailure {
            server: server.into(),
            what: format!("looking at the sentinel `{dn}`"),
            came: came.into(),
            next:
                "the account no longer sees what it must: look at its rights before anything else"
                    .into(),
        })
    }
}

/// The name of a result code (RFC 4511 appendix A).
pub(super) fn result_name(code: u32) -> &'static str {
    match code {
        0 => "success",
        1 => "operationsError",
        2 => "protocolError",
        3 => "timeLimitExceeded",
        4 => "sizeLimitExceeded",
        7 => "authMethodNotSupported",
        8 => "strongerAuthRequired",
        10 => "referral",
        11 => "adminLimitExceeded",
        12 => "unavailableCriticalExtension",
        13 => "confidentialityRequired",
        16 => "noSuchAttribute",
        17 => "undefinedAttributeType",
        18 => "inappropriateMatching",
        32 => "noSuchObject",
        34 => "invalidDNSyntax",
        48 => "inappropriateAuthentication",
        49 => "invalidCredentials",
        50 => "insufficientAccessRights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwillingToPerform",
        80 => "other",
        4096 => "e-syncRefreshRequired",
        _ => "see RFC 4511",
    }
}

/// What to do about a result code of a search.
pub(super) fn search_advice(code: u32) -> &'static str {
    match code {
        1 => "the server wants a bound account: check `bind-dn` and its password",
        2 => {
            "the server rejects the request, or the page's cookie: the next pass starts again at the first page"
        }
        3 => {
            "the account meets a time limit of the server; give it unlimited time for searches \
             (OpenLDAP: olcLimits time=unlimited, 389-ds: nsTimeLimit -1)"
        }
        4 => {
            "the account meets a size limit of the server; give it unlimited paged reads \
             (OpenLDAP: olcLimits size.prtotal=unlimited, 389-ds: nsPagedSizeLimit -1)"
        }
        10 => {
            "this base is held by another server, and referrals are not followed: name that server in `servers`"
        }
        11 => {
            "the account meets an administrative limit of the server; raise it or index what the filter asks for \
             (OpenLDAP: olcLimits size.pr=unlimited size.prtotal=unlimited, since size.pr is the largest page and \
             size.prtotal what all pages may hold; 389-ds: nsLookThroughLimit and nsPagedLookThroughLimit -1)"
        }
        12 => "the server does not page; a pass needs the paged results control (RFC 2696)",
        18 => "the filter compares an attribute in a way that the schema does not know",
        32 => "this base does not exist, or the account may not know of it: check `base`",
        34 => "this is no DN for the server: check `base`",
        50 => "the account may not read here: give it the right to read and search the base",
        51..=53 => "the server cannot answer now; the next pass tries again",
        _ => "look into the server's log",
    }
}

/// What to do about a result code of a bind. Active Directory hides the reason in the text (`data 775`).
pub(super) fn bind_advice(code: u32, text: &str) -> &'static str {
    let data = text
        .split("data ")
        .nth(1)
        .and_then(|rest| rest.split([',', ' ']).next())
        .unwrap_or_default();
    match (code, data) {
        (49, "525") => "no such account: check `bind-dn`",
        (49, "530" | "531") => "the account may not log on now or from here",
        (49, "532") => "the account's password is over: set a new one",
        (49, "773") => PASSWORD_OVER,
        (49, "533") => "the account is disabled",
        (49, "701") => "the account itself is over",
        (49, "775") => "the account is locked: unlock it, and find out who tries a wrong password",
        (49, _) => {
            "check `bind-dn` and its password; other servers were not asked, so that the account is not locked"
        }
        (8 | 13, _) => "the server wants TLS: use ldaps:// or `start-tls = true`",
        (7 | 48, _) => {
            "the server does not allow this way of binding: give `bind-dn` and a password, or a client certificate"
        }
        (34, _) => "`bind-dn` is no DN for the server",
        (50, _) => "the account has no right to bind here",
        (51..=53, _) => "the server cannot answer now; the next pass tries again",
        _ => "look into the server's log",
    }
}

/// What to do about an account that may do nothing but change its password.
pub(super) const PASSWORD_OVER: &str = "the account's password must be changed before the server answers anything else: set a new one, and exempt the account from the rule that asks for it";

/// Whether a server's text says that the password must be changed first.
pub(super) fn asks_for_a_new_password(text: &str) -> bool {
    const WORDS: [&str; 5] = [
        "must change",
        "must be changed",
        "change your password",
        "password has expired",
        // OpenLDAP's overlay ppolicy.
        "restricted to bind/unbind/abandon/starttls/modify password",
    ];
    let text = text.to_lowercase();
    WORDS.iter().any(|words| text.contains(words))
}

/// A server's text on one line and short: it goes into logs and tables.
pub(super) fn one_line(text: &str) -> String {
    const SHOWN: usize = 200;
    let mut line: String = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    if let Some((cut, _)) = line.char_indices().nth(SHOWN) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

/// `sizeLimitExceeded (4): text`.
pub(super) fn came(code: u32, text: &str) -> String {
    let text = one_line(text);
    if text.is_empty() {
        format!("{} ({code})", result_name(code))
    } else {
        format!("{} ({code}): {text}", result_name(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(server: &str) -> ServerFailure {
        ServerFailure {
            server: server.into(),
            what: "w".into(),
            came: "c".into(),
            next: "n".into(),
        }
    }

    #[test]
    fn one_line_says_server_deed_answer_and_remedy() {
        let e = DirectoryError::Incomplete(ServerFailure {
            server: "ldaps://a".into(),
            what: "reading page 3 of `ou=people`".into(),
            came: came(4, "limit\nof 500 "),
            next: search_advice(4).into(),
        });
        let text = e.to_string();
        assert!(text.starts_with("ldaps://a: reading page 3 of `ou=people`: sizeLimitExceeded (4): limit of 500; the account meets a size limit of the server; give it unlimited paged reads"), "{text}");
        assert!(!text.contains('\n'));
        assert_eq!(e.code(), ErrorCode::Incomplete);
    }

    #[test]
    fn an_administrative_limit_names_what_openldap_calls_it() {
        for words in [
            "size.pr=unlimited",
            "size.prtotal=unlimited",
            "nsLookThroughLimit",
        ] {
            assert!(search_advice(11).contains(words), "{words}");
        }
    }

    #[test]
    fn of_several_servers_the_code_names_what_must_be_mended() {
        let down = || DirectoryError::Unreachable(failure("a"));
        assert_eq!(
            DirectoryError::Servers(vec![down(), down()]).code(),
            ErrorCode::Unreachable
        );
        assert_eq!(
            DirectoryError::Servers(vec![down(), DirectoryError::Tls(failure("b"))]).code(),
            ErrorCode::Tls
        );
        let both = DirectoryError::Servers(vec![
            DirectoryError::Tls(failure("a")),
            DirectoryError::Auth(failure("b")),
        ]);
        assert_eq!(both.code(), ErrorCode::Auth);
        assert_eq!(
            both.to_string(),
            "no server could be used: a: w: c; n | b: w: c; n"
        );
    }

    #[test]
    fn active_directory_hides_the_reason_in_the_text() {
        let locked = "80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data 775, v2580";
        assert!(bind_advice(49, locked).contains("locked"));
        assert!(bind_advice(49, "data 52e, v").contains("bind-dn"));
        assert!(bind_advice(49, "").contains("bind-dn"));
    }

    #[test]
    fn a_password_that_must_be_changed_is_known_by_each_servers_words() {
        for text in [
            "Operations are restricted to bind/unbind/abandon/StartTLS/modify password",
            "Please change your password",
            "User must change password before next logon",
        ] {
            assert!(asks_for_a_new_password(text), "{text}");
        }
        assert!(!asks_for_a_new_password("no write access to parent"));
        let reset = "80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data 773, v2580";
        assert!(bind_advice(49, reset).contains("must be changed"));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(one_line(&"é".repeat(300)).chars().count(), 201);
        assert_eq!(one_line("a\0b\r\n c"), "a b c");
    }
}
