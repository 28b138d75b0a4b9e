//! The manual page of the whole tree: one page, a section for each command. `docs/realmsync.1` is what it prints.

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::args::Cli;

/// The page in roff.
pub(super) fn page() -> std::io::Result<Vec<u8>> {
    let root = Cli::command()
        .disable_help_subcommand(true)
        .disable_version_flag(true);
    let mut page = Vec::new();
    let man = Man::new(root.clone())
        .manual("User Commands")
        .section("1")
        .date("")
        .source(concat!("realmsync ", env!("CARGO_PKG_VERSION")));
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    Roff::new()
        .control("SH", ["SYNOPSIS"])
        .text([
            bold("realmsync"),
            roman(" [-c "),
            italic("FILE"),
            roman("] [--json] "),
            italic("COMMAND"),
        ])
        .to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    Roff::new()
        .control("SH", ["COMMANDS"])
        .to_writer(&mut page)?;
    for command in root.get_subcommands() {
        tree(command, command.get_name(), &mut page)?;
    }
    for (heading, paragraphs) in SECTIONS {
        let mut roff = Roff::new();
        roff.control("SH", [*heading]);
        for paragraph in *paragraphs {
            roff.control("PP", []);
            roff.text([roman(*paragraph)]);
        }
        roff.to_writer(&mut page)?;
    }
    Ok(page)
}

/// A command with its arguments, then those below it.
fn tree(command: &Command, name: &str, page: &mut Vec<u8>) -> std::io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SS", [usage(command, name).as_str()]);
    if let Some(about) = command.get_about() {
        roff.text([roman(format!("{about}."))]);
    }
    for argument in command.get_arguments().filter(|a| a.get_id() != "help") {
        roff.control("TP", []);
        let value = argument
            .get_value_names()
            .and_then(|names| names.first())
            .map(ToString::to_string)
            .unwrap_or_default();
        let takes = argument.get_action().takes_values();
        match argument.get_long() {
            Some(long) if takes => {
                roff.text([bold(format!("--{long}")), roman(" "), italic(value)])
            }
            Some(long) => roff.text([bold(format!("--{long}"))]),
            None => roff.text([italic(value)]),
        };
        let help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let default: Vec<String> = argument
            .get_default_values()
            .iter()
            .map(|v| v.to_string_lossy().into_owned())
            .collect();
        let default = if default.is_empty() || !takes {
            String::new()
        } else {
            format!(" [default: {}]", default.join(", "))
        };
        roff.text([roman(format!("{help}{default}"))]);
    }
    roff.to_writer(page)?;
    for deeper in command.get_subcommands() {
        tree(deeper, &format!("{name} {}", deeper.get_name()), page)?;
    }
    Ok(())
}

/// `plan [REALM] [OPTIONS]`.
fn usage(command: &Command, name: &str) -> String {
    let mut text = name.to_owned();
    for argument in command.get_positionals() {
        let value = argument
            .get_value_names()
            .and_then(|names| names.first())
            .map(ToString::to_string)
            .unwrap_or_default();
        let many = if argument.get_num_args().is_some_and(|n| n.max_values() > 1) {
            "..."
        } else {
            ""
        };
        text.push_str(&if argument.is_required_set() {
            format!(" {value}{many}")
        } else {
            format!(" [{value}{many}]")
        });
    }
    if command.get_opts().next().is_some()
        || command
            .get_arguments()
            .any(|a| a.get_long().is_some_and(|l| l != "help") && !a.get_action().takes_values())
    {
        text.push_str(" [OPTIONS]");
    }
    if command.has_subcommands() {
        text.push_str(" COMMAND");
    }
    text
}

/// What belongs to no single command.
const SECTIONS: &[(&str, &[&str])] = &[
    (
        "OUTPUT",
        &[
            "Data goes to standard output, talk to standard error. There is no colour off a terminal, or where NO_COLOR is set. Phone numbers are masked unless --show-phones is given; --json shows them in full.",
            "--json prints one object, or one object a line for lists. Times are RFC 3339 in UTC, ids of runs and users UUIDv7; any unique beginning of an id names it.",
        ],
    ),
    (
        "WHO ACTS",
        &[
            "A command that changes something asks the daemon over its control socket when it answers, and else takes the lock of the store and does it in its own process; its messages then wait for the daemon. Commands that only read take no lock.",
            "Run by root beside a service of another user, a command becomes the owner of the store's folder first, and keeps no right of root's but to read. check stays root, and so does backup to a folder that is not the owner's. The audit trail names the user, under sudo the person behind it.",
        ],
    ),
    (
        "EXIT STATUS",
        &[
            "0: fine. 1: failed. 2: plan found changes. 3: held by the brake (plan: would be). 64: usage. 69: directory or store unreachable. 75: another process holds the realm or the store. 78: configuration.",
            "Of several realms in one command the worst counts, in the order 78, 69, 75, 1, 3, 2, 0.",
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            "REALMSYNC_CONFIG: the configuration, where -c does not name it. CREDENTIALS_DIRECTORY: where secrets that are given as X-credential are, set by systemd. NO_COLOR, COLUMNS: as usual.",
        ],
    ),
    (
        "FILES",
        &[
            "/etc/realmsync/realmsync.toml: the configuration. /var/lib/realmsync/realmsync.db: the store. /run/realmsync/control.sock: the daemon's control socket.",
        ],
    ),
    (
        "SIGNALS",
        &[
            "Of the daemon: SIGTERM and SIGINT stop it, a second one at once; SIGHUP reads the configuration anew, and keeps the old one where the new is refused; SIGUSR1 runs every realm now.",
        ],
    ),
    (
        "SEE ALSO",
        &["systemctl(1), systemd.exec(5), ldapsearch(1), crontab(5)"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command and subcommand with its path.
    fn all(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name());
            found.push((path.clone(), sub.clone()));
            all(sub, &path, found);
        }
    }

    #[test]
    fn the_page_in_docs_is_what_man_prints() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/realmsync.1");
        let page = String::from_utf8(page().expect("a page")).expect("UTF-8");
        let there = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            there == page,
            "docs/realmsync.1 is not what `realmsync man` prints: `cargo run -- man > docs/realmsync.1`"
        );
    }

    #[test]
    fn every_command_and_option_is_in_the_page() {
        let page = String::from_utf8(page().expect("a page")).expect("UTF-8");
        let mut commands = vec![];
        all(&Cli::command(), "", &mut commands);
        assert!(commands.len() > 25, "{}", commands.len());
        for (path, command) in commands {
            assert!(
                page.contains(&format!(".SS {}", path.trim()))
                    || page.contains(&format!(".SS \"{}", path.trim())),
                "{path}"
            );
            for argument in command.get_arguments().filter_map(|a| a.get_long()) {
                assert!(
                    page.contains(&argument.replace('-', "\\-")),
                    "{path} --{argument}"
                );
            }
        }
    }

    #[test]
    fn help_of_every_command() {
        let mut root = Cli::command().term_width(100);
        let mut text = root.render_long_help().to_string();
        root.build();
        let mut commands = vec![];
        all(&root, "", &mut commands);
        for (path, mut command) in commands {
            text.push_str(&format!(
                "\n──── realmsync{path}\n{}",
                command.render_long_help()
            ));
        }
        insta::assert_snapshot!(text);
    }
}
