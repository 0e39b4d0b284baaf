//! Keeps what is kept for as long as it is to be kept, and no longer: follows the journal, moves locks to later dates, sets
//! and lifts legal holds, and carries out what was decided about the end.
//!
//! Which policy asks for what is said in `retention`, which is pure. Nothing here shortens anything; only an executed
//! disposition destroys.

mod adopt;
mod disposition;
mod holds;
mod keeper;
mod kept;
mod locks;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use adopt::{Difference, Moved, NAMED};
pub use disposition::{
    Certificate, Decided, Disposition, DispositionProjection, DispositionState, Executed, Executing, Item, Progress,
    Proposal, Skipped, Terms, certificate_page,
};
pub use holds::{Hold, HoldProjection, HoldQuery, HoldState, NewHold};
pub use kept::{Judgeable, KeptRow, What};

use crate::calls::Calls;
use crate::clock::Clock;
use crate::db::{Db, Error as DbError};
use crate::health::Health;
use crate::journal::{AppendError, Journal};
use crate::objects::{ObjectStore, StoreError};
use crate::retention::{Policies, PolicySet};
use crate::search::{Error as SearchError, QueryError};

/// Everything that custody works with.
pub struct Custody {
    pub db: Db,
    pub journal: Journal,
    pub calls: Calls,
    pub store: Arc<dyn ObjectStore>,
    pub policies: Policies,
    pub clock: Clock,
    pub health: Health,
    /// Where recordings wait on this node.
    pub spool: PathBuf,
    pub terms: Terms,
    refused: Mutex<locks::Refused>,
    /// The configuration's set, where it is not in force yet.
    wanted: Mutex<Option<PolicySet>>,
}

impl Custody {
    #[must_use]
    pub fn new(
        (db, journal, calls): (Db, Journal, Calls),
        (store, policies): (Arc<dyn ObjectStore>, Policies),
        (clock, health): (Clock, Health),
        (spool, terms): (PathBuf, Terms),
    ) -> Self {
        let (refused, wanted) = (Mutex::default(), Mutex::default());
        Self { db, journal, calls, store, policies, clock, health, spool, terms, refused, wanted }
    }

    fn refused(&self) -> MutexGuard<'_, locks::Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Search(#[from] SearchError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("a record has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
    #[error("a row was there, and is not any more")]
    Vanished,
    #[error(
        "{} recordings or calls would be kept for less: nothing was changed (callvault retention policies diff names them)",
        .0.shorter
    )]
    Shortens(Box<Difference>),
    /// What was asked for makes no sense as things are; says what to do.
    #[error("{0}")]
    Refused(String),
    #[error("there is no {0}")]
    Unknown(String),
}
