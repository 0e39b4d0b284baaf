//! What the journal and the store keep of a disposition: canonical JSON, part of the archive's formats.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::calls::records::DestroyedRecord;

/// Something whose time is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The call; absent for a body in quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The call's first entry, or that of the body.
    pub seq: u64,
    /// When its time was over.
    pub due_at: Timestamp,
    pub policy: String,
    pub policy_sha256: String,
    pub bytes: u64,
}

/// `disposition.proposed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    pub id: String,
    pub items: Vec<Item>,
}

/// `disposition.approved` and `disposition.cancelled`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Why something that was approved is kept all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    pub seq: u64,
    pub why: String,
}

/// The decision, in the store under `dispositions/<id>.json` before anything is destroyed. With it alone everything that
/// it names is destroyed once more, wherever it comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub format: String,
    pub id: String,
    pub proposed_by: String,
    pub proposed_at: Timestamp,
    pub approved_by: String,
    pub approved_at: Timestamp,
    pub decided_at: Timestamp,
    /// What is left of each call, with every object version that is destroyed.
    pub calls: Vec<DestroyedRecord>,
    /// Bodies in quarantine.
    pub entries: Vec<Item>,
    /// Approved, and not destroyed.
    pub skipped: Vec<Skipped>,
}

/// The format of decisions.
pub const DECISION: &str = "callvault-disposition-decision/1";
/// The format of certificates.
pub const CERTIFICATE: &str = "callvault-disposition-certificate/1";

/// `disposition.decided`: where the decision lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    pub id: String,
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Of the decision's bytes; lower-case hex.
    pub sha256: String,
    pub calls: u64,
    /// Bodies in quarantine that are erased.
    pub entries: Vec<u64>,
}

/// The certificate of destruction, in the store under `dispositions/<id>.certificate.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    pub format: String,
    pub id: String,
    pub proposed_by: String,
    pub proposed_at: Timestamp,
    pub approved_by: String,
    pub approved_at: Timestamp,
    pub executed_at: Timestamp,
    /// Of the decision that was carried out.
    pub decision_sha256: String,
    /// What was destroyed, and what is left of each call.
    pub calls: Vec<DestroyedRecord>,
    pub entries: Vec<Item>,
    pub skipped: Vec<Skipped>,
    /// Bytes of recordings that were destroyed.
    pub bytes: u64,
}

/// `disposition.executed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    pub id: String,
    pub key: String,
    /// Of the certificate's bytes; lower-case hex.
    pub sha256: String,
    pub destroyed: u64,
    pub skipped: u64,
    pub bytes: u64,
}
