//! The archive at a moment: what the first so many entries of the journal say, and nothing that came later.

use std::sync::Arc;

use jiff::Timestamp;

use super::ReportError;
use crate::calls::{Calls, Facts};
use crate::clock::Clock;
use crate::intake::call_key;
use crate::journal::{Entry, Journal, Kind, Record};

/// Calls that are read at once.
const STEP: u64 = 500;

/// A moment, and how long the journal was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub as_of: Timestamp,
    /// Entries that count.
    pub size: u64,
}

/// Where reports read.
#[derive(Clone)]
pub struct Source {
    pub journal: Journal,
    pub calls: Calls,
}

/// Calls in the order of their first entries, as they were at a moment.
pub(super) struct Then {
    pub facts: Vec<Arc<Facts>>,
    /// Keys of calls that do not read back.
    pub unreadable: Vec<String>,
    /// The number after which to go on; `None` at the end.
    pub next: Option<i64>,
}

impl Moment {
    /// Now.
    ///
    /// # Errors
    /// The database.
    pub async fn now(source: &Source, clock: &Clock) -> Result<Self, ReportError> {
        Ok(Self { as_of: clock.now(), size: source.journal.size().await? })
    }

    /// A moment of the past.
    ///
    /// # Errors
    /// The database.
    pub async fn at(source: &Source, as_of: Timestamp) -> Result<Self, ReportError> {
        Ok(Self { as_of, size: source.journal.size_at(as_of).await? })
    }

    /// The next calls after a number whose first entries have numbers below `below`.
    pub(super) async fn calls(&self, source: &Source, after: i64, below: u64) -> Result<Then, ReportError> {
        let below = below.min(self.size);
        let stretch = source.calls.facts_after(after, STEP).await?;
        let mut then = Then { facts: Vec::new(), unreadable: Vec::new(), next: None };
        for facts in stretch.readable.facts.iter().filter(|facts| facts.first_seq < below) {
            then.facts.extend(self.then(&source.journal, facts).await?);
        }
        then.unreadable = stretch.readable.skipped;
        then.next = stretch.last.filter(|last| last.cast_unsigned() < below);
        Ok(then)
    }

    /// A call as it was; `None` where nobody had heard of it.
    pub(super) async fn then(&self, journal: &Journal, facts: &Arc<Facts>) -> Result<Option<Arc<Facts>>, ReportError> {
        if facts.last_seq < self.size {
            return Ok(Some(Arc::clone(facts)));
        }
        let Some(last) = self.size.checked_sub(1) else { return Ok(None) };
        let history = journal.about(&call_key(&facts.call_id), last).await?;
        let ended = history.iter().any(|record| record.entry.kind == Kind::CallDestroyed);
        let folded = if facts.destroyed.is_some() && !ended {
            before_its_end(facts, &history)
        } else {
            Facts::of_history(history.iter())
        };
        let damaged = |(seq, error)| ReportError::Damaged { seq, why: format!("{error}") };
        Ok(folded.map_err(damaged)?.map(Arc::new))
    }
}

/// A call that was destroyed later: its webhooks are erased, but its tombstone says what it was, and what the archive itself
/// journaled of it is still there.
fn before_its_end(tombstone: &Facts, history: &[Record]) -> Result<Option<Facts>, (u64, crate::calls::FoldError)> {
    let entries = history.iter().map(|record| &record.entry).filter(|entry| entry.kind.concerns_call());
    let Some(first) = entries.clone().next() else { return Ok(None) };
    let heard: Vec<&Entry> = entries.filter(|entry| is_webhook(entry)).collect();
    let mut facts = Facts { first_seq: first.seq, destroyed: None, destroying: None, ..tombstone.clone() };
    facts.imported = heard.iter().all(|entry| entry.kind == Kind::WebhookImported);
    facts.last_seq = history.last().map_or(first.seq, |record| record.entry.seq);
    for recording in facts.recordings.values_mut() {
        recording.destroyed = None;
    }
    // Of the webhooks nobody knows any more which said that it was over; the last one that was heard by then may have.
    if facts.status().is_final() && !heard.is_empty() {
        facts.final_received = heard.last().map(|entry| entry.received().as_microsecond());
    }
    for record in history.iter().filter(|record| !is_webhook(&record.entry)) {
        if let Some(body) = &record.body {
            facts = Facts::fold(Some(facts), &record.entry, &body.bytes).map_err(|error| (record.entry.seq, error))?;
        }
    }
    Ok(Some(facts))
}

fn is_webhook(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::WebhookReceived | Kind::WebhookImported)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::custody::KeptRow;
    use crate::journal::Body;
    use crate::retention::{Dates, PolicySet};

    fn record(seq: u64, kind: Kind, body: Option<&Value>) -> Record {
        let body = body.map(|body| Body::of_json(body).unwrap());
        let entry = Entry {
            seq,
            at: Timestamp::from_second(1_773_000_000 + seq.cast_signed()).unwrap(),
            received_at: None,
            kind,
            actor: "token:t".into(),
            subject: Some("call_1".into()),
            body: [0; 32],
            reason: None,
        };
        Record { leaf: Entry::leaf(&entry.canonical()), entry, body }
    }

    #[test]
    fn what_was_kept_of_a_call_is_known_after_it_is_destroyed() {
        let url = "https://recordings.doubletick.io/1.mp3";
        let source = hex::encode(Sha256::digest(url));
        let end = json!({"event": "CALL_ENDED", "callId": "call_1", "callStatus": "END", "recordingUrl": url,
            "callStartedAt": "2026-03-08T19:50:00Z", "callEndedAt": "2026-03-08T20:00:00Z", "durationInSeconds": 600});
        let audio = json!({"media_type": "audio/mpeg", "seconds": 600.0, "bit_rate": 1, "channels": 1, "sample_rate": 1,
            "complete": true});
        let receipt = json!({"call_id": "call_1", "source": source, "object_key": "k", "sha256": "s", "size_bytes": 4711,
            "audio": audio, "retain_until": "2031-03-08T20:00:00Z", "policy": "default", "policy_sha256": "p",
            "vcon_key": "v", "vcon_sha256": "h", "attempts": 1});
        let before = [record(0, Kind::WebhookReceived, Some(&end)), record(1, Kind::RecordingArchived, Some(&receipt))];
        let facts = Facts::of_history(before.iter()).unwrap().unwrap();
        let gone = json!({"source": source, "received": before[1].entry.at, "retain_until": "2031-03-08T20:00:00Z",
            "size_bytes": 4711, "sha256": "s", "objects": []});
        let destroyed = json!({"call_id": "call_1", "disposition": "d", "policy": "default", "policy_sha256": "p",
            "first_received": before[0].entry.at, "started_at": "2026-03-08T19:50:00Z", "ended_at": "2026-03-08T20:00:00Z",
            "statuses": ["ended"], "recordings": [gone], "erased": [0]});
        let last = record(2, Kind::CallDestroyed, Some(&destroyed));
        let after = [record(0, Kind::WebhookReceived, None), before[1].clone(), last];
        let tombstone = Facts::of_history(after.iter()).unwrap().unwrap();
        let then = before_its_end(&tombstone, &after[..2]).unwrap().unwrap();
        let rows = |facts: &Facts| {
            let mut rows = KeptRow::all_of(facts, &PolicySet::built_in(), &Dates::of(facts, None)).unwrap();
            rows.iter_mut().for_each(|row| row.traits = "{}".into());
            rows
        };
        assert_eq!(rows(&then), rows(&facts));
        assert_eq!(before_its_end(&tombstone, &[]).unwrap(), None, "nobody had heard of it");
        assert_ne!(rows(&tombstone), rows(&facts), "and it was not destroyed then");
    }
}
