//! Follows the journal into the index, and builds the index again when it must.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::error::guarded;
use super::{CallDoc, Error, FILLING_BYTES, Index, Opened, STEADY_BYTES, SearchHandle};
use crate::calls::{Calls, Facts, Skipped, Stretch};
use crate::db::Error as DbError;
use crate::fault;
use crate::journal::{Journal, Kind};

/// Entries that are taken in one step, and calls when filling.
const STEP: u64 = 2000;
/// Commits are at least this far apart while somebody sends: each costs a segment and a flush. In a flood this is the pace,
/// 5,000 entries a second.
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

/// What a follower remembers beside its cursor.
#[derive(Default)]
struct Memory {
    skipped: Skipped,
    /// The last request to build the index again that was met and done.
    rebuilt_for: Option<u64>,
}

/// Why following stopped without an error.
enum Stop {
    Cancelled,
    /// A search met damage.
    Damaged,
    /// This file is not what was written.
    Disturbed(String),
}

impl Follower {
    /// Runs until cancelled; whatever goes wrong, the index is opened again and, if need be, built again.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        loop {
            match self.serve(&cancel).await {
                Ok(Stop::Cancelled) => return,
                Ok(Stop::Damaged) => {
                    self.handle.close_unless(|_| false);
                    self.discard().await;
                }
                // What searches read was checked and is out of reach: they go on until the new index is complete.
                Ok(Stop::Disturbed(file)) => {
                    tracing::error!(file, "somebody touched the search index; it is built again");
                    self.discard().await;
                    continue;
                }
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
        let index = self.fill(index, &mut Memory::default(), &CancellationToken::new()).await?;
        let calls = self.handle.searcher()?.num_calls();
        tokio::task::spawn_blocking(move || index.close()).await??;
        Ok(calls)
    }

    async fn open(&self) -> Result<(Index, Opened), FollowError> {
        let (dir, region) = (self.handle.dir().to_owned(), self.region.clone());
        Ok(tokio::task::spawn_blocking(move || Index::open_or_rebuild(&dir, &region)).await??)
    }

    async fn discard(&self) {
        self.handle.fill();
        let dir = self.handle.dir().to_owned();
        match tokio::task::spawn_blocking(move || Index::discard(&dir)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the damaged search index could not be put aside"),
            Err(error) => tracing::error!(%error, "the damaged search index could not be put aside"),
        }
    }

    async fn serve(&self, cancel: &CancellationToken) -> Result<Stop, FollowError> {
        let (mut index, opened) = self.open().await?;
        let (size, mut memory) = (self.journal.size().await?, Memory::default());
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
                index = self.fill(index, &mut memory, cancel).await?;
                if cancel.is_cancelled() {
                    return Ok(Stop::Cancelled);
                }
                self.handle.searcher()?.cursor()
            }
        };
        self.show(&index)?;
        self.handle.set_notice(None);
        self.handle.forget_damage();
        let mut grown = self.journal.watch();
        loop {
            let from = Instant::now();
            grown.mark_unchanged();
            if let Some(file) = in_place(|| Ok(index.disturbed()))? {
                return Ok(Stop::Disturbed(file));
            }
            let next = self.step(&mut index, cursor, &mut memory, cancel).await?;
            cursor = next.unwrap_or(cursor);
            tokio::select! {
                // Dropped, not closed: a running merge would hold up the stop, and nothing that was committed is lost.
                () = cancel.cancelled() => return Ok(Stop::Cancelled),
                () = self.handle.damage() => return Ok(Stop::Damaged),
                () = async {
                    let behind = cursor < *grown.borrow();
                    // While nobody sends, what is left over from a flood needs no pace. A replica may have nothing of it yet.
                    if behind && next.is_some() && !grown.has_changed().unwrap_or_default() {
                        return;
                    }
                    tokio::time::sleep(COMMIT_EVERY.saturating_sub(from.elapsed())).await;
                    if !behind {
                        let _ = tokio::time::timeout(POLL, grown.changed()).await;
                    }
                } => {}
            }
        }
    }

    /// Takes in what the journal has beyond `cursor`, and what could not be read before, and commits; the new cursor, if
    /// anything was there.
    async fn step(
        &self,
        index: &mut Index,
        cursor: u64,
        memory: &mut Memory,
        cancel: &CancellationToken,
    ) -> Result<Option<u64>, FollowError> {
        let (mut next, mut subjects, mut forget) = (cursor, memory.skipped.due(), false);
        loop {
            let steps = self.journal.next_steps(next, STEP).await?;
            let Some(last) = steps.last() else { break };
            next = last.seq + 1;
            for step in steps.iter().filter(|step| step.kind == Some(Kind::IndexRebuildRequested)) {
                let built_at = self.handle.searcher()?.built_at().unwrap_or_default();
                if built_at <= step.seq && memory.rebuilt_for < Some(step.seq) {
                    let cursor = self.build_again(index, memory, cancel).await?;
                    // What it was built from may be behind the request, which is met again then.
                    memory.rebuilt_for = Some(step.seq);
                    return Ok(Some(cursor));
                }
            }
            forget |= steps.iter().any(|step| step.kind == Some(Kind::DispositionExecuted));
            subjects.extend(self.calls.subjects(&steps));
            if (steps.len() as u64) < STEP || subjects.len() as u64 >= STEP {
                break;
            }
        }
        if next == cursor && subjects.is_empty() {
            return Ok(None);
        }
        let readable = self.calls.facts_with(&subjects).await?;
        memory.skipped.take(&readable);
        if next == cursor && readable.facts.is_empty() {
            return Ok(None);
        }
        let docs = docs(&readable.facts);
        in_place(|| index.apply(&docs))?;
        self.commit(index, next)?;
        if forget {
            in_place(|| index.forget_replaced())?;
            self.show(index)?;
        }
        Ok(Some(next))
    }

    /// Somebody asked for it: everything again, from the projection of calls.
    async fn build_again(
        &self,
        index: &mut Index,
        memory: &mut Memory,
        cancel: &CancellationToken,
    ) -> Result<u64, FollowError> {
        tracing::info!("building the search index again, as requested");
        in_place(|| index.clear())?;
        self.fill_from_calls(index, memory, cancel).await?;
        self.handle.set_notice(None);
        Ok(self.handle.searcher()?.cursor())
    }

    async fn fill(
        &self,
        mut index: Index,
        memory: &mut Memory,
        cancel: &CancellationToken,
    ) -> Result<Index, FollowError> {
        self.handle.fill();
        let (many, ..) = self.calls.counts().await?;
        if many > MANY_CALLS {
            index = blocking(index, |index| index.set_memory(FILLING_BYTES)).await?;
        }
        self.fill_from_calls(&mut index, memory, cancel).await?;
        if many > MANY_CALLS {
            index = blocking(index, |index| index.set_memory(STEADY_BYTES)).await?;
        }
        Ok(index)
    }

    /// Every call as it stands now; what changes meanwhile lies behind the cursor and is taken in again.
    async fn fill_from_calls(
        &self,
        index: &mut Index,
        memory: &mut Memory,
        cancel: &CancellationToken,
    ) -> Result<(), FollowError> {
        self.handle.set_notice(Some("the search index is being built: not every call can be found yet".into()));
        let (mut cursor, mut after) = (self.journal.size().await?, i64::MIN);
        loop {
            let Stretch { last, readable, size } = self.calls.facts_after(after, STEP).await?;
            // Replicas may be behind, each as it likes: what all that were asked had is sure to be taken in.
            cursor = cursor.min(size);
            if cancel.is_cancelled() {
                return Ok(());
            }
            let Some(last) = last else { break };
            after = last;
            memory.skipped.take(&readable);
            let docs = docs(&readable.facts);
            in_place(|| index.apply_new(&docs))?;
        }
        self.commit(index, cursor)
    }

    fn commit(&self, index: &mut Index, cursor: u64) -> Result<(), FollowError> {
        fault::point("search.applied");
        in_place(|| index.commit(cursor))?;
        fault::point("search.committed");
        self.show(index)
    }

    /// Shows the last commit to searches.
    fn show(&self, index: &Index) -> Result<(), FollowError> {
        let searcher = in_place(|| self.handle.show(index))?;
        metrics::gauge!("callvault_search_cursor").set(searcher.cursor() as f64);
        Ok(())
    }
}

fn docs(facts: &[Arc<Facts>]) -> Vec<CallDoc> {
    facts.iter().map(|facts| CallDoc::from(&**facts)).collect()
}

/// Work on the index that takes milliseconds, without moving the index to another thread.
fn in_place<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    tokio::task::block_in_place(|| guarded(work))
}

/// Work on the index that may take seconds.
async fn blocking(
    mut index: Index,
    work: impl FnOnce(&mut Index) -> Result<(), Error> + Send + 'static,
) -> Result<Index, FollowError> {
    let done = tokio::task::spawn_blocking(move || guarded(|| work(&mut index)).map(|()| index)).await?;
    Ok(done?)
}
