//! What a server says of the account's password beside the result of a bind (draft-behera-ldap-password-policy-10, and the older
//! controls of 389-ds): the bind may succeed, and nothing after it.

use ldap3::LdapResult;

use super::ber::{SEQUENCE, expect};

/// Asks for the words of the password policy, and carries them.
pub(super) const POLICY: &str = "1.3.6.1.4.1.42.2.27.8.5.1";

/// 389-ds, unasked: the password is over. (`…113730.3.4.5` only warns of that.)
const EXPIRED: &str = "2.16.840.1.113730.3.4.4";

/// What was said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PasswordState {
    /// Nothing may be done before the password is changed.
    MustChange,
    /// It is over. There may be some grace.
    Over,
    /// The account is locked.
    Locked,
}

/// What a bind's answer says of the password; `None`: nothing that matters.
pub(super) fn said(result: &LdapResult) -> Option<PasswordState> {
    let value = |oid: &str| {
        let control = result.ctrls.iter().find(|c| c.1.ctype == oid)?;
        Some(control.1.val.as_deref().unwrap_or_default())
    };
    match value(POLICY).and_then(error) {
        Some(2) => Some(PasswordState::MustChange),
        Some(0) => Some(PasswordState::Over),
        Some(1) => Some(PasswordState::Locked),
        _ => value(EXPIRED).map(|_| PasswordState::Over),
    }
}

/// The error of a `PasswordPolicyResponseValue`; `None`: there is none.
fn error(value: &[u8]) -> Option<u8> {
    const WARNING: u8 = 0xa0;
    const ERROR: u8 = 0x81;
    let (parts, _) = expect(SEQUENCE, value)?;
    let parts = expect(WARNING, parts).map_or(parts, |(_, rest)| rest);
    match expect(ERROR, parts)?.0 {
        [code] => Some(*code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stands_behind_a_warning_or_alone() {
        assert_eq!(error(&[0x30, 3, 0x81, 1, 2]), Some(2));
        // One login of grace is left, and it is over.
        assert_eq!(error(&[0x30, 8, 0xa0, 3, 0x81, 1, 1, 0x81, 1, 0]), Some(0));
        assert_eq!(error(&[0x30, 5, 0xa0, 3, 0x80, 1, 9]), None);
        assert_eq!(error(&[0x30, 0]), None);
        for odd in [&[][..], &[0x30], &[0x30, 9, 0x81], &[0x30, 2, 0x81, 0]] {
            assert_eq!(error(odd), None, "{odd:?}");
        }
    }
}
