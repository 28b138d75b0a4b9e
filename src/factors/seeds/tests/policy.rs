//! What a file says of a token besides its seed.

use super::*;
use crate::factors::otp::Generator;

fn first(text: &str, options: &SeedFileOptions) -> SeedToken {
    taken(text, options).tokens[0].clone()
}

#[test]
fn trap_104_a_counter_is_a_number_in_each_of_its_forms() {
    for (written, counter) in [
        ("831791", 831_791),
        ("NzA5Nzkx", 709_791),
        ("AAYxSg==", 405_834),
        ("AAAAAAAAAAw=", 12),
        (" 0 ", 0),
    ] {
        let text = hotp(&data(&format!(
            "<Counter><PlainValue>{written}</PlainValue></Counter>"
        )));
        assert_eq!(first(&text, &plain()).next, counter, "{written}");
    }
    for written in [
        "-1",
        "x!",
        "AAAAAAAAAAAAAAw=",
        "9999999999999999999999",
        "4611686018427387905",
    ] {
        let text = hotp(&data(&format!(
            "<Counter><PlainValue>{written}</PlainValue></Counter>"
        )));
        assert!(
            refused(&text, &plain()).contains("its counter"),
            "{written}"
        );
    }
}

#[test]
fn trap_104_names_come_with_and_without_what_stands_before_them() {
    let algorithm = |name: &str| one(&format!("Algorithm='{name}'"), &data(""));
    for name in [
        "urn:ietf:params:xml:ns:keyprov:pskc:hotp",
        "urn:ietf:params:xml:ns:keyprov:pskc#hotp",
        "urn:ietf:params:xml:ns:keyprov:pskc:1.0:hotp",
        "http://www.ietf.org/keyprov/pskc#hotp",
        "HOTP",
        "hotp",
    ] {
        assert_eq!(
            first(&algorithm(name), &plain()).kind,
            AuthenticatorKind::Hotp,
            "{name}"
        );
    }
    assert_eq!(
        first(&one("KeyAlgorithm='TOTP'", &data("")), &plain()).kind,
        AuthenticatorKind::Totp
    );
    for name in [
        "urn:ietf:params:xml:ns:keyprov:pskc#OCRA-1:HOTP-SHA512-8:C-QN08",
        "urn:ietf:params:xml:ns:keyprov:pskc:ocra",
        "http://www.yubico.com/#yubikey-aes",
        "urn:other:hotp",
        "hotpx",
    ] {
        assert!(
            refused(&algorithm(name), &plain()).contains("only HOTP and TOTP"),
            "{name}"
        );
    }
    assert!(refused(&one("", &data("")), &plain()).contains("its algorithm is missing"));
}

#[test]
fn a_token_without_a_device_has_the_serial_of_its_key_and_two_keys_of_one_device_have_their_ids() {
    let text = hotp(&data(""))
        .replace("SerialNo>", "Model>")
        .replace("<Key ", "<Key Id='K7' ");
    assert_eq!(first(&text, &plain()).serial, "K7");
    let text = hotp(&data("")).replace("SerialNo>", "Model>");
    assert!(refused(&text, &plain()).contains("it has no serial"));
    let other = data("").replace(SEED_BASE64, "MTIzNDU2Nzg5MDEyMzQ1Njc4OTE=");
    let text = format!(
        "<KeyContainer xmlns='urn:ietf:params:xml:ns:keyprov:pskc'><KeyPackage><DeviceInfo><SerialNo>D</SerialNo></DeviceInfo>
        <Key Id='1' Algorithm='hotp'>{}</Key><Key Id='2' Algorithm='totp'>{other}</Key></KeyPackage></KeyContainer>",
        data("")
    );
    let serials: Vec<String> = taken(&text, &plain())
        .tokens
        .into_iter()
        .map(|t| t.serial)
        .collect();
    assert_eq!(serials, ["D#1", "D#2"]);
}

#[test]
fn trap_109_a_serial_or_a_seed_that_is_there_twice_is_refused() {
    let key = |id: &str| {
        format!(
            "<KeyPackage><Key Id='{id}' Algorithm='hotp'>{}</Key></KeyPackage>",
            data("")
        )
    };
    let both = |a: &str, b: &str| {
        format!(
            "<KeyContainer xmlns='urn:ietf:params:xml:ns:keyprov:pskc'>\n{}\n{}</KeyContainer>",
            key(a),
            key(b)
        )
    };
    assert_eq!(
        refused(&both("1", "1"), &plain()),
        "line 3: token 1: line 2 has this serial too"
    );
    assert!(
        refused(&both("1", "2"), &plain())
            .starts_with("line 3: token 2: it has the same seed as 1 in line 2")
    );
}

#[test]
fn trap_106_the_hash_comes_from_suite_algorithm_or_option_and_a_long_seed_without_one_is_told() {
    let long = data("").replace(SEED_BASE64, &data_encoding::BASE64.encode(&[7; 32]));
    let suite = |name: &str| {
        totp(&format!(
            "<AlgorithmParameters><Suite>{name}</Suite></AlgorithmParameters>{long}"
        ))
    };
    for (name, hash) in [
        ("HMAC-SHA256", OtpHash::Sha256),
        ("sha-512", OtpHash::Sha512),
        ("TOTP-SHA1", OtpHash::Sha1),
    ] {
        let file = taken(&suite(name), &plain());
        assert_eq!(file.tokens[0].hash, hash, "{name}");
        assert_eq!(file.warnings, [(SeedWarning::NotEncrypted, 1)]);
    }
    assert!(refused(&suite("HMAC-MD5"), &plain()).contains("its suite is `HMAC-MD5`"));
    let named = one(
        "Algorithm='urn:ietf:params:xml:ns:keyprov:pskc:totp-sha256'",
        &long,
    );
    assert_eq!(first(&named, &plain()).hash, OtpHash::Sha256);
    let both = named.replace(
        "<Data>",
        "<AlgorithmParameters><Suite>SHA1</Suite></AlgorithmParameters><Data>",
    );
    assert!(refused(&both, &plain()).contains("its algorithm says sha256, and its suite sha1"));

    let file = taken(&totp(&long), &plain());
    assert_eq!(file.tokens[0].hash, OtpHash::Sha1);
    assert!(file.warnings.contains(&(SeedWarning::HashNotGiven, 1)));
    let mut options = plain();
    options.hash = Some(OtpHash::Sha512);
    assert!(
        taken(&totp(&long), &options)
            .warnings
            .iter()
            .all(|(w, _)| *w == SeedWarning::NotEncrypted)
    );
    let file = taken(&suite("SHA256"), &options);
    assert_eq!(file.tokens[0].hash, OtpHash::Sha512);
    assert!(file.warnings.contains(&(SeedWarning::Overridden, 1)));
}

#[test]
fn trap_106_tokens_of_60_seconds_and_8_digits_make_the_codes_of_rfc_6238() {
    let seed: Vec<u8> = SEED.iter().copied().cycle().take(64).collect();
    for (length, hash, code) in [
        (20, "SHA1", 94_287_082),
        (32, "SHA256", 46_119_246),
        (64, "SHA512", 90_693_936),
    ] {
        let text = totp(&format!(
            "<AlgorithmParameters><Suite>HMAC-{hash}</Suite><ResponseFormat Length='8' Encoding='DECIMAL'/></AlgorithmParameters>{}",
            data("<TimeInterval><PlainValue>60</PlainValue></TimeInterval>")
                .replace(SEED_BASE64, &data_encoding::BASE64.encode(&seed[..length]))
        ));
        let token = first(&text, &plain());
        assert_eq!((token.period, token.digits), (60, 8));
        let generator = Generator::new(token.seed, token.hash, token.digits);
        // Step 1 of 30 s is step 1 of any length.
        assert_eq!(generator.code(1), code);
        let mut options = plain();
        options.period = Some(30);
        let file = taken(&text, &options);
        assert_eq!(file.tokens[0].period, 30);
        assert!(file.warnings.contains(&(SeedWarning::Overridden, 1)));
    }
    let text = totp(&data(
        "<TimeInterval><PlainValue>172800</PlainValue></TimeInterval>",
    ));
    assert!(refused(&text, &plain()).contains("say --period"));
    assert_eq!(
        first(
            &totp(&data("<TimeDrift><PlainValue>-4</PlainValue></TimeDrift>")),
            &plain()
        )
        .drift,
        -4
    );
}

#[test]
fn trap_110_dates_are_kept_and_what_cannot_be_obeyed_is_refused() {
    let policy = |rules: &str| totp(&format!("{}<Policy>{rules}</Policy>", data("")));
    let token = first(
        &policy(
            "<StartDate>2006-05-01T00:00:00Z</StartDate><ExpiryDate>2026-05-31T00:00:00+02:00</ExpiryDate><KeyUsage>OTP</KeyUsage>",
        ),
        &plain(),
    );
    let shown = |t: Option<Timestamp>| t.map(Timestamp::rfc3339);
    assert_eq!(
        shown(token.valid_from).as_deref(),
        Some("2006-05-01T00:00:00.000Z")
    );
    assert_eq!(
        shown(token.valid_until).as_deref(),
        Some("2026-05-30T22:00:00.000Z")
    );
    // Of two dates the narrower one counts; a day alone counts whole.
    let both = policy("<ExpiryDate>2026-05-31</ExpiryDate>").replace(
        "</DeviceInfo>",
        "<ExpiryDate>2027-01-01T00:00:00</ExpiryDate></DeviceInfo>",
    );
    assert_eq!(
        shown(first(&both, &plain()).valid_until).as_deref(),
        Some("2026-06-01T00:00:00.000Z")
    );
    let draft = |date: &str| {
        totp(&data("")).replace(
            "</DeviceInfo>",
            &format!("<Expiry>{date}</Expiry></DeviceInfo>"),
        )
    };
    assert_eq!(
        shown(first(&draft("31/12/2037"), &plain()).valid_until).as_deref(),
        Some("2038-01-01T00:00:00.000Z")
    );
    assert!(
        refused(&draft("01/02/2037"), &plain())
            .contains("its expiry: `01/02/2037` is no date that can be told")
    );

    for (rules, said) in [
        (
            "<NumberOfTransactions>4321</NumberOfTransactions>",
            "its policy has `NumberOfTransactions`",
        ),
        ("<Foo>bar</Foo>", "its policy has `Foo`"),
        ("<KeyUsage>CR</KeyUsage>", "used for CR only"),
        (
            "<PINPolicy PINUsageMode='Append'/>",
            "its PIN comes into the code (`Append`)",
        ),
        (
            "<PINPolicy PINUsageMode='Local' OnWeekDaysOnly='TRUE'/>",
            "its policy has `OnWeekDaysOnly`",
        ),
        (
            "<PINPolicy PINUsageMode='Local'><Foo/></PINPolicy>",
            "its policy has `Foo`",
        ),
        ("<ExpiryDate>soon</ExpiryDate>", "its expiry: `soon`"),
    ] {
        let why = refused(&policy(rules), &plain());
        assert!(why.contains(said), "{why}");
    }
    let local = policy(
        "<PINPolicy MinLength='4' MaxLength='4' PINKeyId='1' PINEncoding='DECIMAL' PINUsageMode='Local'/><KeyUsage>OTP</KeyUsage>",
    );
    assert_eq!(taken(&local, &plain()).tokens.len(), 1);
}

#[test]
fn the_pin_of_a_token_is_no_token() {
    let pin = "<Key Id='1' Algorithm='urn:ietf:params:xml:ns:keyprov:pskc:pin'><Data><Secret><PlainValue>MTIzNA==</PlainValue></Secret></Data></Key>";
    let text = hotp(&data("")).replace("</Key>", &format!("</Key>{pin}"));
    let file = taken(&text, &plain());
    assert_eq!(file.tokens[0].serial, "A1");
    assert!(file.warnings.contains(&(SeedWarning::PinSkipped, 1)));
    let alone = format!(
        "<KeyContainer xmlns='urn:ietf:params:xml:ns:keyprov:pskc'><KeyPackage>{pin}</KeyPackage></KeyContainer>"
    );
    assert_eq!(
        refused(&alone, &plain()),
        "there is no token in it, only PINs"
    );
}

#[test]
fn codes_that_are_not_verified_here_are_refused() {
    for (format, said) in [
        (
            "<ResponseFormat Encoding='HEXADECIMAL' Length='6'/>",
            "its codes are `HEXADECIMAL`",
        ),
        (
            "<ResponseFormat Encoding='DECIMAL' Length='5'/>",
            "its codes have `5` digits",
        ),
        (
            "<ResponseFormat Encoding='DECIMAL' Length='6' CheckDigits='true'/>",
            "a check digit",
        ),
    ] {
        let text = hotp(&format!(
            "<AlgorithmParameters>{format}</AlgorithmParameters>{}",
            data("")
        ));
        assert!(refused(&text, &plain()).contains(said), "{said}");
    }
    let short = data("").replace(SEED_BASE64, "MTIzNA==");
    assert!(
        refused(&hotp(&short), &plain()).contains("its seed has 4 bytes: 10 to 128 are possible")
    );
    assert!(refused(&hotp("<Data/>"), &plain()).contains("its seed is missing"));
}

#[test]
fn trap_104_every_encoding_and_line_end_is_read() {
    let text = hotp(&data(""))
        .replace("A1", "Ž1")
        .replace(SEED_BASE64, "\r\n MTIzNDU2Nzg5MDEy\r\n\tMzQ1Njc4OTA= \r\n");
    let utf16 = |unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
        std::iter::once(0xfeff)
            .chain(text.encode_utf16())
            .flat_map(unit)
            .collect()
    };
    let utf8 = text.clone().into_bytes();
    let with_mark = [b"\xef\xbb\xbf", utf8.as_slice()].concat();
    for bytes in [
        utf8,
        with_mark,
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
    ] {
        let file = read(&bytes, &plain()).unwrap();
        assert_eq!(&**file.tokens[0].seed, SEED);
        assert_eq!(file.tokens[0].serial, "Ž1");
    }
    let latin = format!(
        "<?xml version='1.0' encoding='ISO-8859-1'?>{}",
        hotp(&data("")).replace("A1", "\u{e9}1")
    );
    let bytes: Vec<u8> = latin
        .chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect();
    assert_eq!(read(&bytes, &plain()).unwrap().tokens[0].serial, "é1");
}
