//! Claims what is due and brings it in, several at once.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::failure::{FetchError, pause};
use super::fetch::{Fetcher, Staged, remove, restage};
use super::places::Places;
use super::work::{self, Claim, Job};
use super::{Archive, ArchiveError};
use crate::calls::records::{FailureRecord, Intent};
use crate::calls::{DamagedRow, Facts, Lane, RecordingFacts, RecordingState, mend_queue};
use crate::config::Recordings;
use crate::fault::{self, operation};
use crate::health::caught;
use crate::intake::call_key;
use crate::journal::Kind;
use crate::objects::{Examined, StoreError};

/// New entries are let gather for so long: a look costs more than an entry, and most of them bring no recording.
const GATHER: Duration = Duration::from_millis(50);
/// Without a sign of new entries the queue is looked at all the same.
const POLL: Duration = Duration::from_millis(500);
/// A lease outlives the fetch by this much, so that storing and journaling fit in.
const LEASE_MARGIN: Duration = Duration::from_secs(120);
/// Pause after an error of our own: database, store, disk.
const BACK_OFF: Duration = Duration::from_secs(5);

/// Leftovers are looked for this often also where nothing failed: a queue that lacks a row lacks a recording.
const LOOK_ROUND: Duration = Duration::from_secs(600);

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
    places: Arc<Places>,
    turn: AtomicU64,
    /// Something failed after which leases, work or files may be left that nobody works on.
    leftovers: AtomicBool,
}

/// The parts of the archive's health that are this worker's.
const PART: &str = "recordings";
const QUEUE: &str = "recording queue";

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

impl Worker {
    /// Prepares the worker; `owner` names this node and is the same after a restart.
    ///
    /// # Errors
    /// The TLS set-up of the machine can't be used.
    pub fn new(archive: Arc<Archive>, owner: String) -> reqwest::Result<Self> {
        let fetcher = Arc::new(Fetcher::new(&archive.settings, archive.clock.clone())?);
        let places = Places::new(archive.settings.concurrency);
        let (turn, leftovers) = (AtomicU64::new(0), AtomicBool::new(false));
        Ok(Self { archive, fetcher, owner, places, turn, leftovers })
    }

    /// Takes up what was interrupted, by the end of a process or by an error: frees leases of this node, and removes work
    /// and spool files, that nobody works on and nothing comes back to.
    ///
    /// # Errors
    /// The database or the spool can't be used.
    async fn recover(&self) -> Result<(), ArchiveError> {
        let mut freed = 0;
        for (call_seq, source) in work::leased_by(&self.archive.db, &self.owner).await? {
            if !self.places.holds(&(call_seq, source.clone())) {
                work::hand_back(&self.archive.db, call_seq, &source).await?;
                freed += 1;
            }
        }
        let mended = mend_queue(&self.archive.db).await?;
        if mended > 0 {
            tracing::warn!(rows = mended, "the queue of awaited recordings was not complete; it is mended");
        }
        let spool = &self.archive.spool;
        let files = |(call_seq, source): &(i64, String)| spool.files_of(*call_seq, source);
        let wanted: BTreeSet<PathBuf> =
            work::sources_under_way(&self.archive.db).await?.iter().flat_map(files).collect();
        let mut removed = 0;
        for file in spool.files()? {
            // A folder is nothing of ours: a file system's lost+found, where the spool is one of its own.
            if !wanted.contains(&file) && !self.places.uses(spool, &file) && !std::fs::symlink_metadata(&file)?.is_dir()
            {
                remove(&file).await?;
                removed += 1;
            }
        }
        if freed > 0 || removed > 0 {
            tracing::info!(leases = freed, files = removed, "taken up after an interruption");
        }
        Ok(())
    }

    /// Runs until cancelled; then what is under way is given back, and what was interrupted is tidied up.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.places.count()));
        let tasks = TaskTracker::new();
        let (mut grown, mut looked_past) = (self.archive.journal.watch(), None);
        // From the process before this one, or from before a panic.
        let mut looked = Instant::now();
        self.leftovers.store(true, Ordering::Relaxed);
        loop {
            if looked.elapsed() >= LOOK_ROUND {
                looked = Instant::now();
                self.leftovers.store(true, Ordering::Relaxed);
            }
            grown.mark_unchanged();
            let wait = match self.start_due(&slots, &tasks, &cancel, &mut looked_past).await {
                Ok(()) => {
                    self.archive.health.clear(QUEUE);
                    POLL
                }
                Err(error) => {
                    tracing::error!(%error, "due recordings could not be claimed; trying again");
                    self.leftovers.store(true, Ordering::Relaxed);
                    self.archive.health.report(QUEUE, "due recordings can't be claimed: see the log");
                    BACK_OFF
                }
            };
            // While one host has its share, looking past its queue is not worth it for every entry.
            let (busy, _) = self.places.busiest();
            tokio::select! {
                () = cancel.cancelled() => break,
                // Even where there is news all the time, an error is given its pause.
                _ = grown.changed(), if busy.is_none() && wait == POLL => tokio::time::sleep(GATHER).await,
                () = self.places.freed.notified(), if busy.is_some() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        tasks.close();
        tasks.wait().await;
        // What went wrong a moment ago is tidied up before the end, not only at the next start.
        if self.leftovers.swap(false, Ordering::Relaxed)
            && let Err(error) = self.recover().await
        {
            tracing::warn!(%error, "what was interrupted could not be tidied up; the next start does it");
        }
    }

    /// Claims as many as there are free slots, until nothing is due.
    async fn start_due(
        self: &Arc<Self>,
        slots: &Arc<Semaphore>,
        tasks: &TaskTracker,
        cancel: &CancellationToken,
        looked_past: &mut Option<Instant>,
    ) -> Result<(), ArchiveError> {
        let lease = lease(&self.archive.settings);
        if self.leftovers.swap(false, Ordering::Relaxed) {
            self.recover().await?;
        }
        loop {
            let Ok(first) = Arc::clone(slots).acquire_owned().await else { return Ok(()) };
            if cancel.is_cancelled() {
                return Ok(());
            }
            let now = self.archive.clock.now().as_microsecond();
            let (busy, room) = self.places.busiest();
            if busy.is_some() {
                // Looking past a long queue of one host costs a walk through it.
                if looked_past.is_some_and(|at| at.elapsed() < POLL) {
                    return Ok(());
                }
                *looked_past = Some(Instant::now());
            }
            let limit = (1 + slots.available_permits()).min(room);
            let claim = Claim { now, lease, limit, lanes: self.lanes(), busy, owner: &self.owner };
            let jobs = work::claim(&self.archive.db, claim).await?;
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
                let Some(place) = self.places.take(key, &job.host) else { continue };
                let (worker, cancel) = (Arc::clone(self), cancel.clone());
                tasks.spawn(async move {
                    if caught(worker.handle(&job, &cancel)).await.is_none() {
                        worker.panicked(&job).await;
                    }
                    drop((slot, place));
                });
            }
        }
    }

    /// Three turns of four begin with what is fresh; the others see to it that nothing waits for ever behind it.
    fn lanes(&self) -> [Lane; 3] {
        match self.turn.fetch_add(1, Ordering::Relaxed) % 8 {
            3 => [Lane::Again, Lane::Backlog, Lane::Fresh],
            7 => [Lane::Backlog, Lane::Fresh, Lane::Again],
            _ => Lane::ALL,
        }
    }

    async fn handle(&self, job: &Job, cancel: &CancellationToken) {
        let outcome = tokio::select! {
            () = cancel.cancelled() => {
                if let Err(error) = work::hand_back(&self.archive.db, job.call_seq, &job.source).await {
                    tracing::warn!(%error, call_id = job.call_id, "a lease could not be given back; the next start frees it");
                }
                return;
            }
            outcome = self.bring_in(job) => outcome,
            never = self.tell_when_late(job) => match never {},
        };
        let job = job.by_the_clock(self.archive.clock.now().as_microsecond());
        let settled = match outcome {
            Ok(outcome) => self.settle(&job, outcome).await,
            Err(error) => Err(error),
        };
        if let Err(error) = settled {
            self.our_side(&job, &error.to_string(), trouble(&error)).await;
        }
    }

    /// What is wrong is ours: tried again for as long as it lasts, and told to whoever asks how the archive is.
    async fn our_side(&self, job: &Job, error: &str, trouble: String) {
        tracing::error!(error, call_id = job.call_id, "a recording waits: the archive's own side has a problem");
        self.archive.health.report(PART, trouble);
        self.leftovers.store(true, Ordering::Relaxed);
        let next = self.after(BACK_OFF);
        if let Err(error) = work::release(&self.archive.db, job, next, false, &format!("our side: {error}")).await {
            tracing::error!(%error, call_id = job.call_id, "a lease could not be given back; it is freed in a moment");
        }
    }

    /// A recording that makes the program panic is one that can't be fetched yet; another version may be able to.
    async fn panicked(&self, job: &Job) {
        self.leftovers.store(true, Ordering::Relaxed);
        let failed = Outcome::Failed(FetchError::passing("the archive met a fault of its own in it: see its log"));
        if let Err(error) = self.settle(job, failed).await {
            self.our_side(job, &error.to_string(), trouble(&error)).await;
        }
    }

    /// Nothing should take longer than its lease. What does hangs in the store or on the disk.
    async fn tell_when_late(&self, job: &Job) -> std::convert::Infallible {
        tokio::time::sleep(lease(&self.archive.settings)).await;
        tracing::error!(call_id = job.call_id, "a recording takes longer than its lease: store or spool do not answer");
        self.archive.health.report(PART, "the store or the spool do not answer");
        std::future::pending().await
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
            let mut facts = readable.facts.into_iter().map(Arc::unwrap_or_clone);
            let facts = facts.find(|facts| facts.first_seq.cast_signed() == job.call_seq);
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
        fault::point("archiver.fetching");
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
            operation("spool.rename", tokio::fs::rename(&staged.path, &half)).await?;
            fault::point("archiver.half_kept");
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
        fault::point("archiver.settling");
        let path = self.archive.spool.file(job.call_seq, &job.source);
        match outcome {
            Outcome::Archived => {
                metrics::counter!("callvault_recordings_total", "outcome" => "archived").increment(1);
                tracing::info!(call_id = job.call_id, attempts = job.attempts + 1, "recording archived");
            }
            Outcome::Settled => work::drop_stray(&self.archive.db, job).await?,
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
                remove(&path).await?;
                work::release(&self.archive.db, job, self.after(pause), true, &reason).await?;
                return Ok(());
            }
            Outcome::Failed(FetchError::Own(reason)) => {
                self.our_side(job, &reason, reason.clone()).await;
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
        fault::point("archiver.receipted");
        remove(&path).await?;
        remove(&self.archive.spool.half(job.call_seq, &job.source)).await?;
        fault::point("archiver.spool_removed");
        self.archive.health.clear(PART);
        fault::point("archiver.done");
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

/// What keeps recordings waiting, for everybody to read: nothing of any call in it.
fn trouble(error: &ArchiveError) -> String {
    match error {
        ArchiveError::Spool(error) => format!("the spool can't be used: {error}"),
        ArchiveError::Store(StoreError::Io(error)) => format!("the store can't be used: {error}"),
        ArchiveError::Db(_) | ArchiveError::Append(_) => "the database can't be used".into(),
        ArchiveError::Store(_) | ArchiveError::Json(_) => {
            "recordings wait for a problem of our own: see the log".into()
        }
    }
}

impl Archive {
    /// The object that an interrupted run stored under an intent: only if it holds the intended bytes, read back.
    async fn stored(&self, intent: &Intent) -> Result<Option<crate::objects::ObjectInfo>, ArchiveError> {
        let Some(Examined { info, sha256, .. }) = self.store.examine(&intent.object_key, None).await? else {
            return Ok(None);
        };
        if sha256 != intent.sha256 {
            return Ok(None);
        }
        // The lock may be what the interruption prevented.
        if info.retain_until.is_none_or(|until: Timestamp| until < intent.retain_until) {
            return Ok(None);
        }
        Ok(Some(info))
    }
}
