//! Where webhooks wait while the database is away: acknowledged once they are durable on this node's disk, journaled in
//! order, each once, when the database is back.
//!
//! While anything waits, whatever comes queues behind it. One task owns the files: it writes what comes, several at once,
//! and hands the oldest to the journal. Nothing here knows what a webhook says.

mod file;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, block_in_place};
use tokio_util::sync::CancellationToken;

use super::entry;
use crate::journal::{AppendError, Body, Journal, Kind, NewEntry, Receipt};
use file::{Files, Next, Waiting};

/// Webhooks that may wait to be written; beyond that the sender is pushed back.
const QUEUE: usize = 8192;
/// Webhooks that are written, or handed to the journal, together.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 8 << 20;
/// For how long what comes is held back while the last of what waits is journaled.
const HELD_BACK: Duration = Duration::from_secs(1);
/// Pause before the journal is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Why a webhook was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("the spool is full: make room, or raise spool.max_bytes")]
    Full,
    #[error("the spool can't be written: {0}")]
    Io(Arc<std::io::Error>),
    #[error("the spool has stopped")]
    Stopped,
}

/// A handle on the spool of a node; cheap to clone.
#[derive(Clone)]
pub struct WebhookSpool {
    jobs: mpsc::Sender<Job>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Something waits, or is about to: what comes now waits behind it.
    in_use: AtomicBool,
    count: AtomicU64,
    bytes: AtomicU64,
    max_bytes: AtomicU64,
    /// The last attempt to write failed.
    broken: AtomicBool,
}

struct Job {
    waiting: Waiting,
    /// What the journal says, where it took it after all.
    answer: oneshot::Sender<Result<Option<Receipt>, SpoolError>>,
}

impl WebhookSpool {
    /// Opens the spool in a folder, with what an earlier run left in it, and the task that owns it.
    ///
    /// # Errors
    /// The folder can't be used.
    pub fn open(folder: PathBuf, max_bytes: u64, journal: Journal) -> std::io::Result<(Self, Drain)> {
        let files = Files::open(&folder)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let state = Arc::new(State { max_bytes: max_bytes.into(), ..State::default() });
        state.tell(&files);
        metrics::gauge!("callvault_webhook_spool_limit_bytes").set(max_bytes as f64);
        state.in_use.store(!files.is_empty(), Ordering::Release);
        if !files.is_empty() {
            tracing::warn!(webhooks = files.count(), "webhooks wait from before; they are journaled first");
        }
        let drain = Drain {
            files,
            folder,
            queue,
            journal,
            state: Arc::clone(&state),
            under_way: None,
            passing: None,
            again: None,
        };
        Ok((Self { jobs, state }, drain))
    }

    /// Whether what comes now has to wait behind others.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.state.in_use.load(Ordering::Acquire)
    }

    /// Webhooks that wait.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.state.count.load(Ordering::Relaxed)
    }

    /// Whether another webhook could be taken.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.state.broken.load(Ordering::Relaxed) && !self.state.is_full() && self.jobs.capacity() > 0
    }

    /// Takes a webhook; returns when it is durable, with the journal's receipt where nothing waited any more. `tried_since` is the least size of the journal before somebody tried
    /// to append it there, if somebody did.
    ///
    /// # Errors
    /// It is not taken, and will not be journaled.
    pub async fn take(
        &self,
        actor: &str,
        body: &Body,
        received_at: Timestamp,
        tried_since: Option<u64>,
    ) -> Result<Option<Receipt>, SpoolError> {
        if self.state.is_full() {
            return Err(SpoolError::Full);
        }
        // From now on everything queues: who is answered later must come later.
        self.state.in_use.store(true, Ordering::Release);
        let waiting =
            Waiting { actor: actor.to_owned(), received_at, tried_since, salt: body.salt, body: body.bytes.to_vec() };
        let (answer, done) = oneshot::channel();
        self.jobs.try_send(Job { waiting, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SpoolError::Full,
            mpsc::error::TrySendError::Closed(_) => SpoolError::Stopped,
        })?;
        done.await.map_err(|_| SpoolError::Stopped)?
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.max_bytes.load(Ordering::Relaxed)
    }

    fn tell(&self, files: &Files) {
        self.count.store(files.count(), Ordering::Relaxed);
        self.bytes.store(files.bytes(), Ordering::Relaxed);
        metrics::gauge!("callvault_webhook_spool_events").set(files.count() as f64);
        metrics::gauge!("callvault_webhook_spool_bytes").set(files.bytes() as f64);
    }
}

/// What owns the files.
pub struct Drain {
    files: Files,
    folder: PathBuf,
    queue: mpsc::Receiver<Job>,
    journal: Journal,
    state: Arc<State>,
    /// The oldest of the files, on their way into the journal.
    under_way: Option<Appending<Next>>,
    /// Webhooks that came when nothing waited any more, on their way past the files.
    passing: Option<Appending<Vec<Job>>>,
    /// The last attempt failed; the next comes then.
    again: Option<Instant>,
}

/// An append, and what is appended.
struct Appending<T> {
    what: T,
    since: Instant,
    /// The journal's least size before.
    journal_size: u64,
    task: JoinHandle<Result<Vec<Receipt>, AppendError>>,
}

impl<T> Appending<T> {
    fn new(journal: &Journal, what: T, journal_size: u64, entries: Vec<NewEntry>) -> Self {
        let journal = journal.clone();
        let append = async move { if entries.is_empty() { Ok(Vec::new()) } else { journal.append(entries).await } };
        Self { what, since: Instant::now(), journal_size, task: tokio::spawn(append) }
    }

    fn is_late(&self) -> bool {
        self.since.elapsed() >= HELD_BACK
    }
}

impl Drain {
    /// Runs until cancelled; what waits then is taken up by the next run.
    pub async fn run(&mut self, cancel: &CancellationToken) {
        let mut jobs = Vec::new();
        loop {
            if self.again.is_some_and(|again| again <= Instant::now()) {
                self.again = None;
            }
            if self.under_way.is_none() && self.again.is_none() {
                self.begin().await;
            }
            self.state.tell(&self.files);
            let idle = self.files.is_empty() && self.under_way.is_none() && self.again.is_none();
            self.state.in_use.store(!idle, Ordering::Release);
            let (receives, late_from, again) = (self.receives(), self.late_from(), self.again);
            tokio::select! {
                () = cancel.cancelled() => return,
                taken = self.queue.recv_many(&mut jobs, BATCH), if receives => match taken {
                    // The door is closed: the end is near.
                    0 => return cancel.cancelled().await,
                    _ => self.take(std::mem::take(&mut jobs), idle),
                },
                outcome = ended(&mut self.under_way) => self.settle(outcome),
                outcome = ended(&mut self.passing) => self.passed(outcome),
                () = until(again) => {}
                () = until(late_from), if !receives => self.pass_no_more(),
            }
        }
    }

    /// Where all that waits is about to be journaled, what comes is held back for a moment: written behind it, it would
    /// keep the files from ever being empty.
    fn receives(&self) -> bool {
        let last_under_way =
            |under_way: &Appending<Next>| under_way.what.lines() == self.files.count() && !under_way.is_late();
        self.passing.as_ref().is_none_or(Appending::is_late) && !self.under_way.as_ref().is_some_and(last_under_way)
    }

    /// When nothing is held back any longer.
    fn late_from(&self) -> Option<Instant> {
        let since = [self.under_way.as_ref().map(|one| one.since), self.passing.as_ref().map(|one| one.since)];
        since.into_iter().flatten().min().map(|since| since + HELD_BACK)
    }

    fn wait(&mut self) {
        self.again = Some(Instant::now() + AGAIN);
    }

    /// What comes goes past the files where nothing waits and nobody met an absent journal, else into them.
    fn take(&mut self, jobs: Vec<Job>, idle: bool) {
        if !idle || jobs.iter().any(|job| job.waiting.tried_since.is_some()) {
            return self.write(jobs);
        }
        let at_once = |job: &Job| NewEntry { received_at: None, ..journaled(&job.waiting, None) };
        let entries = jobs.iter().map(at_once).collect();
        let size = *self.journal.watch().borrow();
        self.passing = Some(Appending::new(&self.journal, jobs, size, entries));
    }

    /// The journal does not answer in time after all: what was to go past the files goes into them.
    fn pass_no_more(&mut self) {
        if let Some(Appending { what, journal_size, .. }) = self.passing.take_if(|passing| passing.is_late()) {
            self.write_after_attempt(what, journal_size);
        }
    }

    fn passed(&mut self, (passed, outcome): (Appending<Vec<Job>>, Result<Vec<Receipt>, AppendError>)) {
        match outcome {
            Ok(receipts) => {
                for (job, receipt) in passed.what.into_iter().zip(receipts) {
                    let _ = job.answer.send(Ok(Some(receipt)));
                }
            }
            Err(_) => self.write_after_attempt(passed.what, passed.journal_size),
        }
    }

    fn write_after_attempt(&mut self, mut jobs: Vec<Job>, journal_size: u64) {
        self.wait();
        jobs.iter_mut().for_each(|job| job.waiting.tried_since = Some(journal_size));
        self.write(jobs);
    }

    fn write(&mut self, jobs: Vec<Job>) {
        let (waiting, answers): (Vec<Waiting>, Vec<_>) = jobs.into_iter().map(|job| (job.waiting, job.answer)).unzip();
        let written = block_in_place(|| self.files.append(&waiting)).map_err(Arc::new);
        self.state.broken.store(written.is_err(), Ordering::Relaxed);
        // Before anybody is answered: what they send next must wait behind this.
        self.state.in_use.store(true, Ordering::Release);
        match &written {
            Ok(()) => {
                metrics::counter!("callvault_webhooks_total", "outcome" => "spooled").increment(waiting.len() as u64)
            }
            Err(error) => {
                tracing::error!(%error, webhooks = waiting.len(), "the spool can't be written; webhooks are refused");
            }
        }
        for answer in answers {
            // The asker may have hung up; what is written stands all the same.
            let _ = answer.send(written.clone().map(|()| None).map_err(SpoolError::Io));
        }
    }

    /// Hands the oldest to the journal, if any waits and the journal can be reached.
    async fn begin(&mut self) {
        if self.files.is_empty() {
            return;
        }
        let journal = self.journal.clone();
        let size = match tokio::time::timeout(HELD_BACK, journal.size()).await {
            Ok(Ok(size)) => size,
            // Told already, by those who were turned to the spool.
            Ok(Err(_)) | Err(_) => return self.wait(),
        };
        let begun = block_in_place(|| {
            let mut next = self.files.next(BATCH, BATCH_BYTES)?;
            self.files.begin(&mut next, size)?;
            Ok::<_, std::io::Error>(next)
        });
        match begun {
            Ok(next) => {
                let entries = next.waiting.iter().map(|waiting| journaled(waiting, next.tried_since)).collect();
                self.under_way = Some(Appending::new(&journal, next, size, entries));
            }
            Err(error) => {
                tracing::error!(%error, folder = %self.folder.display(), "webhooks that wait can't be read; trying again");
                self.wait();
            }
        }
    }

    fn settle(&mut self, (under_way, outcome): (Appending<Next>, Result<Vec<Receipt>, AppendError>)) {
        match outcome {
            Ok(_) => {
                if let Err(error) = block_in_place(|| self.files.done(&under_way.what)) {
                    tracing::error!(%error, "the spool can't be written; what is journaled is looked at again");
                    self.wait();
                } else if self.files.is_empty() {
                    tracing::info!("every webhook that waited is journaled");
                }
            }
            Err(error) => {
                tracing::warn!(%error, waiting = self.files.count(), "webhooks wait: the journal can't take them yet");
                self.wait();
            }
        }
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

/// The end of an append, if one is under way.
async fn ended<T>(appending: &mut Option<Appending<T>>) -> (Appending<T>, Result<Vec<Receipt>, AppendError>) {
    let Some(under_way) = appending.as_mut() else { return std::future::pending().await };
    let outcome = (&mut under_way.task).await.unwrap_or(Err(AppendError::Stopped));
    match appending.take() {
        Some(ended) => (ended, outcome),
        None => std::future::pending().await,
    }
}

/// The entry of a webhook that waited, with the salt that it was given when it was received.
fn journaled(waiting: &Waiting, tried_since: Option<u64>) -> NewEntry {
    let (mut entry, _) = entry(Kind::WebhookReceived, &waiting.actor, &waiting.body, Some(waiting.received_at));
    entry.body.salt = waiting.salt;
    NewEntry { tried_since, ..entry }
}
