//! The database below its rows, and the tables that follow from nothing: there only what is impossible can be found.

use super::{Run, VerifyError};
use crate::archiver::{impossible_work, lease, queue_flaws};
use crate::fixity;
use crate::journal::impossible_cursors;
use crate::nodes::impossible_leases;

impl Run<'_> {
    pub(super) async fn database(&mut self) -> Result<(), VerifyError> {
        self.progress.begin("database", 1);
        for (what, why) in self.app.db.flaws().await? {
            self.damage(what, why);
        }
        self.progress.advance(1);
        Ok(())
    }

    pub(super) async fn work(&mut self) -> Result<(), VerifyError> {
        let (app, now) = (self.app, self.app.clock.now());
        for (what, why) in impossible_cursors(&app.db, app.journal.size_or_end().await?).await? {
            self.damage(what, why);
        }
        for (call_seq, source) in
            impossible_work(&app.db, now.as_microsecond(), lease(&app.config.recordings, app.db.is_shared())).await?
        {
            self.damage(format!("recording_work of call number {call_seq}, {source}"), "no worker writes such values");
        }
        for (call_seq, source, why) in queue_flaws(&app.db).await? {
            self.damage(format!("recording_work of call number {call_seq}, {source}"), why);
        }
        let fixity = fixity::flaws(app.db.clone(), app.journal.clone(), &app.calls).await;
        match fixity {
            Ok(flaws) => flaws.into_iter().for_each(|(what, why)| self.damage(what, why)),
            Err(error) if error.is_damage() => self.damage("fixity", format!("it can't be read to its end: {error}")),
            Err(error) => return Err(error.into()),
        }
        for name in impossible_leases(&app.db).await? {
            self.damage(format!("lease {name}"), "no node takes such a turn");
        }
        for token in app.access.impossible_sessions().await? {
            self.damage(format!("session or sign-in link of token {token}"), "it lasts longer than any");
        }
        Ok(())
    }
}
