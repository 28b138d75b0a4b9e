//! Entries that have one directory id under several DNs: nobody knows whose id it is, so none of them is read.

use std::collections::BTreeSet;

use super::found::Found;
use super::people::take_back_early;
use super::reading::Reading;
use super::setting::Setting;
use crate::model::{DirectoryId, IdForm, Refusal};
use crate::runs::RunFailure;
use crate::sync::realm::session::LOOK_UP;

/// Asks the directory about ids that came under more than one DN. Where it still has several, all of them are refused, and
/// a user who is held with the id stays as they are; where it has one, the entry was renamed between two pages.
pub(super) async fn refuse_doubles(
    setting: &Setting<'_>,
    reading: &mut Reading,
    found: &mut Found,
) -> Result<(), RunFailure> {
    let twice: Vec<DirectoryId> = std::mem::take(&mut reading.twice).into_iter().collect();
    for ids in twice.chunks(LOOK_UP) {
        let mut doubles = reading.prepared.places(ids).await?;
        doubles.retain(|_, dns| dns.len() > 1);
        reading.decided_early.extend(doubles.keys());
        take_back_early(setting, reading, found).await?;
        reading.index.unclaim(|id| doubles.contains_key(&id));
        for (id, dns) in doubles {
            reading.uncontest(id);
            let scope = &reading.prepared.scope;
            let refusals = refusals(id, &dns, &scope.id_attribute, scope.id_form);
            for refusal in refusals {
                found.refuse(refusal);
            }
        }
    }
    Ok(())
}

fn refusals(
    id: DirectoryId,
    dns: &BTreeSet<String>,
    attribute: &str,
    form: IdForm,
) -> Vec<Refusal> {
    dns.iter()
        .map(|dn| {
            let others: Vec<&str> = dns
                .iter()
                .filter(|o| *o != dn)
                .map(String::as_str)
                .collect();
            Refusal {
                dn: dn.clone(),
                directory_id: Some(id),
                username: None,
                attribute: Some(attribute.to_owned()),
                raw: Some(id.display(form)),
                reason: format!(
                    "the directory id is also that of {}: it must be of one entry alone",
                    others.join("; ")
                ),
                entry: true,
            }
        })
        .collect()
}
