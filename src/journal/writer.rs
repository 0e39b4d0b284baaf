//! The one writer: takes everything that waits, commits it as one transaction, answers everybody.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::iter::once;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::projection::{Projection, ProjectionError};
use super::recent::Recent;
use super::rows::{HEAD, appended_since, body_of, head, new_bodies, new_entries, new_head, row_of};
use super::{Body, DESTROYED, Entry, Kind};
use crate::clock::Clock;
use crate::db::{Ask, Db, Error as DbError, Row, Tx};
use crate::evidence::Hash;
use crate::fault;
use crate::health::caught;

/// Appends that may wait at once; beyond that the sender is pushed back.
const QUEUE_APPENDS: usize = 4096;
/// Bodies that may wait at once, in KiB.
const QUEUE_KIB: usize = 64 * 1024;
/// Entries in one transaction at most.
const BATCH_ENTRIES: usize = 1024;
/// Pauses between attempts at a batch while the database is out of reach; after the last the caller hears of it.
const RETRY_PAUSES: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1)];

/// The journal's time never runs backwards; where it is ahead of the clock by more than this, the clock is noted too.
const CLOCK_SLACK: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);

/// An entry to be appended.
#[derive(Clone, Debug)]
pub struct NewEntry {
    pub kind: Kind,
    pub actor: String,
    pub subject: Option<String>,
    pub body: Body,
    /// Only where the request reached us notably earlier than it is appended.
    pub received_at: Option<Timestamp>,
    pub reason: Option<String>,
    /// What the body says, where whoever appends it has read it already; projections need not read it again.
    pub understood: Option<Understood>,
    /// The least size of the journal before an attempt to append this very entry of which nobody knows what became: if it
    /// is there, it stays as it is.
    pub tried_since: Option<u64>,
}

impl NewEntry {
    /// An entry that is appended at once and for the first time.
    #[must_use]
    pub fn new(kind: Kind, actor: impl Into<String>, subject: Option<String>, body: Body) -> Self {
        let actor = actor.into();
        Self { kind, actor, subject, body, received_at: None, reason: None, understood: None, tried_since: None }
    }

    fn numbered(&self, seq: u64, at: Timestamp, received_at: Option<Timestamp>, body: Hash) -> Entry {
        Entry {
            seq,
            at,
            received_at: self.received_at.or(received_at),
            kind: self.kind,
            actor: self.actor.clone(),
            subject: self.subject.clone(),
            body,
            reason: self.reason.clone(),
        }
    }
}

/// The journal does not know what bodies mean.
pub type Understood = Arc<dyn Any + Send + Sync>;

/// An entry that was just appended, with its content, for projections.
#[derive(Clone, Debug)]
pub struct Appended {
    pub entry: Entry,
    pub body: Arc<[u8]>,
    pub understood: Option<Understood>,
}

/// What the appender gets back, once the entry is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub seq: u64,
    /// Set where the entry went into quarantine because it could not be projected.
    pub quarantined: Option<&'static str>,
    /// Set where the body was not kept, since what it is about was destroyed.
    pub ignored: Option<&'static str>,
}

/// Why an entry was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("the journal's queue is full: try again in a second")]
    QueueFull,
    #[error("the journal can't be written: {0}")]
    Unavailable(Arc<DbError>),
    /// Somebody else was faster: what the entry says can't be any more.
    #[error("{0}")]
    Refused(String),
    #[error("the journal's writer has stopped")]
    Stopped,
}

/// What became of one entry.
type Outcome = Result<Receipt, Arc<DbError>>;

struct Job {
    entries: Vec<NewEntry>,
    answer: Answer,
    room: OwnedSemaphorePermit,
}

type Answer = oneshot::Sender<Result<Vec<Receipt>, AppendError>>;

/// A handle on the journal; cheap to clone. The writer ends when the last handle is gone.
#[derive(Clone)]
pub struct Journal {
    pub(super) db: Db,
    /// Where entries are read from.
    pub(super) source: Db,
    queue: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
    pub(super) recent: Recent,
    size: watch::Sender<u64>,
    under_way: UnderWay,
}

/// Since when the writer works on the batch that it has, if it has one.
type UnderWay = Arc<Mutex<Option<Instant>>>;

impl Journal {
    /// Starts the writer, on a thread of its own: everybody waits for it, so it must not wait in one queue with them.
    ///
    /// # Errors
    /// The operating system gives no more threads.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(db: Db, clock: Clock, projections: Vec<Arc<dyn Projection>>) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE_APPENDS);
        let size = watch::Sender::new(0);
        let (recent, under_way) = (Recent::default(), UnderWay::default());
        let writer = Writer {
            db: db.clone(),
            clock,
            projections,
            recent: recent.clone(),
            size: size.clone(),
            under_way: Arc::clone(&under_way),
            askers: Handle::current(),
        };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("journal".into()).spawn(move || runtime.block_on(writer.run(jobs)))?;
        Ok(Self { source: db.clone(), db, queue, room: Arc::new(Semaphore::new(QUEUE_KIB)), recent, size, under_way })
    }

    /// Appends entries, together and in this order; returns when they are durable.
    ///
    /// # Errors
    /// The database refuses; whether the entries took effect is then unknown only after a lost commit, and appending
    /// the same [`NewEntry`] again gives back the entry that exists.
    pub async fn append(&self, entries: Vec<NewEntry>) -> Result<Vec<Receipt>, AppendError> {
        let room = Arc::clone(&self.room).acquire_many_owned(kib(&entries)).await;
        let (answer, done) = oneshot::channel();
        let job = Job { entries, answer, room: room.map_err(|_| AppendError::Stopped)? };
        self.queue.send(job).await.map_err(|_| AppendError::Stopped)?;
        done.await.map_err(|_| AppendError::Stopped)?
    }

    /// Like [`Journal::append`], but pushes back at once when too much waits.
    ///
    /// # Errors
    /// Also [`AppendError::QueueFull`]: nothing was taken.
    pub async fn try_append(&self, entries: Vec<NewEntry>) -> Result<Vec<Receipt>, AppendError> {
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib(&entries));
        let (answer, done) = oneshot::channel();
        let job = Job { entries, answer, room: room.map_err(|_| AppendError::QueueFull)? };
        self.queue.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AppendError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => AppendError::Stopped,
        })?;
        fault::point("journal.queued");
        done.await.map_err(|_| AppendError::Stopped)?
    }

    /// Tells the journal's size whenever it grows. Only a hint: other processes append too, so poll beside it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }

    /// Tells watchers of a size, if it is news.
    pub(super) fn announce(&self, size: u64) {
        self.size.send_if_modified(|known| std::mem::replace(known, size.max(*known)) < size);
    }

    /// For how long the writer has worked on the batch that it has; nothing else is appended meanwhile.
    #[must_use]
    pub fn held_up(&self) -> Duration {
        let since = *self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// How many appends wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        QUEUE_APPENDS - self.queue.capacity()
    }
}

fn kib(entries: &[NewEntry]) -> u32 {
    let bytes: usize = entries.iter().map(|entry| entry.body.bytes.len() + 512).sum();
    // One oversized append may take the whole room, but must be able to.
    u32::try_from(bytes.div_ceil(1024).min(QUEUE_KIB)).unwrap_or(1)
}

/// A transaction that has the journal, with the head's row.
type Begun = Result<(Tx, Vec<Vec<Row>>), DbError>;

struct Writer {
    db: Db,
    clock: Clock,
    projections: Vec<Arc<dyn Projection>>,
    recent: Recent,
    size: watch::Sender<u64>,
    under_way: UnderWay,
    /// Where those run who wait for an answer.
    askers: Handle,
}

impl Writer {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        self.db = self.db.apart();
        let mut batch = Vec::new();
        while jobs.recv_many(&mut batch, BATCH_ENTRIES).await > 0 {
            self.is_under_way(Some(Instant::now()));
            let begun = self.begin_first(&mut batch, &mut jobs).await;
            let (mut entries, mut askers) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
            for job in batch.drain(..) {
                askers.push((job.entries.len(), job.answer, job.room));
                entries.extend(job.entries);
            }
            metrics::histogram!("callvault_journal_batch_entries").record(entries.len() as f64);
            fault::point("journal.taken");
            let outcomes = self.append(&entries, begun).await;
            // Waking everybody is not this thread's work: the next batch waits.
            self.askers.spawn(async move {
                answer(askers, outcomes);
                fault::point("journal.answered");
            });
            self.is_under_way(None);
        }
    }

    /// Where other nodes append too, it is the journal that is waited for: what came meanwhile goes along with what was
    /// there before.
    async fn begin_first(&self, batch: &mut Vec<Job>, jobs: &mut mpsc::Receiver<Job>) -> Option<Begun> {
        if !self.db.is_shared() {
            return None;
        }
        let begun = caught(self.db.begin_with(vec![HEAD])).await;
        while batch.len() < BATCH_ENTRIES
            && let Ok(job) = jobs.try_recv()
        {
            batch.push(job);
        }
        begun
    }

    fn is_under_way(&self, since: Option<Instant>) {
        *self.under_way.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Appends a batch; where the outcome of an attempt is unknown, the next looks first for what is already there.
    /// Gives an outcome for each entry.
    async fn append(&self, entries: &[NewEntry], mut begun: Option<Begun>) -> Vec<Outcome> {
        // Who can put it by until the database is back need not wait for that.
        let mut pauses = RETRY_PAUSES[if self.db.is_shared() { ..1 } else { ..RETRY_PAUSES.len() }].iter().copied();
        let mut since = entries.iter().filter_map(|entry| entry.tried_since).min();
        let mut repeated = since.is_some();
        loop {
            let error = match self.attempt(entries, &mut since, begun.take()).await {
                Ok(receipts) => return receipts.into_iter().map(Ok).collect(),
                Err(why @ (ProjectionError::Entry(_) | ProjectionError::Refused(_) | ProjectionError::Panicked)) => {
                    tracing::warn!(%why, "a batch is taken apart: one of its entries can't be folded");
                    return self.one_by_one(entries, since).await;
                }
                // The first time a unique violation may be our own entry of an attempt whose answer was lost.
                Err(ProjectionError::Db(error)) if error.is_refusal() && (repeated || !error.is_unique_violation()) => {
                    tracing::warn!(%error, "a batch is taken apart: the database refuses one of its entries");
                    return self.one_by_one(entries, since).await;
                }
                Err(ProjectionError::Db(error)) if error.is_damage() && entries.len() > 1 => {
                    tracing::error!(%error, "a batch is taken apart: one of its entries meets a damaged row");
                    return self.one_by_one(entries, since).await;
                }
                Err(ProjectionError::Db(error)) => error,
            };
            let Some(pause) = pauses.next() else {
                tracing::error!(%error, entries = entries.len(), "journal batch could not be written");
                let error = Arc::new(error);
                return entries.iter().map(|_| Err(Arc::clone(&error))).collect();
            };
            repeated = true;
            tokio::time::sleep(pause).await;
        }
    }

    /// Each entry in a transaction of its own, so that one bad event never holds up the others.
    async fn one_by_one(&self, entries: &[NewEntry], since: Option<u64>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            let outcome = self.alone(entry, since).await;
            if let Err(error) = &outcome
                && !matches!(error, DbError::Refused(_))
            {
                tracing::error!(%error, kind = entry.kind.as_str(), "a journal entry could not be written");
            }
            outcomes.push(outcome.map_err(Arc::new));
        }
        outcomes
    }

    /// One entry; a webhook that can't be projected goes into quarantine, anything else is an error of ours.
    async fn alone(&self, entry: &NewEntry, mut since: Option<u64>) -> Result<Receipt, DbError> {
        const REASON: &str = "projection_failed";
        let error = match self.attempt(std::slice::from_ref(entry), &mut since, None).await {
            Ok(receipts) => return only(receipts),
            Err(error) => error,
        };
        let webhook = matches!(entry.kind, Kind::WebhookReceived | Kind::WebhookImported);
        let refused = match &error {
            ProjectionError::Entry(_) | ProjectionError::Refused(_) | ProjectionError::Panicked => true,
            // What waited for long must not hold up for ever what waits behind it.
            ProjectionError::Db(error) => error.is_refusal() || (error.is_damage() && entry.tried_since.is_some()),
        };
        if !webhook || !refused {
            return Err(into_db_error(error));
        }
        tracing::error!(%error, "a webhook is quarantined: it can't be projected");
        let (kind, reason) = (Kind::WebhookQuarantined, Some(REASON.to_owned()));
        let quarantined = NewEntry { kind, subject: None, reason, ..entry.clone() };
        let receipts = self.attempt(&[quarantined], &mut since, None).await.map_err(into_db_error)?;
        only(receipts).map(|receipt| Receipt { quarantined: Some(REASON), ..receipt })
    }

    /// A panic costs the entry that causes it, never the writer. `since` is the journal's size before the first attempt
    /// at these entries; set by it.
    async fn attempt(
        &self,
        entries: &[NewEntry],
        since: &mut Option<u64>,
        begun: Option<Begun>,
    ) -> Result<Vec<Receipt>, ProjectionError> {
        caught(self.transaction(entries, since, begun)).await.unwrap_or(Err(ProjectionError::Panicked))
    }

    /// Begins, unless it has begun with the head's question, with the questions of all: the rows of the head, and for each
    /// projection those that it asked for.
    async fn begin(
        &self,
        entries: &[NewEntry],
        begun: Option<Begun>,
    ) -> Result<(Tx, Vec<Row>, Vec<Vec<Row>>), DbError> {
        let asked: Vec<Option<Ask>> = self.projections.iter().map(|projection| projection.ask(entries)).collect();
        let has_asked: Vec<bool> = asked.iter().map(Option::is_some).collect();
        let asked = asked.into_iter().flatten();
        let (tx, answers) = match begun {
            None => self.db.begin_with(once(HEAD).chain(asked).collect()).await?,
            Some(begun) => {
                let (mut tx, mut answers) = begun?;
                answers.extend(tx.ask(asked).await?);
                (tx, answers)
            }
        };
        let mut answers = answers.into_iter();
        let mut next = || answers.next().unwrap_or_default();
        let first = next();
        Ok((tx, first, has_asked.into_iter().map(|asked| if asked { next() } else { Vec::new() }).collect()))
    }

    async fn transaction(
        &self,
        entries: &[NewEntry],
        since: &mut Option<u64>,
        begun: Option<Begun>,
    ) -> Result<Vec<Receipt>, ProjectionError> {
        let (mut tx, first, answers) = self.begin(entries, begun).await?;
        fault::point("journal.begun");
        let (mut frontier, last_at) = head(first.first())?;
        let known = match *since {
            Some(since) => appended_since(&mut tx, since, entries).await?,
            None => HashMap::new(),
        };
        let answered = self.projections.iter().zip(&answers);
        let said: HashMap<usize, u64> =
            answered.flat_map(|(projection, rows)| projection.said_before(rows, entries)).collect();
        let answered = self.projections.iter().zip(&answers);
        let not_kept: HashSet<usize> =
            answered.flat_map(|(projection, rows)| projection.not_kept(rows, entries)).collect();
        since.get_or_insert(frontier.size());
        let now = self.clock.now();
        let at = now.max(last_at);
        // A clock that was ahead once must not decide for ever when things reached us.
        let received_at = (at.duration_since(now) > CLOCK_SLACK).then_some(now);

        let mut receipts = Vec::with_capacity(entries.len());
        let mut appended = Vec::with_capacity(entries.len());
        let (mut rows, mut bodies) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        for (place, new) in entries.iter().enumerate() {
            let hash = new.body.hash();
            if let Some(seq) = known.get(&hash[..]).or_else(|| said.get(&place)) {
                receipts.push(Receipt { seq: *seq, quarantined: None, ignored: None });
                continue;
            }
            let mut entry = new.numbered(frontier.size(), at, received_at, hash);
            let ignored = not_kept.contains(&place).then_some(DESTROYED);
            entry.reason = entry.reason.or_else(|| ignored.map(str::to_owned));
            receipts.push(Receipt { seq: entry.seq, quarantined: None, ignored });
            let canonical = entry.canonical();
            let leaf = Entry::leaf(&canonical);
            frontier.push(leaf);
            rows.push(row_of(&entry, canonical, &leaf));
            if ignored.is_none() {
                bodies.push(body_of(entry.seq, &new.body));
            }
            appended.push(Appended { entry, body: Arc::clone(&new.body.bytes), understood: new.understood.clone() });
        }
        if appended.is_empty() {
            tx.roll_back().await?;
            return Ok(receipts);
        }
        let mut written = vec![new_entries(rows), new_bodies(bodies), new_head(&frontier, at)];
        for (projection, known) in self.projections.iter().zip(answers) {
            written.extend(projection.apply(&mut tx, known, &appended).await?);
        }
        fault::point("journal.projected");
        fault::point("journal.commit");
        tx.write_and_commit(written).await?;
        fault::point("journal.committed");
        self.recent.push(&appended);
        self.projections.iter().for_each(|projection| projection.committed());
        self.size.send_replace(frontier.size());
        Ok(receipts)
    }
}

/// Tells each asker what became of its own entries.
fn answer(askers: Vec<(usize, Answer, OwnedSemaphorePermit)>, outcomes: Vec<Outcome>) {
    let mut outcomes = outcomes.into_iter();
    for (count, asker, _room) in askers {
        let own: Result<Vec<Receipt>, Arc<DbError>> = outcomes.by_ref().take(count).collect();
        // The asker may have hung up; the entries stand all the same.
        let _ = asker.send(own.map_err(|error| match &*error {
            DbError::Refused(why) => AppendError::Refused(why.clone()),
            _ => AppendError::Unavailable(error),
        }));
    }
}

fn only(receipts: Vec<Receipt>) -> Result<Receipt, DbError> {
    receipts.into_iter().next().ok_or_else(|| DbError::Damaged("an append gave no receipt".into()))
}

fn into_db_error(error: ProjectionError) -> DbError {
    match error {
        ProjectionError::Db(error) => error,
        ProjectionError::Refused(why) => DbError::Refused(why),
        error => DbError::Damaged(error.to_string()),
    }
}
