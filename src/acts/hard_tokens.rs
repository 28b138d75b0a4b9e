//! `hard-tokens import`: the tokens of a file, all of them or none.

use std::collections::HashSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;
use zeroize::{Zeroize, Zeroizing};

use super::act::Act;
use super::context::ActContext;
use super::failure::{ActFailure, FailureKind};
use super::hard_token::random;
use super::user_by_hand::UserWarning;
use crate::clock::Timestamp;
use crate::factors::keys::KeyRing;
use crate::factors::sealed::{self, NONCE};
use crate::factors::seeds::{
    self, SeedFault, SeedFile, SeedFileFaults, SeedFileOptions, SeedKeys, SeedToken,
};
use crate::model::{
    AuditAct, AuditEntry, Authenticator, AuthenticatorId, AuthenticatorKind, AuthenticatorState,
    OtpHash,
};
use crate::plan::tokens::{Fingerprint, KnownToken, OfferedToken, TokenClash, import};
use crate::store::{KeptAuthenticator, NewHardToken, StoreError};

/// How often an import is decided anew where somebody imports the same tokens at the same time.
const TRIES: usize = 3;

/// Serials that a line of the audit names.
const NAMED: usize = 1000;

/// Bytes that nobody else may see: base64 on the wire, wiped from memory, hidden in `Debug`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Hidden(pub Zeroizing<Vec<u8>>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(&*self.0)))
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(&text);
        text.zeroize();
        bytes
            .map(|bytes| Self(Zeroizing::new(bytes)))
            .map_err(|_| serde::de::Error::custom("base64 is expected"))
    }
}

/// `POST /api/v1/hard-tokens/import`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportTokensRequest {
    /// The file.
    pub file: Hidden,
    /// The pre-shared key: hexadecimal digits or base64, as its file has it.
    #[serde(default)]
    pub key: Option<Hidden>,
    /// The passphrase, as its file has it.
    #[serde(default)]
    pub passphrase: Option<Hidden>,
    /// The hash of all tokens, whatever the file says.
    #[serde(default)]
    pub hash: Option<OtpHash>,
    /// Seconds of a step of all tokens with a clock, whatever the file says.
    #[serde(default)]
    pub period: Option<u32>,
}

/// Takes the hard tokens of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportTokens {
    /// What, and how it is read.
    pub request: ImportTokensRequest,
}

/// What came of it: the tokens are those that were imported and those that were there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokensImported {
    /// `pskc` or `csv`.
    pub form: String,
    /// Tokens of the file.
    pub tokens: usize,
    /// New ones, and those that got a seed back that was given up.
    pub imported: usize,
    /// Those that the store had: nothing of them was changed.
    pub unchanged: usize,
    /// What is odd, and was taken all the same.
    pub warnings: Vec<UserWarning>,
}

impl Act for ImportTokens {
    type Output = TokensImported;

    async fn act(self, at: &ActContext) -> Result<TokensImported, ActFailure> {
        let file = read(self.request).await?;
        let keys = at.engine.key_ring().await?;
        let prints: Vec<Vec<Fingerprint>> = file
            .tokens
            .iter()
            .map(|token| seeds::fingerprints(&keys, &token.seed))
            .collect();
        let offered: Vec<OfferedToken<'_>> = file
            .tokens
            .iter()
            .zip(&prints)
            .map(|(token, fingerprints)| OfferedToken {
                serial: &token.serial,
                fingerprints,
            })
            .collect();
        let serials: Vec<&str> = offered.iter().map(|token| token.serial).collect();
        let all_prints: Vec<Fingerprint> = prints.iter().flatten().copied().collect();
        for _ in 0..TRIES {
            let known = at.store().known_tokens(&serials, &all_prints).await?;
            let known: Vec<KnownToken> = known
                .into_iter()
                .map(|token| KnownToken {
                    serial: token.serial,
                    fingerprint: token.fingerprint,
                    given_up: token.given_up,
                })
                .collect();
            let new = import(&offered, &known).map_err(|clashes| clash(&file, clashes))?;
            let given_up: HashSet<&str> = known
                .iter()
                .filter(|token| token.given_up)
                .map(|token| token.serial.as_str())
                .collect();
            let outcome = outcome(&file, new.len(), given_up.len(), at.now());
            if new.is_empty() {
                return Ok(outcome);
            }
            let mut rows = Vec::with_capacity(new.len());
            for place in &new {
                let (Some(token), Some(prints)) = (file.tokens.get(*place), prints.get(*place))
                else {
                    continue;
                };
                let there = if given_up.contains(token.serial.as_str()) {
                    at.store().hard_token(&token.serial).await?
                } else {
                    None
                };
                rows.push(row(token, there.map(|row| row.kept), prints, &keys, at)?);
            }
            let entry = entry(at, &file, &new, &outcome);
            let key = at.engine.audit_key().await?;
            match at.store().keep_tokens(&rows, (&entry, &key)).await {
                Ok(()) => {
                    tracing::info!(
                        by = at.by(),
                        from = at.caller.door.as_str(),
                        "hard tokens: {} imported, {} unchanged",
                        outcome.imported,
                        outcome.unchanged
                    );
                    return Ok(outcome);
                }
                // Somebody else imports them just now: what is new is looked at again.
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ActFailure::new(
            FailureKind::Outdated,
            "others import the same tokens: nothing is imported; ask again",
        ))
    }
}

/// Reads the file, off the threads of others: a passphrase takes its time.
async fn read(request: ImportTokensRequest) -> Result<SeedFile, ActFailure> {
    let key = request.key.as_ref().map(|key| SeedKeys::read_key(&key.0));
    let key = key.transpose().map_err(|expected| {
        ActFailure::new(
            FailureKind::Unfit,
            format!("the key file: {expected}; nothing is imported"),
        )
    })?;
    let options = SeedFileOptions {
        keys: SeedKeys {
            key,
            passphrase: request
                .passphrase
                .map(|text| SeedKeys::read_passphrase(&text.0)),
        },
        hash: request.hash,
        period: request.period,
    };
    let file = request.file;
    let read = tokio::task::spawn_blocking(move || seeds::read(&file.0, &options)).await;
    let read = read.map_err(|_| {
        ActFailure::new(
            FailureKind::Stopping,
            "the file was not read to its end: nothing is imported",
        )
    })?;
    read.map_err(|faults| faulty(&faults))
}

/// All faults of a file, for people.
fn faulty(faults: &SeedFileFaults) -> ActFailure {
    let mut text = match faults.all {
        1 => "1 fault, nothing is imported:".to_owned(),
        n => format!("{n} faults, nothing is imported:"),
    };
    for fault in &faults.listed {
        text.push_str(&format!("\n  {fault}"));
    }
    if faults.all > faults.listed.len() {
        text.push_str(&format!(
            "\n  and {} more",
            faults.all - faults.listed.len()
        ));
    }
    ActFailure::new(FailureKind::Unfit, text)
}

fn clash(file: &SeedFile, clashes: Vec<(usize, TokenClash)>) -> ActFailure {
    let all = clashes.len();
    let fault = |(place, clash): (usize, TokenClash)| {
        let token = file.tokens.get(place)?;
        let reason = match clash {
            TokenClash::OtherSeed => {
                "there is a token of this serial with another seed: if that one is gone for good, remove it first (one that was lost stays, so that its serial never counts again)".to_owned()
            }
            TokenClash::SeedOf(serial) => format!(
                "there is a token {serial} with the same seed: a code of one would open the other"
            ),
        };
        Some(SeedFault {
            line: Some(token.line),
            serial: Some(token.serial.clone()),
            reason,
        })
    };
    let listed = clashes.into_iter().filter_map(fault).take(1000).collect();
    faulty(&SeedFileFaults { listed, all })
}

fn outcome(file: &SeedFile, imported: usize, again: usize, now: Timestamp) -> TokensImported {
    let warning = |code: &str, n: usize, detail: &str| UserWarning {
        code: code.to_owned(),
        detail: match n {
            1 => detail.to_owned(),
            n => format!("{detail} ({n} tokens)"),
        },
    };
    let mut warnings: Vec<UserWarning> = file
        .warnings
        .iter()
        .map(|(what, n)| warning(what.as_str(), *n, what.detail()))
        .collect();
    let over = |token: &&SeedToken| token.valid_until.is_some_and(|until| until <= now);
    let over = file.tokens.iter().filter(over).count();
    if over > 0 {
        warnings.push(warning(
            "expired",
            over,
            "the codes count no longer: the file says until when they did",
        ));
    }
    if again > 0 {
        warnings.push(warning(
            "seed_again",
            again,
            "the seed was given up with a lost enrolment key, and is there again: whose the token is and where its counter stands stays",
        ));
    }
    TokensImported {
        form: file.form.as_str().to_owned(),
        tokens: file.tokens.len(),
        imported,
        unchanged: file.tokens.len() - imported,
        warnings,
    }
}

/// A token of the file as it is kept; `there`: as the store has it, without its seed.
fn row(
    token: &SeedToken,
    there: Option<KeptAuthenticator>,
    prints: &[Fingerprint],
    keys: &KeyRing,
    at: &ActContext,
) -> Result<NewHardToken, ActFailure> {
    let again = there.is_some();
    let there = there.map(|kept| kept.authenticator);
    if there.as_ref().is_some_and(|there| there.kind != token.kind) {
        return Err(ActFailure::new(
            FailureKind::Unfit,
            format!(
                "token {}: the store has it with a counter and the file with a clock, or the other way round: nothing is imported; `realmsync hard-tokens remove` it first",
                token.serial
            ),
        ));
    }
    let other_period = |there: &Authenticator| {
        there.kind == AuthenticatorKind::Totp && there.period != token.period
    };
    if let Some(there) = there.as_ref().filter(|there| other_period(there)) {
        return Err(ActFailure::new(
            FailureKind::Unfit,
            format!(
                "token {}: the store has it with steps of {} s and the file with {} s: nothing is imported; say --period {1} if the file does not name it",
                token.serial, there.period, token.period
            ),
        ));
    }
    let user = there.as_ref().and_then(|there| there.user);
    let fresh = || AuthenticatorId(at.engine.new_user_id().0);
    let id = there.as_ref().map_or_else(fresh, |there| there.id);
    let mut nonce = [0; NONCE];
    random(&mut nonce)?;
    let owner = Authenticator::owner(user, id);
    let secret = sealed::seal(&keys.current, &owner, &token.seed, nonce);
    let (Some(secret), Some(fingerprint)) = (secret, prints.first()) else {
        return Err(ActFailure::new(
            FailureKind::Unfit,
            format!("token {}: its seed cannot be kept", token.serial),
        ));
    };
    Ok(NewHardToken {
        kept: KeptAuthenticator {
            authenticator: Authenticator {
                id,
                user,
                kind: token.kind,
                state: match user {
                    Some(_) => AuthenticatorState::Active,
                    None => AuthenticatorState::Pending,
                },
                serial: Some(token.serial.clone()),
                issuer: token.manufacturer.clone(),
                hash: token.hash,
                digits: token.digits,
                period: token.period,
                next: token.next,
                drift: token.drift,
                two_codes: false,
                valid_from: token.valid_from,
                valid_until: token.valid_until,
                expires_at: None,
                created_at: at.now(),
                activated_at: None,
                last_used_at: None,
                ended_at: None,
            },
            bound_to: user,
            secret: Some(secret),
            enrolment: None,
            browser: None,
        },
        fingerprint: *fingerprint,
        again,
    })
}

/// The line of the audit: how many, and their serials.
fn entry(at: &ActContext, file: &SeedFile, new: &[usize], outcome: &TokensImported) -> AuditEntry {
    let serials = new.iter().filter_map(|place| file.tokens.get(*place));
    let serials: Vec<&str> = serials.map(|t| t.serial.as_str()).take(NAMED).collect();
    let said = json!({
        "form": outcome.form, "tokens": outcome.tokens, "imported": outcome.imported, "unchanged": outcome.unchanged, "serials": serials,
    });
    AuditEntry {
        at: at.now(),
        by: at.caller.name.clone(),
        from: at.caller.door.as_str().to_owned(),
        act: AuditAct::HardTokensImport,
        realm: None,
        user: None,
        username: None,
        run: None,
        before: serde_json::Map::new(),
        after: said.as_object().cloned().unwrap_or_default(),
    }
}
