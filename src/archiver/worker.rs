//! Claims what is due and brings it in, several at once.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::failure::FetchError;
use super::fetch::{Fetcher, Staged, remove, restage};
use super::gate::ASKED_EVERY;
use super::places::{Places, Rush};
use super::settle::{PART, trouble};
use super::work::{self, Claim, Job};
use super::{Archive, ArchiveError};
use crate::calls::records::Intent;
use crate::calls::{DamagedRow, Facts, Lane, RecordingFacts, RecordingState, mend_queue};
use crate::config::Recordings;
use crate::fault::{self, operation};
use crate::health::caught;
use crate::intake::call_key;
use crate::nodes::Node;
use crate::objects::{Examined, StoreError};

/// New entries are let gather for so long: a look costs more than an entry, and most of them bring no recording.
const GATHER: Duration = Duration::from_millis(50);
/// Without a sign of new entries the queue is looked at all the same.
const POLL: Duration = Duration::from_millis(500);
/// A recording may take longer than its fetch by this much: storing and journaling have to fit in.
const STORING: Duration = Duration::from_secs(120);
/// Where several nodes work, leases are short and renewed, so that what a lost node held is soon taken up.
pub(super) const SHARED_LEASE: Duration = Duration::from_secs(60);
const RENEWED_EVERY: Duration = Duration::from_secs(15);
/// Pause after an error of our own: database, store, disk.
pub(super) const BACK_OFF: Duration = Duration::from_secs(5);

/// Leftovers are looked for this often also where nothing failed: a queue that lacks a row lacks a recording.
const LOOK_ROUND: Duration = Duration::from_secs(600);
/// The same where files wait in the spool for work that another node may have finished.
const LOOK_SOON: Duration = Duration::from_secs(60);

/// How long a recording may be leased on a database that several nodes share, or one has for itself.
#[must_use]
pub fn lease(settings: &Recordings, shared: bool) -> Duration {
    if shared { SHARED_LEASE } else { settings.timeout + STORING }
}

/// Archives what the journal announces.
pub struct Worker {
    pub(super) archive: Arc<Archive>,
    fetcher: Arc<Fetcher>,
    pub(super) node: Node,
    places: Arc<Places>,
    turn: AtomicU64,
    /// Something failed after which leases, work or files may be left that nobody works on.
    pub(super) leftovers: AtomicBool,
    /// The spool has files that nobody here works on, but somebody may come back to.
    waiting_files: AtomicBool,
    /// Something was put by because the store was away.
    pub(super) waits_for_store: AtomicBool,
}

/// The part of the archive's health that is the queue's.
const QUEUE: &str = "recording queue";

/// What became of one attempt.
pub(super) enum Outcome {
    Archived,
    /// Another node has it now.
    Lost,
    /// Somebody else was faster.
    Settled,
    /// No journal entry asks for it, though its row does.
    Stray,
    /// The row of its call does not read back.
    Unreadable,
    Failed(FetchError),
}

impl Worker {
    /// Prepares the worker of a node.
    ///
    /// # Errors
    /// The TLS set-up of the machine can't be used.
    pub fn new(archive: Arc<Archive>, node: Node) -> reqwest::Result<Self> {
        let fetcher = Arc::new(Fetcher::new(&archive.settings, archive.clock.clone())?);
        let places = Places::new(archive.settings.concurrency);
        let [leftovers, waiting_files, waits_for_store] = [false; 3].map(AtomicBool::new);
        Ok(Self { archive, fetcher, node, places, turn: AtomicU64::new(0), leftovers, waiting_files, waits_for_store })
    }

    /// What tells others how much this one has to do.
    #[must_use]
    pub fn rush(&self) -> Rush {
        Rush(Arc::clone(&self.places))
    }

    /// Takes up what was interrupted, by the end of a process or by an error: frees leases of this node, and removes work
    /// and spool files, that nobody works on and nothing comes back to.
    ///
    /// # Errors
    /// The database or the spool can't be used.
    async fn recover(&self) -> Result<(), ArchiveError> {
        let mut freed = 0;
        for (call_seq, source) in work::leased_by(&self.archive.db, self.node.name()).await? {
            if !self.places.holds(&(call_seq, source.clone())) {
                work::hand_back(&self.archive.db, self.node.name(), call_seq, &source).await?;
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
        let (mut removed, mut waiting) = (0, false);
        for file in spool.files()? {
            // A folder is nothing of ours: a file system's lost+found, where the spool is one of its own.
            if self.places.uses(spool, &file) || std::fs::symlink_metadata(&file)?.is_dir() {
                continue;
            }
            if wanted.contains(&file) {
                waiting = true;
                continue;
            }
            remove(&file).await?;
            removed += 1;
        }
        self.waiting_files.store(waiting && self.archive.db.is_shared(), Ordering::Relaxed);
        if freed > 0 || removed > 0 {
            tracing::info!(leases = freed, files = removed, "taken up after an interruption");
        }
        Ok(())
    }

    /// Runs until cancelled; then what is under way is given back, and what was interrupted is tidied up.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let keeper = Arc::clone(&self);
        let _leases = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::join!(keeper.keep_leases(), keeper.await_store());
        }));
        let slots = Arc::new(Semaphore::new(self.places.count()));
        let tasks = TaskTracker::new();
        let (mut grown, mut looked_past) = (self.archive.journal.watch(), None);
        // From the process before this one, or from before a panic.
        let mut looked = Instant::now();
        self.leftovers.store(true, Ordering::Relaxed);
        loop {
            let round = if self.waiting_files.load(Ordering::Relaxed) { LOOK_SOON } else { LOOK_ROUND };
            if looked.elapsed() >= round {
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
        let waiting = self.waiting_files.load(Ordering::Relaxed);
        if (self.leftovers.swap(false, Ordering::Relaxed) || waiting)
            && let Err(error) = self.recover().await
        {
            tracing::warn!(%error, "what was interrupted could not be tidied up; the next start does it");
        }
    }

    /// What this node works on stays its own, for as long as it lives.
    async fn keep_leases(&self) {
        let (db, mut renewal) = (&self.archive.db, tokio::time::interval(RENEWED_EVERY));
        loop {
            renewal.tick().await;
            if let Err(error) = work::renew(db, self.node.name(), SHARED_LEASE).await {
                tracing::warn!(%error, "leases could not be renewed; another node may take what this one works on");
            }
        }
    }

    /// While the store is away, somebody has to ask for it; what waits for it is taken up as soon as it is back.
    async fn await_store(&self) {
        loop {
            tokio::time::sleep(ASKED_EVERY).await;
            if !self.archive.gate.is_open() {
                self.waits_for_store.store(true, Ordering::Relaxed);
                self.archive.ask_for_nothing().await;
            }
            // It may have been away for a moment only, between two looks: what was put by meanwhile waits all the same.
            if !self.archive.gate.is_open() || !self.waits_for_store.swap(false, Ordering::Relaxed) {
                continue;
            }
            self.archive.spool.forget_measure();
            self.archive.health.clear(PART);
            if let Err(error) = work::hurry_held(&self.archive.db, self.node.name()).await {
                tracing::warn!(%error, "what waited for the store could not be hurried; trying again");
                self.waits_for_store.store(true, Ordering::Relaxed);
            }
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
        let lease = lease(&self.archive.settings, self.archive.db.is_shared());
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
            let claim = Claim { now, lease, limit, lanes: self.lanes(), busy, owner: self.node.name() };
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
                if let Err(error) = work::hand_back(&self.archive.db, self.node.name(), job.call_seq, &job.source).await {
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

    /// Nothing should take longer. What does hangs in the store or on the disk.
    async fn tell_when_late(&self, job: &Job) -> std::convert::Infallible {
        tokio::time::sleep(self.archive.settings.timeout + STORING).await;
        tracing::error!(call_id = job.call_id, "a recording takes too long: store or spool do not answer");
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
            let stored = match archive.stored(intent).await {
                // It may be there; its bytes are had as long as the sender still has them.
                Err(ArchiveError::StoreAway) if !path.exists() => None,
                other => other?,
            };
            if let Some(stored) = stored {
                archive.seal(job, intent.clone(), stored, true).await?;
                return Ok(Outcome::Archived);
            }
            let staged = restage(&path, &archive.spool).await?;
            if let Some(staged) = staged.filter(|staged| hex::encode(staged.sha256) == intent.sha256) {
                archive.finish(job, &facts, staged).await?;
                return Ok(Outcome::Archived);
            }
        }
        archive.spool.ready()?;
        if !archive.gate.is_open() {
            archive.spool.measure()?;
        }
        fault::point("archiver.fetching");
        // What the row says of the address is only a copy.
        let fetched = self.fetcher.fetch(&recording.url, &path, &archive.spool).await;
        if !work::is_still_held(&archive.db, job, self.node.name()).await? {
            return Ok(Outcome::Lost);
        }
        match fetched {
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

    pub(super) async fn store(&self, job: &Job, facts: &Facts, staged: Staged) -> Result<Outcome, ArchiveError> {
        match self.archive.finish(job, facts, staged).await {
            Ok(()) => Ok(Outcome::Archived),
            // Somebody put other bytes at this recording's key: trying again would not change it.
            Err(ArchiveError::Store(error @ StoreError::Conflict(_))) => {
                Ok(Outcome::Failed(FetchError::Final(error.to_string())))
            }
            Err(error) => Err(error),
        }
    }
}

impl Archive {
    /// The object that an interrupted run stored under an intent: only if it holds the intended bytes, read back.
    async fn stored(&self, intent: &Intent) -> Result<Option<crate::objects::ObjectInfo>, ArchiveError> {
        let Some(Examined { info, sha256, .. }) = self.ask_store(self.store.examine(&intent.object_key, None)).await?
        else {
            return Ok(None);
        };
        if sha256 != intent.sha256 {
            return Ok(None);
        }
        // The lock may be what the interruption prevented.
        let locked = match info.retain_until {
            Some(until) => until >= intent.retain_until,
            None => self.store.lock_flaw(None, intent.retain_until, self.clock.now()).is_none(),
        };
        Ok(locked.then_some(info))
    }
}
