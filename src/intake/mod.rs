//! Takes a webhook in: reads it, journals it, and says so only once it is durable.
//!
//! The vendor adapter (`doubletick`) turns a body into an [`Event`]; it is a pure function of the body's bytes, so that
//! the journal alone gives the same events again. Who may post is decided before (`access`); what an event means for
//! a call is decided after (`calls`). Nothing is refused for its content: what can't be understood is journaled all
//! the same, as quarantined. While a database that is another machine's is away, webhooks wait in the `spool`.

mod doubletick;
mod event;
mod form;
mod object;
mod spool;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Clock;
use crate::fault;
use crate::journal::{AppendError, Body, Journal, Kind, NewEntry, Receipt, Understood};

pub use doubletick::understand;
pub use event::{CallEvent, CallFields, Channel, Direction, Event, Quarantine, Status, call_key, is_call_subject};
pub use spool::{Drain, SpoolError, WebhookSpool};

/// The largest webhook body that is taken, in bytes.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// How long a webhook waits for a database that others share before it is put by: longer than a busy one takes, and so
/// short that no sender gives up.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the sender is told, once it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    Journaled {
        seq: u64,
        /// Why the body lies in quarantine, if it does.
        quarantined: Option<&'static str>,
        /// Why the body was not kept, if it was not.
        ignored: Option<&'static str>,
    },
    /// On this node's disk, until the database is back.
    Spooled,
}

/// Why a webhook was not taken: nothing was acknowledged and the sender should try again.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// The door for webhooks; cheap to clone.
#[derive(Clone)]
pub struct Intake {
    pub journal: Journal,
    pub clock: Clock,
    /// Where the database is another machine's. One on the disk of the spool is away only when the spool is too.
    pub spool: Option<WebhookSpool>,
}

impl Intake {
    /// Journals a webhook as it was received, or puts it by while the database is away.
    ///
    /// # Errors
    /// Queue or spool are full, or the database is out of reach where there is no spool.
    pub async fn receive(&self, actor: &str, body: &[u8]) -> Result<Acknowledgement, IntakeError> {
        let (entry, quarantined) = entry(Kind::WebhookReceived, actor, body, None);
        let Some(spool) = &self.spool else {
            return acknowledged(self.journal.try_append(vec![entry]).await?, quarantined);
        };
        let received_at = self.clock.now();
        if spool.is_in_use() {
            return told(spool.take(actor, &entry.body, received_at, None).await?, quarantined);
        }
        let size = *self.journal.watch().borrow();
        let appended = tokio::time::timeout(fault::patience(PATIENCE), self.journal.try_append(vec![entry.clone()]));
        let tried_since = match appended.await {
            Ok(Ok(receipts)) => return acknowledged(receipts, quarantined),
            Ok(Err(AppendError::Unavailable(error))) if error.is_outage() => Some(size),
            Ok(Err(AppendError::QueueFull)) => None,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => Some(size),
        };
        told(spool.take(actor, &entry.body, received_at, tried_since).await?, quarantined)
    }

    /// Whether a webhook could be made durable on this node while the database is away.
    #[must_use]
    pub fn can_wait(&self) -> bool {
        self.spool.as_ref().is_some_and(WebhookSpool::has_room)
    }
}

/// What came of a webhook that was to wait.
fn told(receipt: Option<Receipt>, quarantined: Option<&'static str>) -> Result<Acknowledgement, IntakeError> {
    match receipt {
        Some(receipt) => acknowledged(vec![receipt], quarantined),
        None => Ok(Acknowledgement::Spooled),
    }
}

fn acknowledged(receipts: Vec<Receipt>, quarantined: Option<&'static str>) -> Result<Acknowledgement, IntakeError> {
    let Receipt { seq, quarantined: late, ignored } = receipts.into_iter().next().ok_or(AppendError::Stopped)?;
    let outcome = match (quarantined.or(late), ignored) {
        (Some(_), _) => "quarantined",
        (None, Some(_)) => "ignored",
        (None, None) => "accepted",
    };
    metrics::counter!("callvault_webhooks_total", "outcome" => outcome).increment(1);
    Ok(Acknowledgement::Journaled { seq, quarantined: quarantined.or(late), ignored })
}

/// The entry for a webhook's body, and why it is quarantined, if it is.
#[must_use]
pub fn entry(kind: Kind, actor: &str, body: &[u8], received_at: Option<Timestamp>) -> (NewEntry, Option<&'static str>) {
    let (kind, subject, reason, understood) = match understand(body) {
        Ok(event) => (kind, event.subject(), None, Some(Arc::new(event) as Understood)),
        Err(quarantine) => (Kind::WebhookQuarantined, None, Some(quarantine.code()), None),
    };
    let entry = NewEntry {
        received_at,
        reason: reason.map(str::to_owned),
        understood,
        ..NewEntry::new(kind, actor, subject, Body::of_bytes(body))
    };
    (entry, reason)
}
