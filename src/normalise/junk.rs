//! Telephone numbers as people really type them, and what becomes of each. `!` begins a refusal, by the name of its fault.

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, Region};

use super::phone::{PhoneFault, read};
use crate::config::PhoneConfig;

const ANY: PhoneConfig = PhoneConfig {
    region: None,
    mobile_only: false,
    allow_premium: true,
};

fn outcome(region: &str, raw: &str, rules: &PhoneConfig) -> String {
    let mut hint = || Region::from_code(region).map_err(|_| PhoneFault::NoRegion);
    match read(raw, &mut hint).and_then(|(number, _)| number.allowed(rules).map(|()| number)) {
        Ok(number) => number.phone.as_str().to_owned(),
        Err(fault) => {
            let name = format!("{fault:?}");
            format!("!{}", name.split('(').next().unwrap_or_default())
        }
    }
}

fn check(rules: &PhoneConfig, table: &[(&str, &str, &str)]) {
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(region, raw, expected)| {
            let found = outcome(region, raw, rules);
            (found != *expected)
                .then(|| format!("{region} {raw:?}: expected {expected}, found {found}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[rustfmt::skip]
const SPELLINGS: &[&str] = &[
    // All of these are +421905123456 in SK.
    "+421905123456", "+421 905 123 456", "+421-905-123-456", "+421.905.123.456", "+421/905/123 456", "+421 (905) 123 456",
    "+421 (0)905 123 456", "+421(0)905123456", "+421 0905 123 456", "(+421) 905 123 456", "[+421] 905 123 456", "+ 421 905 123 456",
    "00421905123456", "00421 905 123 456", "00 421 905 123 456", "(00421) 905 123456", "00421 (0) 905 123 456", "421905123456",
    "0905123456", "0905 123 456", "0905/123 456", "0905/123456", "0905-123-456", "0905.123.456", "(0905) 123 456", "0905 / 123 456",
    "905123456", "905 123 456", "0 9 0 5 1 2 3 4 5 6", "0905 12 34 56",
    "  +421905123456  ", "\u{a0}+421\u{a0}905\u{a0}123\u{a0}456\u{a0}", "\t0905 123 456\r\n", "\u{202a}+421 905 123 456\u{202c}",
    "\u{200e}+421905123456", "+421\u{200b}905\u{200b}123456", "+421\u{2060}905123456", "\u{feff}0905123456", "0905\u{ad}123\u{ad}456",
    "\u{2066}0905 123 456\u{2069}", "0905\u{2003}123\u{3000}456", "0905\u{202f}123\u{202f}456", "+421\u{200e}905\u{200f}123456",
    "+421 905\u{2011}123\u{2011}456", "+421 905\u{2013}123\u{2014}456", "+421 905\u{2212}123456", "0905·123·456",
    "tel:+421905123456", "tel:+421-905-123-456", "TEL:+421905123456", "tel: 0905 123 456", "tel:0905123456;phone-context=+421",
    "tel:905123456;phone-context=+421", "tel:0905123456;phone-context=example.org", "tel:+421905123456;isub=12", "<tel:+421905123456>",
    "callto:+421905123456", "Tel.: 0905 123 456", "Tel: +421 905 123 456", "tel. č. 0905 123 456", "Mobil: 0905 123 456", "mob. 0905123456", "M: +421 905 123 456",
    "m 0905123456", "GSM 0905 123 456", "Handy: 0905123456", "phone: 0905123456", "Telefón 0905123456", "моб. 0905123456", "☎ 0905 123 456", "📞0905123456", "📱 +421905123456",
    "0905123456 x12", "0905123456x12", "0905 123 456 ext. 12", "0905 123 456 ext 12", "0905 123 456, ext. 12", "0905123456 extension 12", "+421905123456;ext=12",
    "tel:+421905123456;ext=12", "+421905123456 #12", "+421905123456 доб. 12", "0905 123 456 (ext. 12)", "0905123456,,12#", "+421 905 123 456,,12", "0905123456 ext:12", "0905123456 X 1234567",
    "+421905123456;", "0905 123 456,", "0905 123 456.", "\"0905 123 456\"", "'0905123456'", "++421905123456", "+00421905123456", "＋421905123456",
    "０９０５１２３４５６", "+４２１９０５１２３４５６", "٠٩٠٥١٢٣٤٥٦", "०९०५१२३४५६", "-0905123456", "(0905123456)", "0905--123--456", "+421-(0)-905-123456",
];

#[test]
fn one_number_has_many_spellings() {
    let table: Vec<_> = SPELLINGS
        .iter()
        .map(|raw| ("SK", *raw, "+421905123456"))
        .collect();
    assert!(table.len() > 100);
    check(&ANY, &table);
}

#[test]
#[rustfmt::skip]
fn what_cannot_be_read_is_refused_with_its_reason() {
    check(&ANY, &[
        ("SK", "", "!Empty"), ("SK", "   ", "!Empty"), ("SK", "\u{a0}\u{200e}", "!Empty"), ("SK", ";", "!Empty"),
        ("SK", "n/a", "!NoDigits"), ("SK", "-", "!NoDigits"), ("SK", "?", "!NoDigits"), ("SK", "TBD", "!NoDigits"), ("SK", "ask reception", "!NoDigits"),
        ("SK", "+", "!NoDigits"), ("SK", "x", "!NoDigits"), ("SK", "tel:", "!NoDigits"), ("SK", "žiadne", "!NoDigits"),
        ("SK", "O905123456", "!LetterForDigit"), ("SK", "09O5123456", "!LetterForDigit"), ("SK", "0905 123 45O", "!LetterForDigit"), ("SK", "+421 9O5 123 456", "!LetterForDigit"),
        ("SK", "o905123456", "!LetterForDigit"), ("SK", "0905 I23 456", "!LetterForDigit"), ("SK", "0905l23456", "!LetterForDigit"), ("IN", "+91741O414776", "!LetterForDigit"),
        ("SK", "09О5123456", "!LetterForDigit"), ("SK", "OO421905123456", "!LetterForDigit"), ("SK", "0905 12OO 56", "!LetterForDigit"), ("SK", "0905123 4S6", "!Letters"),
        ("US", "1-800-FLOWERS", "!Letters"), ("US", "1-800-MICROSOFT", "!Letters"), ("US", "201-CALL-NOW", "!Letters"), ("US", "(800) 4MY-WORD", "!Letters"),
        ("SK", "0905 123 456 práca", "!Letters"), ("SK", "0905 123 456 (work)", "!Letters"), ("SK", "0905123456 Jan", "!Letters"), ("SK", "fax 02/5555 1234", "!Letters"),
        ("SK", "old: 0905123456", "!Letters"), ("SK", "not 0905123456", "!Letters"), ("SK", "ask Eva 0905123456", "!Letters"), ("SK", "klapka 123", "!Letters"),
        ("SK", "x1234", "!Letters"), ("SK", "ext. 12", "!Letters"), ("SK", "0905 123 456 x", "!Letters"), ("SK", "0905 x 12 x 13", "!Letters"), ("SK", "0905123456 ext. 12b", "!Letters"),
        ("SK", "0905x123x456", "!Letters"), ("SK", "0x38F2A1", "!Letters"), ("SK", "jan@example.org 1", "!Unreadable"), ("SK", "0905123456 since 2020", "!Letters"),
        ("SK", "0905123456, 0907654321", "!Several"), ("SK", "0905123456; 0907654321", "!Several"), ("SK", "0905123456;0907654321", "!Several"), ("SK", "0905 123 456 / 0907 654 321", "!TooLong"),
        ("SK", "+421905123456/+421907654321", "!Several"), ("SK", "+421905123456 +421907654321", "!Several"), ("SK", "0905123456|0907654321", "!Several"),
        ("SK", "0905123456 & 0907654321", "!Several"), ("SK", "0905123456\n0907654321", "!Several"), ("SK", "0905123456\r\n0907654321", "!Several"), ("SK", "0905123456 or 0907654321", "!Several"),
        ("SK", "0905123456 alebo 0907654321", "!Several"), ("SK", "0905123456 x 0907654321", "!Several"), ("SK", "0905123456 ext. 0907654321", "!Several"), ("SK", "0905123456,,0907654321", "!Several"),
        ("SK", "0905123456 0907654321", "!TooLong"), ("CZ", "601123456 601123457", "!TooLong"), ("DE", "0301234/0305678", "!Several"), ("DE", "+49301234/0305678", "!Several"),
        ("SK", "0905,123,456", "!Unreadable"), ("SK", "0905:123:456", "!Unreadable"), ("SK", "0905_123_456", "!Unreadable"), ("SK", "0905=123456", "!Unreadable"), ("SK", "0905%20123456", "!Unreadable"),
        ("SK", "0905'123'456", "!Unreadable"), ("SK", "?0905123456", "!Unreadable"), ("SK", "0905123456?", "!Unreadable"), ("SK", "0905123456;foo=1", "!Unreadable"), ("SK", "0905123456;1", "!Unreadable"),
        ("SK", "0905123456,12", "!Unreadable"), ("SK", "0905\n123456", "!Unreadable"), ("SK", "$0905123456", "!Unreadable"), ("SK", "tel:0905123456;phone-context=+", "!NoSuchCountryCode"),
        ("SK", "*123#", "!ServiceCode"), ("SK", "#31#0905123456", "!ServiceCode"), ("SK", "0905*123456", "!ServiceCode"), ("SK", "0905123456#", "!Letters"), ("SK", "*1510905123456", "!ServiceCode"),
        ("SK", "0905\u{0}123456", "!Control"), ("SK", "0905\u{1b}123456", "!Control"), ("SK", "0905123456\u{7f}1", "!Control"),
        ("SK", "0905+123456", "!Several"), ("SK", "0905 (+421) 123456", "!Several"),
        ("SK", "12345", "!TooShort"), ("SK", "905 1", "!TooShort"), ("SK", "1", "!TooShort"), ("SK", "00", "!TooShort"), ("SK", "112", "!TooShort"), ("SK", "0", "!TooShort"), ("SK", "+421 90", "!TooShort"),
        ("SK", "0905 123 45", "!NotInUse"), ("SK", "+42190512345", "!NotInUse"), ("SK", "0905 123 4567", "!TooLong"), ("SK", "+4219051234567", "!TooLong"), ("SK", "+4219051234567890123", "!TooLong"),
        ("SK", "1234567890123456789012345678901234567890", "!TooLong"), ("SK", "0000000000", "!NotInUse"), ("SK", "000 000 000", "!NotInUse"), ("SK", "0111111111", "!NotInUse"),
        ("SK", "+999 123 456 789", "!NoSuchCountryCode"), ("SK", "+0905123456", "!NoSuchCountryCode"), ("SK", "+210 123456", "!NoSuchCountryCode"), ("SK", "²0905123456", "!Unreadable"), ("SK", "0905½123456", "!Unreadable"),
        ("US", "555-1234", "!NotInUse"), ("US", "123-456-7890", "!NotInUse"), ("CZ", "+420 (0)601 123 456", "!NotInUse"), ("GB", "07123", "!NotInUse"), ("US", "00421905123456", "!TooLong"),
        ("??", "0905123456", "!NoRegion"), ("??", "00421905123456", "!NoRegion"), ("??", "421905123456", "!NoRegion"), ("??", "+00421905123456", "!NoRegion"), ("??", "tel:0905123456", "!NoRegion"),
        ("AQ", "0905123456", "!NoPlan"), ("XX", "0905123456", "!NoPlan"),
    ]);
    let long = format!("0905123456{}", " ".repeat(250));
    assert_eq!(outcome("SK", &format!("{long}1"), &ANY), "!TooMuchText");
}

#[test]
#[rustfmt::skip]
fn national_numbers_follow_their_region() {
    check(&ANY, &[
        ("SK", "0987654321", "+421987654321"), ("US", "201-321-4567", "+12013214567"), ("US", "(201) 321-4567", "+12013214567"), ("US", "1-201-321-4567", "+12013214567"),
        ("US", "1 (201) 321-4567 x99", "+12013214567"), ("US", "011 421 905 123 456", "+421905123456"), ("CA", "416-555-0123", "+14165550123"), ("CZ", "601 123 456", "+420601123456"),
        ("CZ", "00421905123456", "+421905123456"), ("CZ", "905123456", "+420905123456"), ("DE", "4915123459054", "!Ambiguous"), ("DE", "0151 23456789", "+4915123456789"), ("DE", "0151/23456789", "+4915123456789"),
        ("AT", "0664 1234567", "+436641234567"), ("HU", "06 20 123 4567", "+36201234567"), ("HU", "06-20/123-4567", "+36201234567"), ("HU", "+36 (06) 20 123 4567", "+36201234567"), ("IT", "06 1234 5678", "+390612345678"),
        ("IT", "+39 06 1234 5678", "+390612345678"), ("IT", "+39 6 1234 5678", "!NotInUse"), ("IT", "333 1234567", "+393331234567"), ("GB", "07400 123456", "+447400123456"), ("GB", "+44 (0)7400 123456", "+447400123456"),
        ("FR", "06 12 34 56 78", "+33612345678"), ("FR", "06.12.34.56.78", "+33612345678"), ("PL", "501 234 567", "+48501234567"), ("UA", "067 123 4567", "+380671234567"), ("UA", "8 067 123 4567", "!TooLong"),
        ("RU", "8 912 345-67-89", "+79123456789"), ("IN", "098100 12345", "+919810012345"), ("JP", "090-1234-5678", "+819012345678"), ("JP", "010 421 905 123 456", "+421905123456"), ("BR", "(11) 91234-5678", "+5511912345678"),
        ("BR", "005541 9112-34567", "!Ambiguous"), ("BR", "+005541 9112-34567", "!Ambiguous"), ("BR", "0041 21 79 123 45 67", "!NoSuchCountryCode"), ("SK", "421 (0)905 123456", "+421905123456"), ("BR", "0 11 91234-5678", "+5511912345678"), ("BR", "0 21 11 91234-5678", "+5511912345678"), ("AR", "011 15-2345-6789", "+5491123456789"), ("MX", "55 1234 5678", "+525512345678"), ("CN", "131 2345 6789", "+8613123456789"),
        ("CH", "079 123 45 67", "+41791234567"), ("NL", "06-12345678", "+31612345678"), ("BE", "0470 12 34 56", "+32470123456"), ("SE", "070-123 45 67", "+46701234567"), ("AU", "0412 345 678", "+61412345678"), ("XK", "044 123 456", "+38344123456"),
    ]);
}

#[test]
#[rustfmt::skip]
fn the_rules_of_a_realm_refuse_what_exists() {
    let rules = |mobile_only, allow_premium| PhoneConfig { region: None, mobile_only, allow_premium };
    let table = [
        // region, raw, by default, with mobile-only = false, with allow-premium = true
        ("SK", "0905123456", "+421905123456", "+421905123456", "+421905123456"),
        ("SK", "02/5555 1234", "!NotMobile", "+421255551234", "!NotMobile"),
        ("SK", "0800 123 456", "!NotMobile", "+421800123456", "!NotMobile"),
        ("SK", "0987654321", "!Costly", "!Costly", "+421987654321"),
        ("US", "201-321-4567", "+12013214567", "+12013214567", "+12013214567"),
        ("US", "800-234-5678", "!NotMobile", "+18002345678", "!NotMobile"),
        ("US", "900-234-5678", "!Costly", "!Costly", "+19002345678"),
        ("GB", "0843 123 4567", "!Costly", "!Costly", "+448431234567"),
        ("GB", "0909 879 0123", "!Costly", "!Costly", "+449098790123"),
        ("GB", "056 1234 5678", "!NotMobile", "+445612345678", "!NotMobile"),
        ("GB", "0300 123 4567", "!NotMobile", "+443001234567", "!NotMobile"),
        ("GB", "076 4012 3456", "!NotMobile", "+447640123456", "!NotMobile"),
        ("GB", "070 1234 5678", "+447012345678", "+447012345678", "+447012345678"),
        ("DE", "0180 1 234567", "!Costly", "!Costly", "+491801234567"),
        ("BR", "(11) 3123-4567", "!NotMobile", "+551131234567", "!NotMobile"),
        ("SK", "+881 612 345 678", "!Costly", "!Costly", "+881612345678"),
        ("SK", "+870 773 111 632", "!Costly", "!Costly", "+870773111632"),
        ("SK", "+882 16 21234567", "!Costly", "!Costly", "+8821621234567"),
        ("SK", "+883 5100 12345678", "!Costly", "!Costly", "+883510012345678"),
        ("SK", "+979 123 456 789", "!Costly", "!Costly", "+979123456789"),
        ("SK", "+808 1234 5678", "!Costly", "!Costly", "+80812345678"),
        ("SK", "+800 1234 5678", "!NotMobile", "+80012345678", "!NotMobile"),
    ];
    for (which, rules) in [rules(true, false), rules(false, false), rules(true, true)].iter().enumerate() {
        let column: Vec<_> = table.iter().map(|row| (row.0, row.1, [row.2, row.3, row.4][which])).collect();
        check(rules, &column);
    }
}

/// Whatever is accepted of these is what libphonenumber reads of the same text, or, where it stumbles over marks that nobody sees, nothing.
#[test]
fn nothing_is_read_differently_than_by_libphonenumber() {
    for raw in SPELLINGS {
        let theirs = PHONE_NUMBER_UTIL
            .parse(raw, Some(Region::SK))
            .ok()
            .filter(|n| PHONE_NUMBER_UTIL.is_valid_number(n))
            .map(|n| {
                PHONE_NUMBER_UTIL
                    .format(&n, PhoneNumberFormat::E164)
                    .into_owned()
            });
        let ours = outcome("SK", raw, &ANY);
        assert!(
            ours.starts_with('!') || theirs.is_none_or(|t| t == ours),
            "{raw:?}"
        );
    }
}
