//! `audit verify`: whether the record of who changed what is as it was written.

use super::act::Act;
use super::context::ActContext;
use super::failure::ActFailure;
use crate::store::{AuditCheck, AuditKey};

/// Looks at the whole chain. A store that was opened for reading is enough. Needs the enrolment key, which often only the daemon may
/// read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifyAudit;

impl Act for VerifyAudit {
    type Output = AuditCheck;

    async fn act(self, at: &ActContext) -> Result<AuditCheck, ActFailure> {
        let configured = at.engine.configured_enrolment_key()?;
        let kept = at.store().kept_enrolment_key().await?;
        // A key that was configured later does not undo what the store's own has signed.
        let keys: Vec<AuditKey> = configured.iter().chain(&kept).map(AuditKey::of).collect();
        Ok(at.store().verify_audit(&keys).await?)
    }
}
