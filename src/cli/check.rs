//! `check`: the file, and with `--connect` every server of every realm.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Context, render};
use crate::config::{Attributes, DirectoryKind, Fault, RealmConfig, default_filter};
use crate::directory::{DirectoryError, Scope, Session, connect_one};
use crate::model::{ErrorCode, Known, Person, PhoneReading, RawEntry, filter, phone};
use crate::normalise::Normaliser;

/// People shown of each server.
const SHOWN: usize = 5;

/// People read to say how many have a usable phone.
const SAMPLE: usize = 1000;

pub(super) async fn check(context: &Context, warnings: &[Fault], connect: bool) -> u8 {
    for warning in warnings {
        if context.json {
            render::json(warning);
        } else {
            render::talk(&warning.render(render::colour()));
        }
    }
    if !context.json {
        let n = context.config.realms.len();
        render::line(&format!(
            "{} is fine: {n} realm{}",
            context.config.path.display(),
            if n == 1 { "" } else { "s" }
        ));
    }
    if !connect {
        return 0;
    }
    let mut codes = vec![];
    for realm in &context.config.realms {
        for server in &realm.directory.servers {
            let mut report = Report {
                realm: realm.id.to_string(),
                server: server.to_string(),
                ..Report::default()
            };
            let code = match look(context, realm, server, &mut report).await {
                Ok(()) => u8::from(report.lines.iter().any(|l| l.mend)),
                Err(error) => {
                    report.mend(error.to_string());
                    if error.code() == ErrorCode::Unreachable {
                        69
                    } else {
                        1
                    }
                }
            };
            report.print(context.json);
            codes.push(code);
        }
    }
    super::worst(codes)
}

#[derive(Default)]
struct Report {
    realm: String,
    server: String,
    lines: Vec<Line>,
}

struct Line {
    text: String,
    /// Something that an administrator should mend.
    mend: bool,
}

impl Report {
    fn say(&mut self, text: impl Into<String>) {
        self.lines.push(Line {
            text: text.into(),
            mend: false,
        });
    }

    fn mend(&mut self, text: impl Into<String>) {
        self.lines.push(Line {
            text: text.into(),
            mend: true,
        });
    }

    fn print(&self, json: bool) {
        if json {
            let texts = |mend: bool| {
                self.lines
                    .iter()
                    .filter(|l| l.mend == mend)
                    .map(|l| l.text.as_str())
                    .collect::<Vec<_>>()
            };
            render::json(
                &serde_json::json!({ "realm": self.realm, "server": self.server, "found": texts(false), "mend": texts(true) }),
            );
            return;
        }
        render::line(&format!(
            "\n{} {}",
            render::paint("1", &self.realm),
            self.server
        ));
        for line in &self.lines {
            render::line(&format!(
                "  {} {}",
                if line.mend {
                    render::paint("31", "✗")
                } else {
                    render::paint("32", "✓")
                },
                line.text
            ));
        }
    }
}

async fn look(
    context: &Context,
    realm: &RealmConfig,
    server: &url::Url,
    report: &mut Report,
) -> Result<(), DirectoryError> {
    let directory = match realm.directory.with_secrets(&context.env) {
        Ok(directory) => directory,
        Err(error) => {
            report.mend(format!("bind-password: {}; {}", error.message, error.help));
            return Ok(());
        }
    };
    let deadline = Instant::now() + Duration::from_mins(1);
    let mut session = connect_one(&directory, server, &context.clock, deadline).await?;
    let who = session
        .who_am_i()
        .await?
        .unwrap_or_else(|| "nobody (anonymous)".into());
    report.say(format!("connected; the server says that we are {who}"));
    let root = session.root_dse();
    let paged = root.has_control("1.2.840.113556.1.4.319");
    report.say(format!(
        "{}, naming contexts {}",
        called(session.kind()),
        root.naming_contexts.join("; ")
    ));
    if !paged {
        report.mend(
            "the server offers no paged results: full passes of it cannot be proved complete",
        );
    }
    let attributes = Attributes::for_kind(session.kind(), &realm.attributes);
    let filter_text = realm
        .directory
        .filter
        .clone()
        .unwrap_or_else(|| default_filter(session.kind()).to_owned());
    schema(&mut session, &attributes, &filter_text, report).await?;
    let normaliser = Normaliser::new(&attributes, &realm.phone, 0);
    let scope = Scope {
        bases: realm.directory.base.clone(),
        filter: filter_text,
        attributes: normaliser.requested(),
        id_attribute: attributes.directory_id.clone(),
        id_form: attributes.id_form,
        page_size: realm.directory.page_size,
    };
    people(session, scope, &normaliser, report).await
}

fn called(kind: DirectoryKind) -> &'static str {
    match kind {
        DirectoryKind::OpenLdap => "OpenLDAP",
        DirectoryKind::Ds389 => "389 Directory Server",
        DirectoryKind::ActiveDirectory => "Active Directory",
        DirectoryKind::Generic => "an LDAP server of no kind that is known",
    }
}

async fn schema(
    session: &mut Session,
    attributes: &Attributes,
    filter_text: &str,
    report: &mut Report,
) -> Result<(), DirectoryError> {
    let schema = session.schema().await?;
    let mapped = [
        &attributes.username,
        &attributes.display_name,
        &attributes.email,
        &attributes.phone,
        &attributes.country,
    ];
    for name in mapped
        .into_iter()
        .flatten()
        .filter(|a| !schema.has_attribute(a))
    {
        if attributes
            .explicit
            .iter()
            .any(|e| e.eq_ignore_ascii_case(name))
        {
            report.mend(format!(
                "the schema has no attribute `{name}`, which [realm.attributes] names"
            ));
        } else {
            report.say(format!(
                "the schema has no attribute `{name}` (a default; nothing is missing by that)"
            ));
        }
    }
    if let Ok(parsed) = filter::parse(filter_text) {
        for name in parsed
            .attributes()
            .into_iter()
            .filter(|a| !schema.has_attribute(a))
        {
            report.mend(format!(
                "the filter names `{name}`, which the schema does not have: it will match nobody"
            ));
        }
        for class in parsed
            .values_of("objectclass")
            .into_iter()
            .filter(|c| c != "*" && !schema.has_object_class(c))
        {
            report.mend(format!(
                "the filter names the object class `{class}`, which the schema does not have"
            ));
        }
    }
    Ok(())
}

/// Reads all, shows the first few, and says how many have a phone that can be used.
async fn people(
    mut session: Session,
    scope: Scope,
    normaliser: &Normaliser,
    report: &mut Report,
) -> Result<(), DirectoryError> {
    let (pages, mut arriving) = mpsc::channel::<Vec<RawEntry>>(2);
    let mut reading = tokio::task::JoinSet::new();
    reading.spawn(async move {
        session
            .read(&scope, pages)
            .await
            .map(|complete| complete.entries().to_vec())
    });
    let (mut seen, mut with_phone, mut sampled, mut any_phone_value) =
        (0_usize, 0_usize, 0_usize, false);
    while let Some(page) = arriving.recv().await {
        for entry in page {
            seen += 1;
            if sampled >= SAMPLE {
                continue;
            }
            sampled += 1;
            match normaliser.person(&entry) {
                Ok(person) => {
                    let (usable, any) = numbers(&person);
                    with_phone += usize::from(usable.is_some());
                    any_phone_value |= any;
                    if sampled <= SHOWN {
                        report.say(shown(&person, usable.as_deref()));
                    }
                }
                Err(refusal) if sampled <= SHOWN => report.mend(format!(
                    "{} would be refused: {}",
                    refusal.dn, refusal.reason
                )),
                Err(_) => {}
            }
        }
    }
    match reading.join_next().await {
        Some(Ok(Ok(counts))) => report.say(format!(
            "a full pass is complete: {seen} entries ({})",
            counts
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" + ")
        )),
        Some(Ok(Err(error))) => report.mend(format!("after {seen} entries: {error}")),
        _ => report.mend("the reading task ended unasked"),
    }
    if sampled > 0 {
        report.say(format!(
            "{with_phone} of {sampled} looked at have a phone that can be used"
        ));
        if !any_phone_value {
            report.mend("nobody shows any phone at all: give the account the right to read the phone attributes, or mend `phone` in [realm.attributes]");
        }
    }
    Ok(())
}

/// The number that would be used, masked, and whether there is any value at all.
fn numbers(person: &Person) -> (Option<String>, bool) {
    let PhoneReading::Read(attributes) = &person.phone else {
        return (None, false);
    };
    let usable = attributes
        .iter()
        .find_map(|a| a.usable.first())
        .map(|v| format!("{} ({})", v.phone.masked(), v.rule));
    (
        usable,
        attributes
            .iter()
            .any(|a| !a.usable.is_empty() || a.refused > 0),
    )
}

fn shown(person: &Person, phone: Option<&str>) -> String {
    let name = person
        .username
        .as_ref()
        .map_or_else(|why| format!("no user name: {why}"), |n| n.shown.clone());
    let state = if person.enabled == Known::Known(true) {
        "active"
    } else {
        "disabled"
    };
    let refused: Vec<String> = person
        .refused
        .iter()
        .map(|r| {
            format!(
                "{} `{}` refused: {}",
                r.attribute.as_deref().unwrap_or("entry"),
                r.raw.as_deref().map(phone::mask).unwrap_or_default(),
                r.reason
            )
        })
        .collect();
    let rest = if refused.is_empty() {
        String::new()
    } else {
        format!("; {}", refused.join("; "))
    };
    format!(
        "{} would be `{name}`, {state}, phone {}{rest}",
        person.dn,
        phone.unwrap_or("none")
    )
}
