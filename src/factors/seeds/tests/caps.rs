//! Files that are made to cost: each just above what is read.

use super::*;

#[test]
fn trap_72_a_document_type_is_refused() {
    let text = hotp(&data(""));
    for dtd in [
        "<!DOCTYPE KeyContainer>",
        "<!DOCTYPE k [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]>",
        "<!DOCTYPE k SYSTEM 'file:///etc/passwd'>",
    ] {
        let said = refused(&format!("{dtd}{text}"), &plain());
        assert!(
            said.contains("a document type, which no file of seeds needs"),
            "{said}"
        );
    }
}

#[test]
fn trap_72_size_depth_width_and_number_have_limits() {
    let inside = |more: &str| hotp(&format!("{}{more}", data("")));
    let nested = |n: usize| inside(&format!("{}{}", "<a>".repeat(n), "</a>".repeat(n)));
    // Container, package and key are there already.
    assert_eq!(taken(&nested(29), &plain()).tokens.len(), 1);
    assert!(refused(&nested(30), &plain()).contains("32 elements within each other"));

    let wide = |n: usize| {
        let attributes: Vec<String> = (0..n).map(|i| format!("a{i}=''")).collect();
        inside(&format!("<a {}/>", attributes.join(" ")))
    };
    assert_eq!(taken(&wide(32), &plain()).tokens.len(), 1);
    assert!(refused(&wide(33), &plain()).contains("32 attributes"));

    let prefixes = |n: usize| {
        let declared = |of: char, n: usize| {
            let all: Vec<String> = (0..n).map(|i| format!("xmlns:{of}{i}='u'")).collect();
            all.join(" ")
        };
        // One is the container's own.
        inside(&format!(
            "<a {}><b {}/></a>",
            declared('a', 32),
            declared('b', n - 33)
        ))
    };
    assert_eq!(taken(&prefixes(64), &plain()).tokens.len(), 1);
    assert!(refused(&prefixes(65), &plain()).contains("64 namespaces"));

    let long = |n: usize| inside(&format!("<a>{}</a>", "x".repeat(n)));
    assert_eq!(taken(&long(16 * 1024), &plain()).tokens.len(), 1);
    assert!(refused(&long(16 * 1024 + 1), &plain()).contains("a text of more than 16384 bytes"));

    let many = inside(&"<a/>".repeat(guard::NODES / 2));
    assert!(refused(&many, &plain()).contains("1500000 elements and texts"));

    let mut large = inside("");
    large.push_str(&" ".repeat(LONGEST_FILE + 1 - large.len()));
    assert!(refused(&large, &plain()).contains("at most 16777216 are read"));
    large.pop();
    assert_eq!(taken(&large, &plain()).tokens.len(), 1);
}

#[test]
fn trap_72_more_than_200_000_tokens_are_refused() {
    let lines = |n: usize| -> String {
        let line = |i: usize| format!("S{i:06},hex:{i:040x},hotp,6\n");
        (0..n).map(line).collect()
    };
    assert_eq!(taken(&lines(200_000), &plain()).tokens.len(), 200_000);
    assert!(refused(&lines(200_001), &plain()).contains("more than 200000 tokens"));
}

#[test]
fn trap_72_what_a_file_asks_of_pbkdf2_has_limits() {
    let options = with_passphrase("qwerty");
    for (from, to, said) in [
        (
            "<IterationCount>1000<",
            "<IterationCount>2000001<",
            "1 to 2000000 are taken",
        ),
        (
            "<IterationCount>1000<",
            "<IterationCount>0<",
            "1 to 2000000 are taken",
        ),
        (
            "<IterationCount>1000<",
            "<IterationCount>-1<",
            "1 to 2000000 are taken",
        ),
        (
            "<IterationCount>1000</IterationCount>",
            "",
            "number of iterations is missing",
        ),
        (
            "<KeyLength>16<",
            "<KeyLength>4294967296<",
            "16, 24 or 32 bytes are taken",
        ),
        (
            "<KeyLength>16<",
            "<KeyLength>17<",
            "16, 24 or 32 bytes are taken",
        ),
        (
            "<PRF/>",
            "<PRF Algorithm='hmac-md5'/>",
            "`hmac-md5`, which is not known",
        ),
        ("#pbkdf2", "#scrypt", "scrypt`, and only PBKDF2 is known"),
    ] {
        assert!(FIGURE_7.contains(from));
        let text = FIGURE_7.replace(from, to);
        let why = refused(&text, &options);
        assert!(why.contains(said), "{why}");
    }
    let salt =
        |n: usize| FIGURE_7.replace("Ej7/PEpyEpw=", &data_encoding::BASE64.encode(&vec![1; n]));
    assert!(refused(&salt(65), &options).contains("at most 64 are taken"));
    assert_eq!(refused(&salt(64), &options), cipher::UNREADABLE);
    // As many as are taken are waited for: a second or so.
    let most = FIGURE_7.replace("<IterationCount>1000<", "<IterationCount>2000000<");
    assert_eq!(pskc_key_is_derived(&most), Some(2_000_000));
}

/// The iterations that a file asks for, if they are taken; nothing is derived without a passphrase.
fn pskc_key_is_derived(text: &str) -> Option<u32> {
    let said = refused(text, &plain());
    said.contains("give it with --passphrase-file")
        .then_some(cipher::ITERATIONS)
}

#[test]
fn trap_105_what_is_not_recognised_is_a_failure_that_says_what_was_seen() {
    let said = refused("<Foo xmlns='urn:x'><Key/><Key/><Key/></Foo>", &plain());
    assert!(
        said.contains("the root is `Foo` in the namespace `urn:x`, with 0 `KeyPackage` or `Device` and 3 `Key` or `Secret`"),
        "{said}"
    );
    let said = refused(
        &hotp(&data("")).replace("keyprov:pskc", "keyprov:other"),
        &plain(),
    );
    assert!(
        said.contains("an unknown namespace: the root is `KeyContainer`"),
        "{said}"
    );
    let foreign = r#"<KeyContainer xmlns="urn:ietf:params:xml:ns:keyprov:pskc" xmlns:y="urn:y"><y:KeyPackage><y:Key/></y:KeyPackage></KeyContainer>"#;
    let said = refused(foreign, &plain());
    assert!(
        said.contains("`KeyPackage` is of the unknown namespace `urn:y`"),
        "{said}"
    );
    let said = refused(
        "<KeyContainer xmlns='urn:ietf:params:xml:ns:keyprov:pskc'><KeyPackage/></KeyContainer>",
        &plain(),
    );
    assert!(said.contains("no key in it"), "{said}");
    for (text, why) in [
        ("", "it is empty"),
        ("\n\n", "it is empty"),
        ("hello", "neither a PSKC file"),
        ("<KeyContainer", "a tag without an end"),
        ("<KeyContainer>", "none from column"),
        ("<!-- ", "a comment without an end"),
        ("{\"keys\": []}", "neither a PSKC file"),
        ("serial,secret,type\n", "only the names of columns"),
    ] {
        let said = refused(text, &plain());
        assert!(said.contains(why), "{text}: {said}");
    }
    let said = read(b"\xff\xff\xff", &plain()).unwrap_err();
    assert!(words(&said).contains("neither UTF-8 nor UTF-16"));
}
