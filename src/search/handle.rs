//! The searcher as everybody shares it, while the follower may replace the index under it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, Semaphore};

use super::{Error, Expr, Found, Index, Page, QueryContext, Searcher, Totals};

/// Searches at the same time: more would only take the processor from the intake.
const SEARCHES: usize = 4;
/// How long a search waits for its turn.
const TURN_PATIENCE: Duration = Duration::from_secs(10);

/// Answers searches; cheap to clone.
#[derive(Clone)]
pub struct SearchHandle(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    threads: usize,
    turns: Semaphore,
    searcher: RwLock<Option<Arc<Searcher>>>,
    /// The index that lies there is not complete: whoever has no older one has none.
    filling: AtomicBool,
    damaged: Notify,
    /// What the follower is doing, if that is anything but following.
    notice: RwLock<Option<String>>,
}

impl SearchHandle {
    /// A handle on the index in `dir`, which need not exist yet.
    #[must_use]
    pub fn new(dir: &Path, threads: usize) -> Self {
        let (searcher, notice) = (RwLock::default(), RwLock::default());
        let (dir, filling, damaged) = (dir.to_owned(), AtomicBool::new(false), Notify::new());
        let turns = Semaphore::new(SEARCHES);
        Self(Arc::new(Shared { dir, threads, turns, searcher, filling, damaged, notice }))
    }

    /// Finds calls; on a thread where it may take its time.
    ///
    /// # Errors
    /// The query, or the index; damage is reported to the follower, which mends it.
    pub async fn search(&self, expr: Expr, page: Page, context: QueryContext) -> Result<Found, Error> {
        self.ask(move |searcher| searcher.search(&expr, &page, &context)).await
    }

    /// Counts calls for an overview.
    ///
    /// # Errors
    /// As [`SearchHandle::search`].
    pub async fn totals(&self, expr: Expr, context: QueryContext) -> Result<Totals, Error> {
        self.ask(move |searcher| searcher.totals(&expr, &context)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Searcher) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let Ok(Ok(_turn)) = tokio::time::timeout(TURN_PATIENCE, self.0.turns.acquire()).await else {
            return Err(Error::Busy);
        };
        let searcher = self.searcher()?;
        let answer = tokio::task::spawn_blocking(move || question(&searcher)).await;
        let answer = answer.unwrap_or_else(|error| Err(Error::Damaged(error.to_string())));
        if let Err(error) = &answer
            && error.is_damage()
        {
            tracing::error!(%error, "the search index is damaged; it is built again");
            self.0.damaged.notify_one();
        }
        answer
    }

    /// The current searcher, opened when first asked for.
    ///
    /// # Errors
    /// There is no index yet, or it can't be read.
    pub fn searcher(&self) -> Result<Arc<Searcher>, Error> {
        if let Some(searcher) = self.0.searcher.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            return Ok(Arc::clone(searcher));
        }
        if self.0.filling.load(Ordering::Acquire) {
            return Err(Error::Missing);
        }
        let opened = Arc::new(Searcher::open(&self.0.dir, self.0.threads)?);
        // The follower may have shown a better one meanwhile.
        let mut current = self.0.searcher.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(current.get_or_insert(opened)))
    }

    /// Shows the last commit of `index` to searches.
    pub(super) fn show(&self, index: &Index) -> Result<Arc<Searcher>, Error> {
        index.hold()?;
        let current = self.0.searcher.read().unwrap_or_else(PoisonError::into_inner).clone();
        let shown = match current.filter(|searcher| searcher.is_beside(index)) {
            Some(searcher) => {
                searcher.refresh()?;
                searcher
            }
            None => Arc::new(Searcher::beside(index, &self.0.dir, self.0.threads)?),
        };
        *self.0.searcher.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&shown));
        self.0.filling.store(false, Ordering::Release);
        Ok(shown)
    }

    /// The index is about to be filled: until [`Self::show`], only a searcher that is open already may answer.
    pub(super) fn fill(&self) {
        self.0.filling.store(true, Ordering::Release);
        self.close_unless(Searcher::is_private);
    }

    /// What keeps searches from being complete, in words.
    #[must_use]
    pub fn notice(&self) -> Option<String> {
        self.0.notice.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_notice(&self, notice: Option<String>) {
        *self.0.notice.write().unwrap_or_else(PoisonError::into_inner) = notice;
    }

    pub(super) fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Lets go of an index that gave or may give wrong answers.
    pub(super) fn close_unless(&self, sound: impl Fn(&Searcher) -> bool) {
        let mut searcher = self.0.searcher.write().unwrap_or_else(PoisonError::into_inner);
        searcher.take_if(|searcher| !sound(searcher));
    }

    /// Forgets reports of damage to an index that has been replaced since.
    pub(super) fn forget_damage(&self) {
        let _ = self.0.damaged.notified().now_or_never();
    }

    /// Waits until somebody met a damaged index.
    pub(super) async fn damage(&self) {
        self.0.damaged.notified().await;
    }
}
