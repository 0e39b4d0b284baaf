//! What becomes of a recording after an attempt: the queue, the spool and the journal are brought in step with it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::ArchiveError;
use super::failure::{FetchError, pause};
use super::fetch::{remove, restage};
use super::work::{self, Job};
use super::worker::{BACK_OFF, Outcome, SHARED_LEASE, Worker};
use crate::calls::DamagedRow;
use crate::calls::records::FailureRecord;
use crate::fault;
use crate::journal::Kind;
use crate::objects::StoreError;

/// The part of the archive's health that is this work's.
pub(super) const PART: &str = "recordings";

/// A row that follows from no journal entry is looked at again after this long.
const STRAY_PAUSE: Duration = Duration::from_secs(15 * 60);

/// While the store is away, a recording in the spool is looked at this often.
const STORE_PAUSE: Duration = Duration::from_secs(60);

/// A call whose row does not read back is looked at again after this long.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(30);

impl Worker {
    pub(super) async fn settle(&self, job: &Job, outcome: Outcome) -> Result<(), ArchiveError> {
        fault::point("archiver.settling");
        let path = self.archive.spool.file(job.call_seq, &job.source);
        match outcome {
            Outcome::Archived => {
                metrics::counter!("callvault_recordings_total", "outcome" => "archived").increment(1);
                tracing::info!(call_id = job.call_id, attempts = job.attempts + 1, "recording archived");
            }
            Outcome::Lost => tracing::warn!(call_id = job.call_id, "another node has taken this recording over"),
            Outcome::Settled => work::drop_stray(&self.archive.db, job).await?,
            Outcome::Stray => {
                self.archive.calls.damaged().met(DamagedRow::Recording(job.call_id.clone()));
                let why = "no journal entry asks for it: run callvault verify";
                work::release(&self.archive.db, self.node.name(), job, self.after(STRAY_PAUSE), false, why).await?;
                return Ok(());
            }
            Outcome::Unreadable => {
                let why = "its call's row is damaged: run callvault verify";
                work::release(&self.archive.db, self.node.name(), job, self.after(UNREADABLE_PAUSE), false, why)
                    .await?;
                return Ok(());
            }
            Outcome::Failed(FetchError::Passing { reason, after }) if !self.is_last_try(job) => {
                metrics::counter!("callvault_fetch_retries_total").increment(1);
                let pause = after.unwrap_or_else(|| pause(self.archive.settings.retry_base, job.attempts + 1));
                tracing::info!(call_id = job.call_id, attempts = job.attempts + 1, reason, "recording not fetched yet");
                remove(&path).await?;
                work::release(&self.archive.db, self.node.name(), job, self.after(pause), true, &reason).await?;
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

    /// What is wrong is ours: tried again for as long as it lasts, and told to whoever asks how the archive is.
    pub(super) async fn our_side(&self, job: &Job, error: &str, trouble: String) {
        self.archive.health.report(PART, trouble);
        // What waits for the store is taken up as soon as that is back, and told once for all.
        let (away, why) = (!self.archive.gate.is_open(), format!("our side: {error}"));
        if !away {
            tracing::error!(error, call_id = job.call_id, "a recording waits: the archive's own side has a problem");
            self.leftovers.store(true, Ordering::Relaxed);
        }
        let (db, node) = (&self.archive.db, self.node.name());
        let held = away && self.archive.spool.file(job.call_seq, &job.source).exists();
        let next = self.after(if held { STORE_PAUSE } else { BACK_OFF });
        let given_back = async {
            if held {
                work::hold(db, node, job, SHARED_LEASE).await?;
            }
            work::release(db, node, job, next, false, &why).await
        };
        if let Err(error) = given_back.await {
            tracing::error!(%error, call_id = job.call_id, "a lease could not be given back; it is freed in a moment");
            self.leftovers.store(true, Ordering::Relaxed);
        }
        if away {
            self.waits_for_store.store(true, Ordering::Relaxed);
        }
    }

    /// A recording that makes the program panic is one that can't be fetched yet; another version may be able to.
    pub(super) async fn panicked(&self, job: &Job) {
        self.leftovers.store(true, Ordering::Relaxed);
        let failed = Outcome::Failed(FetchError::passing("the archive met a fault of its own in it: see its log"));
        if let Err(error) = self.settle(job, failed).await {
            self.our_side(job, &error.to_string(), trouble(&error)).await;
        }
    }
}

/// What keeps recordings waiting, for everybody to read: nothing of any call in it.
pub(super) fn trouble(error: &ArchiveError) -> String {
    match error {
        ArchiveError::Spool(error) => format!("the spool can't be used: {error}"),
        ArchiveError::Store(StoreError::Io(error)) => format!("the store can't be used: {error}"),
        ArchiveError::Store(StoreError::SetUp(why)) => format!("the store can't be used: {why}"),
        ArchiveError::StoreAway => "the store is away: recordings wait in the spool".into(),
        ArchiveError::Db(_) | ArchiveError::Append(_) => "the database can't be used".into(),
        ArchiveError::Store(_) | ArchiveError::Json(_) => {
            "recordings wait for a problem of our own: see the log".into()
        }
    }
}
