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
