//! One line a token.

use super::*;

const HEX: &str = "3132333435363738393031323334353637383930";
const BASE32: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

#[test]
fn lines_are_read_with_and_without_names_of_columns() {
    let all = format!(
        "F1,{HEX},totp,8,60,sha256,\"FeiTian Technology Co.,Ltd\"\nF2,{}01,hotp,6,17\n",
        &HEX[2..]
    );
    let file = taken(&all, &plain());
    let [one, two] = file.tokens.as_slice() else {
        panic!("two tokens");
    };
    assert_eq!(file.form, SeedFileForm::Csv);
    assert_eq!(&**one.seed, SEED);
    assert_eq!(
        (one.kind, one.digits, one.period, one.hash),
        (AuthenticatorKind::Totp, 8, 60, OtpHash::Sha256)
    );
    assert_eq!(
        one.manufacturer.as_deref(),
        Some("FeiTian Technology Co.,Ltd")
    );
    assert_eq!(
        (two.kind, two.next, two.period, two.hash),
        (AuthenticatorKind::Hotp, 17, 30, OtpHash::Sha1)
    );
    assert_eq!((one.line, two.line), (1, 2));
    assert_eq!(file.warnings[0].0, SeedWarning::NotEncrypted);

    let named = format!(
        "\u{feff}Type;Serial;Secret\r\n\r\n# a comment\r\nhotp;F1;{}\r\n",
        BASE32.to_lowercase()
    );
    let file = taken(&named, &plain());
    assert_eq!(&**file.tokens[0].seed, SEED);
    assert_eq!(
        (file.tokens[0].serial.as_str(), file.tokens[0].line),
        ("F1", 4)
    );
}

#[test]
fn a_secret_that_may_be_either_is_what_the_other_lines_are() {
    // Of digits and letters that both forms have.
    let either = "ABCDEF2345672345ABCDEF2345672345";
    let said = refused(&format!("A,{either},hotp\n"), &plain());
    assert!(
        said.contains("write `hex:` or `base32:` before it"),
        "{said}"
    );
    let seed = |text: &str| taken(text, &plain()).tokens[0].seed.len();
    assert_eq!(seed(&format!("A,{either},hotp\nB,{HEX},hotp\n")), 16);
    assert_eq!(seed(&format!("A,{either},hotp\nB,{BASE32},hotp\n")), 20);
    assert_eq!(seed(&format!("A,hex:{either},hotp\n")), 16);
    assert_eq!(seed(&format!("A,base32:{either},hotp\n")), 20);
    let said = refused(
        &format!("A,{either},hotp\nB,{BASE32},hotp\nC,{HEX}99,hotp\n"),
        &plain(),
    );
    assert!(said.contains("token A: its secret may be"), "{said}");
}

#[test]
fn every_fault_of_every_line_is_said() {
    let text = format!(
        "A,{HEX},hotp,6,0,sha1,x\nB,{HEX}00,otp,9,x,md5\n,,hotp\nA,{HEX}01,hotp\nC,{HEX},hotp\nD,{HEX}02,totp,6,5\nE,{HEX}03,hotp,6,0,sha1,x,y\n"
    );
    // Columns that are too many are told first: which cell is which is not known then.
    let said = refused(&text, &plain());
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("line 7: 8 columns"), "{said}");
    let said = refused(&text.replace(",x,y", ""), &plain());
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "line 2: token B: its type is `otp`: hotp or totp is expected",
            "line 2: token B: its period or counter is `x`, and no number",
            "line 2: token B: its algorithm is `md5`: sha1, sha256 or sha512 is expected",
            "line 2: token B: its codes have `9` digits: 6 to 8 are possible",
            "line 3: it has no serial: neither a `SerialNo` nor an `Id`",
            "line 3: its secret is missing",
            "line 4: token A: line 1 has this serial too",
            "line 5: token C: it has the same seed as A in line 1: a code of one would open the other",
            "line 6: token D: a step of 5 seconds: 10 to 300 are possible; if the file is wrong, say --period",
        ]
    );
    let said = refused("serial,secret,colour\nA,B,C\n", &plain());
    assert!(said.contains("the column `colour` is not known"), "{said}");
}
