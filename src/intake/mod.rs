//! Takes a webhook in: reads it, journals it, and says so only once it is durable.
//!
//! The vendor adapter (`doubletick`) turns a body into an [`Event`]; it is a pure function of the body's bytes, so that
//! the journal alone gives the same events again. Who may post is decided before (`access`); what an event means for
//! a call is decided after (`calls`). Nothing is refused for its content: what can't be understood is journaled all
//! the same, as quarantined.

mod doubletick;
mod event;
mod form;
mod object;

use std::sync::Arc;

use jiff::Timestamp;

use crate::journal::{AppendError, Body, Journal, Kind, NewEntry, Receipt, Understood};

pub use doubletick::understand;
pub use event::{CallEvent, CallFields, Channel, Direction, Event, Quarantine, Status, call_key, is_call_subject};

/// The largest webhook body that is taken, in bytes.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// What the sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    pub seq: u64,
    /// Why the body lies in quarantine, if it does.
    pub quarantined: Option<&'static str>,
}

/// Journals a webhook as it was received.
///
/// # Errors
/// The queue is full or the database out of reach: then nothing was acknowledged and the sender should try again.
pub async fn receive(journal: &Journal, actor: &str, body: &[u8]) -> Result<Acknowledgement, AppendError> {
    let (entry, quarantined) = entry(Kind::WebhookReceived, actor, body, None);
    let receipts = journal.try_append(vec![entry]).await?;
    let Receipt { seq, quarantined: late } = receipts.into_iter().next().ok_or(AppendError::Stopped)?;
    let outcome = if quarantined.or(late).is_some() { "quarantined" } else { "accepted" };
    metrics::counter!("callvault_webhooks_total", "outcome" => outcome).increment(1);
    Ok(Acknowledgement { seq, quarantined: quarantined.or(late) })
}

/// The entry for a webhook's body, and why it is quarantined, if it is.
#[must_use]
pub fn entry(kind: Kind, actor: &str, body: &[u8], received_at: Option<Timestamp>) -> (NewEntry, Option<&'static str>) {
    let (kind, subject, reason, understood) = match understand(body) {
        Ok(event) => (kind, event.subject(), None, Some(Arc::new(event) as Understood)),
        Err(quarantine) => (Kind::WebhookQuarantined, None, Some(quarantine.code()), None),
    };
    let entry = NewEntry {
        kind,
        actor: actor.to_owned(),
        subject,
        body: Body::of_bytes(body),
        received_at,
        reason: reason.map(str::to_owned),
        understood,
    };
    (entry, reason)
}
