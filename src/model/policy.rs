//! What a realm's configuration says of one person's decision.

use super::TwoFactor;

/// Everything of the configuration that `plan::decide` needs.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the file"
)]
pub struct Policy {
    /// `new-users = "send"`.
    pub send_to_new: bool,
    /// `on-phone-change = "provisioned"`: only users to whom the application was sent before.
    pub only_provisioned: bool,
    /// `phone-change.hold` in milliseconds; 0: none.
    pub hold_ms: i64,
    /// `phone-change.notify-previous`.
    pub notify_previous: bool,
    /// `phone-change.protect`: who matches this filter gets another number only after an administrator's decision.
    pub protect: Option<String>,
    /// `phone-authority = "local"`.
    pub local_phones: bool,
    /// Phone attributes in the order of preference, to rank the one that a held number came from.
    pub phone_attributes: Vec<String>,
    /// Methods that new users get.
    pub two_factor: Vec<TwoFactor>,
    /// `removal.grace` in milliseconds.
    pub grace_ms: i64,
}

impl Default for Policy {
    /// What holds where the file says nothing: for realms that are not in it.
    fn default() -> Self {
        Self {
            send_to_new: false,
            only_provisioned: false,
            hold_ms: 0,
            notify_previous: false,
            protect: None,
            local_phones: false,
            phone_attributes: Vec::new(),
            two_factor: vec![TwoFactor::AppOtp],
            grace_ms: 30 * 86_400_000,
        }
    }
}
