//! The command line: one file a command; `render` alone prints.

mod advice;
mod api_tokens;
mod args;
mod audit;
mod authenticators;
mod backup;
mod bypass;
mod check;
mod coverage;
mod decide;
mod explain;
mod faulty;
mod give_up_key;
mod hard_tokens;
mod import;
mod listing;
mod man;
mod operator;
mod outbox;
mod owner;
mod plan;
mod progress;
mod realms;
mod realms_by_hand;
mod refused;
mod render;
mod restored;
mod runs;
mod selected;
mod send;
mod status;
mod sync;
mod table;
mod text;
mod two_factor;
mod users;
mod users_by_hand;
mod verifications;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Command};

use crate::acts::{ActFailure, BypassRequest, DecideRequest, RunDecision};
use crate::clock::Clock;
use crate::config::{self, Config, Environment, Fault, Faults};
use crate::service;

/// What a command has at hand.
struct CommandContext {
    config: Arc<Config>,
    env: Arc<Environment>,
    clock: Clock,
    json: bool,
    /// Whom a changing command names: the person behind `sudo`, else the user.
    by: Option<String>,
    /// The file is faulty, and the configuration only what could be had of it: nothing is done without the daemon.
    faulty: bool,
    /// The file of refused lines that an import was asked for, made as whoever typed.
    refused_file: Option<Result<std::fs::File, ActFailure>>,
}

/// Runs the command that the process was started with; gives the exit code.
pub fn main() -> u8 {
    leave_no_core();
    let code = command();
    render::finish(worst([code, render::missed_code()]))
}

/// Keys, secrets and codes are in memory, and a core would bring them to the disk.
fn leave_no_core() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Each is enough for most machines: a core that goes to a program knows no limit.
    let _limited = setrlimit(Resource::Core, none);
    let _hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

fn command() -> u8 {
    let env = Environment::from_process();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked = !error.use_stderr();
            let _shown = error.print();
            return if asked { 0 } else { 64 };
        }
    };
    render::set_up(&env);
    text::set_zone(text::zone_of(&env));
    match cli.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "realmsync", &mut script);
            return render::raw(&script);
        }
        Command::Man => {
            return man::page().map_or_else(
                |e| render::failure(&format!("cannot make the manual page: {e}"), 1),
                |page| render::raw(&page),
            );
        }
        _ => {}
    }
    let env = match cli.command {
        Command::Run => env.of_the_service(),
        _ => env,
    };
    let path = cli
        .config
        .clone()
        .unwrap_or_else(|| config::default_path(&env));
    let (loaded, warnings, faulty) = match load(&path, &cli.command, &env) {
        Ok((loaded, warnings)) => (loaded, warnings, false),
        Err(faults) => match faulty::by_the_daemon(&path, &env, &cli.command, &faults) {
            Some(salvaged) => (salvaged, vec![], true),
            None => return refuse(&faults, cli.json),
        },
    };
    let by = owner::who(&env);
    let refused_file = import::refused_file(&cli.command);
    if let Some(code) = owner::become_owner(&loaded, &cli.command) {
        return code;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return render::failure(&format!("cannot start: {error}"), 1),
    };
    let context = CommandContext {
        config: Arc::new(loaded),
        by: Some(by),
        env: Arc::new(env),
        clock: Clock::system(),
        json: cli.json,
        faulty,
        refused_file,
    };
    match cli.command {
        Command::Run => runtime.block_on(service::run(start(&context, &warnings, path))),
        Command::Check { connect } => runtime.block_on(check::check(&context, &warnings, connect)),
        command => match runtime.block_on(dispatch(&context, command)) {
            Ok(code) => code,
            Err(failure) => render::failure(&failure.message, failure.exit),
        },
    }
}

/// The configuration, and what somebody should look at. Whoever only talks to the daemon needs none of the secrets, and may not be
/// able to read them.
fn load(
    path: &std::path::Path,
    command: &Command,
    env: &Environment,
) -> Result<(Config, Vec<Fault>), Faults> {
    let all_files = matches!(command, Command::Run | Command::Check { .. });
    let loaded = if all_files {
        config::load(path, env)
    } else {
        config::load_without_files(path, env)
    }?;
    Ok((loaded.config, loaded.warnings))
}

fn start(context: &CommandContext, warnings: &[Fault], path: PathBuf) -> service::Start {
    let env = (*context.env).clone();
    let again = env.clone();
    service::Start {
        config: Arc::clone(&context.config),
        warnings: warnings.iter().map(ToString::to_string).collect(),
        environment: env,
        clock: context.clock.clone(),
        reload: Arc::new(move || match config::load(&path, &again) {
            Ok(loaded) => Ok((
                loaded.config,
                loaded.warnings.iter().map(ToString::to_string).collect(),
            )),
            Err(faults) => Err(faults.render(false)),
        }),
    }
}

async fn dispatch(context: &CommandContext, command: Command) -> Result<u8, ActFailure> {
    match command {
        Command::Plan {
            realm,
            full,
            hold,
            show_phones,
        } => plan::plan(context, realm, full, hold, show_phones).await,
        Command::Sync {
            realm,
            full,
            user,
            accept_older,
            deliver,
        } => sync::sync(context, realm, full, user, accept_older, deliver).await,
        Command::Approve(run) => {
            decide::decide_run(context, RunDecision::Approve, &run.run, run.request()).await
        }
        Command::Reject { run, how_long } => {
            let request = DecideRequest {
                for_ms: how_long,
                ..DecideRequest::default()
            };
            decide::decide_run(context, RunDecision::Reject, &run, request).await
        }
        Command::Adopt(run) => {
            decide::decide_run(context, RunDecision::Adopt, &run.run, run.request()).await
        }
        Command::Undo(run) => {
            decide::decide_run(
                context,
                RunDecision::Undo,
                &run.run,
                DecideRequest::default(),
            )
            .await
        }
        Command::Pause { realm, how_long } => decide::pause(context, &realm, how_long).await,
        Command::Resume { realm } => decide::resume(context, &realm).await,
        Command::Runs { what, realm, limit } => runs::runs(context, what, realm, limit).await,
        Command::Explain {
            user,
            realm,
            show_phones,
        } => explain::explain(context, &user, realm, show_phones).await,
        Command::Status => status::status(context).await,
        Command::Refused { realm, csv } => refused::refused(context, realm, csv).await,
        Command::Realms { what } => realms_by_hand::realms(context, what).await,
        Command::ApiTokens { what } => api_tokens::api_tokens(context, what).await,
        Command::Audit {
            what,
            user,
            by,
            since,
            csv,
            show_phones,
        } => {
            let asked = audit::AuditAsked {
                user,
                by,
                since,
                csv,
                show_phones,
            };
            audit::audit(context, what, asked).await
        }
        Command::Users { what } => users::users(context, what).await,
        Command::Send { whom, lost } => send::send(context, whom, lost).await,
        Command::Authenticators { what } => authenticators::authenticators(context, what).await,
        Command::Withdraw(whom) => send::withdraw(context, whom).await,
        Command::HardTokens { what } => hard_tokens::hard_tokens(context, what).await,
        Command::TwoFactor { what } => two_factor::two_factor(context, what).await,
        Command::Bypass {
            user,
            realm,
            how_long,
            uses,
        } => {
            let request = BypassRequest {
                for_ms: how_long,
                uses,
            };
            bypass::bypass(context, &user, realm, request).await
        }
        Command::Coverage { realm, csv } => coverage::coverage(context, realm, csv).await,
        Command::Verifications {
            user,
            realm,
            since,
            csv,
        } => {
            let asked = verifications::VerificationsAsked {
                user,
                realm,
                since,
                csv,
            };
            verifications::verifications(context, asked).await
        }
        Command::Outbox { what } => outbox::outbox(context, what).await,
        Command::Backup { file } => backup::backup(context, &file).await,
        Command::Restored { yes, reviewed } => restored::restored(context, yes, reviewed).await,
        Command::GiveUpKey { expect } => give_up_key::give_up_key(context, expect).await,
        // Handled before: they need no store.
        Command::Run | Command::Check { .. } | Command::Completions { .. } | Command::Man => Ok(0),
    }
}

fn refuse(faults: &Faults, json: bool) -> u8 {
    if json {
        faults.all().for_each(render::json);
    } else {
        render::talk(&faults.render(render::colour()));
    }
    78
}

/// The worst of several exit codes, in the order of the design.
fn worst(codes: impl IntoIterator<Item = u8>) -> u8 {
    const ORDER: [u8; 7] = [78, 69, 75, 1, 3, 2, 0];
    let place = |code: u8| ORDER.iter().position(|c| *c == code).unwrap_or(3);
    codes
        .into_iter()
        .min_by_key(|code| place(*code))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::worst;

    #[test]
    fn the_worst_of_several_realms_is_told() {
        for (codes, expected) in [
            (&[][..], 0),
            (&[0, 0], 0),
            (&[0, 2], 2),
            (&[2, 3, 0], 3),
            (&[3, 1], 1),
            (&[1, 75], 75),
            (&[75, 69, 1], 69),
            (&[69, 78, 0], 78),
            // What no design names is a failure.
            (&[3, 42], 42),
            (&[42, 75], 75),
        ] {
            assert_eq!(worst(codes.iter().copied()), expected, "{codes:?}");
        }
    }
}
