//! Whether DirSync and change notification are to be had here, found out by trying; and where the directory is now.

use std::sync::Arc;

use super::super::delta::{Cursor, NoDelta, Way};
use super::super::error::{DirectoryError, came};
use super::super::read::Scope;
use super::super::search::Trouble;
use super::super::session::Session;
use super::changes::DirSyncChanges;
use super::place::{DirSyncPlace, asked, key};
use super::read::{ContextRead, passing};
use super::{DIRSYNC, NOBODY, NOTIFICATION};

impl Session {
    /// Of push and DirSync, what this server offers to this account.
    pub(in crate::directory) async fn dirsync_ways(
        &mut self,
        scope: &Scope,
    ) -> Result<Vec<Way>, DirectoryError> {
        match self.dirsync_now(scope).await {
            Ok(_) => {}
            Err(NoDelta::Directory(e)) => return Err(e),
            Err(NoDelta::NotOffered(_) | NoDelta::StartOver(_)) => return Ok(Vec::new()),
        }
        let mut ways = vec![Way::DirSync];
        match self.notifies().await {
            Ok(mut streams) => {
                for stream in &mut streams {
                    self.leave(stream).await;
                }
                ways.push(Way::Push);
            }
            Err(NoDelta::Directory(e)) => return Err(e),
            Err(NoDelta::NotOffered(_) | NoDelta::StartOver(_)) => {}
        }
        Ok(ways)
    }

    /// A cursor at *now*. The cookie of a search that matches nobody is as good as one of a search that reads everybody: it says how
    /// far the server is, not who was told. (Tried on Samba. Active Directory may still walk through the naming context to find nobody.)
    pub(in crate::directory) async fn dirsync_now(
        &mut self,
        scope: &Scope,
    ) -> Result<Cursor, NoDelta> {
        let server = &self.server;
        if !self.root.has_control(DIRSYNC) {
            return Err(NoDelta::NotOffered(format!(
                "{server} does not announce DirSync"
            )));
        }
        if !scope.id_attribute.eq_ignore_ascii_case("objectGUID") {
            return Err(NoDelta::NotOffered(
                "DirSync tells who changed by objectGUID, and the realm's id is another attribute"
                    .into(),
            ));
        }
        let usn = self.usn_now().await?;
        match self.dirsync_cookies(scope, false).await {
            Err(Trouble::Result { code: 50, .. }) => {
                let cookies = self.dirsync_cookies(scope, true).await;
                self.cursor_at(scope, usn, true, cookies)
            }
            cookies => self.cursor_at(scope, usn, false, cookies),
        }
    }

    fn cursor_at(
        &self,
        scope: &Scope,
        usn: Option<u64>,
        object_security: bool,
        cookies: Result<Vec<Vec<u8>>, Trouble>,
    ) -> Result<Cursor, NoDelta> {
        match cookies {
            Ok(cookies) => Ok(Cursor {
                way: Way::DirSync,
                server: self.invocation(),
                cookie: DirSyncPlace::new(usn, object_security, &cookies).text(),
                scope: key(scope, &self.account),
            }),
            Err(Trouble::Error(e)) => Err(e.into()),
            Err(Trouble::Result { code, text, what }) if passing(code) => {
                Err(self.refused(&what, code, &text).into())
            }
            Err(Trouble::Result { code, text, .. }) => Err(NoDelta::NotOffered(format!(
                "{} does not give DirSync to this account ({}): it wants the right Replicating Directory Changes on the naming context",
                self.server,
                came(code, &text)
            ))),
        }
    }

    /// A cookie for each naming context.
    async fn dirsync_cookies(
        &mut self,
        scope: &Scope,
        object_security: bool,
    ) -> Result<Vec<Vec<u8>>, Trouble> {
        let attributes: Arc<[String]> = asked(scope).into();
        let mut cookies = Vec::new();
        for context in self.contexts.clone() {
            let mut told = DirSyncChanges::default();
            match self
                .follow(
                    &context,
                    NOBODY,
                    &attributes,
                    object_security,
                    Vec::new(),
                    &mut told,
                )
                .await?
            {
                ContextRead::Cookie(cookie) => cookies.push(cookie),
                ContextRead::Odd(odd) => {
                    return Err(self.incomplete(
                        &format!("asking `{context}` for nobody (DirSync)"),
                        odd.text(),
                        "the server does not heed the filter",
                    ));
                }
            }
        }
        Ok(cookies)
    }

    /// Whether the root DSE announces change notification.
    pub(super) fn announces_notification(&self) -> bool {
        self.root.has_control(NOTIFICATION)
    }
}
