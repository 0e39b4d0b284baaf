//! A call as people and programs see it, read out of the facts. Pure.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::facts::{Facts, FlagFacts, RecordingFacts};
use super::stated::{Field, Value};
use crate::clock::from_micros;
use crate::intake::Status;

/// Where a recording stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    /// No conversation, so nothing to record.
    None,
    /// Expected, or on its way.
    Pending,
    Archived,
    /// The URL was refused, or the archive gave up.
    Failed,
    /// A conversation and no URL.
    Missing,
    Destroyed,
}

impl RecordingState {
    pub const ALL: [Self; 6] =
        [Self::None, Self::Pending, Self::Archived, Self::Failed, Self::Missing, Self::Destroyed];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pending => "pending",
            Self::Archived => "archived",
            Self::Failed => "failed",
            Self::Missing => "missing",
            Self::Destroyed => "destroyed",
        }
    }
}

/// The customer as the sender names it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Customer {
    pub id: Option<String>,
    pub name: Option<String>,
    pub number: Option<String>,
}

/// One recording of a call.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RecordingView {
    pub state: RecordingState,
    /// Lower-case hex.
    pub sha256: Option<String>,
    pub size_bytes: Option<u64>,
    pub media_type: Option<String>,
    /// Measured, not what the sender says.
    pub audio_seconds: Option<f64>,
    /// Average, in bit/s.
    pub bit_rate: Option<u32>,
    pub channels: Option<u8>,
    /// Share of silence, 0 to 1, once analysed.
    pub silent_share: Option<f64>,
    pub object_key: Option<String>,
    pub vcon_key: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub archived_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub retain_until: Option<Timestamp>,
    /// Id of the retention policy that gave the date.
    pub policy: Option<String>,
    /// Fetches so far.
    pub attempts: u64,
    pub last_error: Option<String>,
    /// Which of the call's URLs; not shown.
    #[serde(skip)]
    pub source: Option<String>,
    /// The store's version of the object; not shown.
    #[serde(skip)]
    pub version: Option<String>,
}

/// A flag on a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FlagView {
    pub rule: String,
    /// `open`, `in_review`, `cleared` or `escalated`; `resolved` once the reason is gone.
    pub state: String,
    pub reason: String,
    /// The latest review, where there was one since it was raised.
    pub review: Option<ReviewView>,
}

/// What somebody said of a flag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReviewView {
    /// As it stands in the journal, such as `token:asha`.
    pub reviewer: String,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    pub outcome: Option<String>,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Call {
    pub call_id: String,
    pub channel: String,
    pub direction: Option<String>,
    pub status: String,
    pub waba_number: Option<String>,
    pub chat_id: Option<String>,
    pub chat_message_id: Option<String>,
    pub device_id: Option<String>,
    pub customer: Customer,
    /// Numbers of an ordinary phone call, as sent.
    pub from: Option<String>,
    pub to: Option<String>,
    pub channel_number: Option<String>,
    /// Phone number or display name, as sent.
    pub agent: Option<String>,
    pub ended_by: Option<String>,
    pub rejected_by: Option<String>,
    pub failed_reason: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub first_seen_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// As the sender says it.
    pub duration_seconds: Option<u64>,
    pub recording: RecordingView,
    /// Further recordings of the same call, where the sender named more than one.
    pub recordings: Vec<RecordingView>,
    pub flags: Vec<FlagView>,
    /// Names of the legal holds on it.
    pub holds: Vec<String>,
    /// The last entry that it takes in; not shown.
    #[serde(skip)]
    pub last_seq: u64,
}

impl Facts {
    /// The call that these facts tell of. `attempts` and `last_error` of a pending recording are not facts: whoever
    /// shows them adds them.
    #[must_use]
    pub fn call(&self) -> Call {
        let mut recordings: Vec<RecordingView> = self.ranked_recordings().map(RecordingFacts::view).collect();
        // Two addresses may have led to the same bytes: that is one recording.
        let mut seen = std::collections::BTreeSet::new();
        recordings.retain(|view| view.sha256.as_ref().is_none_or(|sha256| seen.insert(sha256.clone())));
        let first =
            if recordings.is_empty() { RecordingView::bare(self.recording_state()) } else { recordings.remove(0) };
        Call {
            call_id: self.call_id.clone(),
            channel: self.text(Field::Channel).unwrap_or_else(|| "whatsapp".into()),
            direction: self.text(Field::Direction),
            status: self.status().as_str().to_owned(),
            waba_number: self.text(Field::WabaNumber),
            chat_id: self.text(Field::ChatId),
            chat_message_id: self.text(Field::ChatMessageId),
            device_id: self.text(Field::DeviceId),
            customer: Customer {
                id: self.text(Field::CustomerId),
                name: self.text(Field::CustomerName),
                number: self.text(Field::CustomerNumber),
            },
            from: self.text(Field::From),
            to: self.text(Field::To),
            channel_number: self.text(Field::ChannelNumber),
            agent: self.text(Field::Agent),
            ended_by: self.text(Field::EndedBy),
            rejected_by: self.text(Field::RejectedBy),
            failed_reason: self.text(Field::FailedReason),
            first_seen_at: from_micros(self.first_received),
            started_at: self.time(Field::StartedAt),
            ended_at: self.time(Field::EndedAt),
            duration_seconds: self.number(Field::Duration).map(i64::cast_unsigned),
            recording: first,
            recordings,
            flags: self.flags.iter().filter_map(|(rule, flag)| flag.view(rule)).collect(),
            holds: self.held_by().map(str::to_owned).collect(),
            last_seq: self.last_seq,
        }
    }

    /// The highest status that any event spoke for.
    #[must_use]
    pub fn status(&self) -> Status {
        self.statuses.last().copied().unwrap_or(Status::Initiated)
    }

    /// True once somebody spoke with somebody: answered, begun, of some length, or recorded.
    #[must_use]
    pub fn had_conversation(&self) -> bool {
        self.statuses.contains(&Status::InProgress)
            || self.fields.contains_key(&Field::StartedAt)
            || self.number(Field::Duration).is_some_and(|seconds| seconds > 0)
            || !self.recordings.is_empty()
    }

    /// Since when the call waits for its end, microseconds: the first receipt of its acceptance, else of anything. The
    /// sender's own dates don't count, it chooses them.
    #[must_use]
    pub fn open_since(&self) -> Option<i64> {
        (!self.status().is_final()).then(|| self.accepted_received.unwrap_or(self.first_received))
    }

    /// The state of the call's first recording.
    #[must_use]
    pub fn recording_state(&self) -> RecordingState {
        match self.ranked_recordings().next() {
            _ if self.is_gone() => RecordingState::Destroyed,
            Some(recording) => recording.state(),
            None if !self.had_conversation() => RecordingState::None,
            None if self.status().is_final() => RecordingState::Missing,
            None => RecordingState::Pending,
        }
    }

    /// The recordings, the one that stands for the call first: archived ones by their receipts, then those on their
    /// way, then the failed ones.
    pub fn ranked_recordings(&self) -> impl Iterator<Item = &RecordingFacts> {
        let mut all: Vec<&RecordingFacts> = self.recordings.values().collect();
        all.sort_by_key(|recording| match recording.state() {
            RecordingState::Archived => (0, recording.receipt.as_ref().map_or(0, |(seq, ..)| *seq)),
            RecordingState::Pending => (1, recording.first_seq),
            _ => (2, recording.first_seq),
        });
        all.into_iter()
    }

    /// The start, else the end, else the first receipt: what calls are sorted by.
    #[must_use]
    pub fn sort_at(&self) -> Timestamp {
        let stated = self.time(Field::StartedAt).or_else(|| self.time(Field::EndedAt));
        stated.unwrap_or_else(|| from_micros(self.first_received))
    }

    #[must_use]
    pub fn text(&self, field: Field) -> Option<String> {
        match self.fields.get(&field)?.greatest()? {
            Value::Text(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
        }
    }

    #[must_use]
    pub fn number(&self, field: Field) -> Option<i64> {
        match *self.fields.get(&field)?.greatest()? {
            Value::Number(number) => Some(number),
            Value::Text(_) => None,
        }
    }

    #[must_use]
    pub fn time(&self, field: Field) -> Option<Timestamp> {
        self.number(field).map(from_micros)
    }

    /// All texts that were stated for a field.
    pub fn texts(&self, field: Field) -> impl Iterator<Item = &str> {
        self.fields.get(&field).into_iter().flatten().filter_map(|stated| match &stated.value {
            Value::Text(text) => Some(text.as_str()),
            Value::Number(_) => None,
        })
    }

    /// All numbers that were stated for a field.
    pub fn numbers(&self, field: Field) -> impl Iterator<Item = i64> {
        self.fields.get(&field).into_iter().flatten().filter_map(|stated| match stated.value {
            Value::Number(number) => Some(number),
            Value::Text(_) => None,
        })
    }
}

impl RecordingFacts {
    /// Where this recording stands.
    #[must_use]
    pub fn state(&self) -> RecordingState {
        let failed = self.failure.as_ref().map(|(seq, _)| *seq);
        match (&self.receipt, failed) {
            _ if self.destroyed.is_some() => RecordingState::Destroyed,
            (Some(_), _) => RecordingState::Archived,
            (None, Some(failed)) if self.retried.is_none_or(|retried| retried < failed) => RecordingState::Failed,
            _ => RecordingState::Pending,
        }
    }

    /// The source name: the SHA-256 of the URL.
    #[must_use]
    pub fn source(&self) -> String {
        super::facts::source_of(&self.url)
    }

    /// Until when it is kept: as its receipt says, or for longer. `None` before it is archived.
    #[must_use]
    pub fn retain_until(&self) -> Option<Timestamp> {
        let (.., receipt) = self.receipt.as_ref()?;
        Some(
            self.extended
                .as_ref()
                .map_or(receipt.retain_until, |(_, later)| later.retain_until.max(receipt.retain_until)),
        )
    }

    /// Id and content hash of the policy by which it is kept.
    #[must_use]
    pub fn kept_by(&self) -> Option<(&str, &str)> {
        let (.., receipt) = self.receipt.as_ref()?;
        match &self.extended {
            Some((_, later)) if later.retain_until >= receipt.retain_until => {
                Some((&later.policy, &later.policy_sha256))
            }
            _ => Some((&receipt.policy, &receipt.policy_sha256)),
        }
    }

    fn view(&self) -> RecordingView {
        let mut view = RecordingView { source: Some(self.source()), ..RecordingView::bare(self.state()) };
        if let Some((_, failure)) = self.failure.as_ref().filter(|_| view.state == RecordingState::Failed) {
            view.attempts = failure.attempts;
            view.last_error = Some(failure.reason.clone());
        }
        if let Some((_, at, receipt)) = &self.receipt {
            view.sha256 = Some(receipt.sha256.clone());
            view.size_bytes = Some(receipt.size_bytes);
            view.media_type = Some(receipt.audio.media_type.clone());
            view.audio_seconds = Some((receipt.audio.seconds * 10.0).round() / 10.0);
            view.bit_rate = Some(receipt.audio.bit_rate);
            view.channels = Some(receipt.audio.channels);
            view.silent_share = self.analysis.as_ref().and_then(|(_, share)| *share);
            view.object_key = Some(receipt.object_key.clone());
            view.vcon_key = Some(receipt.vcon_key.clone());
            view.archived_at = Some(from_micros(*at));
            view.retain_until = self.retain_until();
            view.policy = self.kept_by().map(|(policy, _)| policy.to_owned());
            view.attempts = receipt.attempts;
            view.version = receipt.version.clone();
        }
        if let Some(gone) = &self.destroyed {
            view.sha256 = Some(gone.sha256.clone());
            view.size_bytes = Some(gone.size_bytes);
            view.retain_until = Some(gone.retain_until);
        }
        view
    }
}

impl RecordingView {
    fn bare(state: RecordingState) -> Self {
        Self {
            state,
            sha256: None,
            size_bytes: None,
            media_type: None,
            audio_seconds: None,
            bit_rate: None,
            channels: None,
            silent_share: None,
            object_key: None,
            vcon_key: None,
            archived_at: None,
            retain_until: None,
            policy: None,
            attempts: 0,
            last_error: None,
            source: None,
            version: None,
        }
    }
}

impl Facts {
    /// Why a flag of this rule can't be reviewed, in words; `None` where it can.
    #[must_use]
    pub fn not_reviewable(&self, rule: &str) -> Option<&'static str> {
        match self.flags.get(rule).map(FlagFacts::state) {
            Some("open" | "in_review") => None,
            Some("cleared") => Some("the flag is cleared already: nothing is left to review unless it is raised anew"),
            Some("escalated") => {
                Some("the flag is escalated already: nothing is left to review unless it is raised anew")
            }
            Some(_) => Some("the flag is resolved: its reason is gone, so there is nothing to review"),
            None => Some("the call has no such flag: only what was raised can be reviewed"),
        }
    }
}

impl FlagFacts {
    /// True while the latest word on it is that it was raised.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match (&self.raised, &self.resolved) {
            (Some((raised, _)), Some((resolved, _))) => raised > resolved,
            (raised, _) => raised.is_some(),
        }
    }

    /// The reason of the latest raising.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.raised.as_ref().map_or("", |(_, reason)| reason)
    }

    fn view(&self, rule: &str) -> Option<FlagView> {
        let said = if self.is_open() { &self.raised } else { &self.resolved };
        let (_, reason) = said.as_ref()?;
        let since = self.raised.as_ref().map(|(seq, _)| *seq);
        let review = self.reviewed.as_ref().filter(|(seq, _)| Some(*seq) > since).map(|(_, review)| ReviewView {
            reviewer: review.by.clone(),
            at: from_micros(review.at),
            outcome: review.outcome.clone(),
        });
        Some(FlagView { rule: rule.to_owned(), state: self.state().to_owned(), reason: reason.clone(), review })
    }

    /// `open`, `in_review`, `cleared` or `escalated`, and `resolved` once the reason is gone. Raised anew, it is open anew.
    #[must_use]
    pub fn state(&self) -> &'static str {
        let raised = self.raised.as_ref().map(|(seq, _)| *seq);
        match &self.reviewed {
            _ if !self.is_open() => "resolved",
            Some((seq, review)) if Some(*seq) > raised => review.state.as_str(),
            _ => "open",
        }
    }
}
