//! The command line: one file a command; `render.rs` alone prints.

mod args;
mod check;
mod decide;
mod explain;
mod json;
mod operator;
mod outbox;
mod owner;
mod plan;
mod refused;
mod render;
mod runs;
mod status;
mod sync;
mod text;
mod users;

use std::sync::Arc;

use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Command};

use crate::api::types::{Decision, Failure};
use crate::clock::Clock;
use crate::config::{self, Config, Environment, Faults};
use crate::service;

/// What a command has at hand.
struct Context {
    config: Arc<Config>,
    env: Arc<Environment>,
    clock: Clock,
    json: bool,
    /// Whom a changing command names: the person behind `sudo`, else the user.
    by: Option<String>,
}

/// Runs the command that the process was started with; gives the exit code.
pub fn main() -> u8 {
    let env = Environment::from_process();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked = !error.use_stderr();
            let _shown = error.print();
            return if asked { 0 } else { 64 };
        }
    };
    render::set_colour(&env);
    match cli.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "realmsync", &mut script);
            return render::raw(&script);
        }
        Command::Man => return man(),
        _ => {}
    }
    let path = cli
        .config
        .clone()
        .unwrap_or_else(|| config::default_path(&env));
    let all_files = matches!(cli.command, Command::Run | Command::Check { .. });
    // Whoever only talks to the daemon needs none of the secrets, and may not be able to read them.
    let loaded = if all_files {
        config::load(&path, &env)
    } else {
        config::load_without_files(&path, &env)
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(faults) => return refuse(&faults, cli.json),
    };
    if let Some(code) = owner::become_owner(&loaded.config, &cli.command) {
        return code;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return render::failure(&format!("cannot start: {error}"), 1),
    };
    let context = Context {
        config: Arc::new(loaded.config),
        env: Arc::new(env),
        clock: Clock::system(),
        json: cli.json,
        by: None,
    };
    let context = Context {
        by: owner::who(&context.env),
        ..context
    };
    if let Command::Run = cli.command {
        let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
        let start = service::Start {
            config: Arc::clone(&context.config),
            warnings,
            environment: (*context.env).clone(),
            clock: context.clock.clone(),
            reload: reload(path, (*context.env).clone()),
        };
        return runtime.block_on(service::run(start));
    }
    if let Command::Check { connect } = cli.command {
        return runtime.block_on(check::check(&context, &loaded.warnings, connect));
    }
    match runtime.block_on(dispatch(&context, cli.command)) {
        Ok(code) => code,
        Err(failure) => render::failure(&failure.message, failure.exit),
    }
}

async fn dispatch(context: &Context, command: Command) -> Result<u8, Failure> {
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
        Command::Approve(run) => decide::decide(context, Decision::Approve, &run.run).await,
        Command::Reject(run) => decide::decide(context, Decision::Reject, &run.run).await,
        Command::Adopt(run) => decide::decide(context, Decision::Adopt, &run.run).await,
        Command::Undo(run) => decide::decide(context, Decision::Undo, &run.run).await,
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
        Command::Users { what } => users::users(context, what).await,
        Command::Outbox { what } => outbox::outbox(context, what).await,
        Command::Backup { file } => outbox::backup(context, &file).await,
        // Handled before: they need no store.
        Command::Run | Command::Check { .. } | Command::Completions { .. } | Command::Man => Ok(0),
    }
}

fn refuse(faults: &Faults, json: bool) -> u8 {
    if json {
        for fault in faults.all() {
            render::json(fault);
        }
    } else {
        render::talk(&faults.render(render::colour()));
    }
    78
}

fn reload(path: std::path::PathBuf, env: Environment) -> service::Reload {
    Arc::new(move || match config::load(&path, &env) {
        Ok(loaded) => Ok((
            loaded.config,
            loaded.warnings.iter().map(ToString::to_string).collect(),
        )),
        Err(faults) => Err(faults.render(false)),
    })
}

/// The manual page of the whole tree: one page, a section for each command.
fn man() -> u8 {
    let mut page = Vec::new();
    let command = Cli::command();
    let mut written = clap_mangen::Man::new(command.clone()).render(&mut page);
    let mut queue: Vec<(String, clap::Command)> = command
        .get_subcommands()
        .map(|c| (c.get_name().to_owned(), c.clone()))
        .collect();
    queue.reverse();
    while let Some((name, sub)) = queue.pop() {
        if written.is_err() || sub.get_name() == "help" {
            continue;
        }
        page.extend_from_slice(format!(".SH COMMAND {}\n", name.to_uppercase()).as_bytes());
        let man = clap_mangen::Man::new(sub.clone());
        written = man
            .render_description_section(&mut page)
            .and_then(|()| man.render_synopsis_section(&mut page))
            .and_then(|()| man.render_options_section(&mut page));
        for deeper in sub.get_subcommands() {
            queue.push((format!("{name} {}", deeper.get_name()), deeper.clone()));
        }
    }
    match written {
        Ok(()) => render::raw(&page),
        Err(error) => render::failure(&format!("cannot make the manual page: {error}"), 1),
    }
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
