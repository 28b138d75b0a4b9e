//! Encrypted values and their MACs.

use aes::Aes128;
use cbc::Encryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};

use super::*;

#[test]
fn figures_6_and_7_of_rfc_6030_are_read() {
    let file = taken(FIGURE_6, &with_key());
    let [token] = file.tokens.as_slice() else {
        panic!("one token");
    };
    assert_eq!(&**token.seed, SEED);
    assert_eq!(token.serial, "987654321");
    assert_eq!(token.manufacturer.as_deref(), Some("Manufacturer"));
    assert_eq!(
        (token.kind, token.digits, token.next),
        (AuthenticatorKind::Hotp, 8, 0)
    );
    assert_eq!(file.warnings, []);
    let file = taken(FIGURE_7, &with_passphrase("qwerty\n"));
    assert_eq!(&**file.tokens[0].seed, SEED);
}

/// Every base64 text of a document with one bit of one byte flipped.
fn flipped(text: &str, encoded: &str) -> Vec<String> {
    let bytes = xml::base64(encoded.as_bytes()).unwrap();
    let mut all = vec![];
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1 << (at % 8);
        let changed = data_encoding::BASE64.encode(&changed);
        all.push(text.replace(encoded, &changed));
    }
    all
}

#[test]
fn trap_71_one_bit_changed_in_value_iv_mac_or_key_of_the_mac_is_refused_in_the_same_words() {
    for (text, options, values) in [
        (
            FIGURE_6,
            with_key(),
            [
                "ESIzRFVmd4iZABEiM0RVZgKn6WjLaTC1sbeBMSvIhRejN9vJa2BOlSaMrR7I5wSX",
                "AAECAwQFBgcICQoLDA0OD+cIHItlB3Wra1DUpxVvOx2lef1VmNPCMl8jwZqIUqGv",
                "Su+NvtQfmvfJzF6bmQiJqoLRExc=",
            ],
        ),
        (
            FIGURE_7,
            with_passphrase("qwerty"),
            [
                "2GTTnLwM3I4e5IO5FkufoOEiOhNj91fhKRQBtBJYluUDsPOLTfUvoU2dStyOwYZx",
                "oTvo+S22nsmS2Z/RtcoF8Hfh+jzMe0RkiafpoDpnoZTjPYZu6V+A4aEn032yCr4f",
                "LP6xMvjtypbfT9PdkJhBZ+D6O4w=",
            ],
        ),
    ] {
        for value in values {
            for changed in flipped(text, value) {
                assert_eq!(refused(&changed, &options), cipher::UNREADABLE);
            }
        }
    }
    for wrong in ["qwertz", "", "qwerty "] {
        let said = refused(FIGURE_7, &with_passphrase(wrong));
        assert_eq!(said, cipher::UNREADABLE);
    }
}

#[test]
fn trap_71_a_value_without_its_mac_is_refused() {
    let without = FIGURE_6.replace("ValueMAC", "Nothing");
    assert!(refused(&without, &with_key()).contains("this value has no MAC"));
    // A seed in the clear among encrypted ones needs neither key nor MAC: it may have been swapped.
    let begin = FIGURE_6.find("<EncryptedValue>").unwrap();
    let end = FIGURE_6.find("</Secret>").unwrap();
    let swapped = format!(
        "{}<PlainValue>{SEED_BASE64}</PlainValue>{}",
        &FIGURE_6[..begin],
        &FIGURE_6[end..]
    );
    assert!(refused(&swapped, &with_key()).contains("in the clear"));
    // A MAC without a method is none.
    let begin = FIGURE_6.find("<MACMethod").unwrap();
    let end = FIGURE_6.find("<KeyPackage>").unwrap();
    let unsaid = format!("{}{}", &FIGURE_6[..begin], &FIGURE_6[end..]);
    assert!(refused(&unsaid, &with_key()).contains("does not say which one"));
    // No MAC at all is possible, and said.
    let none = unsaid.replace("ValueMAC", "Nothing");
    let file = taken(&none, &with_key());
    assert_eq!(file.warnings, [(SeedWarning::NoMac, 1)]);
}

/// Figure 6 with the IV of its seed in the container, and its MAC over this. The key of the MAC is wrapped: no IV is a part of it.
fn with_the_iv_apart(mac_over: impl Fn(&[u8], &[u8], &[u8]) -> Vec<u8>) -> (String, String) {
    use hmac::{Hmac, KeyInit, Mac};
    const WRAPPED: &str = "ESIzRFVmd4iZABEiM0RVZgKn6WjLaTC1sbeBMSvIhRejN9vJa2BOlSaMrR7I5wSX";
    const VALUE: &str = "AAECAwQFBgcICQoLDA0OD+cIHItlB3Wra1DUpxVvOx2lef1VmNPCMl8jwZqIUqGv";
    const MAC: &str = "Su+NvtQfmvfJzF6bmQiJqoLRExc=";
    let value = xml::base64(VALUE.as_bytes()).unwrap();
    let (iv, encrypted) = value.split_at(16);
    let mac_key = [7_u8; 16];
    let key = with_key().keys.key.unwrap();
    let mut wrapped = [0; 24];
    aes_kw::KwAes128::new_from_slice(&key)
        .unwrap()
        .wrap_key(&mac_key, &mut wrapped)
        .unwrap();
    let mut mac = <Hmac<sha1::Sha1> as KeyInit>::new_from_slice(&mac_key).unwrap();
    mac.update(&mac_over(iv, encrypted, SEED));
    let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    let iv = base64(iv);
    let begin = FIGURE_6.find("<MACKey>").unwrap();
    let end = FIGURE_6.find("</MACKey>").unwrap();
    let text = format!(
        r#"{}<MACKey><xenc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#kw-aes128"/><xenc:CipherData><xenc:CipherValue>{}</xenc:CipherValue></xenc:CipherData>{}"#,
        &FIGURE_6[..begin],
        base64(&wrapped),
        &FIGURE_6[end..]
    );
    assert!(!text.contains(WRAPPED));
    let text = text
        .replace(VALUE, &base64(encrypted))
        .replace(MAC, &base64(&mac.finalize().into_bytes()))
        .replace(
            "</EncryptionKey>",
            &format!("<IV>{iv}</IV></EncryptionKey>"),
        );
    (text, iv)
}

#[test]
fn trap_71_an_iv_beside_the_key_is_under_the_mac_or_it_is_said_that_it_is_not() {
    for over in [
        |_: &[u8], _: &[u8], plain: &[u8]| plain.to_vec(),
        |iv: &[u8], encrypted: &[u8], _: &[u8]| [iv, encrypted].concat(),
    ] {
        let (text, iv) = with_the_iv_apart(over);
        let file = taken(&text, &with_key());
        assert_eq!(&**file.tokens[0].seed, SEED);
        assert_eq!(file.warnings, []);
        for changed in flipped(&text, &iv) {
            assert_eq!(refused(&changed, &with_key()), cipher::UNREADABLE);
        }
    }
    let (text, _) = with_the_iv_apart(|_, encrypted, _| encrypted.to_vec());
    let file = taken(&text, &with_key());
    assert_eq!(&**file.tokens[0].seed, SEED);
    assert_eq!(file.warnings, [(SeedWarning::NoMac, 1)]);
}

#[test]
fn what_is_missing_to_decrypt_a_file_is_said_once() {
    let said = refused(FIGURE_6, &plain());
    assert!(
        said.contains("pre-shared key, named `Pre-shared-key`: give it with --key-file"),
        "{said}"
    );
    let said = refused(FIGURE_6, &with_passphrase("qwerty"));
    assert!(said.contains("and not with a passphrase"), "{said}");
    let said = refused(FIGURE_7, &plain());
    assert!(
        said.contains("named `My Password 1`: give it with --passphrase-file"),
        "{said}"
    );
    let mut options = with_key();
    options.keys.key = Some(Zeroizing::new(vec![1; 32]));
    let said = refused(FIGURE_6, &options);
    assert!(
        said.contains("a key of 16 bytes, and the one given has 32"),
        "{said}"
    );
    // The key that follows from the passphrase opens the file too.
    options.keys.key = SeedKeys::read_key(b"651e63cd57008476af1ff6422cd02e41").ok();
    assert_eq!(&**taken(FIGURE_7, &options).tokens[0].seed, SEED);
}

#[test]
fn a_key_is_read_in_hexadecimal_digits_and_in_base64() {
    let key: Vec<u8> = (1..=16).collect();
    for text in [
        "0102030405060708090a0b0c0d0e0f10",
        "01020304 05060708 090A0B0C 0D0E0F10\r\n",
        "AQIDBAUGBwgJCgsMDQ4PEA==\n",
        "AQIDBAUGBwgJCgsMDQ4PEA",
    ] {
        assert_eq!(*SeedKeys::read_key(text.as_bytes()).unwrap(), key, "{text}");
    }
    for text in [
        "",
        "0102",
        "not a key",
        "0102030405060708090a0b0c0d0e0f1011",
    ] {
        assert!(SeedKeys::read_key(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(&**SeedKeys::read_passphrase(b"a b \r\n"), b"a b ");
}

/// A file with so many tokens, encrypted with a key of 16 ones, without MAC. Each has its own seed.
fn encrypted(tokens: usize) -> String {
    let mut text = String::from(
        r#"<KeyContainer Version="1.0" xmlns="urn:ietf:params:xml:ns:keyprov:pskc" xmlns:x="http://www.w3.org/2001/04/xmlenc#">
        <EncryptionKey><KeyName>k</KeyName></EncryptionKey>"#,
    );
    for n in 0..tokens {
        let seed = format!("seed of number {n:05}");
        let mut bytes = [0; 48];
        bytes[..seed.len()].copy_from_slice(seed.as_bytes());
        let cipher = Encryptor::<Aes128>::new(&[1; 16].into(), &[2; 16].into());
        let encrypted = cipher
            .encrypt_padded::<Pkcs7>(&mut bytes, seed.len())
            .unwrap();
        let value = data_encoding::BASE64.encode(&[&[2; 16], encrypted].concat());
        text.push_str(&format!(
            r#"<KeyPackage><DeviceInfo><SerialNo>T{n:05}</SerialNo></DeviceInfo><Key Id="{n}" Algorithm="HOTP"><Data><Secret><EncryptedValue>
            <x:EncryptionMethod Algorithm="aes128-cbc"/><x:CipherData><x:CipherValue>{value}</x:CipherValue></x:CipherData></EncryptedValue></Secret></Data></Key></KeyPackage>"#
        ));
    }
    text + "</KeyContainer>"
}

#[test]
fn ten_thousand_encrypted_tokens_are_read_and_a_wrong_key_is_said_once() {
    let text = encrypted(10_000);
    let mut options = plain();
    options.keys.key = Some(Zeroizing::new(vec![1; 16]));
    let file = taken(&text, &options);
    assert_eq!(file.tokens.len(), 10_000);
    assert_eq!(&**file.tokens[7].seed, b"seed of number 00007");
    options.keys.key = None;
    let said = refused(&text, &options);
    assert!(
        said.starts_with("of all 10000 keys: it is encrypted with"),
        "{said}"
    );
}

#[test]
fn trap_112_nothing_secret_is_in_debug_output_faults_and_warnings() {
    let canary = "CANARYSEEDCANARYSEED";
    let encoded = data_encoding::BASE64.encode(canary.as_bytes());
    let text = hotp(&format!(
        "<Data><Secret><PlainValue>{encoded}</PlainValue></Secret></Data>"
    ));
    let file = taken(&text, &plain());
    let mut said = format!("{file:?}");
    for broken in [
        text.replace(&encoded, &format!("{encoded}!")),
        text.replace(
            "</Data>",
            "<Counter><PlainValue>Canary!</PlainValue></Counter></Data>",
        ),
        text.replace("</KeyContainer>", &format!("<{encoded}")),
        format!("A1,{encoded}!,hotp"),
        format!("{encoded};x;hotp;6"),
        text.replace("</PlainValue>", ""),
    ] {
        said += &refused(&broken, &plain());
    }
    let options = with_passphrase("CANARYSEED");
    said += &format!("{options:?}");
    for secret in [canary, &encoded[..12], "Canary!"] {
        // A serial is shown, and nothing else of what was read.
        let shown = said.replace(&format!("token {encoded}"), "");
        assert!(!shown.contains(secret), "{secret} in {said}");
    }
    assert_eq!(file.warnings, [(SeedWarning::NotEncrypted, 1)]);
}
