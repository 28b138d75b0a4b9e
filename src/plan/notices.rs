//! What a user's methods lack: the user, what is known of their factors and the time in; notices out. Enabling a method never fails
//! for them, and they stay until they are true no more.

use crate::clock::Timestamp;
use crate::factors::throttle::DELAYED_FROM;
use crate::model::words::count;
use crate::model::{
    EnrolmentFilter, FactorFacts, Notice, NoticeCode, State, TwoFactor, User, UserStatus,
    WrongCodes,
};

/// How far a user is with two factors.
pub fn status(user: &User, facts: &FactorFacts) -> UserStatus {
    if user.two_factor.is_empty() {
        UserStatus::Off
    } else if facts.proved {
        UserStatus::Used
    } else {
        UserStatus::Enabled
    }
}

/// What is to be known of a user, in the order of [`NoticeCode::ALL`]. Nothing of who is removed.
pub fn notices(user: &User, facts: &FactorFacts) -> Vec<Notice> {
    if user.state == State::Removed {
        return vec![];
    }
    NoticeCode::ALL
        .iter()
        .filter_map(|code| {
            Some(Notice {
                code: *code,
                detail: detail(*code, user, facts)?,
            })
        })
        .collect()
}

/// Whether the application can be sent to a user now, and should be: a method asks for it, there is somebody to send it to, and
/// neither an application nor a link is there.
pub fn can_be_sent(user: &User, facts: &FactorFacts) -> bool {
    user.usable()
        && !facts.frozen
        && user.phone.is_some()
        && asks_for_application(user)
        && !facts.has_application()
        && facts.enrolment != EnrolmentFilter::Open
}

fn has(user: &User, method: TwoFactor) -> bool {
    user.two_factor.contains(&method)
}

fn asks_for_application(user: &User) -> bool {
    has(user, TwoFactor::AppOtp) || has(user, TwoFactor::AppPush)
}

/// Why a notice is true; `None`: it is not.
fn detail(code: NoticeCode, user: &User, facts: &FactorFacts) -> Option<String> {
    let ends = |what: &str, at: Option<Timestamp>| match at {
        Some(at) => format!("{what} {}", at.rfc3339()),
        None => String::new(),
    };
    match code {
        NoticeCode::PhoneMissing => {
            let needs: Vec<&str> = user
                .two_factor
                .iter()
                .filter(|m| {
                    matches!(
                        m,
                        TwoFactor::SmsOtp | TwoFactor::AppOtp | TwoFactor::AppPush
                    )
                })
                .map(|m| m.as_str())
                .collect();
            if needs.is_empty() || user.phone.is_some() {
                return None;
            }
            let why = match &facts.phone_refused {
                Some(reason) => format!("the directory's cannot be used: {reason}"),
                None => "there is none".to_owned(),
            };
            let verb = if needs.len() == 1 { "needs" } else { "need" };
            // Codes of an application that is set up ask for no number.
            let still = if needs == [TwoFactor::AppOtp.as_str()] && facts.has_application() {
                "; the application that is set up works, and another one has nowhere to be sent to"
            } else {
                ""
            };
            Some(format!(
                "{} {verb} a telephone number, and {why}{still}",
                needs.join(", ")
            ))
        }
        NoticeCode::ApplicationNotSent => {
            let sent = matches!(
                facts.enrolment,
                EnrolmentFilter::Open | EnrolmentFilter::Expired
            );
            let why = match facts.enrolment {
                EnrolmentFilter::Active => {
                    "no application is active any more: send it again"
                }
                _ if facts.enrolment_void => {
                    "the link that was sent is void: send it again"
                }
                _ => "the application was not sent yet",
            };
            (asks_for_application(user) && !facts.has_application() && !sent)
                .then(|| why.to_owned())
        }
        NoticeCode::EnrolmentPending => {
            (asks_for_application(user) && facts.enrolment == EnrolmentFilter::Open).then(|| {
                let until = ends("; the link ends", facts.enrolment_ends);
                format!("the application was sent, and is not set up yet{until}")
            })
        }
        NoticeCode::EnrolmentExpired => {
            (asks_for_application(user) && facts.enrolment == EnrolmentFilter::Expired).then(|| {
                let since = ends("; the link ended", facts.enrolment_ends);
                format!("the application was sent, and was not set up in time{since}")
            })
        }
        NoticeCode::LinkAsked => facts.asked_at.filter(|_| user.usable()).map(|at| {
            format!(
                "somebody came with a link that was over, and asked for another one {}",
                at.rfc3339()
            )
        }),
        NoticeCode::HardTokenMissing => (has(user, TwoFactor::HardToken)
            && !facts.has_hard_token())
        .then(|| "no hard token is assigned".to_owned()),
        NoticeCode::FidoMissing => has(user, TwoFactor::Fido).then(|| {
            "no FIDO authenticator is known to be registered; another system does that".to_owned()
        }),
        NoticeCode::PhoneWaiting => {
            user.phone_pending.as_ref()?;
            Some(match user.phone_waits_until() {
                Some(at) => format!("a new number waits until {}", at.rfc3339()),
                None => "a new number waits for an administrator's approval: `users phone accept` or `refuse`".to_owned(),
            })
        }
        NoticeCode::Frozen => facts.frozen.then(|| {
            "the user said of a changed number that this was not them: no code is accepted, and nothing is sent".to_owned()
        }),
        NoticeCode::Locked => {
            let since = facts.wrong_codes.locked_at?.rfc3339();
            Some(format!(
                "too many wrong codes: no code is looked at since {since}; unlock the user, or let them use a recovery code"
            ))
        }
        NoticeCode::HeldBack => held_back(&facts.wrong_codes),
        NoticeCode::MethodOff => {
            let off = |method, there: bool| there && !has(user, method);
            let token = off(TwoFactor::HardToken, facts.has_hard_token());
            let what: Vec<&str> = [
                (off(TwoFactor::AppOtp, facts.has_application()), "an application is set up, and app-otp is off"),
                (token, "a hard token is assigned, and hard-token is off"),
            ]
            .into_iter()
            .filter_map(|(is, what)| is.then_some(what))
            .collect();
            (!what.is_empty()).then(|| format!("{}: codes of it are not accepted", what.join("; ")))
        }
        NoticeCode::PhoneRefused => {
            let reason = facts.phone_refused.as_ref().filter(|_| user.phone.is_some())?;
            Some(format!(
                "the directory gives a number that cannot be used, and the one before stays: {reason}"
            ))
        }
        NoticeCode::RecoveryCodesUsedUp => facts
            .authenticators
            .iter()
            .any(|a| a.left == Some(0))
            .then(|| "no recovery code is left: whoever opens a link of the application can have new ones".to_owned()),
    }
}

/// Whoever gave so many wrong codes that a delay follows each.
fn held_back(wrong: &WrongCodes) -> Option<String> {
    if wrong.locked_at.is_some() || wrong.in_a_row < DELAYED_FROM {
        return None;
    }
    let last = match wrong.last_at {
        Some(at) => format!(", the last one {}", at.rfc3339()),
        None => String::new(),
    };
    let then = match wrong.delayed_until {
        Some(at) => format!("codes are looked at again from {}", at.rfc3339()),
        None => "a delay follows the next one".to_owned(),
    };
    Some(format!(
        "{} in a row{last}: {then}",
        count(wrong.in_a_row, "wrong code")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        AuthenticatorId, AuthenticatorKind, AuthenticatorShown, AuthenticatorState,
    };
    use crate::store::outbox_tests::{START, user};

    fn with(methods: &[TwoFactor]) -> User {
        User {
            two_factor: methods.to_vec(),
            ..user("jan", "+421905123456")
        }
    }

    fn authenticator(kind: AuthenticatorKind, state: AuthenticatorState) -> AuthenticatorShown {
        AuthenticatorShown {
            id: AuthenticatorId(uuid::Uuid::from_u128(1)),
            kind,
            state,
            serial: None,
            issuer: None,
            created_at: START,
            last_used_at: None,
            drift: 0,
            left: None,
        }
    }

    fn codes(user: &User, facts: &FactorFacts) -> Vec<NoticeCode> {
        notices(user, facts).into_iter().map(|n| n.code).collect()
    }

    #[test]
    fn each_notice_is_true_only_while_its_cause_is_there() {
        use EnrolmentFilter as E;
        use NoticeCode as N;
        use TwoFactor as T;
        let none = FactorFacts::default();
        let sent = |enrolment| FactorFacts {
            enrolment,
            ..FactorFacts::default()
        };
        let holding = |kind, state| FactorFacts {
            authenticators: vec![authenticator(kind, state)],
            ..FactorFacts::default()
        };
        let active = |kind| holding(kind, AuthenticatorState::Active);
        let silent = |methods: &[T]| User {
            phone: None,
            phone_source: None,
            ..with(methods)
        };
        for (user, facts, expected) in [
            (with(&[]), none.clone(), vec![]),
            (with(&[T::SmsOtp]), none.clone(), vec![]),
            (silent(&[T::SmsOtp]), none.clone(), vec![N::PhoneMissing]),
            // Hard token and FIDO need none.
            (
                silent(&[T::HardToken, T::Fido]),
                none.clone(),
                vec![N::HardTokenMissing, N::FidoMissing],
            ),
            (
                silent(&[T::AppPush]),
                none.clone(),
                vec![N::PhoneMissing, N::ApplicationNotSent],
            ),
            (
                with(&[T::AppOtp]),
                none.clone(),
                vec![N::ApplicationNotSent],
            ),
            (with(&[T::AppOtp]), sent(E::Open), vec![N::EnrolmentPending]),
            (
                with(&[T::AppOtp]),
                sent(E::Expired),
                vec![N::EnrolmentExpired],
            ),
            (
                with(&[T::AppOtp]),
                FactorFacts {
                    asked_at: Some(START),
                    ..sent(E::Expired)
                },
                vec![N::EnrolmentExpired, N::LinkAsked],
            ),
            (with(&[T::SmsOtp]), sent(E::Open), vec![]),
            (with(&[T::AppOtp]), active(AuthenticatorKind::App), vec![]),
            // What they hold is of a method that is off.
            (
                with(&[]),
                active(AuthenticatorKind::App),
                vec![N::MethodOff],
            ),
            (
                with(&[T::SmsOtp]),
                active(AuthenticatorKind::Totp),
                vec![N::MethodOff],
            ),
            // One that counts no more, or not yet, is none.
            (
                with(&[T::AppOtp]),
                holding(AuthenticatorKind::App, AuthenticatorState::Pending),
                vec![N::ApplicationNotSent],
            ),
            (
                with(&[T::HardToken]),
                active(AuthenticatorKind::Totp),
                vec![],
            ),
            (
                with(&[T::HardToken]),
                holding(AuthenticatorKind::Hotp, AuthenticatorState::Lost),
                vec![N::HardTokenMissing],
            ),
            (
                with(&[T::HardToken]),
                active(AuthenticatorKind::App),
                vec![N::HardTokenMissing, N::MethodOff],
            ),
        ] {
            assert_eq!(
                codes(&user, &facts),
                expected,
                "{:?} {facts:?}",
                user.two_factor
            );
            let gone = User {
                state: State::Removed,
                ..user
            };
            assert!(notices(&gone, &facts).is_empty());
        }
        let waiting = User {
            phone_pending: with(&[]).phone,
            phone_pending_until: Some(START),
            ..with(&[])
        };
        assert_eq!(codes(&waiting, &none), [N::PhoneWaiting]);
        let frozen = FactorFacts {
            frozen: true,
            ..FactorFacts::default()
        };
        assert_eq!(codes(&with(&[]), &frozen), [N::Frozen]);
        let said = &notices(&waiting, &none)[0].detail;
        assert!(said.ends_with(&START.rfc3339()), "{said}");
    }

    #[test]
    fn wrong_codes_are_told_of_from_the_first_delay_on() {
        use NoticeCode as N;
        let wrong = |in_a_row, locked: bool, delayed: bool| FactorFacts {
            wrong_codes: WrongCodes {
                in_a_row,
                last_at: Some(START),
                delayed_until: delayed.then(|| START.plus_ms(8000)),
                locked_at: locked.then_some(START),
            },
            ..FactorFacts::default()
        };
        let jan = with(&[]);
        assert_eq!(codes(&jan, &wrong(4, false, false)), []);
        for (facts, code, says) in [
            (wrong(8, false, true), N::HeldBack, "8 wrong codes in a row"),
            (wrong(8, false, true), N::HeldBack, "again from 2026-"),
            // The delay is over, and the next wrong one brings another.
            (
                wrong(8, false, false),
                N::HeldBack,
                "a delay follows the next one",
            ),
            (wrong(100, true, false), N::Locked, "unlock the user"),
        ] {
            assert_eq!(codes(&jan, &facts), [code]);
            let said = &notices(&jan, &facts)[0].detail;
            assert!(said.contains(says), "{said}");
        }
        let used_up = AuthenticatorShown {
            left: Some(0),
            ..authenticator(AuthenticatorKind::Recovery, AuthenticatorState::Revoked)
        };
        let facts = FactorFacts {
            authenticators: vec![used_up],
            ..FactorFacts::default()
        };
        assert_eq!(codes(&jan, &facts), [N::RecoveryCodesUsedUp]);
    }

    #[test]
    fn why_there_is_no_application_is_said() {
        let app = with(&[TwoFactor::AppOtp]);
        let facts = |enrolment, enrolment_void| FactorFacts {
            enrolment,
            enrolment_void,
            ..FactorFacts::default()
        };
        for (facts, says) in [
            (
                facts(EnrolmentFilter::None, false),
                "the application was not sent yet",
            ),
            (facts(EnrolmentFilter::None, true), "void"),
            (facts(EnrolmentFilter::Active, true), "active any more"),
        ] {
            assert_eq!(codes(&app, &facts), [NoticeCode::ApplicationNotSent]);
            let said = &notices(&app, &facts)[0].detail;
            assert!(said.contains(says), "{said}");
        }
        // Whoever has it and no number can go on.
        let silent = User {
            phone: None,
            phone_source: None,
            ..app
        };
        let set_up = FactorFacts {
            authenticators: vec![authenticator(
                AuthenticatorKind::App,
                AuthenticatorState::Active,
            )],
            ..FactorFacts::default()
        };
        let said = &notices(&silent, &set_up)[0].detail;
        assert!(said.contains("is set up works"), "{said}");
    }

    #[test]
    fn a_refused_number_says_why_and_names_no_number() {
        let silent = User {
            phone: None,
            phone_source: None,
            ..with(&[TwoFactor::SmsOtp, TwoFactor::AppOtp])
        };
        let facts = FactorFacts {
            phone_refused: Some("no such number in SK".into()),
            enrolment: EnrolmentFilter::Open,
            ..FactorFacts::default()
        };
        assert_eq!(
            notices(&silent, &facts)[0].detail,
            "sms-otp, app-otp need a telephone number, and the directory's cannot be used: no such number in SK"
        );
    }

    #[test]
    fn a_refused_number_is_told_of_also_where_the_one_before_stays() {
        let facts = FactorFacts {
            phone_refused: Some("no such number in SK".into()),
            ..FactorFacts::default()
        };
        let jan = with(&[TwoFactor::SmsOtp]);
        assert_eq!(codes(&jan, &facts), [NoticeCode::PhoneRefused]);
        let said = &notices(&jan, &facts)[0].detail;
        assert!(said.ends_with("no such number in SK"), "{said}");
    }

    #[test]
    fn status_and_whom_the_application_can_be_sent_to() {
        let proved = FactorFacts {
            proved: true,
            ..FactorFacts::default()
        };
        let none = FactorFacts::default();
        assert_eq!(status(&with(&[]), &proved), UserStatus::Off);
        assert_eq!(
            status(&with(&[TwoFactor::SmsOtp]), &none),
            UserStatus::Enabled
        );
        assert_eq!(
            status(&with(&[TwoFactor::SmsOtp]), &proved),
            UserStatus::Used
        );
        let app = with(&[TwoFactor::AppPush]);
        assert!(can_be_sent(&app, &none));
        for (user, facts) in [
            (with(&[TwoFactor::SmsOtp]), none.clone()),
            (
                User {
                    blocked: true,
                    ..app.clone()
                },
                none.clone(),
            ),
            (
                User {
                    phone: None,
                    ..app.clone()
                },
                none.clone(),
            ),
            (
                app.clone(),
                FactorFacts {
                    enrolment: EnrolmentFilter::Open,
                    ..none.clone()
                },
            ),
            (
                app.clone(),
                FactorFacts {
                    authenticators: vec![authenticator(
                        AuthenticatorKind::App,
                        AuthenticatorState::Active,
                    )],
                    ..none
                },
            ),
        ] {
            assert!(!can_be_sent(&user, &facts), "{user:?} {facts:?}");
        }
    }
}
