//! Claims what is due and brings it in, several at once.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::failure::{FetchError, pause};
use super::fetch::{Fetcher, Staged, remove, restage};
use super::work::{self, Job};
use super::{Archive, ArchiveError};
use crate::calls::records::{FailureRecord, Intent};
use crate::calls::{DamagedRow, Facts, RecordingFacts, RecordingState};
use crate::config::Recordings;
use crate::intake::call_key;
use crate::journal::Kind;
use crate::objects::StoreError;

/// Without a sign of new entries the queue is looked at all the same.
const POLL: Duration = Duration::from_millis(500);
/// A lease outlives the fetch by this much, so that storing and journaling fit in.
const LEASE_MARGIN: Duration = Duration::from_secs(120);
/// Pause after an error of our own: database, store, disk.
const BACK_OFF: Duration = Duration::from_secs(5);

/// A row that follows from no journal entry is looked at again after this long.
const STRAY_PAUSE: Duration = Duration::from_secs(15 * 60);

/// A call whose row does not read back is looked at again after this long.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(30);

/// How long a recording is leased.
#[must_use]
pub fn lease(settings: &Recordings) -> Duration {
    settings.timeout + LEASE_MARGIN
}

/// Archives what the journal announces.
pub struct Worker {
    archive: Arc<Archive>,
    fetcher: Arc<Fetcher>,
    owner: String,
    /// What this process works on: a lease that ran out in the middle must not start the same work twice.
    under_way: Mutex<BTreeSet<(i64, String)>>,
}

/// What became of one attempt.
enum Outcome {
    Archived,
    /// Somebody else was faster.
    Settled,
    /// No journal entry asks for it, though its row does.
    Stray,
    /// The row of its call does not read back.
    Unreadable,
    Failed(FetchError),
}

/// Marks a job as worked on, also through a panic: a mark that stayed would keep the recording from ever being fetched.
struct UnderWay {
    worker: Arc<Worker>,
    key: (i64, String),
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.worker.under_way().remove(&self.key);
    }
}

impl Worker {
    /// Prepares the worker; `owner` names this node and is the same after a restart.
    ///
    /// # Errors
    /// The TLS set-up of the machine can't be used.
    pub fn new(archive: Arc<Archive>, owner: String) -> reqwest::Result<Self> {
        let fetcher = Arc::new(Fetcher::new(&archive.settings, archive.clock.clone())?);
        Ok(Self { archive, fetcher, owner, under_way: Mutex::default() })
    }

    /// Takes up where a stopped process was: frees its leases, and removes work and spool files that nothing comes
    /// back to.
    ///
    /// # Errors
    /// The database or the spool can't be used.
    pub async fn recover(&self) -> Result<(), ArchiveError> {
        let freed = work::free_leases_of(&self.archive.db, &self.owner).await?;
        work::forget_settled(&self.archive.db).await?;
        let wanted = work::sources_under_way(&self.archive.db).await?;
        let spool = &self.archive.spool;
        let wanted: BTreeSet<PathBuf> = wanted
            .iter()
            .flat_map(|(call_seq, source)| [spool.file(*call_seq, source), spool.half(*call_seq, source)])
            .collect();
        let mut removed = 0;
        for file in self.archive.spool.files()? {
            // A folder is nothing of ours: a file system's lost+found, where the spool is one of its own.
            if !wanted.contains(&file) && !std::fs::symlink_metadata(&file)?.is_dir() {
                std::fs::remove_file(&file)?;
                removed += 1;
            }
        }
        if freed > 0 || removed > 0 {
            tracing::info!(leases = freed, files = removed, "taken up after an interruption");
        }
        Ok(())
    }

    /// Runs until cancelled; then what is under way is given back.
    pub async fn run(self, cancel: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.archive.settings.concurrency));
        let tasks = TaskTracker::new();
        let mut grown = self.archive.journal.watch();
        let worker = Arc::new(self);
        loop {
            grown.mark_unchanged();
            let wait = match worker.start_due(&slots, &tasks, &cancel).await {
                Ok(()) => POLL,
                Err(error) => {
                    tracing::error!(%error, "due recordings could not be claimed; trying again");
                    BACK_OFF
                }
            };
            tokio::select! {
                () = cancel.cancelled() => break,
                _ = grown.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    /// Claims as many as there are free slots, until nothing is due.
    async fn start_due(
        self: &Arc<Self>,
        slots: &Arc<Semaphore>,
        tasks: &TaskTracker,
        cancel: &CancellationToken,
    ) -> Result<(), ArchiveError> {
        let lease = lease(&self.archive.settings);
        loop {
            let Ok(first) = Arc::clone(slots).acquire_owned().await else { return Ok(()) };
            if cancel.is_cancelled() {
                return Ok(());
            }
            let now = self.archive.clock.now().as_microsecond();
            let limit = 1 + slots.available_permits();
            let jobs = work::claim(&self.archive.db, now, lease, limit, &self.owner).await?;
            if jobs.is_empty() {
                return Ok(());
            }
            let mut permit = Some(first);
            for job in jobs {
                let slot = match permit.take() {
                    Some(slot) => slot,
                    None => match Arc::clone(slots).acquire_owned().await {
                        Ok(slot) => slot,
                        Err(_) => return Ok(()),
                    },
                };
                let key = (job.call_seq, job.source.clone());
                if !self.under_way().insert(key.clone()) {
                    continue;
                }
                let (worker, cancel) = (Arc::clone(self), cancel.clone());
                tasks.spawn(async move {
                    let _under_way = UnderWay { worker: Arc::clone(&worker), key };
                    worker.handle(job, &cancel).await;
                    drop(slot);
                });
            }
        }
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, BTreeSet<(i64, String)>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn handle(&self, job: Job, cancel: &CancellationToken) {
        let outcome = tokio::select! {
            () = cancel.cancelled() => {
                if let Err(error) = work::hand_back(&self.archive.db, &job).await {
                    tracing::warn!(%error, call_id = job.call_id, "a lease could not be given back; it will run out");
                }
                return;
            }
            outcome = self.bring_in(&job) => outcome,
        };
        let settled = match outcome {
            Ok(outcome) => self.settle(&job, outcome).await,
            Err(error) => Err(error),
        };
        if let Err(error) = settled {
            tracing::error!(%error, call_id = job.call_id, "a recording waits: the archive's own side has a problem");
            let next = self.after(BACK_OFF);
            if let Err(error) = work::release(&self.archive.db, &job, next, false, &format!("our side: {error}")).await
            {
                tracing::error!(%error, call_id = job.call_id, "a lease could not be given back; it will run out");
            }
        }
    }

    /// What the journal says of a claimed recording; an outcome where it does not ask for it.
    async fn asked_for(&self, job: &Job) -> Result<Result<(Facts, RecordingFacts), Outcome>, ArchiveError> {
        let (calls, key) = (&self.archive.calls, [call_key(&job.call_id)]);
        let stray = DamagedRow::Recording(job.call_id.clone());
        let mut row_asks = false;
        // Where row and facts differ, they are read once more: somebody may have written in between.
        for _ in 0..2 {
            let readable = calls.facts_of(&key).await?;
            if !readable.skipped.is_empty() {
                return Ok(Err(Outcome::Unreadable));
            }
            let facts = readable.facts.into_iter().find(|facts| facts.first_seq.cast_signed() == job.call_seq);
            let recording = facts.as_ref().and_then(|facts| facts.recordings.get(&job.source)).cloned();
            if let (Some(facts), Some(recording)) = (facts, recording)
                && recording.state() == RecordingState::Pending
            {
                calls.damaged().mended(&stray);
                return Ok(Ok((facts, recording)));
            }
            row_asks = work::is_pending(&self.archive.db, job.call_seq, &job.source).await?;
        }
        Ok(Err(if row_asks { Outcome::Stray } else { Outcome::Settled }))
    }

    /// Looks first whether an earlier run got further than the fetch.
    async fn bring_in(&self, job: &Job) -> Result<Outcome, ArchiveError> {
        let archive = &self.archive;
        let (facts, recording) = match self.asked_for(job).await? {
            Ok(found) => found,
            Err(outcome) => return Ok(outcome),
        };
        let path = archive.spool.file(job.call_seq, &job.source);
        if let Some((_, intent)) = &recording.intent {
            if archive.finish_as_twin(job, &facts, &intent.sha256).await? {
                return Ok(Outcome::Archived);
            }
            if let Some(stored) = archive.stored(intent).await? {
                archive.seal(job, intent, stored).await?;
                return Ok(Outcome::Archived);
            }
            let staged = restage(&path, &archive.spool).await?;
            if let Some(staged) = staged.filter(|staged| hex::encode(staged.sha256) == intent.sha256) {
                archive.finish(job, &facts, staged).await?;
                return Ok(Outcome::Archived);
            }
        }
        archive.spool.ready()?;
        // What the row says of the address is only a copy.
        match self.fetcher.fetch(&recording.url, &path, &archive.spool).await {
            Ok(staged) if staged.audio.complete => self.store(job, &facts, staged).await,
            Ok(staged) => {
                self.keep_half(job, staged).await?;
                Ok(Outcome::Failed(FetchError::passing("the recording breaks off in the middle of the audio")))
            }
            Err(error) => Ok(Outcome::Failed(error)),
        }
    }

    /// Puts half a recording by, the longer one if there are several: a whole one may still come, or the sender's copy
    /// may be gone at the next try.
    async fn keep_half(&self, job: &Job, staged: Staged) -> Result<(), ArchiveError> {
        let half = self.archive.spool.half(job.call_seq, &job.source);
        let known = tokio::fs::metadata(&half).await.map_or(0, |metadata| metadata.len());
        if staged.size > known {
            tokio::fs::rename(&staged.path, &half).await?;
        }
        Ok(())
    }

    /// When the time for trying is over, half is better than nothing; the flag says that it is only half.
    async fn store_half(&self, job: &Job) -> Result<bool, ArchiveError> {
        let half = self.archive.spool.half(job.call_seq, &job.source);
        let (Some(staged), Some(facts)) =
            (restage(&half, &self.archive.spool).await?, self.archive.calls.facts(&job.call_id).await?)
        else {
            return Ok(false);
        };
        Ok(matches!(self.store(job, &facts, staged).await?, Outcome::Archived))
    }

    async fn store(&self, job: &Job, facts: &Facts, staged: Staged) -> Result<Outcome, ArchiveError> {
        match self.archive.finish(job, facts, staged).await {
            Ok(()) => Ok(Outcome::Archived),
            // Somebody put other bytes at this recording's key: trying again would not change it.
            Err(ArchiveError::Store(error @ StoreError::Conflict(_))) => {
                Ok(Outcome::Failed(FetchError::Final(error.to_string())))
            }
            Err(error) => Err(error),
        }
    }

    async fn settle(&self, job: &Job, outcome: Outcome) -> Result<(), ArchiveError> {
        let path = self.archive.spool.file(job.call_seq, &job.source);
        match outcome {
            Outcome::Archived => {
                metrics::counter!("callvault_recordings_total", "outcome" => "archived").increment(1);
                tracing::info!(call_id = job.call_id, attempts = job.attempts + 1, "recording archived");
            }
            Outcome::Settled => {}
            Outcome::Stray => {
                self.archive.calls.damaged().met(DamagedRow::Recording(job.call_id.clone()));
                let why = "no journal entry asks for it: run callvault verify";
                work::release(&self.archive.db, job, self.after(STRAY_PAUSE), false, why).await?;
                return Ok(());
            }
            Outcome::Unreadable => {
                let why = "its call's row is damaged: run callvault verify";
                work::release(&self.archive.db, job, self.after(UNREADABLE_PAUSE), false, why).await?;
                return Ok(());
            }
            Outcome::Failed(FetchError::Passing { reason, after }) if !self.is_last_try(job) => {
                metrics::counter!("callvault_fetch_retries_total").increment(1);
                let pause = after.unwrap_or_else(|| pause(self.archive.settings.retry_base, job.attempts + 1));
                tracing::info!(call_id = job.call_id, attempts = job.attempts + 1, reason, "recording not fetched yet");
                remove(&path).await;
                work::release(&self.archive.db, job, self.after(pause), true, &reason).await?;
                return Ok(());
            }
            Outcome::Failed(FetchError::Own(reason)) => {
                tracing::error!(
                    call_id = job.call_id,
                    reason,
                    "a recording waits: the archive's own side has a problem"
                );
                work::release(&self.archive.db, job, self.after(BACK_OFF), false, &reason).await?;
                return Ok(());
            }
            Outcome::Failed(_) if self.store_half(job).await? => {
                metrics::counter!("callvault_recordings_total", "outcome" => "archived").increment(1);
                tracing::warn!(call_id = job.call_id, "half a recording archived: a whole one never came");
            }
            Outcome::Failed(error) => {
                metrics::counter!("callvault_recordings_total", "outcome" => "failed").increment(1);
                let given_up = matches!(error, FetchError::Passing { .. });
                let reason = if given_up { format!("given up: {error}") } else { error.to_string() };
                tracing::warn!(call_id = job.call_id, attempts = job.attempts + 1, reason, "recording failed");
                let (call_id, source) = (job.call_id.clone(), job.source.clone());
                let record = FailureRecord { call_id, source, reason, attempts: job.attempts + 1 };
                self.archive.journal_json(Kind::RecordingFailed, &job.call_id, &record).await?;
            }
        }
        remove(&path).await;
        remove(&self.archive.spool.half(job.call_seq, &job.source)).await;
        work::done(&self.archive.db, job.call_seq, &job.source).await?;
        Ok(())
    }

    /// True once the time for trying is over: what comes now is the last word.
    fn is_last_try(&self, job: &Job) -> bool {
        let deadline = job.first_attempt_at.saturating_add(work::micros(self.archive.settings.give_up_after));
        self.archive.clock.now().as_microsecond() >= deadline
    }

    fn after(&self, pause: Duration) -> i64 {
        self.archive.clock.now().as_microsecond().saturating_add(work::micros(pause))
    }
}

impl Archive {
    /// The object that an interrupted run stored under an intent: only if it holds the intended bytes, read back.
    async fn stored(&self, intent: &Intent) -> Result<Option<crate::objects::ObjectInfo>, ArchiveError> {
        let Some(info) = self.store.head(&intent.object_key).await? else { return Ok(None) };
        let bytes = self.store.get(&intent.object_key, info.version.as_deref(), None).await?;
        if crate::objects::sha256_of(bytes).await? != intent.sha256 {
            return Ok(None);
        }
        // The lock may be what the interruption prevented.
        if info.retain_until.is_none_or(|until: Timestamp| until < intent.retain_until) {
            return Ok(None);
        }
        Ok(Some(info))
    }
}
