//! The search index: its own checksums, and each call's document against the call.

use std::time::Duration;

use super::{Run, STEP, VerifyError};
use crate::calls::Facts;
use crate::lock::DataDirLock;
use crate::search::{CallDoc, Error as SearchError, Searcher};

/// How often, and how long apart, a running server is given time to catch up.
const PATIENCE: u32 = 50;
const PAUSE: Duration = Duration::from_millis(200);

impl Run<'_> {
    pub(super) async fn index(&mut self) -> Result<(), VerifyError> {
        self.progress.begin("search index", self.report.calls);
        let nobody_serves = DataDirLock::check_free(&self.app.config.data_dir).is_ok();
        let searcher = match self.caught_up(nobody_serves).await {
            Ok(searcher) => searcher,
            // Nothing to find is found without an index.
            Err(VerifyError::Search(SearchError::Missing)) if self.report.calls == 0 => return Ok(()),
            Err(VerifyError::Search(error)) => {
                self.damage("search index", format!("{error}: run callvault reindex"));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        match tokio::task::block_in_place(|| searcher.check(nobody_serves)) {
            Ok(files) => {
                for (file, why) in files {
                    self.damage(format!("search index file {file}"), format!("{why}: run callvault reindex"));
                }
            }
            Err(error) => self.damage("search index", format!("{error}: run callvault reindex")),
        }
        // A running server goes on appending, and its index following.
        if searcher.cursor() > self.app.journal.size_or_end().await? {
            self.damage("search index", "it knows more than the journal: run callvault reindex");
        }
        match self.compare(&searcher).await {
            Err(VerifyError::Search(error)) => self.damage("search index", format!("{error}: run callvault reindex")),
            other => other?,
        }
        Ok(())
    }

    /// The searcher once it has taken in what was journaled when the check began; where nobody serves it never will,
    /// and what it has not taken in yet is no damage.
    async fn caught_up(&mut self, nobody_serves: bool) -> Result<std::sync::Arc<Searcher>, VerifyError> {
        let searcher = self.app.search.searcher()?;
        for _ in 0..PATIENCE {
            searcher.refresh()?;
            if searcher.cursor() >= self.size || nobody_serves {
                return Ok(searcher);
            }
            tokio::time::sleep(PAUSE).await;
        }
        let behind = self.size - searcher.cursor();
        Err(SearchError::Damaged(format!("it is {behind} journal entries behind")).into())
    }

    /// Calls that changed after the commit that is searched are left out: their documents may be older.
    async fn compare(&mut self, searcher: &Searcher) -> Result<(), VerifyError> {
        let (cursor, mut from, mut known) = (searcher.cursor(), i64::MIN, 0);
        loop {
            let rows = self.app.calls.stored(from, STEP).await?;
            for row in rows.iter().filter_map(|row| row.columns.as_ref().ok()) {
                known += u64::from(row.first_seq.cast_unsigned() < cursor);
                if row.last_seq.cast_unsigned() >= cursor {
                    continue;
                }
                let Ok(facts) = serde_json::from_str::<Facts>(&row.facts) else { continue };
                let expected = CallDoc::from(&facts).digest();
                let found = tokio::task::block_in_place(|| searcher.digest_of(&row.call_id))?;
                if found != Some(expected) {
                    let why = if found.is_none() {
                        "missing from the search index"
                    } else {
                        "older or other in the search index"
                    };
                    self.damage(format!("call {}", row.call_id), format!("{why}: run callvault reindex"));
                }
            }
            self.progress.advance(rows.len() as u64);
            let Some(next) = rows.last().and_then(|last| last.first_seq.checked_add(1)) else { break };
            from = next;
        }
        if searcher.num_calls() > known {
            let more = searcher.num_calls() - known;
            self.damage("search index", format!("{more} documents belong to no call: run callvault reindex"));
        }
        Ok(())
    }
}
