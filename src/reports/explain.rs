//! Somebody says why a call that does not fit is no gap.

use super::class::{Class, Standing, classify};
use super::{ReportError, Source};
use crate::calls::records::ExplanationRecord;
use crate::clock::Clock;
use crate::intake::call_key;
use crate::journal::{Body, Kind, NewEntry};

/// The longest explanation, in characters.
pub const MOST_CHARS: usize = 2000;

/// What came of an explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explained {
    /// Journaled, with what the call was before.
    Journaled {
        seq: u64,
        was: Class,
    },
    /// There is nothing to explain: its class says why.
    NoGap(Class),
    /// An explanation has one to [`MOST_CHARS`] characters.
    NoReason,
    NoSuchCall,
}

/// Journals why a call is no gap.
///
/// # Errors
/// Database or journal.
pub async fn explain(
    source: &Source,
    clock: &Clock,
    call_id: &str,
    reason: &str,
    actor: &str,
) -> Result<Explained, ReportError> {
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > MOST_CHARS {
        return Ok(Explained::NoReason);
    }
    let Some(facts) = source.calls.facts(call_id).await? else { return Ok(Explained::NoSuchCall) };
    let verdict = classify(&facts, clock.now());
    if verdict.found.standing() != Standing::Gap {
        return Ok(Explained::NoGap(verdict.found));
    }
    let record = ExplanationRecord { call_id: facts.call_id.clone(), reason: reason.to_owned() };
    let body = Body::of_json(&record)?;
    let entry = NewEntry::new(Kind::GapExplained, actor, Some(call_key(&facts.call_id)), body);
    let receipts = source.journal.append(vec![entry]).await?;
    Ok(Explained::Journaled { seq: receipts.first().map_or(0, |receipt| receipt.seq), was: verdict.class })
}
