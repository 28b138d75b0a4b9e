//! What becomes of hard tokens: those of a file, and one that an administrator gives, takes back or ends.
//!
//! ```text
//!   a file ─▶ pending, of nobody ─▶ active, of a user ─▶ pending, of nobody, and two codes of whoever gets it ─▶ …
//!                      └───────────────────┴──────────────────────┴─▶ revoked │ lost: for good
//! ```

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::model::{Authenticator, AuthenticatorState, UserId};

/// What tells a seed from others without showing it.
pub type Fingerprint = [u8; 32];

/// A token of a file, as far as it is to be told from others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfferedToken<'a> {
    /// What is printed on it.
    pub serial: &'a str,
    /// Its seed's, under each key that the store's were made with; the first is that of new ones.
    pub fingerprints: &'a [Fingerprint],
}

/// A token that the store has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownToken {
    /// What is printed on it.
    pub serial: String,
    /// Its seed's; `None`: the key that it was made with is lost.
    pub fingerprint: Option<Fingerprint>,
    /// Its seed went with a lost enrolment key, and a file gives it anew.
    pub given_up: bool,
}

/// Why a token of a file cannot be taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TokenClash {
    /// The store has the serial, with another seed.
    OtherSeed,
    /// The store has the seed, under this serial.
    SeedOf(String),
}

/// Which tokens of a file are new, or get their seed back, by their places in it; the others are there as they are. Nothing that is
/// known is changed: counters never go down, and what was revoked stays so.
///
/// # Errors
/// The places of those that cannot be taken. Then none is.
pub fn import(
    offered: &[OfferedToken<'_>],
    known: &[KnownToken],
) -> Result<Vec<usize>, Vec<(usize, TokenClash)>> {
    let by_serial: HashMap<&str, &KnownToken> =
        known.iter().map(|t| (t.serial.as_str(), t)).collect();
    let with_seed = known
        .iter()
        .filter_map(|t| Some((t.fingerprint.as_ref()?, t)));
    let by_seed: HashMap<&Fingerprint, &KnownToken> = with_seed.collect();
    let (mut new, mut clashes) = (vec![], vec![]);
    for (at, token) in offered.iter().enumerate() {
        let same_seed = token.fingerprints.iter().find_map(|f| by_seed.get(f));
        match (by_serial.get(token.serial), same_seed) {
            (None, None) => new.push(at),
            (_, Some(there)) if there.serial != token.serial => {
                clashes.push((at, TokenClash::SeedOf(there.serial.clone())));
            }
            (_, Some(_)) => {}
            (Some(there), None) if there.given_up => new.push(at),
            // It ended under a key that is lost: nothing tells its seed, and it does not come back.
            (Some(there), None) if there.fingerprint.is_none() => {}
            (Some(_), None) => clashes.push((at, TokenClash::OtherSeed)),
        }
    }
    if clashes.is_empty() {
        Ok(new)
    } else {
        Err(clashes)
    }
}

/// Why nothing is done to a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenRefusal {
    /// It was revoked or lost.
    Ended(AuthenticatorState),
    /// Somebody else has it.
    Assigned(UserId),
    /// Its codes count no longer, since then.
    Expired(Timestamp),
}

/// Gives a token to a user. `None`: they have it already.
///
/// # Errors
/// It is somebody's, over, or ended.
pub fn assign(
    token: &Authenticator,
    user: UserId,
    now: Timestamp,
) -> Result<Option<Authenticator>, TokenRefusal> {
    match (token.state, token.user) {
        (AuthenticatorState::Revoked | AuthenticatorState::Lost, _) => {
            Err(TokenRefusal::Ended(token.state))
        }
        (_, Some(holder)) if holder == user => Ok(None),
        (_, Some(holder)) => Err(TokenRefusal::Assigned(holder)),
        (_, None) => match token.valid_until.filter(|until| *until <= now) {
            Some(until) => Err(TokenRefusal::Expired(until)),
            None => Ok(Some(Authenticator {
                user: Some(user),
                state: AuthenticatorState::Active,
                activated_at: Some(now),
                ..token.clone()
            })),
        },
    }
}

/// Takes a token back. Whoever gets it next proves it with two codes. `None`: nobody has it.
///
/// # Errors
/// It was revoked or lost.
pub fn unassign(token: &Authenticator) -> Result<Option<Authenticator>, TokenRefusal> {
    match (token.state, token.user) {
        (AuthenticatorState::Revoked | AuthenticatorState::Lost, _) => {
            Err(TokenRefusal::Ended(token.state))
        }
        (_, None) => Ok(None),
        (_, Some(_)) => Ok(Some(Authenticator {
            user: None,
            state: AuthenticatorState::Pending,
            two_codes: true,
            ..token.clone()
        })),
    }
}

/// Ends a token for good. `None`: it is so already. One that was revoked may turn out to be lost.
///
/// # Errors
/// It is lost, and revoking it would say less.
pub fn end(
    token: &Authenticator,
    lost: bool,
    now: Timestamp,
) -> Result<Option<Authenticator>, TokenRefusal> {
    let to = if lost {
        AuthenticatorState::Lost
    } else {
        AuthenticatorState::Revoked
    };
    match token.state {
        state if state == to => Ok(None),
        AuthenticatorState::Lost => Err(TokenRefusal::Ended(token.state)),
        _ => Ok(Some(Authenticator {
            state: to,
            ended_at: Some(token.ended_at.unwrap_or(now)),
            ..token.clone()
        })),
    }
}

/// Sees that a token may be forgotten: nobody has it, and it is not lost. A file with it would make it anew.
///
/// # Errors
/// Somebody has it, or it is lost.
pub fn may_remove(token: &Authenticator) -> Result<(), TokenRefusal> {
    match (token.state, token.user) {
        (AuthenticatorState::Lost, _) => Err(TokenRefusal::Ended(token.state)),
        (AuthenticatorState::Revoked, _) | (_, None) => Ok(()),
        (_, Some(holder)) => Err(TokenRefusal::Assigned(holder)),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::{AuthenticatorId, AuthenticatorKind, OtpHash};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn token(state: AuthenticatorState, user: Option<u128>) -> Authenticator {
        Authenticator {
            id: AuthenticatorId(Uuid::from_u128(1)),
            user: user.map(|n| UserId(Uuid::from_u128(n))),
            kind: AuthenticatorKind::Hotp,
            state,
            serial: Some("S1".into()),
            issuer: None,
            hash: OtpHash::Sha1,
            digits: 6,
            period: 30,
            next: 17,
            drift: 0,
            two_codes: false,
            valid_from: None,
            valid_until: None,
            expires_at: None,
            created_at: NOW,
            activated_at: None,
            last_used_at: Some(NOW),
            ended_at: None,
        }
    }

    #[test]
    fn trap_111_the_lifecycle_of_a_token() {
        use AuthenticatorState::{Active, Lost, Pending, Revoked};
        let jan = UserId(Uuid::from_u128(7));
        let eva = UserId(Uuid::from_u128(8));
        let free = token(Pending, None);
        let held = assign(&free, jan, NOW).unwrap().unwrap();
        assert_eq!(
            (held.state, held.user, held.two_codes),
            (Active, Some(jan), false)
        );
        assert_eq!(assign(&held, jan, NOW), Ok(None));
        assert_eq!(assign(&held, eva, NOW), Err(TokenRefusal::Assigned(jan)));
        assert_eq!(may_remove(&held), Err(TokenRefusal::Assigned(jan)));
        // Back in the drawer: the next one proves it, and the counter stays where it was.
        let back = unassign(&held).unwrap().unwrap();
        assert_eq!(
            (back.state, back.user, back.two_codes, back.next),
            (Pending, None, true, 17)
        );
        assert_eq!(unassign(&back), Ok(None));
        let next = assign(&back, eva, NOW).unwrap().unwrap();
        assert!(next.two_codes);
        for lost in [false, true] {
            let ended = end(&next, lost, NOW).unwrap().unwrap();
            let state = if lost { Lost } else { Revoked };
            assert_eq!((ended.state, ended.ended_at), (state, Some(NOW)));
            assert_eq!(end(&ended, lost, NOW), Ok(None));
            assert_eq!(assign(&ended, jan, NOW), Err(TokenRefusal::Ended(state)));
            assert_eq!(unassign(&ended), Err(TokenRefusal::Ended(state)));
            assert_eq!(may_remove(&ended).is_ok(), !lost);
        }
        let lost = end(&next, true, NOW).unwrap().unwrap();
        assert_eq!(end(&lost, false, NOW), Err(TokenRefusal::Ended(Lost)));
    }

    #[test]
    fn trap_110_a_token_that_is_over_is_given_to_nobody() {
        let mut old = token(AuthenticatorState::Pending, None);
        let jan = UserId(Uuid::from_u128(7));
        old.valid_until = Some(NOW);
        assert_eq!(assign(&old, jan, NOW), Err(TokenRefusal::Expired(NOW)));
        old.valid_until = Some(NOW.plus_ms(1));
        assert!(assign(&old, jan, NOW).unwrap().is_some());
    }

    #[test]
    fn trap_70_a_known_token_is_unchanged_and_another_seed_or_serial_is_refused() {
        let print = |n: u8| [[n; 32], [n + 100; 32]];
        let [one, two, three, four] = [1, 2, 3, 4].map(print);
        let offered = |serial, fingerprints| OfferedToken {
            serial,
            fingerprints,
        };
        let known = [
            KnownToken {
                serial: "A".into(),
                fingerprint: Some(one[0]),
                given_up: false,
            },
            // Kept under the key before.
            KnownToken {
                serial: "B".into(),
                fingerprint: Some(two[1]),
                given_up: false,
            },
        ];
        let all = [offered("A", &one), offered("B", &two), offered("C", &three)];
        assert_eq!(import(&all, &known), Ok(vec![2]));
        let clash = [
            offered("A", &three),
            offered("D", &two),
            offered("E", &four),
        ];
        assert_eq!(
            import(&clash, &known),
            Err(vec![
                (0, TokenClash::OtherSeed),
                (1, TokenClash::SeedOf("B".into()))
            ])
        );
    }

    #[test]
    fn trap_79_a_seed_that_was_given_up_comes_back_with_a_file_and_an_ended_token_does_not() {
        let seeds = [[[1; 32]], [[2; 32]], [[3; 32]]];
        let serials = ["GIVEN-UP", "ENDED", "OTHER"];
        let offered: Vec<OfferedToken<'_>> = serials
            .iter()
            .zip(&seeds)
            .map(|(serial, fingerprints)| OfferedToken {
                serial,
                fingerprints,
            })
            .collect();
        let known = |serial: &str, given_up| KnownToken {
            serial: serial.into(),
            fingerprint: None,
            given_up,
        };
        let mut there = vec![known("GIVEN-UP", true), known("ENDED", false)];
        assert_eq!(import(&offered, &there), Ok(vec![0, 2]));
        // A seed that another serial has is refused, whoever asks for it.
        there.push(KnownToken {
            serial: "D".into(),
            fingerprint: Some([1; 32]),
            given_up: false,
        });
        assert_eq!(
            import(&offered, &there),
            Err(vec![(0, TokenClash::SeedOf("D".into()))])
        );
    }
}
