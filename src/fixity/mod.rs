//! Fixity: every stored object is read again and hashed from time to time, oldest first, at a limited speed, and its lock
//! and legal hold are compared with the journal's.
//!
//! What went well is journaled in batches, a failure at once, and once as long as it stays. When each object was last read
//! stands in a table of its own. It mends nothing, and it does not look for objects that nobody knows: `verify` does.

mod ledger;
mod pace;
mod promise;
mod round;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::calls::{Calls, Facts};
use crate::clock::{AHEAD, Clock, from_micros};
use crate::config;
use crate::db::{Db, Error as DbError};
use crate::health::Health;
use crate::journal::{AppendError, Journal};
use crate::nodes::Node;
use crate::objects::{ObjectStore, StoreError};

use ledger::{Item, Ledger};
pub use pace::Pace;
pub use promise::{Fault, LockFlaw, MISSING, Promise, Sound, promises, read_back};
pub use round::{Round, Tally};
pub use worker::stopped_with;

/// The job's name, under which one process does it at a time.
pub const JOB: &str = "fixity";
/// Failed objects that are named at most.
const NAMED: i64 = 100;

/// Why a round could not go on; the next one takes up where it was.
#[derive(Debug, thiserror::Error)]
pub enum FixityError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("an entry has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
    /// It says nothing about the objects in it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// `fixity.checked`: objects were read again and are what their receipts say. About one object, as the entry's subject
/// says, where it had failed before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedRecord {
    pub objects: u64,
    pub bytes: u64,
    /// When the first of them was begun and the last was done.
    pub from: Timestamp,
    pub to: Timestamp,
    /// How often every object is to be read, as the configuration says it.
    pub every_seconds: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mended: Option<MendedRecord>,
}

/// An object that had failed and is well again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MendedRecord {
    pub call_id: String,
    pub object_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What had been wrong, in words.
    pub was: String,
}

/// `fixity.failed`: an object is not what its receipt says, or not kept as the journal says. Not told again while it
/// stays so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRecord {
    pub call_id: String,
    pub object_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// In words.
    pub why: String,
    pub looked_at: Timestamp,
    /// How often every object is to be read, as the configuration says it.
    pub every_seconds: u64,
}

/// The subject of entries about a call's objects; not the call's key, since its fold takes nothing of it in.
fn subject(call_key: &str) -> String {
    format!("fixity:{call_key}")
}

/// Reads stored objects again.
pub struct Fixity {
    ledger: Ledger,
    journal: Journal,
    calls: Calls,
    store: Arc<dyn ObjectStore>,
    clock: Clock,
    health: Health,
    settings: config::Fixity,
    node: Node,
}

/// What [`Fixity`] is made of.
pub struct Parts {
    pub db: Db,
    pub journal: Journal,
    pub calls: Calls,
    pub store: Arc<dyn ObjectStore>,
    pub clock: Clock,
    pub health: Health,
    pub settings: config::Fixity,
    pub node: Node,
}

/// How the stored objects stand.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub objects: u64,
    /// Not read for longer than they should be.
    pub overdue: u64,
    pub failing: u64,
    /// When the object was read that was not read for longest, those that failed left out.
    pub oldest_at: Option<Timestamp>,
    /// How often every object is to be read, in seconds.
    pub every_seconds: u64,
    /// Some of those that failed.
    pub failures: Vec<Failure>,
}

/// An object that failed when it was last read.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    pub object_key: String,
    pub version: Option<String>,
    pub why: String,
    pub looked_at: Timestamp,
}

impl From<&Item> for Failure {
    fn from(item: &Item) -> Self {
        Self {
            object_key: item.object.clone(),
            version: item.version.clone(),
            why: item.why.clone().unwrap_or_default(),
            looked_at: from_micros(item.looked_at),
        }
    }
}

/// What monitors want to know.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    pub failing: u64,
    /// How long the object was not read that was not read for longest.
    pub oldest: SignedDuration,
}

impl Fixity {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { db, journal, calls, store, clock, health, settings, node } = parts;
        let ledger = Ledger { db, journal: journal.clone() };
        Self { ledger, journal, calls, store, clock, health, settings, node }
    }

    /// The process on whose behalf it works.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// How the objects stand, with all receipts taken in.
    ///
    /// # Errors
    /// Database or journal.
    pub async fn status(&self) -> Result<Status, FixityError> {
        self.follow().await?;
        let (objects, overdue) = self.ledger.counts(self.before(self.settings.every)).await?;
        let failed = self.ledger.failed(ledger::Place::START, i64::MAX, NAMED).await?;
        Ok(Status {
            objects,
            overdue,
            failing: self.ledger.failing().await?,
            oldest_at: self.ledger.oldest_at().await?.map(from_micros),
            every_seconds: self.settings.every.as_secs(),
            failures: failed.iter().map(Failure::from).collect(),
        })
    }

    /// A moment so long ago, microseconds.
    fn before(&self, ago: Duration) -> i64 {
        self.clock.now().as_microsecond().saturating_sub(micros(ago))
    }

    /// Takes in the objects of new receipts. What was noted while a clock was ahead is due.
    async fn follow(&self) -> Result<(), FixityError> {
        self.ledger.follow().await?;
        let ahead = self.clock.now().as_microsecond().saturating_add(micros(AHEAD.unsigned_abs()));
        if self.ledger.is_any_after(ahead).await? {
            self.ledger.put_back(ahead, self.before(self.settings.every)).await?;
        }
        Ok(())
    }
}

/// How the objects stand, for monitors: without looking at every row, and without taking new receipts in.
///
/// # Errors
/// The database.
pub async fn watch(db: Db, journal: Journal, now: Timestamp) -> Result<Watch, FixityError> {
    let ledger = Ledger { db, journal };
    let oldest = ledger.oldest_at().await?.map(|at| now.duration_since(from_micros(at)));
    Ok(Watch { failing: ledger.failing().await?, oldest: oldest.unwrap_or_default().max(SignedDuration::ZERO) })
}

/// Rows that do not follow from the journal, for verification: what they are about, and why.
///
/// # Errors
/// The database, or an entry that does not read back.
pub async fn flaws(db: Db, journal: Journal, calls: &Calls) -> Result<Vec<(String, String)>, DbError> {
    // Where all are lacking, naming some is enough.
    const LOOKED_INTO: usize = 1000;
    const MEND: &str = "run callvault fixity run --all";
    let ledger = Ledger { db, journal };
    let mut flaws = Vec::new();
    for (item, why) in ledger.lacking(LOOKED_INTO).await? {
        // Of what is promised no more the row is forgotten.
        let readable = calls.facts_of(&[round::call_key_of(&item)]).await?;
        let promised = |facts: &Arc<Facts>| promises(facts).iter().any(|one| item.is(one));
        if readable.facts.iter().any(promised) {
            flaws.push((
                format!("object {} in fixity row {}, {}", item.object, item.seq, item.part),
                format!("{why}: {MEND}"),
            ));
        }
    }
    for (seq, part) in ledger.strays(NAMED).await? {
        flaws.push((format!("fixity row {seq}, {part}"), "no journal entry knows of it".to_owned()));
    }
    Ok(flaws)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
