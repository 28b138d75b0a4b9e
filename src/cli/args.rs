//! The command line as clap reads it; the words are those of the design, § 5.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::acts::DecideRequest;
use crate::model::{
    AuthenticatorState, EnrolmentFilter, JobType, OtpHash, PhoneFilter, RealmId, Scope, State,
    TwoFactor, UserFilter, UserOrigin, UserSort, UserStatus,
};

/// Keeps the users of a multi-factor authentication system in step with LDAP and Active Directory.
#[derive(Parser, Debug)]
#[command(name = "realmsync", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(super) struct Cli {
    /// The configuration [default: $REALMSYNC_CONFIG, or /etc/realmsync/realmsync.toml].
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON: one object, or one object a line.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 fine, 1 failed, 2 `plan` found changes, 3 held by the brake, 64 usage, 69 directory or store \
unreachable, 75 another process holds the realm or store, 78 configuration.";

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Run the daemon
    Run,
    /// Check the configuration, and with --connect every server of every realm
    Check {
        /// Bind to every server, check filter and attributes against its schema, show some people and what they would become
        #[arg(long)]
        connect: bool,
    },
    /// Show what a run would do, and change nothing
    Plan {
        /// The realm; all without one
        realm: Option<String>,
        /// Read everything, whatever the cursor says
        #[arg(long)]
        full: bool,
        /// Keep the plan as a held one, to be approved or rejected
        #[arg(long)]
        hold: bool,
        /// Show phone numbers in full
        #[arg(long)]
        show_phones: bool,
    },
    /// Run once, now
    Sync {
        /// The realm; all without one
        realm: Option<String>,
        /// Read everything, whatever the cursor says
        #[arg(long)]
        full: bool,
        /// One person only, by user name
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Take a server that is behind what was already seen, this once
        #[arg(long)]
        accept_older: bool,
        /// Send the messages that are due before coming back (the daemon sends them anyhow)
        #[arg(long)]
        deliver: bool,
    },
    /// Apply a held plan, exactly as shown
    Approve(LookAgainArg),
    /// Say no to a held plan
    Reject {
        /// The run's id, or its end or beginning
        run: String,
        /// Leave its changes out for so long (15m, 24h, 7d) while the rest of the realm goes on; 0s ends that
        #[arg(long = "for", value_name = "TIME", value_parser = duration_or_none)]
        how_long: Option<i64>,
    },
    /// Read a held plan as a rebuilt directory: the same name, and the same phone or e-mail, keeps the user
    Adopt(LookAgainArg),
    /// Put back what a run changed; the realm is paused
    Undo(RunArg),
    /// Let no pass of a realm run, and no message leave
    Pause {
        /// The realm
        realm: String,
        /// For how long: 15m, 2h, 1d [default: until resumed]
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        how_long: Option<i64>,
    },
    /// Let a paused realm run again
    Resume {
        /// The realm
        realm: String,
    },
    /// Show runs, or one with its changes
    Runs {
        #[command(subcommand)]
        what: Option<RunsCommand>,
        /// The realm; all without one
        realm: Option<String>,
        /// How many, the newest first
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
        limit: i64,
    },
    /// Tell where each value of a user came from, or why someone is missing
    Explain {
        /// A user name, an id, or the end or beginning of one
        user: String,
        /// The realm, where the name is in several
        #[arg(long)]
        realm: Option<String>,
        /// Show phone numbers in full
        #[arg(long)]
        show_phones: bool,
    },
    /// Show how every realm stands
    Status,
    /// Show entries and values that could not be used, for the directory team
    Refused {
        /// The realm; all without one
        realm: Option<String>,
        /// Print CSV
        #[arg(long)]
        csv: bool,
    },
    /// Show realms, and make those that are in no file
    Realms {
        #[command(subcommand)]
        what: RealmsCommand,
    },
    /// Show users, and change them by hand
    Users {
        #[command(subcommand)]
        what: UsersCommand,
    },
    /// Turn methods on and off, for one user or for many
    TwoFactor {
        #[command(subcommand)]
        what: TwoFactorCommand,
    },
    /// Make a temporary code for somebody who cannot use their factor just now; it is shown once
    Bypass {
        /// A user name, an id, or the end or beginning of one
        user: String,
        /// The realm, where the name is in several
        #[arg(long)]
        realm: Option<String>,
        /// For how long it counts: 15m, 1h, 1d, at most a week
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = duration)]
        how_long: i64,
        /// How often it counts
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..=20))]
        uses: i64,
    },
    /// Show whom methods reach and whom they do not, by realm and country of the number
    Coverage {
        /// The realm; all without one
        realm: Option<String>,
        /// Print CSV
        #[arg(long)]
        csv: bool,
    },
    /// Let programs call the API, and end that
    ApiTokens {
        #[command(subcommand)]
        what: ApiTokensCommand,
    },
    /// Send the mobile application to users, and print each link: whoever has it can set the application up
    Send {
        #[command(flatten)]
        whom: Selection,
        /// The earlier application is lost: no code of it is asked for
        #[arg(long)]
        lost: bool,
    },
    /// Take back links that were sent
    Withdraw(Selection),
    /// Show what users prove themselves with, and end it
    Authenticators {
        #[command(subcommand)]
        what: AuthenticatorsCommand,
    },
    /// Take hard tokens from a file, give them to users and take them back
    HardTokens {
        #[command(subcommand)]
        what: HardTokensCommand,
    },
    /// Show who changed what, or look whether the record is whole
    Audit {
        #[command(subcommand)]
        what: Option<AuditCommand>,
        /// About this user: a name, an id, or the end or beginning of one
        #[arg(long)]
        user: Option<String>,
        /// By this administrator
        #[arg(long, value_name = "WHO")]
        by: Option<String>,
        /// Since then: a time as 2026-11-24T03:00:00Z, a day as 2026-11-24, or for how long: 15m, 2h, 7d
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Print CSV
        #[arg(long)]
        csv: bool,
        /// Show phone numbers in full
        #[arg(long)]
        show_phones: bool,
    },
    /// Show for whom services asked, and what they were answered; kept for 90 days
    Verifications {
        /// Of this user: a name, an id, or the end or beginning of one
        #[arg(long)]
        user: Option<String>,
        /// The realm, where the name is in several
        #[arg(long)]
        realm: Option<String>,
        /// Since then: a time as 2026-11-24T03:00:00Z, a day as 2026-11-24, or for how long: 15m, 2h, 7d
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Print CSV
        #[arg(long)]
        csv: bool,
    },
    /// Look after messages on their way out
    Outbox {
        #[command(subcommand)]
        what: OutboxCommand,
    },
    /// Write a consistent copy of the embedded store, while it is in use
    Backup {
        /// A file that is not there yet
        file: PathBuf,
    },
    /// Say that the store was restored from a copy, so that it trusts less
    ///
    /// An SQLite store that is a copy by `backup`, or an older one, notices by itself. A PostgreSQL database, or a whole
    /// machine that was put back, does not.
    Restored {
        /// Do not ask
        #[arg(long, conflicts_with = "reviewed")]
        yes: bool,
        /// Somebody looked at what may have come back: `status` says no more of it
        #[arg(long)]
        reviewed: bool,
    },
    /// Go on without what a lost enrolment key kept
    GiveUpKey {
        /// How many secrets and recovery codes that is; without it, says so and does nothing
        #[arg(long, value_name = "N")]
        expect: Option<i64>,
    },
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Args, Debug)]
pub(super) struct RunArg {
    /// The run's id, or its end or beginning
    pub run: String,
}

/// A run whose people are read again.
#[derive(clap::Args, Debug)]
pub(super) struct LookAgainArg {
    /// The run's id, or its end or beginning
    pub run: String,
    /// Take a server that is behind what was already seen, this once
    #[arg(long)]
    pub accept_older: bool,
}

impl LookAgainArg {
    /// What is asked of the decision.
    pub(super) fn request(&self) -> DecideRequest {
        DecideRequest {
            accept_older: self.accept_older,
            ..DecideRequest::default()
        }
    }
}

#[derive(Subcommand, Debug)]
pub(super) enum RunsCommand {
    /// Show one run with every change
    Show {
        /// The run's id, or its end or beginning
        run: String,
        /// Show phone numbers in full
        #[arg(long)]
        show_phones: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum UsersCommand {
    /// List users, all but removed
    List {
        /// Of this realm
        #[arg(long)]
        realm: Option<String>,
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many [default: all]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
        limit: Option<i64>,
        /// In this order: name, -name, created, -created
        #[arg(long, value_name = "ORDER", default_value = "name", value_parser = word::<UserSort>, allow_hyphen_values = true)]
        sort: UserSort,
        /// Print CSV
        #[arg(long)]
        csv: bool,
        /// Show phone numbers in full
        #[arg(long)]
        show_phones: bool,
    },
    /// Show one user
    Show {
        /// A user name, an id, or the end or beginning of one
        user: String,
        /// The realm, where the name is in several
        #[arg(long)]
        realm: Option<String>,
        /// Show phone numbers in full
        #[arg(long)]
        show_phones: bool,
    },
    /// Add a user who is of no directory
    Add {
        /// The user name
        name: String,
        /// The realm
        #[arg(long)]
        realm: String,
        #[command(flatten)]
        fields: UserFields,
    },
    /// Change what is said of a user; an empty text clears it
    Edit {
        /// A user name, an id, or the end or beginning of one
        user: String,
        /// The realm, where the name is in several
        #[arg(long)]
        realm: Option<String>,
        /// Another user name
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        fields: UserFields,
        /// Until when the number stands in place of the directory's: a time as 2026-11-24T03:00:00Z, or for how long: 12h, 7d
        #[arg(long, value_name = "TIME", requires = "phone")]
        until: Option<String>,
        /// Only if the user still has this version
        #[arg(long, value_name = "N")]
        if_version: Option<i64>,
    },
    /// Take users from a file (CSV, TSV or LDIF), in any realm
    Import(ImportArgs),
    /// Block users: nobody is let in until they are unblocked, whatever the directory says
    Block(ShownSelection),
    /// Lift the block of users
    Unblock(ShownSelection),
    /// Let users who are locked after wrong codes, or in a delay, guess again
    Unlock(ShownSelection),
    /// Remove users who are of no directory, after the grace
    Remove {
        #[command(flatten)]
        who: ShownSelection,
        /// At once, without the grace
        #[arg(long)]
        now: bool,
    },
    /// Take the removal of users back whose grace is not over
    Restore(UserNames),
    /// Give users who were made by hand the directory's entry of their name, at the next pass
    Adopt(UserNames),
    /// Decide about new numbers that wait for an administrator (`protect` in the configuration)
    #[command(subcommand)]
    Phone(PhoneCommand),
    /// Unfreeze a user after "this was not me", and say which number counts
    #[command(group = clap::ArgGroup::new("number").required(true))]
    Unfreeze {
        /// A user name, an id, or the end or beginning of one
        user: String,
        /// The realm, where the name is in several
        #[arg(long)]
        realm: Option<String>,
        /// The number before counts; the new one stays refused until the directory gives yet another one
        #[arg(long, group = "number")]
        previous: bool,
        /// The new number counts, at once
        #[arg(long, group = "number")]
        accept: bool,
        /// Show phone numbers in full
        #[arg(long)]
        show_phones: bool,
    },
}

/// What becomes of a number that waits.
#[derive(Subcommand, Debug)]
pub(super) enum PhoneCommand {
    /// The new number is used, as soon as its hold is over too
    Accept(WaitingNumber),
    /// The new number is not used, until the directory gives another one
    Refuse(WaitingNumber),
}

/// Whose number waits.
#[derive(Args, Debug)]
pub(super) struct WaitingNumber {
    /// A user name, an id, or the end or beginning of one
    pub(super) user: String,
    /// The realm, where the name is in several
    #[arg(long)]
    pub(super) realm: Option<String>,
    /// Show phone numbers in full
    #[arg(long)]
    pub(super) show_phones: bool,
}

/// Which users, beside the realm.
#[derive(Args, Debug)]
pub(super) struct FilterArgs {
    /// In this state: active, suspended, removed
    #[arg(long, value_parser = word::<State>)]
    pub state: Option<State>,
    /// So far with two factors: off (no method), enabled, used (at least once)
    #[arg(long, value_parser = word::<UserStatus>)]
    pub status: Option<UserStatus>,
    /// With this method: sms-otp, app-otp, app-push, hard-token, fido
    #[arg(long, alias = "two-factor", value_name = "METHOD", value_parser = word::<TwoFactor>)]
    pub method: Option<TwoFactor>,
    /// Whose enrolment is so: none, open, expired, active
    #[arg(long, value_parser = word::<EnrolmentFilter>)]
    pub enrolment: Option<EnrolmentFilter>,
    /// Whose number is so: none, refused, waiting
    #[arg(long, value_parser = word::<PhoneFilter>)]
    pub phone: Option<PhoneFilter>,
    /// Who came from there: directory, manual, import, scim, logon
    #[arg(long, value_parser = word::<UserOrigin>)]
    pub origin: Option<UserOrigin>,
    /// Whom an administrator blocked
    #[arg(long)]
    pub blocked: bool,
    /// Whose codes are held back: locked, or five wrong ones in a row or more
    #[arg(long)]
    pub held_back: bool,
    /// With this text in name, display name, e-mail or phone
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
}

impl FilterArgs {
    /// The filter, in a realm or in all.
    pub(super) fn filter(self, realm: Option<RealmId>) -> UserFilter {
        UserFilter {
            realm,
            state: self.state,
            status: self.status,
            method: self.method,
            enrolment: self.enrolment,
            phone: self.phone,
            origin: self.origin,
            blocked: self.blocked,
            held_back: self.held_back,
            search: self.search,
        }
    }
}

/// What can be said of a user by hand.
#[derive(Args, Debug)]
pub(super) struct UserFields {
    /// The number, in any form
    #[arg(long, value_name = "NUMBER")]
    pub phone: Option<String>,
    /// The name for people
    #[arg(long, value_name = "TEXT")]
    pub display_name: Option<String>,
    /// The address
    #[arg(long, value_name = "ADDRESS")]
    pub email: Option<String>,
    /// Your own words, never sent anywhere
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// The methods: sms-otp, app-otp, app-push, hard-token, fido, separated by commas, or none
    #[arg(long, value_name = "METHODS", value_parser = methods)]
    pub two_factor: Option<Methods>,
    /// Show phone numbers in full
    #[arg(long)]
    pub show_phones: bool,
}

/// A file of users.
#[derive(Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(super) struct ImportArgs {
    /// The file; - is standard input
    pub file: PathBuf,
    /// The realm
    #[arg(long)]
    pub realm: String,
    /// Only show what would come of it
    #[arg(long, conflicts_with = "yes")]
    pub plan: bool,
    /// Which column is what, by number or header: name=1,phone=3 (name, phone, display_name, email, methods, note); note=- leaves one out; the rest goes by the header
    #[arg(long, value_name = "COLUMNS")]
    pub map: Option<String>,
    /// Suspend users of earlier imports who are not in the file
    #[arg(long)]
    pub replace: bool,
    /// Write lines that cannot be used to this new file, to mend and import it again
    #[arg(long, value_name = "FILE")]
    pub refused: Option<PathBuf>,
    /// Import it without asking
    #[arg(long)]
    pub yes: bool,
    /// The file's encoding, whatever it looks like: utf-8, utf-16le, windows-1250, windows-1252, …
    #[arg(long, value_name = "NAME")]
    pub encoding: Option<String>,
    /// Show phone numbers in full
    #[arg(long)]
    pub show_phones: bool,
}

#[derive(Subcommand, Debug)]
pub(super) enum TwoFactorCommand {
    /// Turn methods on: what is missing is said, and saved all the same
    Enable {
        /// sms-otp, app-otp, app-push, hard-token, fido, separated by commas
        #[arg(value_parser = methods)]
        methods: Methods,
        #[command(flatten)]
        whom: ShownSelection,
        /// Send the application to those who can be sent it now
        #[arg(long, conflicts_with = "no_send")]
        send: bool,
        /// Do not send it, and do not ask
        #[arg(long)]
        no_send: bool,
        /// Of hard-token, for one user: assign the token of this serial too
        #[arg(long, value_name = "SERIAL")]
        serial: Option<String>,
    },
    /// Turn methods off
    Disable {
        /// sms-otp, app-otp, app-push, hard-token, fido, separated by commas
        #[arg(value_parser = methods)]
        methods: Methods,
        #[command(flatten)]
        whom: ShownSelection,
    },
}

/// Users who are named, or whoever fits a filter.
#[derive(Args, Debug)]
pub(super) struct Selection {
    /// User names, ids, or ends or beginnings of them; without any, whoever fits the filter
    pub users: Vec<String>,
    /// Read names from standard input, one a line
    #[arg(long, conflicts_with = "users")]
    pub stdin: bool,
    /// Of this realm; with names: where a name is in several
    #[arg(long)]
    pub realm: Option<String>,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Everybody who is not removed, in all realms
    #[arg(long)]
    pub all: bool,
    /// Do it to however many fit, without asking
    #[arg(long)]
    pub yes: bool,
}

/// The same, where users are shown afterwards.
#[derive(Args, Debug)]
pub(super) struct ShownSelection {
    #[command(flatten)]
    pub whom: Selection,
    /// Show phone numbers in full
    #[arg(long)]
    pub show_phones: bool,
}

/// Users who are named.
#[derive(Args, Debug)]
pub(super) struct UserNames {
    /// User names, ids, or ends or beginnings of them
    #[arg(required = true)]
    pub users: Vec<String>,
    /// The realm, where a name is in several
    #[arg(long)]
    pub realm: Option<String>,
    /// Show phone numbers in full
    #[arg(long)]
    pub show_phones: bool,
}

#[derive(Subcommand, Debug)]
pub(super) enum AuthenticatorsCommand {
    /// List a user's applications and hard tokens, and how many recovery codes are left
    List {
        /// A user name, an id, or the end or beginning of one
        user: String,
        /// The realm, where the name is in several
        #[arg(long)]
        realm: Option<String>,
    },
    /// Revoke a user's applications: their codes are accepted no more; recovery codes stay
    Revoke {
        /// A user name, an id, or the end or beginning of one
        user: String,
        /// These only, also recovery codes: ids, or ends or beginnings of them
        #[arg(value_name = "AUTHENTICATOR")]
        authenticators: Vec<String>,
        /// Revoke the recovery codes too
        #[arg(long)]
        recovery_codes: bool,
        /// The realm, where the name is in several
        #[arg(long)]
        realm: Option<String>,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum RealmsCommand {
    /// List realms, those of the file and the others
    List,
    /// Make a realm that is in no file
    Create {
        /// Letters, digits, `.`, `-`, `_` and `@`
        id: String,
        #[command(flatten)]
        settings: RealmFields,
    },
    /// Change a realm that is in no file; an empty text clears
    Edit {
        /// The realm
        id: String,
        #[command(flatten)]
        settings: RealmFields,
    },
    /// Remove a realm that is in no file, or in none any more
    Remove {
        /// The realm
        id: String,
        /// Remove its users with it, at once
        #[arg(long)]
        with_users: bool,
    },
}

/// What can be said of a realm by hand.
#[derive(Args, Debug)]
pub(super) struct RealmFields {
    /// What people call it
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    /// Free text
    #[arg(long, value_name = "TEXT")]
    pub category: Option<String>,
    /// The country of national numbers, as SK
    #[arg(long, value_name = "COUNTRY")]
    pub region: Option<String>,
    /// As Europe/Bratislava
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// Methods of new users: sms-otp, app-otp, app-push, hard-token, fido, separated by commas, or none
    #[arg(long, value_name = "METHODS", value_parser = methods)]
    pub two_factor: Option<Methods>,
}

#[derive(Subcommand, Debug)]
pub(super) enum ApiTokensCommand {
    /// Make a token; it is shown once
    Create {
        /// What people call it
        name: String,
        /// What it may do: read, users, send, decide, verify, logons, scim, audit, admin, separated by commas
        #[arg(long = "scope", value_name = "SCOPES", required = true, value_delimiter = ',', value_parser = word::<Scope>)]
        scopes: Vec<Scope>,
        /// The only realm that it may see and change
        #[arg(long)]
        realm: Option<String>,
        /// For how long it counts: 12h, 90d [default: until it is revoked]
        #[arg(long = "expires", value_name = "TIME", value_parser = duration)]
        expires: Option<i64>,
    },
    /// List tokens, also those that were revoked
    List,
    /// Revoke a token: it is refused from then on
    Revoke {
        /// Its name, or its id
        token: String,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum HardTokensCommand {
    /// Take the tokens of a file, PSKC or CSV: all of them, or none where anything is wrong
    Import {
        /// The file; `-` is standard input
        file: PathBuf,
        /// The pre-shared key that it is encrypted with: a file with hexadecimal digits or base64
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// The passphrase that it is encrypted with: a file
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// The hash of all tokens, whatever the file says: sha1, sha256, sha512
        #[arg(long, value_parser = word::<OtpHash>)]
        hash: Option<OtpHash>,
        /// Seconds of a step of all tokens with a clock, whatever the file says
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(10..=300))]
        period: Option<u32>,
    },
    /// Give a token to a user
    Assign {
        /// What is printed on it
        serial: String,
        /// A user name, an id, or the end or beginning of one
        user: String,
        /// The realm, where the name is in several
        #[arg(long)]
        realm: Option<String>,
    },
    /// Take a token back
    Unassign {
        /// What is printed on it
        serial: String,
    },
    /// Find a token that is too far ahead or behind, by two codes that it shows one after the other
    Resync {
        /// What is printed on it
        serial: String,
        /// The first code
        first: String,
        /// The next one
        second: String,
    },
    /// Let a token count no more
    Revoke {
        /// What is printed on it
        serial: String,
        /// Its user lost it: it never counts again, and is never removed
        #[arg(long)]
        lost: bool,
    },
    /// Forget a token that nobody has
    Remove {
        /// What is printed on it
        serial: String,
    },
    /// List tokens, with whose they are
    List {
        /// In this state: pending (free), active (assigned), revoked, lost
        #[arg(long, value_parser = word::<AuthenticatorState>)]
        state: Option<AuthenticatorState>,
        /// Only those that expire within 60 days, or have
        #[arg(long)]
        expiring: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum AuditCommand {
    /// Look whether every line is as it was written, and none is missing
    Verify,
}

/// Methods as they are typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Methods(pub Vec<TwoFactor>);

fn methods(text: &str) -> Result<Methods, String> {
    if text.trim() == "none" {
        return Ok(Methods(vec![]));
    }
    let words: Result<Vec<TwoFactor>, String> =
        text.split(',').map(|word| word.trim().parse()).collect();
    words.map(Methods)
}

#[derive(Subcommand, Debug)]
pub(super) enum OutboxCommand {
    /// List messages that wait, are held, were refused for good, or are dead
    List {
        /// Of this realm
        #[arg(long)]
        realm: Option<String>,
        /// Also those that are done
        #[arg(long)]
        all: bool,
    },
    /// Try waiting, refused and dead messages now
    Retry(Which),
    /// Drop waiting, held, refused and dead messages
    Drop(Which),
    /// Put waiting messages on hold
    Hold(Which),
    /// Let held messages go
    Release(Which),
}

/// Which messages: all that fit every condition.
#[derive(Args, Debug)]
pub(super) struct Which {
    /// Ids of messages, or their ends or beginnings
    #[arg(value_parser = part_of_an_id)]
    pub jobs: Vec<String>,
    /// Of this realm
    #[arg(long)]
    pub realm: Option<String>,
    /// Of this type, as user.reprovision; may be repeated
    #[arg(long = "type", value_name = "TYPE", value_parser = word::<JobType>)]
    pub types: Vec<JobType>,
    /// Every message
    #[arg(long)]
    pub all: bool,
}

/// An id, or its end or beginning. An empty variable of a script must not name the only message there is.
fn part_of_an_id(text: &str) -> Result<String, String> {
    if text.len() < 4 {
        Err("expected an id, or at least its first four digits".into())
    } else {
        Ok(text.to_owned())
    }
}

fn word<T: std::str::FromStr<Err = String>>(text: &str) -> Result<T, String> {
    text.parse()
}

/// Milliseconds of a [`duration`], or 0 of `0s`.
fn duration_or_none(text: &str) -> Result<i64, String> {
    if text == "0s" {
        return Ok(0);
    }
    duration(text)
}

/// Milliseconds of `15s`, `10m`, `2h`, `1d`, `1w`.
pub(super) fn duration(text: &str) -> Result<i64, String> {
    let expected = || "expected a number with s, m, h, d or w, as 2h".to_owned();
    let unit = text.chars().last().ok_or_else(expected)?;
    let factor = match unit {
        's' => 1000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        'w' => 604_800_000,
        _ => return Err(expected()),
    };
    let n: i64 = text[..text.len() - unit.len_utf8()]
        .parse()
        .map_err(|_| expected())?;
    n.checked_mul(factor)
        .filter(|ms| *ms > 0)
        .ok_or_else(|| "expected more than nothing, and less than for ever".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_an_end() {
        for (text, ms) in [
            ("15s", 15_000),
            ("10m", 600_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1w", 604_800_000),
        ] {
            assert_eq!(duration(text), Ok(ms), "{text}");
        }
        for text in [
            "",
            "h",
            "0s",
            "-1h",
            "2",
            "2x",
            "1.5h",
            "9223372036854775807w",
            "2 h",
            "2č",
            "٢h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_tree_of_commands_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
