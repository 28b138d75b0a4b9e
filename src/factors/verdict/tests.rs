use zeroize::Zeroizing;

use super::*;
use crate::factors::typed::read;
use crate::model::{OtpHash, VerifyResult};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const STEP: i64 = 1_800_000_000 / 30;

fn id(n: u8) -> AuthenticatorId {
    AuthenticatorId(uuid::Uuid::from_bytes([n; 16]))
}

fn one(kind: AuthenticatorKind, n: u8) -> Candidate {
    Candidate {
        id: id(n),
        kind,
        generator: Generator::new(Zeroizing::new(vec![n; 20]), OtpHash::Sha1, 6),
        period: 30,
        next: 0,
        drift: 0,
        two_codes: false,
        first: None,
        valid_from: None,
        valid_until: None,
    }
}

fn of(candidates: Vec<Candidate>) -> Subject {
    Subject {
        state: State::Active,
        blocked: false,
        frozen: false,
        methods: vec![TwoFactor::AppOtp, TwoFactor::HardToken],
        failures: Failures::default(),
        has_authenticator: !candidates.is_empty(),
        candidates,
        spare: vec![],
    }
}

fn code(candidate: &Candidate, at: i64) -> Typed {
    let code = candidate.generator.code(u64::try_from(at).unwrap());
    read(&format!("{code:06}"))
}

fn judged(subject: &Subject, code: &Typed) -> Judged {
    judge(subject, code, |_| false, NOW)
}

fn reason(subject: &Subject, code: &Typed) -> Option<VerifyReason> {
    judged(subject, code).verdict.reason
}

const WRONG: Typed = Typed::Unreadable;

#[test]
fn what_the_user_is_comes_before_the_code() {
    let app = one(AuthenticatorKind::App, 1);
    let right = code(&app, STEP);
    let whole = of(vec![app]);
    assert_eq!(reason(&whole, &right), None);
    let blocked = Subject {
        blocked: true,
        frozen: true,
        ..whole.clone()
    };
    let suspended = Subject {
        state: State::Suspended,
        ..whole.clone()
    };
    let frozen = Subject {
        frozen: true,
        ..whole
    };
    for code in [&right, &WRONG, &Typed::Letters("A".repeat(16))] {
        assert_eq!(reason(&blocked, code), Some(VerifyReason::Blocked));
        assert_eq!(reason(&suspended, code), Some(VerifyReason::Suspended));
        assert_eq!(reason(&frozen, code), Some(VerifyReason::Frozen));
    }
}

#[test]
fn trap_130_who_has_no_factor_is_told_so_and_not_that_the_code_is_wrong() {
    let nothing = of(vec![]);
    assert_eq!(reason(&nothing, &WRONG), Some(VerifyReason::NotEnrolled));
    let letters = Typed::Letters("A".repeat(16));
    assert_eq!(reason(&nothing, &letters), Some(VerifyReason::NotEnrolled));
    let app = one(AuthenticatorKind::App, 1);
    let right = code(&app, STEP);
    let off = Subject {
        methods: vec![TwoFactor::SmsOtp],
        ..of(vec![app.clone()])
    };
    assert_eq!(reason(&off, &right), Some(VerifyReason::MethodOff));
    let none = Subject {
        methods: vec![],
        ..of(vec![])
    };
    assert_eq!(reason(&none, &right), Some(VerifyReason::MethodOff));
    // The token is what is asked for, and the application does not stand in for it: its method is off, whatever the code is.
    let other = Subject {
        methods: vec![TwoFactor::HardToken],
        ..of(vec![app])
    };
    for code in [&right, &WRONG] {
        assert_eq!(reason(&other, code), Some(VerifyReason::MethodOff));
    }
    // Beside one that is on, the right code of one that is off is a guess like any other: who guesses learns nothing of it.
    let (on, token) = (
        one(AuthenticatorKind::App, 2),
        one(AuthenticatorKind::Totp, 3),
    );
    let right = code(&token, STEP);
    let both = Subject {
        methods: vec![TwoFactor::AppOtp],
        ..of(vec![on, token])
    };
    assert_eq!(reason(&both, &right), Some(VerifyReason::WrongCode));
    assert_eq!(judged(&both, &right), judged(&both, &WRONG));
    for reason in [VerifyReason::NotEnrolled, VerifyReason::MethodOff] {
        assert!(!reason.counts());
    }
}

#[test]
fn trap_138_what_another_system_carries_out_is_a_failure() {
    for methods in [
        vec![TwoFactor::AppPush],
        vec![TwoFactor::Fido, TwoFactor::AppPush],
    ] {
        let subject = Subject {
            methods,
            ..of(vec![])
        };
        let verdict = judged(&subject, &read("123456")).verdict;
        assert_eq!(verdict.result, VerifyResult::Rejected);
        assert_eq!(verdict.reason, Some(VerifyReason::Unsupported));
    }
    // Every answer but one is a failure.
    for reason in VerifyReason::ALL {
        assert_eq!(Verdict::rejected(*reason).result, VerifyResult::Rejected);
    }
}

#[test]
fn every_authenticator_is_tried_and_the_one_that_fits_is_named() {
    let (app, token) = (
        one(AuthenticatorKind::App, 1),
        Candidate {
            next: 7,
            ..one(AuthenticatorKind::Hotp, 2)
        },
    );
    let subject = of(vec![app.clone(), token.clone()]);
    let found = judged(&subject, &code(&app, STEP + 1));
    assert_eq!(
        found.verdict,
        Verdict::accepted(VerifyMethod::AppOtp, id(1))
    );
    let used = UsedStep {
        authenticator: id(1),
        at: STEP + 1,
        drift: 0,
    };
    assert_eq!(found.step, Some(used));
    let found = judged(&subject, &code(&token, 17));
    assert_eq!(found.verdict.method, Some(VerifyMethod::HardToken));
    assert_eq!(found.step.map(|s| s.at), Some(17));
    let found = judged(&subject, &code(&token, 6));
    assert_eq!(found.verdict.reason, Some(VerifyReason::Replayed));
    assert_eq!(
        (found.step, found.verdict.authenticator),
        (None, Some(id(2)))
    );
    assert_eq!(
        judged(&subject, &code(&app, STEP)).lost().verdict.reason,
        Some(VerifyReason::Replayed)
    );
}

#[test]
fn trap_68_a_code_beside_the_window_is_a_clock_and_moves_nothing() {
    let app = one(AuthenticatorKind::App, 1);
    let subject = of(vec![app.clone()]);
    for offset in [-11, -2, 2, 11] {
        let found = judged(&subject, &code(&app, STEP + offset));
        assert_eq!(found.verdict.reason, Some(VerifyReason::Clock), "{offset}");
        // What is ahead must not count when its time comes.
        let told = (offset > 0).then_some((id(1), STEP + offset));
        let first: Vec<_> = told.into_iter().collect();
        assert_eq!((found.step, found.first), (None, first), "{offset}");
    }
    assert_eq!(
        reason(&subject, &code(&app, STEP + 12)),
        Some(VerifyReason::WrongCode)
    );
}

#[test]
fn trap_67_far_away_only_two_codes_in_a_row_count() {
    for (kind, near, far) in [
        (AuthenticatorKind::Hotp, 0, 700),
        (AuthenticatorKind::Totp, STEP, STEP + 25),
    ] {
        let token = one(kind, 3);
        let mut subject = of(vec![token.clone()]);
        let first = judged(&subject, &code(&token, far));
        assert!(first.verdict.reason.is_some_and(VerifyReason::counts));
        assert_eq!(first.first, [(id(3), far)], "{kind}");
        let until = NOW.plus_ms(SECOND_WITHIN);
        subject.candidates[0].first = Some((far, until));
        // Neither the same again nor the one after the next.
        for at in [far, far + 2] {
            assert_eq!(
                judged(&subject, &code(&token, at)).step,
                None,
                "{kind} {at}"
            );
        }
        let second = judged(&subject, &code(&token, far + 1));
        let drift = if kind == AuthenticatorKind::Totp {
            26
        } else {
            0
        };
        assert_eq!(
            second.step,
            Some(UsedStep {
                authenticator: id(3),
                at: far + 1,
                drift
            })
        );
        assert!(second.first.is_empty());
        // Too late.
        subject.candidates[0].first = Some((far, NOW));
        assert_eq!(judged(&subject, &code(&token, far + 1)).step, None);
        // A right one needs no second.
        assert_eq!(
            judged(&subject, &code(&token, near)).step.map(|s| s.at),
            Some(near)
        );
    }
    let app = Candidate {
        first: Some((STEP + 25, NOW.plus_ms(1000))),
        ..one(AuthenticatorKind::App, 1)
    };
    let found = judged(&of(vec![app.clone()]), &code(&app, STEP + 26));
    assert_eq!(
        (found.step, found.first.len()),
        (None, 0),
        "an application learns no drift"
    );
}

#[test]
fn where_two_codes_are_asked_for_one_is_not_enough() {
    for (kind, at) in [
        (AuthenticatorKind::App, STEP),
        (AuthenticatorKind::Totp, STEP),
        (AuthenticatorKind::Hotp, 3),
    ] {
        let mut asked = Candidate {
            two_codes: true,
            ..one(kind, 4)
        };
        let first = judged(&of(vec![asked.clone()]), &code(&asked, at));
        assert_eq!(first.verdict.reason, Some(VerifyReason::Clock), "{kind}");
        assert_eq!((first.step, first.first), (None, vec![(id(4), at)]));
        asked.first = Some((at, NOW.plus_ms(1000)));
        let second = judged(&of(vec![asked.clone()]), &code(&asked, at + 1));
        assert_eq!(second.step.map(|s| s.at), Some(at + 1), "{kind}");
    }
}

#[test]
fn a_token_counts_within_its_dates() {
    let token = one(AuthenticatorKind::Totp, 5);
    let right = code(&token, STEP);
    for (from, until, counts) in [
        (Some(NOW), Some(NOW.plus_ms(1)), true),
        (Some(NOW.plus_ms(1)), None, false),
        (None, Some(NOW), false),
    ] {
        let dated = Candidate {
            valid_from: from,
            valid_until: until,
            ..token.clone()
        };
        let wanted = (!counts).then_some(VerifyReason::Expired);
        assert_eq!(reason(&of(vec![dated]), &right), wanted);
    }
    let dated = Candidate {
        valid_until: Some(NOW),
        ..token
    };
    assert_eq!(
        reason(&of(vec![dated]), &WRONG),
        Some(VerifyReason::WrongCode)
    );
}

#[test]
fn trap_65_guesses_are_held_back_and_a_recovery_code_is_not() {
    let app = one(AuthenticatorKind::App, 1);
    let right = code(&app, STEP);
    let held = |in_a_row, locked| Failures {
        in_a_row,
        last_at: Some(NOW.plus_ms(-500)),
        locked,
    };
    let spare = SpareCode {
        key: None,
        before_copy: false,
        digest: vec![1; 32],
        method: VerifyMethod::Recovery,
        set: id(9),
        uses_left: 1,
        expires_at: None,
    };
    let letters = Typed::Letters("A".repeat(16));
    for (failures, retry_after) in [(held(7, false), Some(4)), (held(100, true), None)] {
        let subject = Subject {
            failures,
            spare: vec![spare.clone()],
            ..of(vec![app.clone()])
        };
        let verdict = judged(&subject, &right).verdict;
        assert_eq!(verdict.reason, Some(VerifyReason::Locked));
        assert_eq!(verdict.retry_after, retry_after);
        let found = judge(&subject, &letters, |_| true, NOW);
        assert_eq!(
            found.verdict,
            Verdict::accepted(VerifyMethod::Recovery, id(9))
        );
        assert_eq!(found.spare, Some(vec![1; 32]));
        // A wrong one says nothing more than any guess.
        let verdict = judge(&subject, &letters, |_| false, NOW).verdict;
        assert_eq!(verdict.reason, Some(VerifyReason::Locked));
    }
    let open = Subject {
        failures: held(4, false),
        ..of(vec![app])
    };
    assert_eq!(reason(&open, &right), None);
    assert!(!VerifyReason::Locked.counts());
}

#[test]
fn spare_codes_end_and_are_used_once() {
    let spare = |uses_left, expires_at| Subject {
        spare: vec![SpareCode {
            key: None,
            before_copy: false,
            digest: vec![1; 32],
            method: VerifyMethod::Bypass,
            set: id(9),
            uses_left,
            expires_at,
        }],
        ..of(vec![])
    };
    let letters = Typed::Letters("A".repeat(16));
    for (uses, end, wanted) in [
        (2, Some(NOW.plus_ms(1)), None),
        (1, None, None),
        (0, None, Some(VerifyReason::Replayed)),
        (1, Some(NOW), Some(VerifyReason::Expired)),
    ] {
        let found = judge(&spare(uses, end), &letters, |_| true, NOW);
        assert_eq!(found.verdict.reason, wanted);
        assert_eq!(found.spare.is_some(), wanted.is_none());
        assert_eq!(found.verdict.method, Some(VerifyMethod::Bypass));
    }
    let found = judge(&spare(1, None), &letters, |_| false, NOW);
    assert_eq!(found.verdict.reason, Some(VerifyReason::WrongCode));
}
