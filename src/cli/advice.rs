//! What happened, and what to do next: every stage says both in one line, here they are parted.

/// The words that a stage's advice begins with.
const ADVICE: &[&str] = &[
    "add", "allow", "approve", "ask", "check", "choose", "chmod", "delete", "enter", "export",
    "free", "give", "install", "know", "log", "look", "lower", "make", "mend", "move", "name",
    "once", "only", "put", "raise", "read", "remove", "restart", "restore", "resume", "run",
    "save", "say", "see", "set", "start", "stop", "systemd", "take", "try", "turn", "unset",
    "upgrade", "use", "wait", "write",
];

/// Commands that advice names in backticks: "`resume r` lets it run again".
const COMMANDS: &[&str] = &[
    "adopt",
    "approve",
    "check",
    "explain",
    "outbox",
    "pause",
    "plan",
    "realmsync",
    "refused",
    "reject",
    "resume",
    "runs",
    "status",
    "sync",
    "systemctl",
    "undo",
    "users",
];

/// The line up to the advice, and the advice. Where several servers failed, each has a line of its own, advice included.
pub(super) fn part(message: &str) -> (String, Option<String>) {
    if message.contains(" | ") {
        let mut lines = message.splitn(2, ": ");
        let (first, rest) = (
            lines.next().unwrap_or_default(),
            lines.next().unwrap_or_default(),
        );
        return (format!("{first}:\n  {}", rest.replace(" | ", "\n  ")), None);
    }
    if message.contains('\n') {
        // A list, each line with its own.
        return (message.to_owned(), None);
    }
    let places = message.match_indices(&[':', ';', '.']).map(|(at, _)| at);
    for at in places {
        let rest = &message[at + 1..];
        if let Some(next) = rest.strip_prefix(' ').filter(|next| is_advice(next)) {
            return (message[..at].to_owned(), Some(in_full(&first_low(next))));
        }
    }
    (message.to_owned(), None)
}

/// Commands as they are typed: ``realmsync sync`` for `sync`.
fn in_full(text: &str) -> String {
    let mut parts: Vec<String> = text.split('`').map(str::to_owned).collect();
    for quoted in parts.iter_mut().skip(1).step_by(2) {
        let word = quoted.split(' ').next().unwrap_or_default();
        if COMMANDS.contains(&word) && !["realmsync", "systemctl"].contains(&word) {
            quoted.insert_str(0, "realmsync ");
        }
    }
    parts.join("`")
}

fn is_advice(text: &str) -> bool {
    let word = |text: &str| {
        text.split(|c: char| !c.is_ascii_alphanumeric())
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    match text.strip_prefix('`') {
        Some(command) => COMMANDS.contains(&word(command).as_str()),
        None => ADVICE.contains(&word(text).as_str()),
    }
}

fn first_low(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    chars
        .next()
        .map(|c| c.to_lowercase().chain(chars).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn what_happened_and_what_to_do_are_parted() {
        for (message, what, next) in [
            (
                "there is no store /x.db yet: start the service, or run `sync`",
                "there is no store /x.db yet",
                Some("start the service, or run `realmsync sync`"),
            ),
            (
                "realm `r` is paused: `resume r` lets it run again",
                "realm `r` is paused",
                Some("`realmsync resume r` lets it run again"),
            ),
            (
                "ldaps://a:636: binding as `cn=x`: invalid credentials (49); check bind-dn and the password",
                "ldaps://a:636: binding as `cn=x`: invalid credentials (49)",
                Some("check bind-dn and the password"),
            ),
            (
                "run-timeout is over; nothing was applied. Raise `run-timeout`",
                "run-timeout is over; nothing was applied",
                Some("raise `run-timeout`"),
            ),
            ("cannot start: no threads", "cannot start: no threads", None),
            ("", "", None),
            (
                "no server could be used: a: down; start it | b: down; start it",
                "no server could be used:\n  a: down; start it\n  b: down; start it",
                None,
            ),
        ] {
            assert_eq!(
                part(message),
                (what.to_owned(), next.map(str::to_owned)),
                "{message}"
            );
        }
    }
}
