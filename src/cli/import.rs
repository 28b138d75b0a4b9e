//! `users import`.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Read as _, Seek as _, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::{Command, ImportArgs, UsersCommand};
use super::operator::{Operator, store_failure};
use super::plan::Shown;
use super::progress::{told, unless_interrupted, watched};
use super::render::Bar;
use super::{CommandContext, render, text};
use crate::acts::{
    ActContext, ActFailure, AgendaTurn, FailureKind, Import, ImportReport, ImportRequest,
    InRealm as _,
};
use crate::api::types::AnswerLine;
use crate::import::{Charset, ColumnMap, FileForm, LookAsked, Reading, look, noun};
use crate::model::{ErrorCode, ImportColumn, Outcome, RealmId, RefusedLine, Run, phone};
use crate::sync::ImportFile;

/// Refused lines that people are shown; a file has them all.
const SHOWN: i64 = 50;

/// The file of refused lines, made before the command becomes the owner of the store: it is made where and as whoever types says.
pub(super) fn refused_file(command: &Command) -> Option<Result<File, ActFailure>> {
    let Command::Users {
        what: UsersCommand::Import(args),
    } = command
    else {
        return None;
    };
    let path = args.refused.as_ref()?;
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    Some(made.map_err(|error| {
        ActFailure::new(
            FailureKind::Unfit,
            format!(
                "cannot make {} for the refused lines: {error}; nothing was done. Name a file that is not there yet",
                path.display()
            ),
        )
    }))
}

/// Where the lines of a file go that cannot be used.
struct Refused<'a> {
    context: &'a CommandContext,
    reading: Arc<Reading>,
    file: Option<File>,
    path: Option<PathBuf>,
    count: i64,
    failed: Option<std::io::Error>,
    /// They were shown before the question.
    shown: bool,
    /// It is only looked what would come of it.
    plan: bool,
}

impl Refused<'_> {
    /// All of them were shown, and come once more.
    fn again(&mut self) {
        self.shown = true;
        self.count = 0;
        if let Some(file) = &mut self.file {
            let emptied = file.set_len(0).and_then(|()| file.rewind());
            self.failed = self.failed.take().or(emptied.err());
        }
    }

    /// How many were not shown.
    fn rest(&self) {
        if self.count > SHOWN && !self.shown && self.path.is_none() && !self.context.json {
            render::line(&format!("… and {} more", self.count - SHOWN));
        }
    }

    /// The operation, which comes before them.
    fn operation(&self, report: &ImportReport) {
        if self.context.json {
            render::json(report);
        }
    }

    fn lines(&mut self, lines: &[RefusedLine]) {
        for line in lines {
            self.line(line);
        }
    }

    fn line(&mut self, line: &RefusedLine) {
        if self.count == 0 {
            let head = self.reading.head.clone();
            self.write(&head);
        }
        self.count += 1;
        let mut record = self.reading.charset.encode(&line.record);
        let end = self.reading.charset.encode("\n");
        if !line.record.ends_with(['\n', '\r']) {
            record.extend_from_slice(&end);
        }
        if matches!(self.reading.form, FileForm::Ldif { .. }) {
            record.extend(end);
        }
        self.write(&record);
        if self.context.json {
            render::json(&serde_json::json!({
                "line": line.line, "column": line.column, "value": line.value, "reason": line.reason,
            }));
        } else if self.count <= SHOWN && !self.shown {
            let column = line
                .column
                .map(|column| format!(" {}", noun(column)))
                .unwrap_or_default();
            let value = line
                .value
                .as_deref()
                .map(|value| format!(" `{}`", text::one_line(value)))
                .unwrap_or_default();
            render::line(&render::paint(
                "31",
                &format!(
                    "line {}:{column}{value}: {}",
                    line.line,
                    text::one_line(&line.reason)
                ),
            ));
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if let (Some(file), None) = (&mut self.file, &self.failed) {
            self.failed = file.write_all(bytes).err();
        }
    }

    /// What is said of them at the end.
    fn end(self, run: Option<&Run>) -> Result<(), ActFailure> {
        // While a plan waits no other file is taken.
        let held = run.is_some_and(|run| run.outcome == Outcome::Held);
        let again = if held && !self.plan {
            "once that plan is decided, mend and import it"
        } else {
            "mend and import it again"
        };
        self.rest();
        let Some(path) = &self.path else {
            if self.count > 0 && !self.context.json {
                render::hint(
                    "--refused FILE writes these lines as a file to mend and import again",
                );
            }
            return Ok(());
        };
        if let Some(error) = self.failed {
            return Err(ActFailure::new(
                FailureKind::Unfit,
                format!(
                    "the import is over, but its refused lines cannot be written to {}: {error}",
                    path.display()
                ),
            ));
        }
        if self.count == 0 {
            let _stays = std::fs::remove_file(path);
        } else if !self.context.json {
            render::hint(&format!(
                "{} in {}: {again}",
                text::count(self.count, "refused line"),
                path.display()
            ));
        }
        Ok(())
    }
}

pub(super) async fn import(context: &CommandContext, args: ImportArgs) -> Result<u8, ActFailure> {
    let realm = RealmId::from(args.realm.clone());
    let refused_file = match &context.refused_file {
        Some(Ok(file)) => Some(file.try_clone().map_err(|e| unread(&args.file, &e))?),
        Some(Err(failure)) => return Err(failure.clone()),
        None => None,
    };
    let done = with_file(context, &args, realm, refused_file).await;
    if let (Err(_), Some(path)) = (&done, &args.refused)
        && context.refused_file.is_some()
        && std::fs::metadata(path).is_ok_and(|meta| meta.len() == 0)
    {
        let _stays = std::fs::remove_file(path);
    }
    done
}

async fn with_file(
    context: &CommandContext,
    args: &ImportArgs,
    realm: RealmId,
    refused_file: Option<File>,
) -> Result<u8, ActFailure> {
    let usage = |why: String| ActFailure::new(FailureKind::Usage, why);
    let map = args.map.as_deref().map(str::parse::<ColumnMap>).transpose();
    let map = map.map_err(|why| usage(format!("--map: {why}")))?;
    let charset = args.encoding.as_deref().map(Charset::named).transpose();
    let charset = charset.map_err(|why| usage(format!("--encoding: {why}")))?;
    let file = opened(&args.file)?;
    let region = region_of(context, &realm).await;
    let asked = LookAsked {
        charset,
        map: map.as_ref(),
        region: region.as_deref(),
    };
    let reading = look(|| Ok(file.open()), &asked).map_err(|fault| {
        ActFailure::new(
            FailureKind::Unfit,
            format!("{}: {fault}", args.file.display()),
        )
    })?;
    let reading = Arc::new(reading);
    if !context.json {
        show_reading(&reading, args.show_phones);
    }
    let asks = !args.plan && !args.yes;
    if asks {
        may_ask(context, &args.file)?;
    }
    let act = Import {
        realm,
        file,
        request: ImportRequest {
            name: named(&args.file),
            plan: args.plan,
            replace: args.replace,
            map: args.map.clone(),
            encoding: args.encoding.clone(),
        },
        reading: Some(Arc::clone(&reading)),
    };
    let mut refused = Refused {
        context,
        reading,
        file: refused_file,
        path: args.refused.clone(),
        count: 0,
        failed: None,
        shown: false,
        plan: args.plan,
    };
    if asks && let Some(code) = looked_at(context, &act, &mut refused).await? {
        refused.end(None)?;
        return Ok(code);
    }
    let mut shown = Shown::new(context, args.show_phones, true);
    if args.plan {
        dry(context, act, &mut refused, &mut shown).await?;
    } else {
        let operator = context.operator().await?;
        let done = taken(&operator, &act, &mut refused, &mut shown).await;
        let alone = operator.is_alone();
        operator.close().await;
        done?;
        if let (Some(run), false) = (shown.the_run(), context.json) {
            super::sync::show(context, run, alone);
        }
    }
    if args.plan {
        shown.end();
    }
    let run = shown.the_run();
    refused.end(run)?;
    Ok(match run {
        Some(run) if args.plan => Shown::code_of(run),
        Some(run) => super::operator::exit_of(run),
        None => 1,
    })
}

/// The file, or what comes on standard input: that is kept in a temporary file, since it is read more than once.
fn opened(path: &Path) -> Result<ImportFile, ActFailure> {
    let spooled = |input: &mut dyn std::io::Read| -> std::io::Result<File> {
        let mut file = ImportFile::temporary(&ImportFile::places())?;
        std::io::copy(input, &mut file)?;
        Ok(file)
    };
    let read = || -> std::io::Result<File> {
        if path == Path::new("-") {
            return spooled(&mut std::io::stdin().lock());
        }
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        if meta.is_file() {
            return Ok(file);
        }
        if meta.is_dir() {
            // A read of it says so.
            file.read_exact(&mut [0])?;
        }
        spooled(&mut file)
    };
    let file = read().map_err(|error| unread(path, &error))?;
    Ok(ImportFile::new(&named(path), file))
}

fn named(path: &Path) -> String {
    if path == Path::new("-") {
        return "standard input".to_owned();
    }
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn unread(path: &Path, error: &std::io::Error) -> ActFailure {
    ActFailure::new(
        FailureKind::Unfit,
        format!("cannot read {}: {error}", path.display()),
    )
}

/// The country of a realm's national numbers, as far as it can be told without the daemon.
async fn region_of(context: &CommandContext, realm: &RealmId) -> Option<String> {
    if let Some(realm) = context.config.realms.iter().find(|r| r.id == *realm) {
        return realm.phone.region.clone();
    }
    let store = context.store().await.ok()?;
    let row = store.realm(realm).await.ok().flatten();
    store.close().await;
    row?.settings.region
}

/// How the file is read, and its first lines.
fn show_reading(reading: &Reading, show_phones: bool) {
    for said in &reading.said {
        render::talk(&text::one_line(said));
    }
    let first = &reading.shown;
    render::talk(&format!(
        "the first {}:",
        text::count(i64::try_from(first.len()).unwrap_or(0), "line")
    ));
    for cells in first {
        let mut line = vec![];
        for column in ImportColumn::ALL {
            for value in cells.of(*column) {
                let value = value.trim();
                let value = match column {
                    _ if value == "-" => "- (cleared)".to_owned(),
                    ImportColumn::Phone if !show_phones => phone::mask(value),
                    _ => text::one_line(value),
                };
                line.push(format!("{} {value}", noun(*column)));
            }
        }
        render::talk(&format!("  {}", line.join(" · ")));
    }
}

/// Where nobody can be asked, `--yes` says so.
fn may_ask(context: &CommandContext, file: &Path) -> Result<(), ActFailure> {
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if context.json || !terminal || file == Path::new("-") {
        return Err(ActFailure::new(
            FailureKind::Usage,
            "nothing was done, since nobody can be asked here: --yes imports the file as it was shown, --plan shows what would come of it",
        ));
    }
    Ok(())
}

/// What would come of it, in numbers and refused lines, and the question whether to go on; a code where there is nothing to ask.
async fn looked_at(
    context: &CommandContext,
    act: &Import,
    refused: &mut Refused<'_>,
) -> Result<Option<u8>, ActFailure> {
    let mut numbers = Shown::numbers(context);
    let mut plan = act.clone();
    plan.request.plan = true;
    dry(context, plan, refused, &mut numbers).await?;
    refused.rest();
    numbers.end();
    let outcome = numbers.the_run().map(|run| run.outcome);
    if !matches!(outcome, Some(Outcome::Applied | Outcome::Held)) {
        return Ok(Some(numbers.the_run().map_or(1, Shown::code_of)));
    }
    refused.again();
    confirm(&act.realm).map(|()| None)
}

/// Asks whether to go on.
fn confirm(realm: &RealmId) -> Result<(), ActFailure> {
    render::talk(&format!(
        "Import it into realm `{realm}`? Type yes to go on (--plan lists each change):"
    ));
    let mut answer = String::new();
    let _end = std::io::stdin().read_line(&mut answer);
    if matches!(answer.trim().to_lowercase().as_str(), "yes" | "y") {
        return Ok(());
    }
    Err(ActFailure::new(
        FailureKind::Refused,
        "nothing was done: the answer was not yes",
    ))
}

/// Has the file taken, and shows what comes of it.
async fn taken(
    operator: &Operator,
    act: &Import,
    refused: &mut Refused<'_>,
    shown: &mut Shown<'_>,
) -> Result<(), ActFailure> {
    let bar = Bar::reading(act.file.name());
    match operator {
        Operator::Daemon(client) => {
            let mut progress = told(&bar);
            let mut broke_off = false;
            let heard = |line| {
                match line {
                    AnswerLine::Progress(seen) => progress(seen),
                    AnswerLine::Run(run) => {
                        bar.end();
                        shown.keep(*run);
                    }
                    AnswerLine::Operation(report) => refused.operation(&report),
                    AnswerLine::Refused(lines) => refused.lines(&lines),
                    AnswerLine::Changes(changes) => {
                        broke_off = shown.changes(&changes).is_break();
                    }
                    AnswerLine::Result(_) | AnswerLine::Error(_) => {}
                }
                if broke_off {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            };
            let done = unless_interrupted(client.import(act, heard)).await;
            // Without its end there is no answer, and nobody waits for one.
            if !broke_off {
                done?;
            }
            Ok(())
        }
        Operator::Alone(at, _) => here(at, act.clone(), &bar, refused, shown).await,
    }
}

/// The same in this process.
async fn here(
    at: &ActContext,
    act: Import,
    bar: &Bar,
    refused: &mut Refused<'_>,
    shown: &mut Shown<'_>,
) -> Result<(), ActFailure> {
    if !act.request.plan {
        at.known(&act.realm).await?;
    }
    let turn = AgendaTurn::default();
    let done = watched(&turn, bar, act.act(at, &turn)).await?;
    bar.end();
    let report = ImportReport::of(&done, act.request.plan);
    refused.operation(&report);
    let mut lines = done.refused;
    loop {
        let page = lines.page().map_err(|error| {
            ActFailure::coded(
                ErrorCode::Store,
                format!(
                    "the import is over, but its refused lines cannot be read any more: {error}"
                ),
            )
        })?;
        if page.is_empty() {
            break;
        }
        refused.lines(&page);
    }
    shown.keep(done.run);
    let mut changes = done.lines;
    loop {
        let page = changes.next().await.map_err(|e| store_failure(&e))?;
        if page.is_empty() || shown.changes(&page).is_break() {
            return Ok(());
        }
    }
}

/// What would come of it: through the daemon, else over a store opened for reading.
async fn dry(
    context: &CommandContext,
    act: Import,
    refused: &mut Refused<'_>,
    shown: &mut Shown<'_>,
) -> Result<(), ActFailure> {
    if let Some(client) = context.daemon().await {
        return taken(&Operator::Daemon(client), &act, refused, shown).await;
    }
    let (at, _empty) = super::plan::to_look_at(context, &act.realm).await?;
    let bar = Bar::reading(act.file.name());
    let done = here(&at, act, &bar, refused, shown).await;
    at.store().close().await;
    done
}
