//! Telephone numbers: from what people type to E.164, or a reason that says what to mend.
//!
//! Two steps. [`strip`] takes off what surrounds a number (labels, separators, invisible marks, an extension) and refuses whatever
//! it does not know, above all letters and second numbers, which libphonenumber would read into *another valid number*.
//! [`judge`] then asks libphonenumber about bare digits. Separators mean nothing to libphonenumber either, so its verdict is that
//! on the text as typed; a test holds this against 100,000 generated numbers.

use rlibphonenumber::{
    PHONE_NUMBER_UTIL, ParseError, PhoneNumberFormat, PhoneNumberType, Region, ValidationError,
};

use super::region;
use super::strip::{Stripped, strip};
use crate::config::PhoneConfig;
use crate::model::Phone;

/// Library and numbering plans, a part of the mapping: with other plans the same raw value may be another number. A test
/// compares this with `Cargo.lock`; the plans' version stands in the library's README.
pub(super) const LIBRARY: &str = "rlibphonenumber 2.2.15, metadata 9.0.42";

/// Why a value is no usable number, and what would mend it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum PhoneFault {
    #[error("the value is not UTF-8: enter it again in the directory")]
    NotUtf8,
    #[error("the value is empty: enter a number, or delete the attribute")]
    Empty,
    #[error("no number: there is no digit in it; enter one, or delete the attribute")]
    NoDigits,
    #[error("the value is longer than 250 characters: enter the number alone")]
    TooMuchText,
    #[error("the value holds a control character: enter the number again")]
    Control,
    #[error("the letter `{0}` stands where a digit belongs: replace it")]
    LetterForDigit(char),
    #[error("there are letters in it: enter the number alone, with digits, and comments elsewhere")]
    Letters,
    #[error(
        "more than one number in one value: enter one of them, or in a directory each as a value of its own"
    )]
    Several,
    #[error("`{0}` is no part of a number: enter the number alone, as +421905123456")]
    Unreadable(char),
    #[error("a service code with `*` or `#`, no number: enter the person's own number")]
    ServiceCode,
    #[error(
        "a national number, and nothing says of which country: write it with + and the country code, fill the country attribute, or set `region` under [realm.phone]"
    )]
    NoRegion,
    #[error(
        "a national number, and `{0}` names no country that is understood: write the number with + and the country code, or mend `{0}`"
    )]
    HintNotUnderstood(String),
    #[error(
        "a national number, and {0} has no numbering plan of its own: write the number with + and the country code"
    )]
    NoPlan(Region),
    #[error(
        "one number if read as a national one and another if a + is missing before it: write it with + and the country code"
    )]
    Ambiguous,
    #[error("no country has the code that it begins with: check the digits after the +")]
    NoSuchCountryCode,
    #[error("too short for a number{of}: digits are missing", of = of(.0.as_ref()))]
    TooShort(Option<Region>),
    #[error("too long for a number{of}: there are digits too many, or two numbers in one value", of = of(.0.as_ref()))]
    TooLong(Option<Region>),
    #[error("no such number{of}: its length or first digits are not in use there; check it", of = of(.0.as_ref()))]
    NotInUse(Option<Region>),
    #[error(
        "a {0}, which is no mobile: enter a mobile number, or set `mobile-only = false` under [realm.phone]"
    )]
    NotMobile(&'static str),
    #[error(
        "a {0}, which could cost or mislead: enter the person's own number, or set `allow-premium = true` under [realm.phone]"
    )]
    Costly(&'static str),
}

fn of(region: Option<&Region>) -> String {
    region.map(|r| format!(" in {r}")).unwrap_or_default()
}

/// A number that exists, and its kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Number {
    pub(super) phone: Phone,
    kind: PhoneNumberType,
    country_code: i32,
}

/// A national number's region, asked for only where one is needed.
pub(super) trait RegionHint {
    /// The region, or why there is none.
    fn region(&mut self) -> Result<Region, PhoneFault>;
}

impl<F: FnMut() -> Result<Region, PhoneFault>> RegionHint for F {
    fn region(&mut self) -> Result<Region, PhoneFault> {
        self()
    }
}

/// Reads a value. The second is the region that the number was read in; `None`: it is written with + and its country code.
pub(super) fn read(
    text: &str,
    hint: &mut impl RegionHint,
) -> Result<(Number, Option<Region>), PhoneFault> {
    let stripped = strip(text)?;
    let region = if stripped.international {
        None
    } else {
        Some(hint.region()?)
    };
    let number = judge(&stripped.dialled, region)?;
    // `0905123456/0907654321` may make one long number where numbers have no fixed length.
    if !stripped.slashes.is_empty()
        && two_numbers(
            &stripped,
            region.or_else(|| PHONE_NUMBER_UTIL.get_region_for_country_code(number.country_code)),
        )
    {
        return Err(PhoneFault::Several);
    }
    if region.is_some() && another_if_international(&number, &stripped.dialled) {
        return Err(PhoneFault::Ambiguous);
    }
    Ok((number, region))
}

/// Asks libphonenumber about bare digits, with or without a leading +.
fn judge(dialled: &str, region: Option<Region>) -> Result<Number, PhoneFault> {
    let parsed = PHONE_NUMBER_UTIL
        .parse(dialled, region)
        .map_err(|error| match error {
            ParseError::InvalidCountryCode => match region {
                Some(region)
                    if PHONE_NUMBER_UTIL
                        .get_country_code_for_region(region)
                        .is_none() =>
                {
                    PhoneFault::NoPlan(region)
                }
                _ => PhoneFault::NoSuchCountryCode,
            },
            ParseError::NotANumber(_) | ParseError::TooShortAfterIdd | ParseError::TooShortNsn => {
                PhoneFault::TooShort(region)
            }
            ParseError::TooLongNsn => PhoneFault::TooLong(region),
        })?;
    // A number is valid exactly if it has a kind; asking for the kind alone saves half of the work (a test holds the two together).
    let kind = PHONE_NUMBER_UTIL.get_number_type(&parsed);
    if kind == PhoneNumberType::Unknown {
        let region = PHONE_NUMBER_UTIL
            .get_region_for_country_code(parsed.country_code)
            .filter(|r| *r != Region::World);
        return Err(
            match PHONE_NUMBER_UTIL.is_possible_number_with_reason(&parsed) {
                Err(ValidationError::TooShort) => PhoneFault::TooShort(region),
                Err(ValidationError::TooLong) => PhoneFault::TooLong(region),
                Err(ValidationError::InvalidCountryCode) => PhoneFault::NoSuchCountryCode,
                Ok(_) | Err(ValidationError::InvalidLength) => PhoneFault::NotInUse(region),
            },
        );
    }
    let text = PHONE_NUMBER_UTIL.format(&parsed, PhoneNumberFormat::E164);
    // Some plans (German fixed lines) are longer than the 15 digits of E.164 § 6 allow.
    let phone = Phone::from_e164(&text).ok_or(PhoneFault::TooLong(None))?;
    Ok(Number {
        phone,
        kind,
        country_code: parsed.country_code,
    })
}

/// Whether both sides of a separator that also stands between two numbers are valid numbers by themselves.
fn two_numbers(stripped: &Stripped, region: Option<Region>) -> bool {
    stripped
        .slashes
        .iter()
        .filter_map(|at| stripped.dialled.split_at_checked(*at))
        .any(|(left, right)| judge(left, region).is_ok() && judge(right, region).is_ok())
}

/// Whether the digits are another valid number if they were meant with a + or with 00 for it.
///
/// Where numbers have no fixed length, a mobile with its country code but without the + can be a number of that country once more:
/// `4915123459054` in Germany is a mobile to whoever typed it, and to libphonenumber a fixed line in East Frisia. And in Brazil
/// `0055 41 …` is a call by way of carrier 55 to Switzerland.
fn another_if_international(number: &Number, dialled: &str) -> bool {
    let dialled = dialled.trim_start_matches('+');
    let abroad = match dialled.strip_prefix("00") {
        Some(abroad) => abroad,
        None if dialled.starts_with('0')
            || !dialled.starts_with(&number.country_code.to_string()) =>
        {
            return false;
        }
        None => dialled,
    };
    let same = number.phone.as_str().strip_prefix('+') == Some(abroad);
    !same && judge(&format!("+{abroad}"), None).is_ok_and(|other| other.phone != number.phone)
}

impl Number {
    /// Whether the realm's rules take it.
    pub(super) fn allowed(&self, rules: &PhoneConfig) -> Result<(), PhoneFault> {
        if let Some(what) = self.costly() {
            // Who allows these has said so of these numbers in particular, so `mobile-only` does not take it back.
            return if rules.allow_premium {
                Ok(())
            } else {
                Err(PhoneFault::Costly(what))
            };
        }
        match self.no_mobile() {
            Some(what) if rules.mobile_only => Err(PhoneFault::NotMobile(what)),
            _ => Ok(()),
        }
    }

    /// A number at which a message costs whoever sends or receives it, or that belongs to no country.
    fn costly(&self) -> Option<&'static str> {
        match (self.country_code, self.kind) {
            // libphonenumber takes these for mobiles (ITU-T E.164 lists of assigned country codes).
            (870 | 881, _) => Some("satellite number"),
            (882 | 883, _) => Some("number of an international network"),
            (_, PhoneNumberType::PremiumRate) => Some("premium-rate number"),
            (_, PhoneNumberType::SharedCost) => Some("shared-cost number"),
            _ => None,
        }
    }

    /// What is surely no mobile. In North America and elsewhere fixed lines and mobiles share one plan (`FixedLineOrMobile`), and a
    /// personal number is routed to either: these pass.
    fn no_mobile(&self) -> Option<&'static str> {
        match self.kind {
            PhoneNumberType::FixedLine => Some("fixed line"),
            PhoneNumberType::TollFree => Some("toll-free number"),
            PhoneNumberType::VoIP => Some("number of internet telephony"),
            PhoneNumberType::Pager => Some("pager"),
            PhoneNumberType::UAN => Some("company's access number"),
            PhoneNumberType::VoiceMail => Some("voicemail access"),
            _ => None,
        }
    }
}

/// Lets libphonenumber prepare itself: it compiles each expression when it first needs it, some 50 ms in all, which nobody need wait
/// for while a first pass is still connecting.
pub fn warm_up(region: Option<&str>) {
    let region = region.and_then(region::country).unwrap_or(Region::US);
    if let Ok(number) = PHONE_NUMBER_UTIL.get_example_number(region) {
        let text = PHONE_NUMBER_UTIL.format(&number, rlibphonenumber::PhoneNumberFormat::National);
        let _of_no_interest = typed_number(&text, Some(region.as_region_str().as_ref()));
    }
}

/// ISO 3166-1 of the country that a number belongs to; `None`: it belongs to none, or to none that is known.
pub fn country_of(phone: &Phone) -> Option<String> {
    let number = PHONE_NUMBER_UTIL.parse(phone.as_str(), None).ok()?;
    let region = PHONE_NUMBER_UTIL
        .get_region_for_number(&number)
        .or_else(|| PHONE_NUMBER_UTIL.get_region_for_country_code(number.country_code))?;
    let code = region.as_region_str().as_ref().to_owned();
    // `001`: networks that belong to no country.
    code.chars()
        .all(|c| c.is_ascii_alphabetic())
        .then_some(code)
}

/// A number that an administrator types: read like the directory's, but kept with a warning where a rule would refuse it.
/// `region` (ISO 3166-1) is that of national numbers. The error says what to mend.
pub fn typed_number(text: &str, region: Option<&str>) -> Result<(Phone, Option<String>), String> {
    let mut hint = || realm_region(region);
    let (number, _) = read(text, &mut hint).map_err(told)?;
    let warning = match (number.costly(), number.no_mobile()) {
        (Some(what), _) => Some(format!(
            "by its numbering plan this is a {what}: make sure that it is the person's own"
        )),
        (None, Some(what)) => Some(format!(
            "by its numbering plan this is a {what}: text messages may not arrive"
        )),
        (None, None) => None,
    };
    Ok((number.phone, warning))
}

/// A number of a file of users, by the realm's rules; and whether a spreadsheet lost its first zero or its plus, which is given back
/// only where nothing else can have been meant. The error says what to mend.
pub(super) fn imported_number(text: &str, rules: &PhoneConfig) -> Result<(Phone, bool), String> {
    let mut hint = || realm_region(rules.region.as_deref());
    let (number, region) = read(text, &mut hint).map_err(told)?;
    let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let marked = bare && region.is_some() && lost_its_beginning(&number, text);
    if marked && judge(&format!("+{text}"), None).is_ok_and(|other| other.phone != number.phone) {
        return Err(told(PhoneFault::Ambiguous));
    }
    number.allowed(rules).map_err(told)?;
    Ok((number.phone, marked))
}

/// Whether digits alone are a number without the zero that its country writes before it, or without the plus.
fn lost_its_beginning(number: &Number, digits: &str) -> bool {
    let whole = number.phone.as_str().trim_start_matches('+');
    if whole == digits {
        return true;
    }
    if digits.starts_with('0') {
        return false;
    }
    let national = PHONE_NUMBER_UTIL
        .parse(number.phone.as_str(), None)
        .map(|parsed| {
            let shown = PHONE_NUMBER_UTIL.format(&parsed, PhoneNumberFormat::National);
            shown.trim_start_matches('(').starts_with('0')
        });
    national.unwrap_or(false)
}

fn realm_region(region: Option<&str>) -> Result<Region, PhoneFault> {
    let code = region.ok_or(PhoneFault::NoRegion)?;
    region::country(code).ok_or_else(|| PhoneFault::HintNotUnderstood(code.to_owned()))
}

/// A fault, said to whoever types or writes a file rather than to who looks after a directory.
fn told(fault: PhoneFault) -> String {
    match fault {
        PhoneFault::Empty | PhoneFault::NoDigits => {
            "there is no digit in it: enter a number, or leave it out".to_owned()
        }
        PhoneFault::NoRegion => {
            "a national number, and the realm has no region: write it with + and the country code, or give the realm one".to_owned()
        }
        other => other.to_string().replacen("the value", "it", 1),
    }
}
