//! Follows the journal into the index, and builds the index again when it must.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{CallDoc, Error, FILLING_BYTES, Index, Opened, STEADY_BYTES, SearchHandle};
use crate::calls::{Calls, Facts};
use crate::db::Error as DbError;
use crate::fault;
use crate::intake::is_call_subject;
use crate::journal::{Journal, Kind};

/// Entries that are taken in one step, and calls when filling.
const STEP: u64 = 2000;
/// Commits are at least this far apart: each costs a segment and a flush.
const COMMIT_EVERY: Duration = Duration::from_millis(400);
/// Without a sign of new entries the journal is looked at all the same.
const POLL: Duration = Duration::from_millis(500);
const BACK_OFF: Duration = Duration::from_secs(2);
/// More calls than this are filled with the larger memory.
const MANY_CALLS: u64 = 50_000;

/// Keeps the index in step with the journal.
pub struct Follower {
    pub journal: Journal,
    pub calls: Calls,
    pub handle: SearchHandle,
    pub region: String,
}

#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error(transparent)]
    Index(#[from] Error),
    #[error(transparent)]
    Db(#[from] DbError),
    #[error("the indexing task was stopped")]
    Task(#[from] tokio::task::JoinError),
}

/// Why following stopped without an error.
enum Stop {
    Cancelled,
    Damaged,
}

impl Follower {
    /// Runs until cancelled; whatever goes wrong, the index is opened again and, if need be, built again.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        loop {
            match self.serve(&cancel).await {
                Ok(Stop::Cancelled) => return,
                Ok(Stop::Damaged) => self.discard().await,
                Err(FollowError::Index(error)) if error.is_damage() => {
                    tracing::error!(%error, "the search index is damaged; it is built again");
                    self.discard().await;
                }
                Err(error) => {
                    tracing::error!(%error, "the search index does not follow; trying again");
                    self.handle.set_notice(Some(format!("the search index does not follow: {error}")));
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(BACK_OFF) => {}
            }
        }
    }

    /// Fills an index from nothing and ends: for a command that runs while nobody serves.
    ///
    /// # Errors
    /// The index or the database.
    pub async fn rebuild(&self) -> Result<u64, FollowError> {
        let (index, _) = self.open().await?;
        let index = blocking(index, Index::clear).await?;
        let index = self.fill(index, &CancellationToken::new()).await?;
        tokio::task::spawn_blocking(move || index.close()).await??;
        Ok(self.handle.searcher()?.num_calls())
    }

    async fn open(&self) -> Result<(Index, Opened), FollowError> {
        let (dir, region) = (self.handle.dir().to_owned(), self.region.clone());
        Ok(tokio::task::spawn_blocking(move || Index::open_or_rebuild(&dir, &region)).await??)
    }

    async fn discard(&self) {
        self.handle.close();
        let dir = self.handle.dir().to_owned();
        match tokio::task::spawn_blocking(move || Index::discard(&dir)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the damaged search index could not be put aside"),
            Err(error) => tracing::error!(%error, "the damaged search index could not be put aside"),
        }
    }

    async fn serve(&self, cancel: &CancellationToken) -> Result<Stop, FollowError> {
        let (mut index, opened) = self.open().await?;
        let size = self.journal.size().await?;
        let mut cursor = match opened {
            Opened::Ready { cursor } if cursor <= size => cursor,
            other => {
                let why = match other {
                    Opened::Ready { .. } => "the index knows more than the journal",
                    Opened::Empty => "there was none",
                    Opened::RebuiltBecause(ref why) => why,
                };
                tracing::info!(why, "building the search index");
                index = blocking(index, Index::clear).await?;
                self.handle.close();
                index = self.fill(index, cancel).await?;
                self.handle.searcher()?.cursor()
            }
        };
        self.handle.set_notice(None);
        self.handle.forget_damage();
        let mut grown = self.journal.watch();
        loop {
            let from = Instant::now();
            grown.mark_unchanged();
            if let Some(next) = self.step(&mut index, cursor, cancel).await? {
                cursor = next;
            }
            tokio::select! {
                // Dropped, not closed: a running merge would hold up the stop, and nothing that was committed is lost.
                () = cancel.cancelled() => return Ok(Stop::Cancelled),
                () = self.handle.damage() => return Ok(Stop::Damaged),
                () = async {
                    tokio::time::sleep(COMMIT_EVERY.saturating_sub(from.elapsed())).await;
                    let _ = tokio::time::timeout(POLL, grown.changed()).await;
                } => {}
            }
        }
    }

    /// Takes in what the journal has beyond `cursor` and commits; the new cursor, if anything was there.
    async fn step(
        &self,
        index: &mut Index,
        cursor: u64,
        cancel: &CancellationToken,
    ) -> Result<Option<u64>, FollowError> {
        let mut next = cursor;
        let mut subjects = BTreeSet::new();
        loop {
            let entries = self.journal.entries(next, STEP).await?;
            let Some(last) = entries.last() else { break };
            next = last.seq + 1;
            let full = entries.len() as u64 == STEP;
            for entry in entries {
                if entry.kind == Kind::IndexRebuildRequested {
                    let built_at = self.handle.searcher()?.built_at().unwrap_or_default();
                    if built_at <= entry.seq {
                        return self.build_again(index, cancel).await.map(Some);
                    }
                }
                if entry.kind.concerns_call() {
                    subjects.extend(entry.subject.filter(|subject| is_call_subject(subject)));
                }
            }
            if !full || subjects.len() as u64 >= STEP {
                break;
            }
        }
        if next == cursor {
            return Ok(None);
        }
        let docs = docs(&self.calls.facts_of(&Vec::from_iter(subjects)).await?);
        in_place(|| {
            index.apply(&docs)?;
            fault::point("search.applied");
            index.commit(next)
        })?;
        fault::point("search.committed");
        self.refresh()?;
        Ok(Some(next))
    }

    /// Somebody asked for it: everything again, from the projection of calls.
    async fn build_again(&self, index: &mut Index, cancel: &CancellationToken) -> Result<u64, FollowError> {
        tracing::info!("building the search index again, as requested");
        in_place(|| index.clear())?;
        self.fill_from_calls(index, cancel).await?;
        self.handle.set_notice(None);
        Ok(self.handle.searcher()?.cursor())
    }

    async fn fill(&self, mut index: Index, cancel: &CancellationToken) -> Result<Index, FollowError> {
        let (many, ..) = self.calls.counts().await?;
        if many > MANY_CALLS {
            index = blocking(index, |index| index.set_memory(FILLING_BYTES)).await?;
        }
        self.fill_from_calls(&mut index, cancel).await?;
        if many > MANY_CALLS {
            index = blocking(index, |index| index.set_memory(STEADY_BYTES)).await?;
        }
        Ok(index)
    }

    /// Every call as it stands now; what changes meanwhile lies behind the cursor and is taken in again.
    async fn fill_from_calls(&self, index: &mut Index, cancel: &CancellationToken) -> Result<(), FollowError> {
        self.handle.set_notice(Some("the search index is being built: not every call can be found yet".into()));
        let cursor = self.journal.size().await?;
        let mut after = -1;
        loop {
            let rows = self.calls.rows(after, STEP).await?;
            let Some(last) = rows.last() else { break };
            after = last.first_seq;
            if cancel.is_cancelled() {
                return Ok(());
            }
            let facts: Vec<Facts> =
                rows.iter()
                    .map(|row| serde_json::from_str(&row.facts))
                    .collect::<Result<_, _>>()
                    .map_err(|_| DbError::Damaged("a call's facts do not read back: run callvault verify".into()))?;
            let docs = docs(&facts);
            in_place(|| index.apply_new(&docs))?;
        }
        in_place(|| index.commit(cursor))?;
        self.refresh()
    }

    /// Shows the last commit to searches; the searcher is opened here when nobody searched yet.
    fn refresh(&self) -> Result<(), FollowError> {
        let searcher = in_place(|| {
            let searcher = self.handle.searcher()?;
            searcher.refresh()?;
            Ok(searcher)
        })?;
        metrics::gauge!("callvault_search_cursor").set(searcher.cursor() as f64);
        Ok(())
    }
}

fn docs(facts: &[Facts]) -> Vec<CallDoc> {
    facts.iter().map(CallDoc::from).collect()
}

/// Work on the index that takes milliseconds, without moving the index to another thread.
fn in_place<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    tokio::task::block_in_place(work)
}

/// Work on the index that may take seconds.
async fn blocking(
    mut index: Index,
    work: impl FnOnce(&mut Index) -> Result<(), Error> + Send + 'static,
) -> Result<Index, FollowError> {
    let done = tokio::task::spawn_blocking(move || work(&mut index).map(|()| index)).await?;
    Ok(done?)
}
