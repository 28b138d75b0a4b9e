//! `audit verify`: whether the record of who changed what is as it was written.

use super::act::Act;
use super::context::ActContext;
use super::failure::ActFailure;
use crate::store::AuditCheck;

/// Looks at the whole chain. A store that was opened for reading is enough. Needs the enrolment key, which often only the daemon may
/// read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifyAudit;

impl Act for VerifyAudit {
    type Output = AuditCheck;

    async fn act(self, at: &ActContext) -> Result<AuditCheck, ActFailure> {
        let keys = if at.engine.has_key().await? {
            at.engine.audit_keys().await?
        } else {
            // Nobody has ever written a line.
            vec![]
        };
        Ok(at.store().verify_audit(&keys).await?)
    }
}
