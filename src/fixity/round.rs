//! One walk over the objects that are to be read: first those that failed the last time, then the oldest.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ledger::{Item, Place};
use super::{
    CheckedRecord, FailedRecord, Failure, Fault, Fixity, FixityError, MISSING, MendedRecord, Pace, Promise, promises,
    read_back, subject,
};
use crate::calls::Facts;
use crate::fault;
use crate::journal::{Body, Kind, NewEntry};
use crate::objects::{ObjectKey, ObjectStore, StoreError};

/// Objects that are taken from the table at once.
const PORTION: i64 = 100;
/// What went well is journaled and noted after so many objects, or so long: as much is read again after a crash.
const BATCH: usize = 1000;
const BATCH_LASTS: Duration = Duration::from_secs(60);
/// A hold or a later date that was journaled this short a time ago may still be on its way into the store.
const ON_ITS_WAY: SignedDuration = SignedDuration::from_hours(1);

/// How far a walk has come.
pub struct Round {
    /// Those that failed are read where that was at this time or before; microseconds.
    failed_until: i64,
    /// The others are read where they were read last at this time or before.
    oldest_until: i64,
    /// Those that failed are through.
    failed_done: bool,
    after: Place,
    pub tally: Tally,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub objects: u64,
    pub bytes: u64,
    pub failed: u64,
    pub mended: u64,
    /// Nothing could be said of them yet: they are read again later.
    pub unsettled: u64,
}

/// Objects that were fine, not journaled yet.
struct Batch {
    items: Vec<Item>,
    bytes: u64,
    from: Timestamp,
    begun: Instant,
}

/// What was found out about one object.
enum Verdict {
    Fine(u64),
    Failed {
        call_id: String,
        why: String,
    },
    /// Nothing is promised of it any more.
    Nobodys,
    Unsettled,
}

impl Round {
    fn over(failed_until: i64, oldest_until: i64) -> Self {
        Self { failed_until, oldest_until, failed_done: false, after: Place::START, tally: Tally::default() }
    }

    pub(super) fn failed_until(&self) -> i64 {
        self.failed_until
    }
}

impl Fixity {
    /// A walk over everything that failed and everything that is due, or over all objects.
    ///
    /// # Errors
    /// Database or journal.
    pub async fn round(&self, all: bool) -> Result<Round, FixityError> {
        if all {
            self.ledger.begin_anew().await?;
        }
        self.follow().await?;
        let now = self.clock.now().as_microsecond();
        Ok(Round::over(now, if all { now } else { self.before(self.settings.every) }))
    }

    /// The walk of a server: what failed is read again every day, and what is due within a ninetieth of the period goes
    /// along, so that there are few walks and none is long.
    pub(super) fn round_in_background(&self) -> Round {
        const AGAIN: Duration = Duration::from_secs(24 * 3600);
        let every = self.settings.every;
        Round::over(self.before(AGAIN.min(every)), self.before(every - every / 90))
    }

    /// Goes on with a walk until it is done, stopped, or `lasts` is over; true once it is done. `told` hears of failures.
    ///
    /// # Errors
    /// Database, journal or store can't be used. What was read is noted but for the last minute.
    pub async fn walk(
        &self,
        round: &mut Round,
        pace: &mut Pace,
        stop: &CancellationToken,
        lasts: Duration,
        told: &mut (dyn FnMut(&Failure) + Send),
    ) -> Result<bool, FixityError> {
        let (until, mut batch) = (Instant::now() + lasts.min(Duration::from_secs(u64::from(u32::MAX))), self.batch());
        let done = loop {
            let items = self.portion(round).await?;
            if items.is_empty() {
                if round.failed_done {
                    break true;
                }
                (round.failed_done, round.after) = (true, Place::START);
                continue;
            }
            let mut stopped = false;
            for item in items {
                stopped = stop.is_cancelled() || Instant::now() >= until;
                if stopped {
                    break;
                }
                round.after = Place::from(&item);
                let begun = Instant::now();
                let bytes = self.take(item, round, &mut batch, told).await?;
                if batch.items.len() >= BATCH || batch.begun.elapsed() >= BATCH_LASTS {
                    self.settle(std::mem::replace(&mut batch, self.batch())).await?;
                }
                tokio::select! {
                    () = tokio::time::sleep_until(pace.spent(bytes, begun)) => {}
                    () = stop.cancelled() => {}
                }
            }
            if stopped {
                break false;
            }
        };
        self.settle(batch).await?;
        Ok(done)
    }

    async fn portion(&self, round: &Round) -> Result<Vec<Item>, FixityError> {
        Ok(match round.failed_done {
            false => self.ledger.failed(round.after, round.failed_until, PORTION).await?,
            true => self.ledger.oldest(round.after, round.oldest_until, PORTION).await?,
        })
    }

    fn batch(&self) -> Batch {
        Batch { items: Vec::new(), bytes: 0, from: self.clock.now(), begun: Instant::now() }
    }

    /// Journals what went well, and notes it.
    async fn settle(&self, batch: Batch) -> Result<(), FixityError> {
        if batch.items.is_empty() {
            return Ok(());
        }
        let record = CheckedRecord {
            objects: batch.items.len() as u64,
            bytes: batch.bytes,
            from: batch.from,
            to: self.clock.now(),
            every_seconds: self.settings.every.as_secs(),
            mended: None,
        };
        self.append(Kind::FixityChecked, None, &record).await?;
        fault::point("fixity.journaled");
        Ok(self.ledger.note(batch.items).await?)
    }

    async fn append(
        &self,
        kind: Kind,
        subject: Option<String>,
        record: &impl serde::Serialize,
    ) -> Result<(), FixityError> {
        let entry = NewEntry::new(kind, "system", subject, Body::of_json(record)?);
        self.journal.append(vec![entry]).await?;
        Ok(())
    }

    /// Reads one object; the bytes that were read.
    async fn take(
        &self,
        item: Item,
        round: &mut Round,
        batch: &mut Batch,
        told: &mut (dyn FnMut(&Failure) + Send),
    ) -> Result<u64, FixityError> {
        if item.object.is_empty() {
            tracing::error!(seq = item.seq, "a row of fixity does not read back; it is made anew from the journal");
            round.tally.unsettled += 1;
            self.ledger.restore(&item).await?;
            return Ok(0);
        }
        let verdict = self.judge(&item).await?;
        let looked_at = self.clock.now();
        let item = Item { looked_at: looked_at.as_microsecond(), ..item };
        match verdict {
            Verdict::Fine(bytes) => {
                round.tally.objects += 1;
                round.tally.bytes += bytes;
                metrics::counter!("callvault_fixity_checked_total").increment(1);
                metrics::counter!("callvault_fixity_bytes_total").increment(bytes);
                match &item.why {
                    Some(_) => {
                        round.tally.mended += 1;
                        self.mended(item, bytes).await?;
                    }
                    None => {
                        batch.bytes += bytes;
                        batch.items.push(item);
                    }
                }
                Ok(bytes)
            }
            Verdict::Failed { call_id, why } => {
                round.tally.objects += 1;
                round.tally.failed += 1;
                let known = item.why.as_ref() == Some(&why);
                let item = Item { why: Some(why), ..item };
                told(&Failure::from(&item));
                self.failed(item, call_id, known).await?;
                Ok(0)
            }
            Verdict::Nobodys => {
                self.ledger.forget(&item).await?;
                Ok(0)
            }
            Verdict::Unsettled => {
                round.tally.unsettled += 1;
                Ok(0)
            }
        }
    }

    async fn mended(&self, item: Item, bytes: u64) -> Result<(), FixityError> {
        let key = call_key_of(&item);
        let at = super::from_micros(item.looked_at);
        let facts = self.calls.facts_of(std::slice::from_ref(&key)).await?.facts;
        let record = CheckedRecord {
            objects: 1,
            bytes,
            from: at,
            to: at,
            every_seconds: self.settings.every.as_secs(),
            mended: Some(MendedRecord {
                call_id: facts.first().map(|facts| facts.call_id.clone()).unwrap_or_default(),
                object_key: item.object.clone(),
                version: item.version.clone(),
                was: item.why.clone().unwrap_or_default(),
            }),
        };
        self.append(Kind::FixityChecked, Some(subject(&key)), &record).await?;
        tracing::info!(object = item.object, "an object that had failed is what it was again");
        Ok(self.ledger.note(vec![Item { why: None, ..item }]).await?)
    }

    async fn failed(&self, item: Item, call_id: String, known: bool) -> Result<(), FixityError> {
        if !known {
            let why = item.why.clone().unwrap_or_default();
            metrics::counter!("callvault_fixity_failed_total").increment(1);
            tracing::error!(object = item.object, why, "a stored object is not what it was: run callvault verify");
            let record = FailedRecord {
                call_id,
                object_key: item.object.clone(),
                version: item.version.clone(),
                why,
                looked_at: super::from_micros(item.looked_at),
                every_seconds: self.settings.every.as_secs(),
            };
            self.append(Kind::FixityFailed, Some(subject(&call_key_of(&item))), &record).await?;
            fault::point("fixity.failure_journaled");
        }
        Ok(self.ledger.note(vec![item]).await?)
    }

    /// Reads an object and compares it with what is promised of it when that is done: what is promised may change meanwhile.
    async fn judge(&self, item: &Item) -> Result<Verdict, FixityError> {
        let Some((mut promise, _)) = self.promised(item).await? else { return self.unpromised(item).await };
        loop {
            let read = read_back(self.store.as_ref(), &promise, self.clock.now()).await;
            let why = match read {
                Ok(sound) => {
                    // Longer than promised: the entry that says so is on its way.
                    let lock = sound.lock.filter(|flaw| !flaw.longer).map(|flaw| flaw.why);
                    let kept: Vec<String> = lock.into_iter().chain(sound.hold).collect();
                    if kept.is_empty() && sound.others.is_empty() {
                        return Ok(Verdict::Fine(sound.size));
                    }
                    if !kept.is_empty() && self.is_on_its_way(item).await? {
                        return Ok(Verdict::Unsettled);
                    }
                    kept.into_iter().chain(sound.others).collect::<Vec<_>>().join("; ")
                }
                Err(Fault::Missing) if is_empty(self.store.as_ref()).await? => {
                    let why = "it holds no recordings at all: mount its disk, or restore it";
                    return Err(StoreError::Io(std::io::Error::other(why)).into());
                }
                Err(Fault::Missing) => MISSING.to_owned(),
                Err(Fault::Damage(why)) => why,
                Err(Fault::Away(error)) => return Err(error.into()),
            };
            match self.promised(item).await? {
                None => return self.unpromised(item).await,
                Some((now, _)) if now == promise => {
                    return Ok(Verdict::Failed { call_id: promise.call_id, why });
                }
                Some((now, _)) => promise = now,
            }
        }
    }

    /// What is promised of an object, and the facts of its call.
    async fn promised(&self, item: &Item) -> Result<Option<(Promise, std::sync::Arc<Facts>)>, FixityError> {
        let readable = self.calls.facts_of(&[call_key_of(item)]).await?;
        let Some(facts) = readable.facts.into_iter().next() else { return Ok(None) };
        let promise = promises(&facts).into_iter().find(|one| item.is(one));
        Ok(promise.map(|promise| (promise, facts)))
    }

    /// An object of a call whose row does not read back is somebody's all the same.
    async fn unpromised(&self, item: &Item) -> Result<Verdict, FixityError> {
        let readable = self.calls.facts_of(&[call_key_of(item)]).await?;
        Ok(if readable.skipped.is_empty() { Verdict::Nobodys } else { Verdict::Unsettled })
    }

    /// Whether what the store is to keep differently was journaled a short time ago.
    async fn is_on_its_way(&self, item: &Item) -> Result<bool, FixityError> {
        let Some((_, facts)) = self.promised(item).await? else { return Ok(false) };
        let holds = facts.holds.values().flat_map(|(caught, lifted)| [*caught, *lifted]).flatten();
        let extensions = facts.recordings.values().filter_map(|one| one.extended.as_ref().map(|(seq, _)| *seq));
        let Some(seq) = holds.chain(extensions).max() else { return Ok(false) };
        let Some(record) = self.journal.entry(seq).await? else { return Ok(false) };
        Ok(self.clock.now().duration_since(record.entry.at).abs() < ON_ITS_WAY)
    }
}

/// The folder of an object is named after its call.
pub(super) fn call_key_of(item: &Item) -> String {
    item.object.rsplit('/').nth(1).unwrap_or_default().to_owned()
}

/// One object that is not there is damage; where there are none at all, the store itself is elsewhere.
async fn is_empty(store: &dyn ObjectStore) -> Result<bool, StoreError> {
    use futures_util::StreamExt;
    Ok(store.list(ObjectKey::RECORDINGS).await?.next().await.is_none())
}
