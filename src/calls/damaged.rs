//! Rows that were met and make no sense: whoever meets one goes on with the rest, everybody hears of it, and it is
//! looked at again until it is mended.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::read::{AS_STORED, Readable, Subjects};

/// More are not named; who has so many knows already.
const NAMED: usize = 1000;
/// Skipped rows are looked at again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A row by what it is about, as `verify` names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DamagedRow {
    /// By its number.
    Entry(u64),
    /// By the call's key.
    Call(String),
    /// By its call's id; it follows from no journal entry.
    Recording(String),
}

impl std::fmt::Display for DamagedRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Entry(seq) => write!(f, "journal entry {seq}"),
            Self::Call(key) => write!(f, "call with the key {key}"),
            Self::Recording(call_id) => write!(f, "recording row of call {call_id}"),
        }
    }
}

/// The damaged rows that this process has met and that are not mended yet; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct DamagedRows(Arc<Mutex<BTreeSet<DamagedRow>>>);

impl DamagedRows {
    /// Takes note of a row; logged the first time.
    pub fn met(&self, row: DamagedRow) {
        let mut known = self.lock();
        if known.len() < NAMED && !known.contains(&row) {
            tracing::error!(%row, "a stored row is damaged and left out until it is mended: run callvault verify");
            known.insert(row);
            metrics::gauge!("callvault_damaged_rows").set(known.len() as f64);
        }
    }

    /// The row reads back again.
    pub fn mended(&self, row: &DamagedRow) {
        let mut known = self.lock();
        if known.remove(row) {
            tracing::info!(%row, "a damaged row is mended");
            metrics::gauge!("callvault_damaged_rows").set(known.len() as f64);
        }
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> Vec<DamagedRow> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<DamagedRow>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The calls that a follower had to leave out, to be taken in once they read back.
#[derive(Debug, Default)]
pub struct Skipped {
    subjects: BTreeSet<String>,
    looked: Option<Instant>,
}

impl Skipped {
    /// What is to be looked at again now.
    #[must_use]
    pub fn due(&self) -> Subjects {
        let due = self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_AGAIN);
        let subjects = self.subjects.iter().filter(|_| due);
        subjects.map(|subject| (subject.clone(), AS_STORED)).collect()
    }

    /// Takes in what became of a look.
    pub fn take(&mut self, seen: &Readable) {
        for facts in &seen.facts {
            self.subjects.remove(&crate::intake::call_key(&facts.call_id));
        }
        self.subjects.extend(seen.skipped.iter().cloned());
        self.looked = Some(Instant::now());
    }
}
