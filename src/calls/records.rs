//! The bodies of the entries that the archive writes about calls: canonical JSON, part of the journal's format.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What was found out about the audio while it streamed by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AudioRecord {
    pub media_type: String,
    /// Measured length in seconds.
    pub seconds: f64,
    /// Average, in bit/s.
    pub bit_rate: u32,
    pub channels: u8,
    /// In Hz.
    pub sample_rate: u32,
    /// False where the file ends in the middle of a frame.
    pub complete: bool,
}

/// `recording.intended`: what will be stored, where and until when. The call record is a pure function of this and of
/// the entries up to `last_seq`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    pub call_id: String,
    /// Which of the call's recording URLs: the SHA-256 of the URL.
    pub source: String,
    pub object_key: String,
    pub sha256: String,
    pub sha512: String,
    pub size_bytes: u64,
    pub audio: AudioRecord,
    pub retain_until: Timestamp,
    /// Id and content hash of the retention policy that gave the date.
    pub policy: String,
    pub policy_sha256: String,
    pub vcon_key: String,
    pub vcon_uuid: uuid::Uuid,
    pub vcon_created_at: Timestamp,
    /// Where the recording can be had from this archive, for the call record.
    pub url: String,
    /// The last entry that the call record takes in.
    pub last_seq: u64,
}

/// `recording.archived`: the receipt. Everything is in the store under its lock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArchiveReceipt {
    pub call_id: String,
    pub source: String,
    pub object_key: String,
    /// The store's version of the object; absent where a store has no versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub sha256: String,
    pub size_bytes: u64,
    pub audio: AudioRecord,
    pub retain_until: Timestamp,
    pub policy: String,
    pub policy_sha256: String,
    pub vcon_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcon_version: Option<String>,
    pub vcon_sha256: String,
    /// How many fetches it took.
    pub attempts: u64,
    /// An attempt before this one was cut off on its way to the store: what it sent may still come to light there, as
    /// another version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
}

/// `recording.failed`: the URL was refused, or the archive gave up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureRecord {
    pub call_id: String,
    pub source: String,
    pub reason: String,
    pub attempts: u64,
}

/// `recording.retried`: somebody asked for another try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryRecord {
    pub call_id: String,
    pub source: String,
}

/// `recording.analysed`: what decoding showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnalysisRecord {
    pub call_id: String,
    pub source: String,
    pub sha256: String,
    pub seconds: f64,
    /// Share of silence, 0 to 1; absent where there is no decoder for the format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_share: Option<f64>,
    /// 1,000 peaks, 0 to 255, in standard base64; absent where it could not be decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peaks: Option<String>,
    /// Why it could not be decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
}

/// `recording.duplicated`: the store has another version of an object that is kept, with the same bytes, which an attempt
/// that was cut off left there. It stays for as long as the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DuplicateRecord {
    pub call_id: String,
    pub object_key: String,
    pub version: String,
    pub sha256: String,
    pub retain_until: Timestamp,
}

/// `flag.raised` and `flag.resolved`: the rule with all that the decision rested on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlagRecord {
    pub call_id: String,
    pub rule: String,
    /// In words, for the officer.
    pub reason: String,
    /// The threshold that was in force, as the configuration says it; absent for rules without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<String>,
    pub evaluated_at: Timestamp,
}

/// How far somebody has come with a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviewState {
    InReview,
    /// Looked into, and all is well.
    Cleared,
    /// Looked into, and somebody else has to act.
    Escalated,
}

impl ReviewState {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InReview => "in_review",
            Self::Cleared => "cleared",
            Self::Escalated => "escalated",
        }
    }
}

/// `flag.reviewed`: what somebody says of a flag. Who it was is the entry's actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewRecord {
    pub call_id: String,
    pub rule: String,
    pub state: ReviewState,
    /// One of the firm's own words for how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// `gap.explained`: why a call that does not fit is no gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplanationRecord {
    pub call_id: String,
    pub reason: String,
}

/// `retention.extended`: a recording is kept for longer than its receipt says. Its objects' locks were moved before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionRecord {
    pub call_id: String,
    pub source: String,
    pub retain_until: Timestamp,
    pub policy: String,
    pub policy_sha256: String,
}

/// `hold.caught` and `hold.lifted`: a call comes under a hold, or is under it no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    pub call_id: String,
    pub hold: String,
}

/// `call.destroying`: from here on nothing of the call can be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestroyingRecord {
    pub call_id: String,
    pub disposition: String,
    /// The policies by which its time was found to be over.
    pub policies_sha256: String,
}

/// `call.destroyed`: what the call was, without anything personal, and the bodies that are erased.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DestroyedRecord {
    pub call_id: String,
    pub disposition: String,
    /// Id and content hash of the retention policy whose time is over.
    pub policy: String,
    pub policy_sha256: String,
    pub first_received: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    pub statuses: Vec<crate::intake::Status>,
    pub recordings: Vec<DestroyedRecording>,
    /// The entries whose bodies are erased.
    pub erased: Vec<u64>,
}

/// A recording that is no more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DestroyedRecording {
    pub source: String,
    pub received: Timestamp,
    pub retain_until: Timestamp,
    pub size_bytes: u64,
    pub sha256: String,
    /// Every object version of it, the call record and duplicates too.
    pub objects: Vec<DestroyedObject>,
}

/// One version of one object that was destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestroyedObject {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub sha256: String,
}
