//! The fold: all that a call's entries say, as sets and minima and maxima, so that order and repetition don't matter.
//!
//! No I/O, no clock, no SQL, no configuration.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::records::{AnalysisRecord, ArchiveReceipt, DuplicateRecord, FailureRecord, FlagRecord, Intent, RetryRecord};
use super::stated::{Field, Stated, Value, Values};
use crate::intake::{self, CallEvent, CallFields, Event, Status};
use crate::journal::{Entry, Kind};

/// Why an entry could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error("the body of a {0} entry can't be read: {1}")]
    Body(&'static str, serde_json::Error),
    #[error("the body of a {0} entry is no call event")]
    NotACall(&'static str),
    #[error("a {0} entry speaks of a recording that no event named")]
    UnknownRecording(&'static str),
}

/// What is known of one recording URL of a call. Of each kind of entry the one that counts is kept by its `seq`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordingFacts {
    pub url: String,
    /// When it was first received, microseconds.
    pub received: i64,
    pub first_seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<(u64, Intent)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<(u64, i64, ArchiveReceipt)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<(u64, FailureRecord)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried: Option<u64>,
    /// Entry of the analysis, its measured length and share of silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<(u64, Option<f64>)>,
}

/// A flag's latest raising and resolving, each with its `seq`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlagFacts {
    pub raised: Option<(u64, String)>,
    pub resolved: Option<(u64, String)>,
}

/// Everything that is known of one call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub call_id: String,
    pub first_seq: u64,
    pub last_seq: u64,
    /// First receipt of anything, microseconds.
    pub first_received: i64,
    /// First receipt of the acceptance, microseconds.
    pub accepted_received: Option<i64>,
    /// First receipt of a final event, microseconds.
    pub final_received: Option<i64>,
    /// True while all that is known came by import.
    pub imported: bool,
    /// Those that events spoke for; empty means that the call was only mentioned.
    pub statuses: BTreeSet<Status>,
    pub fields: BTreeMap<Field, Values>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unreadable: BTreeSet<String>,
    /// By source, the SHA-256 of the URL.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub recordings: BTreeMap<String, RecordingFacts>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub flags: BTreeMap<String, FlagFacts>,
    /// Further versions of what is kept, each a key and a version.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub duplicates: BTreeSet<(String, String)>,
}

impl Facts {
    /// Takes one entry in; `facts` is `None` for the first entry of a call.
    ///
    /// # Errors
    /// The body is not what the entry's kind promises. The facts are then as they were.
    pub fn fold(facts: Option<Self>, entry: &Entry, body: &[u8]) -> Result<Self, FoldError> {
        match entry.kind {
            Kind::WebhookReceived | Kind::WebhookImported => {
                Self::fold_event(facts, entry, intake::understand(body).ok().as_ref())
            }
            _ => {
                let mut facts = facts.ok_or(FoldError::UnknownRecording(entry.kind.as_str()))?;
                facts.take_record(entry, body)?;
                facts.touch(entry);
                Ok(facts)
            }
        }
    }

    /// Takes a webhook in whose body was read already.
    ///
    /// # Errors
    /// As [`Facts::fold`].
    pub fn fold_event(facts: Option<Self>, entry: &Entry, event: Option<&Event>) -> Result<Self, FoldError> {
        let Some(Event::Call(event)) = event else { return Err(FoldError::NotACall(entry.kind.as_str())) };
        let mut facts = facts.unwrap_or_else(|| Self::first(&event.call_id, entry));
        facts.touch(entry);
        facts.take_event(event, entry);
        Ok(facts)
    }

    fn first(call_id: &str, entry: &Entry) -> Self {
        Self {
            call_id: call_id.to_owned(),
            first_seq: entry.seq,
            first_received: entry.received().as_microsecond(),
            imported: true,
            ..Self::default()
        }
    }

    fn touch(&mut self, entry: &Entry) {
        self.first_seq = self.first_seq.min(entry.seq);
        self.last_seq = self.last_seq.max(entry.seq);
    }

    fn take_event(&mut self, event: &CallEvent, entry: &Entry) {
        let received = entry.received().as_microsecond();
        self.first_received = self.first_received.min(received);
        self.imported &= entry.kind == Kind::WebhookImported;
        self.statuses.extend(&event.statuses);
        if event.accepted {
            self.accepted_received = earliest(self.accepted_received, received);
        }
        if event.statuses.iter().any(|status| status.is_final()) {
            self.final_received = earliest(self.final_received, received);
        }
        self.unreadable.extend(event.unreadable.iter().map(|name| (*name).to_owned()));
        self.take_fields(&event.fields, rank(&event.statuses));
        if let Some(url) = &event.fields.recording_url {
            let recording = self.recordings.entry(source_of(url)).or_insert_with(|| RecordingFacts {
                url: url.clone(),
                received,
                first_seq: entry.seq,
                ..RecordingFacts::default()
            });
            recording.received = recording.received.min(received);
            recording.first_seq = recording.first_seq.min(entry.seq);
        }
    }

    fn take_fields(&mut self, fields: &CallFields, rank: u8) {
        let text = |value: &Option<String>| value.clone().map(Value::Text);
        let time = |value: Option<jiff::Timestamp>| value.map(|t| Value::Number(t.as_microsecond()));
        let stated = [
            (Field::Channel, fields.channel.map(|c| Value::Text(c.as_str().into()))),
            (Field::Direction, fields.direction.map(|d| Value::Text(d.as_str().into()))),
            (Field::WabaNumber, text(&fields.waba_number)),
            (Field::ChatId, text(&fields.chat_id)),
            (Field::ChatMessageId, text(&fields.chat_message_id)),
            (Field::DeviceId, text(&fields.device_id)),
            (Field::CustomerId, text(&fields.customer_id)),
            (Field::CustomerName, text(&fields.customer_name)),
            (Field::CustomerNumber, text(&fields.customer_number)),
            (Field::From, text(&fields.from)),
            (Field::To, text(&fields.to)),
            (Field::ChannelNumber, text(&fields.channel_number)),
            (Field::Agent, text(&fields.agent)),
            (Field::EndedBy, text(&fields.ended_by)),
            (Field::RejectedBy, text(&fields.rejected_by)),
            (Field::FailedReason, text(&fields.failed_reason)),
            (Field::StartedAt, time(fields.started_at)),
            (Field::EndedAt, time(fields.ended_at)),
            (Field::Duration, fields.duration_seconds.map(|s| Value::Number(s.cast_signed()))),
        ];
        for (field, value) in stated {
            let Some(value) = value else { continue };
            self.fields.entry(field).or_default().insert(Stated { rank, value });
        }
    }

    fn take_record(&mut self, entry: &Entry, body: &[u8]) -> Result<(), FoldError> {
        let seq = entry.seq;
        match entry.kind {
            Kind::RecordingIntended => {
                let intent: Intent = read(entry, body)?;
                let recording = self.recording(entry, &intent.source)?;
                keep_latest(&mut recording.intent, (seq, intent), |(seq, _)| *seq);
            }
            Kind::RecordingArchived => {
                let receipt: ArchiveReceipt = read(entry, body)?;
                let recording = self.recording(entry, &receipt.source)?;
                let at = entry.at.as_microsecond();
                // The first receipt stands: a repeated run only finds what is already there.
                if recording.receipt.as_ref().is_none_or(|(known, ..)| seq < *known) {
                    recording.receipt = Some((seq, at, receipt));
                }
            }
            Kind::RecordingFailed => {
                let failure: FailureRecord = read(entry, body)?;
                let recording = self.recording(entry, &failure.source)?;
                keep_latest(&mut recording.failure, (seq, failure), |(seq, _)| *seq);
            }
            Kind::RecordingRetried => {
                let retry: RetryRecord = read(entry, body)?;
                keep_latest(&mut self.recording(entry, &retry.source)?.retried, seq, |seq| *seq);
            }
            Kind::RecordingAnalysed => {
                let analysis: AnalysisRecord = read(entry, body)?;
                let recording = self.recording(entry, &analysis.source)?;
                keep_latest(&mut recording.analysis, (seq, analysis.silent_share), |(seq, _)| *seq);
            }
            Kind::RecordingDuplicated => {
                let duplicate: DuplicateRecord = read(entry, body)?;
                self.duplicates.insert((duplicate.object_key, duplicate.version));
            }
            Kind::FlagRaised | Kind::FlagResolved => {
                let flag: FlagRecord = read(entry, body)?;
                let facts = self.flags.entry(flag.rule).or_default();
                let slot = if entry.kind == Kind::FlagRaised { &mut facts.raised } else { &mut facts.resolved };
                keep_latest(slot, (seq, flag.reason), |(seq, _)| *seq);
            }
            Kind::WebhookReceived
            | Kind::WebhookImported
            | Kind::WebhookQuarantined
            | Kind::TokenCreated
            | Kind::TokenRevoked
            | Kind::IndexRebuildRequested => {}
        }
        Ok(())
    }

    fn recording(&mut self, entry: &Entry, source: &str) -> Result<&mut RecordingFacts, FoldError> {
        self.recordings.get_mut(source).ok_or(FoldError::UnknownRecording(entry.kind.as_str()))
    }
}

/// How the archive names a recording URL: by its SHA-256, since the URL itself may hold a signature.
pub(super) fn source_of(url: &str) -> String {
    hex::encode(Sha256::digest(url))
}

/// An event that says how the call ended outweighs one from its beginning.
fn rank(statuses: &[Status]) -> u8 {
    match statuses.iter().max() {
        None => 0,
        Some(Status::Initiated) => 1,
        Some(Status::InProgress) => 2,
        Some(Status::Missed | Status::Rejected | Status::Failed) => 3,
        Some(Status::Ended) => 4,
    }
}

fn earliest(known: Option<i64>, new: i64) -> Option<i64> {
    Some(known.map_or(new, |known| known.min(new)))
}

fn keep_latest<T>(slot: &mut Option<T>, new: T, seq: impl Fn(&T) -> u64) {
    if slot.as_ref().is_none_or(|known| seq(known) <= seq(&new)) {
        *slot = Some(new);
    }
}

fn read<T: serde::de::DeserializeOwned>(entry: &Entry, body: &[u8]) -> Result<T, FoldError> {
    serde_json::from_slice(body).map_err(|error| FoldError::Body(entry.kind.as_str(), error))
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
