//! Tables that follow from entries and are kept in the transaction that appends them.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;

use super::writer::{Appended, NewEntry};
use crate::db::{Ask, Error as DbError, Row, Rows, Tx};

/// Keeps tables that follow from entries, in the transaction that appends them.
#[async_trait]
pub trait Projection: Send + Sync {
    /// What it has to know before it takes entries in; it is asked together with what the journal itself asks.
    fn ask(&self, entries: &[NewEntry]) -> Option<Ask>;

    /// Entries that say once more what counts only once and is known by these rows, by their places, each with the entry
    /// that said it: they are not appended again, and that one is their receipt.
    fn said_before(&self, _known: &[Row], _entries: &[NewEntry]) -> HashMap<usize, u64> {
        HashMap::new()
    }

    /// Entries whose bodies are not to be kept, as these rows say, by their places: they are appended as being about
    /// something destroyed.
    fn not_kept(&self, _known: &[Row], _entries: &[NewEntry]) -> HashSet<usize> {
        HashSet::new()
    }

    /// Takes a batch in, with the rows that were asked for, and gives the rows that are to be written with it. They must be
    /// the same whatever the batches were.
    ///
    /// # Errors
    /// [`ProjectionError::Entry`] where one entry can't be taken in: that entry is appended as quarantined instead.
    async fn apply(&self, tx: &mut Tx, known: Vec<Row>, batch: &[Appended]) -> Result<Vec<Rows>, ProjectionError>;

    /// The batch that was applied last is durable. Not told where the answer of the database was lost.
    fn committed(&self) {}
}

#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error("an entry can't be folded: {0}")]
    Entry(String),
    /// What it says can't be any more; nothing is damaged.
    #[error("{0}")]
    Refused(String),
    #[error("an entry makes the program panic: see the log for where")]
    Panicked,
}
