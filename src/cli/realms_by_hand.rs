//! `realms list`, `create`, `edit`, `remove`.

use super::args::{Methods, RealmFields, RealmsCommand};
use super::operator::{Operator, store_failure};
use super::render::Table;
use super::{CommandContext, render};
use crate::acts::{
    ActFailure, EditRealm, FailureKind, MakeRealm, MakeRealmRequest, RealmRequest, RemoveRealm,
    RemoveRealmRequest,
};
use crate::model::words::count;
use crate::model::{Edit, RealmId};
use crate::store::Store;
use crate::story::realm_list::{RealmStory, realm_stories};

pub(super) async fn realms(
    context: &CommandContext,
    what: RealmsCommand,
) -> Result<u8, ActFailure> {
    match what {
        RealmsCommand::List => list(context).await,
        RealmsCommand::Create { id, settings } => {
            let id = RealmId::from(id);
            let act = MakeRealm {
                request: MakeRealmRequest {
                    id: id.clone(),
                    settings: request(settings),
                },
            };
            let operator = context.operator().await?;
            operator.act(act).await?;
            show(context, operator, &id, "made").await
        }
        RealmsCommand::Edit { id, settings } => {
            let realm = RealmId::from(id);
            let request = request(settings);
            if request == RealmRequest::default() {
                return Err(ActFailure::new(
                    FailureKind::Usage,
                    "nothing is to be changed: say what, as `--name` or `--two-factor`",
                ));
            }
            let act = EditRealm {
                realm: realm.clone(),
                request,
            };
            let operator = context.operator().await?;
            operator.act(act).await?;
            show(context, operator, &realm, "changed").await
        }
        RealmsCommand::Remove { id, with_users } => {
            let realm = RealmId::from(id);
            let act = RemoveRealm {
                realm: realm.clone(),
                request: RemoveRealmRequest { with_users },
            };
            let operator = context.operator().await?;
            let removed = operator.act(act).await?;
            operator.close().await;
            if context.json {
                render::json(&serde_json::json!({ "id": realm, "users_removed": removed.users }));
            } else {
                let with = match removed.users {
                    0 => String::new(),
                    n => format!(", and {} with it", count(n, "user")),
                };
                render::line(&format!("{realm}: removed{with}"));
            }
            Ok(0)
        }
    }
}

fn request(fields: RealmFields) -> RealmRequest {
    RealmRequest {
        name: Edit::typed(fields.name),
        category: Edit::typed(fields.category),
        region: Edit::typed(fields.region),
        time_zone: Edit::typed(fields.time_zone),
        two_factor: fields.two_factor.map(|Methods(methods)| methods),
    }
}

async fn stories(context: &CommandContext, store: &Store) -> Result<Vec<RealmStory>, ActFailure> {
    realm_stories(store, &context.config)
        .await
        .map_err(|e| store_failure(&e))
}

/// Shows a realm after an act.
async fn show(
    context: &CommandContext,
    operator: Operator,
    realm: &RealmId,
    done: &str,
) -> Result<u8, ActFailure> {
    let store = match operator.alone() {
        Some(at) => at.store().clone(),
        None => context.store().await?,
    };
    let stories = stories(context, &store).await;
    operator.close().await;
    if let Some(story) = stories?.into_iter().find(|story| story.id == *realm)
        && context.json
    {
        render::json(&story);
    } else {
        render::line(&format!("{realm}: {done}"));
    }
    Ok(0)
}

async fn list(context: &CommandContext) -> Result<u8, ActFailure> {
    let store = context.store().await?;
    let stories = stories(context, &store).await?;
    if context.json {
        stories.iter().for_each(render::json);
        return Ok(0);
    }
    let mut table = Table::new(
        &[
            "realm", "name", "kind", "category", "region", "methods", "users",
        ],
        &[],
    );
    for story in stories {
        let methods: Vec<&str> = story.two_factor.iter().map(|m| m.as_str()).collect();
        table.row(vec![
            story.id.to_string(),
            story.name,
            story.kind.to_string(),
            story.category.unwrap_or_default(),
            story.region.unwrap_or_default(),
            methods.join(", "),
            story.users.to_string(),
        ]);
    }
    table.end();
    Ok(0)
}
