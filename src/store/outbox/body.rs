//! The JSON of a message (design § 6), built once and stored: every attempt sends the same bytes.

use serde::Serialize;

use super::enrolment::{LinkMade, Objection};
use crate::clock::Timestamp;
use crate::model::{JobReason, JobType, Phone, User};

/// The field order is the interface: receivers read it, and a stored body is compared byte for byte.
#[derive(Serialize)]
struct MessageBody<'a> {
    r#type: JobType,
    timestamp: Timestamp,
    data: Data<'a>,
}

#[derive(Serialize)]
#[expect(
    clippy::option_option,
    reason = "a field that is null differs from one that is not there"
)]
struct Data<'a> {
    reason: JobReason,
    realm: &'a str,
    user: MessageUser<'a>,
    /// `Some(None)` is `null`; `None` leaves the field out, where it has no business.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_phone: Option<Option<&'a Phone>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enrolment_url: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    freeze_url: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Option<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_codes_left: Option<i64>,
}

#[derive(Serialize)]
struct MessageUser<'a> {
    id: String,
    version: i64,
    /// `null` once the user is removed and the name erased.
    username: Option<&'a str>,
    display_name: Option<&'a str>,
    email: Option<&'a str>,
    phone: Option<&'a Phone>,
}

/// What a message says beside its user.
pub(super) struct MessageContent<'a> {
    pub(super) r#type: JobType,
    pub(super) reason: JobReason,
    pub(super) previous_phone: Option<&'a Phone>,
    pub(super) previous_username: Option<&'a str>,
    pub(super) enrolment: Option<&'a LinkMade>,
    pub(super) objection: Option<&'a Objection>,
    pub(super) recovery_codes_left: Option<i64>,
    pub(super) now: Timestamp,
}

/// The same without its link, where nobody has seen it; `None`: it has none. What a user says cannot look like it: its quotation marks
/// are escaped.
pub(super) fn without_link(body: &str) -> Option<String> {
    let at = body.rfind(r#""enrolment_url":""#)?;
    Some(format!(
        r#"{}"enrolment_url":null,"expires_at":null}}}}"#,
        &body[..at]
    ))
}

/// The body of one message.
pub(super) fn body(user: &User, words: &MessageContent<'_>) -> Result<String, serde_json::Error> {
    let application = matches!(words.r#type, JobType::Provision | JobType::Reprovision);
    let link = application || words.r#type == JobType::Reminder;
    let notice = words.r#type == JobType::PhoneNotice;
    let objects = notice || words.r#type == JobType::Notice && words.reason.lets_somebody_in();
    let tells_phone = application || notice;
    serde_json::to_string(&MessageBody {
        r#type: words.r#type,
        timestamp: words.now,
        data: Data {
            reason: words.reason,
            realm: user.realm.as_str(),
            user: MessageUser {
                id: user.id.to_string(),
                version: user.version,
                username: Some(user.username.as_str()).filter(|name| !name.is_empty()),
                display_name: user.display_name.as_deref(),
                email: user.email.as_deref(),
                phone: user.phone.as_ref(),
            },
            previous_phone: tells_phone.then_some(words.previous_phone),
            previous_username: words
                .previous_username
                .filter(|_| words.r#type == JobType::Rename),
            enrolment_url: link.then(|| words.enrolment.map(|e| e.url.as_str())),
            freeze_url: objects.then(|| words.objection.map(|o| o.url.as_str())),
            expires_at: match (link, objects) {
                (true, _) => Some(words.enrolment.map(|e| e.expires_at)),
                (_, true) => Some(words.objection.map(|o| o.expires_at)),
                _ => None,
            },
            recovery_codes_left: words.recovery_codes_left,
        },
    })
}
