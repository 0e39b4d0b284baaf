//! What happened, in the archive's own terms: no vendor's field names beyond this room.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Longest call key that stands for itself, in bytes.
const MAX_KEY_BYTES: usize = 100;

/// A webhook that was understood, or at least recognised.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Says something about one call.
    Call(Box<CallEvent>),
    /// Says something about a conversation.
    Conversation { name: String, chat_id: Option<String> },
    /// Anything else that names its event type: kept as it came.
    Other { name: String },
}

/// Why a body could not be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quarantine {
    /// Neither a JSON object nor a form.
    NotAnObject,
    /// No `event`, and no shape that is known without one.
    UnknownShape,
    /// A call event that names no call.
    NoCallId,
}

impl Quarantine {
    /// The short code in the journal and in the answer.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotAnObject => "not_an_object",
            Self::UnknownShape => "unknown_shape",
            Self::NoCallId => "no_call_id",
        }
    }
}

impl Event {
    /// The sender's name of the event type, or the one that its shape tells.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Call(call) => &call.name,
            Self::Conversation { name, .. } | Self::Other { name } => name,
        }
    }

    /// The journal's subject: a call's key, or `chat:` and the chat's.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        match self {
            Self::Call(call) => Some(call_key(&call.call_id)),
            Self::Conversation { chat_id, .. } => chat_id.as_deref().map(|id| format!("chat:{}", call_key(id))),
            Self::Other { .. } => None,
        }
    }
}

/// True for subjects that are a call's key: those never hold a colon.
#[must_use]
pub fn is_call_subject(subject: &str) -> bool {
    !subject.contains(':')
}

/// An id as it stands in object keys and subjects: every byte but `A–Z a–z 0–9 _ -` is percent-encoded; what comes
/// out longer than 100 bytes becomes `~` and the SHA-256 of the id. Different ids never share a key.
#[must_use]
pub fn call_key(id: &str) -> String {
    let mut key = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            key.push(char::from(byte));
        } else {
            let _ = write!(key, "%{byte:02X}");
        }
    }
    if key.len() > MAX_KEY_BYTES { format!("~{}", hex::encode(Sha256::digest(id))) } else { key }
}

/// Where a call stands; the order is the one in which it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Initiated,
    InProgress,
    Missed,
    Rejected,
    Failed,
    Ended,
}

impl Status {
    /// True where nothing more is expected to happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        self >= Self::Missed
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initiated => "initiated",
            Self::InProgress => "in_progress",
            Self::Missed => "missed",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Ended => "ended",
        }
    }
}

/// Who called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Incoming,
    Outgoing,
}

impl Direction {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Outgoing => "outgoing",
        }
    }
}

/// Over what the call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    Whatsapp,
    Pstn,
}

impl Channel {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whatsapp => "whatsapp",
            Self::Pstn => "pstn",
        }
    }
}

/// One event of one call. Absent values are `None`; texts are as sent, NUL replaced by U+FFFD.
#[derive(Clone, Debug, PartialEq)]
pub struct CallEvent {
    /// The sender's name of the event type.
    pub name: String,
    pub call_id: String,
    /// The statuses that event type and status field speak for; empty for events that say nothing of it.
    pub statuses: Vec<Status>,
    /// True for the event that says that somebody answered.
    pub accepted: bool,
    pub fields: CallFields,
    /// Names of fields whose value could not be read, such as a date that is none.
    pub unreadable: Vec<&'static str>,
}

/// The facts that an event may state about its call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallFields {
    pub channel: Option<Channel>,
    pub direction: Option<Direction>,
    pub waba_number: Option<String>,
    pub chat_id: Option<String>,
    pub chat_message_id: Option<String>,
    pub device_id: Option<String>,
    pub customer_id: Option<String>,
    pub customer_name: Option<String>,
    pub customer_number: Option<String>,
    pub from: Option<String>,
    pub to: Option<String>,
    pub channel_number: Option<String>,
    pub agent: Option<String>,
    pub ended_by: Option<String>,
    pub rejected_by: Option<String>,
    pub failed_reason: Option<String>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Whole seconds; the sender's 0 is "unknown" until the call ends.
    pub duration_seconds: Option<u64>,
    pub recording_url: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_safe_and_different() {
        assert_eq!(call_key("call_7Qm2Xk9sVb"), "call_7Qm2Xk9sVb");
        assert_eq!(call_key("../../etc/passwd"), "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd");
        assert_eq!(call_key("%2e%2e"), "%252e%252e");
        assert_eq!(call_key("a:b"), "a%3Ab");
        let long = call_key(&"x".repeat(101));
        assert_eq!((long.len(), &long[..1]), (65, "~"));
        assert_ne!(long, call_key(&"x".repeat(102)));
        assert!(is_call_subject(&call_key("chat:1")));
    }
}
