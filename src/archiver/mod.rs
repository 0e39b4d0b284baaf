//! Brings recordings from the sender into the store, and says in the journal what became of each.
//!
//! `worker` claims what is due; `fetch` streams it into the spool under the `rules` for addresses; `finish` journals
//! the intent, stores recording and call record, and journals the receipt. Start-up and steady state take the same
//! path: a recording that was interrupted anywhere is claimed again and finished. `analyse` decodes in the background
//! what is archived. It decides nothing about calls and reads no webhook.

mod analyse;
mod failure;
mod fetch;
mod finish;
mod gate;
mod places;
mod resolve;
mod retry;
mod rules;
mod second_look;
mod settle;
mod spool;
mod vcon;
mod work;
mod worker;

use std::sync::Arc;

pub use analyse::Analyser;
pub use gate::Gate;
pub use places::Rush;
pub use retry::{RetryOutcome, retry, retry_all_failed};
pub use second_look::SecondLook;
pub use spool::Spool;
pub use work::{impossible_work, queue_flaws};
pub use worker::{Worker, lease};

use crate::calls::Calls;
use crate::clock::Clock;
use crate::config::Recordings;
use crate::db::{Db, Error as DbError};
use crate::health::Health;
use crate::journal::{AppendError, Journal};
use crate::objects::{ObjectStore, StoreError};
use crate::retention::Policies;

/// Everything that archiving works with.
pub struct Archive {
    pub db: Db,
    pub journal: Journal,
    pub calls: Calls,
    pub store: Arc<dyn ObjectStore>,
    pub gate: Gate,
    pub spool: Spool,
    pub policies: Policies,
    pub clock: Clock,
    pub settings: Recordings,
    pub health: Health,
    /// Under which address this archive is reached, without a slash at its end.
    pub public_url: String,
}

/// What keeps an archived recording from being finished on our own side; tried again until it works.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store is away: the recording waits in the spool")]
    StoreAway,
    #[error("the spool could not be used: {0}")]
    Spool(#[from] std::io::Error),
    #[error("a record has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
}
