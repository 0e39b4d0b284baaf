//! The fold: all that a call's entries say, as sets and minima and maxima, so that order and repetition don't matter.
//!
//! No I/O, no clock, no SQL, no configuration.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::records::{
    AnalysisRecord, ArchiveReceipt, DestroyedRecord, DestroyedRecording, DestroyingRecord, DuplicateRecord,
    ExplanationRecord, ExtensionRecord, FailureRecord, FlagRecord, HoldRecord, Intent, RetryRecord, ReviewRecord,
    ReviewState,
};
use super::stated::{Field, Stated, Value, Values};
use crate::intake::{self, CallEvent, CallFields, Event, Status};
use crate::journal::{Entry, Kind, Record};

/// Why an entry could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    #[error("the body of a {0} entry can't be read: {1}")]
    Body(&'static str, serde_json::Error),
    #[error("the body of a {0} entry is no call event")]
    NotACall(&'static str),
    #[error("a {0} entry speaks of a recording that no event named")]
    UnknownRecording(&'static str),
    #[error("the body of journal entry {0} is missing")]
    Missing(u64),
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
    /// The latest date to which it was extended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended: Option<(u64, ExtensionRecord)>,
    /// It is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroyed: Option<DestroyedRecording>,
}

/// A flag's latest raising, resolving and review, each with its `seq`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlagFacts {
    pub raised: Option<(u64, String)>,
    pub resolved: Option<(u64, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewed: Option<(u64, Review)>,
}

/// What somebody said of a flag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    pub state: ReviewState,
    /// As it stands in the journal.
    pub by: String,
    /// Microseconds.
    pub at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// Why somebody says that a call is no gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub by: String,
    pub reason: String,
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
    /// Legal holds by name: the last entry that caught the call, and the last that let it go.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holds: BTreeMap<String, (Option<u64>, Option<u64>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explained: Option<(u64, Explanation)>,
    /// The disposition that is about to destroy it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroying: Option<String>,
    /// Then these facts are all that is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroyed: Option<Destroyed>,
}

/// How a call came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destroyed {
    pub disposition: String,
    /// Microseconds.
    pub at: i64,
    /// The policy whose time was over.
    pub policy: String,
    pub policy_sha256: String,
}

impl Facts {
    /// Folds all that the journal says of a call; `None` where it says nothing. Bodies that a destroyed call's last entry
    /// names are erased.
    ///
    /// # Errors
    /// A body is missing that should be there, or is not what its entry promises; with the entry.
    pub fn of_history<'a>(records: impl Iterator<Item = &'a Record> + Clone) -> Result<Option<Self>, (u64, FoldError)> {
        let of_call = records.filter(|record| record.entry.kind.concerns_call());
        let last = of_call.clone().find(|record| record.entry.kind == Kind::CallDestroyed);
        let end = match last.and_then(|record| Some((record, record.body.as_ref()?))) {
            None => None,
            Some((record, body)) => {
                let end = read::<DestroyedRecord>(&record.entry, &body.bytes);
                Some((record, end.map_err(|error| (record.entry.seq, error))?))
            }
        };
        let erased = |seq| end.as_ref().is_some_and(|(_, end)| end.erased.contains(&seq));
        let mut facts = end.as_ref().map(|(record, end)| Self::tombstone(&record.entry, end));
        for record in of_call {
            let seq = record.entry.seq;
            facts = match (&record.body, facts) {
                (Some(body), facts) => {
                    Some(Self::fold(facts, &record.entry, &body.bytes).map_err(|error| (seq, error))?)
                }
                (None, Some(mut facts)) if record.entry.is_ignored() || erased(seq) => {
                    facts.touch(&record.entry);
                    Some(facts)
                }
                (None, _) => return Err((seq, FoldError::Missing(seq))),
            };
        }
        Ok(facts)
    }

    /// All that stays of a call that was destroyed.
    fn tombstone(entry: &Entry, end: &DestroyedRecord) -> Self {
        let recording = |gone: &DestroyedRecording| {
            let facts = RecordingFacts {
                received: gone.received.as_microsecond(),
                first_seq: entry.seq,
                destroyed: Some(gone.clone()),
                ..RecordingFacts::default()
            };
            (gone.source.clone(), facts)
        };
        let mut facts = Self {
            call_id: end.call_id.clone(),
            first_seq: entry.seq,
            last_seq: entry.seq,
            first_received: end.first_received.as_microsecond(),
            statuses: end.statuses.iter().copied().collect(),
            recordings: end.recordings.iter().map(recording).collect(),
            destroyed: Some(Destroyed {
                disposition: end.disposition.clone(),
                at: entry.at.as_microsecond(),
                policy: end.policy.clone(),
                policy_sha256: end.policy_sha256.clone(),
            }),
            ..Self::default()
        };
        let times = [(Field::StartedAt, end.started_at), (Field::EndedAt, end.ended_at)];
        for (field, time) in times.into_iter().filter_map(|(field, time)| Some((field, time?))) {
            facts.fields.entry(field).or_default().insert(Stated::number(0, time.as_microsecond()));
        }
        facts
    }

    /// The journal's time of the entry from which the call's receipt is taken.
    #[must_use]
    pub fn journaled(&self, history: &[Record]) -> Option<Timestamp> {
        let received = self.final_received.unwrap_or(self.first_received);
        let mut entries = history.iter().map(|record| &record.entry);
        entries.find(|entry| entry.received().as_microsecond() == received).map(|entry| entry.at)
    }

    /// The holds that it is under.
    pub fn held_by(&self) -> impl Iterator<Item = &str> {
        self.holds.iter().filter(|(_, (caught, lifted))| caught > lifted).map(|(name, _)| name.as_str())
    }

    /// True once nothing more may be kept of it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.destroying.is_some() || self.destroyed.is_some()
    }

    /// Takes one entry in; `facts` is `None` for the first entry of a call.
    ///
    /// # Errors
    /// The body is not what the entry's kind promises. The facts are then as they were.
    pub fn fold(facts: Option<Self>, entry: &Entry, body: &[u8]) -> Result<Self, FoldError> {
        match (entry.kind, facts) {
            (_, Some(mut facts)) if facts.destroyed.is_some() => {
                facts.touch(entry);
                Ok(facts)
            }
            (Kind::WebhookReceived | Kind::WebhookImported, facts) => {
                Self::fold_event(facts, entry, intake::understand(body).ok().as_ref())
            }
            // What is destroyed stays so, also where nobody had heard of it.
            (Kind::CallDestroyed, None) => Ok(Self::tombstone(entry, &read(entry, body)?)),
            (_, facts) => {
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
        let mut facts = facts;
        if let Some(facts) = facts.take_if(|facts| facts.destroyed.is_some() || entry.is_ignored()) {
            return Ok(facts.touched(entry));
        }
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

    fn touched(mut self, entry: &Entry) -> Self {
        self.touch(entry);
        self
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
            Kind::RetentionExtended => {
                let extension: ExtensionRecord = read(entry, body)?;
                let slot = &mut self.recording(entry, &extension.source)?.extended;
                let later =
                    |(known, was): &(u64, ExtensionRecord)| (was.retain_until, *known) < (extension.retain_until, seq);
                if slot.as_ref().is_none_or(later) {
                    *slot = Some((seq, extension));
                }
            }
            Kind::HoldCaught | Kind::HoldLifted => {
                let record: HoldRecord = read(entry, body)?;
                let (caught, lifted) = self.holds.entry(record.hold).or_default();
                let slot = if entry.kind == Kind::HoldCaught { caught } else { lifted };
                *slot = (*slot).max(Some(seq));
            }
            Kind::GapExplained => {
                let explanation: ExplanationRecord = read(entry, body)?;
                let explanation = Explanation { by: entry.actor.clone(), reason: explanation.reason };
                keep_latest(&mut self.explained, (seq, explanation), |(seq, _)| *seq);
            }
            Kind::CallDestroying => self.destroying = Some(read::<DestroyingRecord>(entry, body)?.disposition),
            Kind::CallDestroyed => {
                let (first, last) = (self.first_seq, self.last_seq);
                *self = Self::tombstone(entry, &read(entry, body)?);
                (self.first_seq, self.last_seq) = (first.min(seq), last.max(seq));
            }
            Kind::FlagReviewed => {
                let said: ReviewRecord = read(entry, body)?;
                let at = entry.at.as_microsecond();
                let review = Review { state: said.state, by: entry.actor.clone(), at, outcome: said.outcome };
                let slot = &mut self.flags.entry(said.rule).or_default().reviewed;
                keep_latest(slot, (seq, review), |(seq, _)| *seq);
            }
            Kind::FlagRaised | Kind::FlagResolved => {
                let flag: FlagRecord = read(entry, body)?;
                let facts = self.flags.entry(flag.rule).or_default();
                let slot = if entry.kind == Kind::FlagRaised { &mut facts.raised } else { &mut facts.resolved };
                keep_latest(slot, (seq, flag.reason), |(seq, _)| *seq);
            }
            // Webhooks are read elsewhere; nothing else has a call as its subject.
            _ => {}
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
