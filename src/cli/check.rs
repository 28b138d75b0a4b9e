//! `check`: the file, and with `--connect` the store, the receivers, and every server of every realm.

mod people;
mod server;
mod ways;

use super::status::no_store_yet;
use super::{CommandContext, render, text};
use crate::acts::ActFailure;
use crate::config::{Fault, StoreUrl};
use crate::delivery::reach;
use crate::model::ErrorCode;
use crate::store::Store;
use crate::story::keys::key_status;

pub(super) async fn check(context: &CommandContext, warnings: &[Fault], connect: bool) -> u8 {
    for warning in warnings {
        if context.json {
            render::json(warning);
        } else {
            render::talk(&warning.render(render::colour()));
        }
    }
    if !context.json {
        let realms = i64::try_from(context.config.realms.len()).unwrap_or(i64::MAX);
        render::line(&format!(
            "{} is fine: {}",
            context.config.path.display(),
            text::count(realms, "realm")
        ));
        render::line(&format!(
            "time zones by the rules of {}",
            context.config.zone_data
        ));
    }
    context.compare_file("").await;
    if !connect {
        return 0;
    }
    let mut codes = vec![
        look_at_the_store(context).await,
        look_at_the_receivers(context).await,
    ];
    for realm in &context.config.realms {
        for server in &realm.directory.servers {
            let mut report = Report::new(realm.id.as_str(), server.as_str());
            let looked = tokio::select! {
                looked = server::look(context, realm, server, &mut report) => looked,
                _ = tokio::signal::ctrl_c() => return render::failure("interrupted", 1),
            };
            codes.push(report.end(looked));
            report.print(context.json);
        }
    }
    super::worst(codes)
}

/// Opens the store for reading; one that was never made is no fault.
async fn look_at_the_store(context: &CommandContext) -> u8 {
    let name = match &context.config.store.url {
        StoreUrl::Sqlite(path) => path.display().to_string(),
        StoreUrl::Postgres { display, .. } => display.clone(),
    };
    let mut report = Report::of("store", name);
    let mut code = 0;
    if no_store_yet(context) {
        report.found("there is none yet; the service or `realmsync sync` makes it");
    } else {
        match context.store().await {
            Ok(store) => {
                report.found("it can be opened, and its schema fits");
                code = look_at_the_key(context, store.clone(), &mut report).await;
                store.close().await;
            }
            Err(failure) => {
                code = failure.exit;
                report.mend(failure.message);
            }
        }
    }
    report.print(context.json);
    code
}

/// Tries the enrolment key at what the store keeps to tell the right one.
async fn look_at_the_key(context: &CommandContext, store: Store, report: &mut Report) -> u8 {
    let secret = context.config.enrolment.key.as_ref();
    let unseen = secret.and_then(|secret| secret.resolve(&context.env).err());
    if unseen.is_some_and(|error| error.invisible) {
        report
            .found("the enrolment key is a credential of the service, which tries it at its start");
        return 0;
    }
    let engine = context.acting_on(store).engine;
    let status = match key_status(&engine).await {
        Ok(status) => status,
        Err(error) => {
            let failure = ActFailure::from(&error);
            report.mend(failure.message);
            return failure.exit;
        }
    };
    let mut code = 0;
    if let Some(error) = status.error {
        report.mend(error);
        code = 78;
    }
    if let Some(id) = status.id {
        report.found(format!(
            "the enrolment key {id} is the right one for this store"
        ));
    }
    if status.locked_out > 0 {
        let secrets = text::count(status.locked_out, "secret");
        report.mend(format!(
            "{secrets} kept with an enrolment key that is not configured: these users cannot be verified; name that key as `previous-key-file`, or send them the application anew"
        ));
        code = code.max(1);
    }
    if status.to_move > 0 {
        let secrets = text::count(status.to_move, "secret");
        report.found(format!(
            "{secrets} yet to be moved over from the former key"
        ));
    }
    if status.previous_may_go {
        report
            .found("nothing is kept with the former key any more: `previous-key` may be taken out");
    }
    code
}

/// Connects to every receiver; no message is sent.
async fn look_at_the_receivers(context: &CommandContext) -> u8 {
    let own = context.config.realms.iter().map(|r| r.delivery.as_ref());
    let all = std::iter::once(context.config.delivery.as_ref()).chain(own);
    let mut asked: Vec<String> = vec![];
    let mut code = 0;
    for delivery in all.flatten() {
        // The path may be a secret.
        let name = delivery.url.origin().ascii_serialization();
        if asked.contains(&name) {
            continue;
        }
        let mut report = Report::of("receiver", name.clone());
        match reach(delivery, &context.env).await {
            Ok(found) => report.found(found),
            Err(broken) => {
                code = 1;
                report.mend(broken);
            }
        }
        report.print(context.json);
        asked.push(name);
    }
    code
}

/// What was found on one server, in the store, or at a receiver.
struct Report {
    /// `None`: it belongs to all realms.
    realm: Option<String>,
    /// `server`, `store` or `receiver`.
    what: &'static str,
    server: String,
    lines: Vec<CheckLine>,
}

struct CheckLine {
    text: String,
    kind: CheckKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum CheckKind {
    /// As it should be.
    Found,
    /// One of the people, and what would become of them.
    Person,
    /// Something that an administrator should mend.
    Mend,
}

/// Why a server could not be looked at.
enum Stopped {
    /// The directory's own words.
    Directory(crate::directory::DirectoryError),
    /// A secret that only the service can see, or none.
    Secret { invisible: bool, message: String },
}

impl From<crate::directory::DirectoryError> for Stopped {
    fn from(error: crate::directory::DirectoryError) -> Self {
        Self::Directory(error)
    }
}

impl Report {
    fn new(realm: &str, server: &str) -> Self {
        Self {
            realm: Some(realm.to_owned()),
            ..Self::of("server", server.to_owned())
        }
    }

    fn of(what: &'static str, name: String) -> Self {
        Self {
            realm: None,
            what,
            server: name,
            lines: vec![],
        }
    }

    fn add(&mut self, kind: CheckKind, text: impl Into<String>) {
        self.lines.push(CheckLine {
            text: text.into(),
            kind,
        });
    }

    fn found(&mut self, text: impl Into<String>) {
        self.add(CheckKind::Found, text);
    }

    fn mend(&mut self, text: impl Into<String>) {
        self.add(CheckKind::Mend, text);
    }

    /// The exit code, once the server was looked at or could not be.
    fn end(&mut self, looked: Result<(), Stopped>) -> u8 {
        match looked {
            Ok(()) => u8::from(self.lines.iter().any(|l| l.kind == CheckKind::Mend)),
            Err(Stopped::Secret { invisible, message }) => {
                self.mend(message);
                // Outside of the service a credential that it alone sees is no fault of the file, but nothing could be looked at.
                if invisible { 1 } else { 78 }
            }
            Err(Stopped::Directory(error)) => {
                self.mend(error.to_string());
                match error.code() {
                    ErrorCode::Unreachable => 69,
                    ErrorCode::Config => 78,
                    _ => 1,
                }
            }
        }
    }

    fn json(&self) -> serde_json::Value {
        let of = |kind: CheckKind| {
            self.lines
                .iter()
                .filter(|l| l.kind == kind)
                .map(|l| l.text.as_str())
                .collect::<Vec<_>>()
        };
        let (found, people, mend) = (
            of(CheckKind::Found),
            of(CheckKind::Person),
            of(CheckKind::Mend),
        );
        match &self.realm {
            Some(realm) => serde_json::json!({
                "realm": realm, self.what: self.server, "found": found, "people": people, "mend": mend,
            }),
            None => serde_json::json!({ self.what: self.server, "found": found, "mend": mend }),
        }
    }

    fn print(&self, json: bool) {
        if json {
            render::json(&self.json());
            return;
        }
        render::line(&format!(
            "\n{} {}",
            render::paint("1", self.realm.as_deref().unwrap_or(self.what)),
            self.server
        ));
        for line in &self.lines {
            let mark = match line.kind {
                CheckKind::Found => render::paint("32", "✓"),
                CheckKind::Person => render::paint("2", "·"),
                CheckKind::Mend => render::paint("31", "✗"),
            };
            render::line(&format!("  {mark} {}", text::one_line(&line.text)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{DirectoryError, ServerFailure};

    #[test]
    fn the_exit_code_says_whose_turn_it_is() {
        let failure = || ServerFailure {
            server: "ldaps://a".into(),
            what: "connecting".into(),
            came: "refused".into(),
            next: "start it".into(),
        };
        let end = |looked| Report::new("r", "ldaps://a").end(looked);
        let secret = |invisible| {
            Err(Stopped::Secret {
                invisible,
                message: "m".into(),
            })
        };
        assert_eq!(end(Ok(())), 0);
        assert_eq!(end(Err(DirectoryError::Unreachable(failure()).into())), 69);
        assert_eq!(end(Err(DirectoryError::Auth(failure()).into())), 1);
        assert_eq!(end(Err(DirectoryError::Config(failure()).into())), 78);
        assert_eq!((end(secret(true)), end(secret(false))), (1, 78));
        let mut report = Report::new("r", "ldaps://a");
        report.add(CheckKind::Person, "jan");
        assert_eq!(report.end(Ok(())), 0);
        report.mend("the filter");
        assert_eq!(report.end(Ok(())), 1);
        assert_eq!(
            report.json().to_string(),
            r#"{"realm":"r","server":"ldaps://a","found":[],"people":["jan"],"mend":["the filter"]}"#
        );
    }
}
