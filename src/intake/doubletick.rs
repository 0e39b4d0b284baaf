//! The adapter for DoubleTick's webhooks.
//!
//! Every value is untrusted. Absent values are empty strings, nulls or missing keys; numbers may come as texts and
//! texts as numbers. A value that can't be read is left out and named, never guessed.

use jiff::Timestamp;
use serde_json::Value;

use super::event::{CallEvent, CallFields, Channel, Direction, Event, Quarantine, Status};
use super::form;
use super::object::{Field, Object};
use crate::clock::whole_micros;
use crate::db::text_safe;

/// A duration above this many seconds (a year) is no duration of a call.
const MAX_DURATION_SECONDS: f64 = 366.0 * 86_400.0;

/// Reads a body: JSON, URL-encoded form or multipart form.
///
/// # Errors
/// Why the body can only be kept, not understood.
pub fn understand(body: &[u8]) -> Result<Event, Quarantine> {
    let object = match serde_json::from_slice::<Object>(body) {
        Ok(object) => object,
        // JSON of another kind; anything else may be a form.
        Err(_) if serde_json::from_slice::<Value>(body).is_ok() => return Err(Quarantine::NotAnObject),
        Err(_) => form::parse(body).ok_or(Quarantine::NotAnObject)?,
    };
    let mut reader = Reader { object: &object, unreadable: Vec::new() };
    let named = reader.text("event", &["event"]);
    let name = match named {
        Some(name) => name,
        None => shape(&object).ok_or(Quarantine::UnknownShape)?.to_owned(),
    };
    match name.as_str() {
        "CHAT_ASSIGNED_TO_AGENT" | "CHAT_UNASSIGNED" | "CONVERSATION_OPENED" | "CLOSE_CONVERSATION" => {
            Ok(Event::Conversation { chat_id: reader.text("chatId", &["chatId"]), name })
        }
        _ => match reader.text("callId", &["callId"]) {
            Some(call_id) => Ok(Event::Call(Box::new(call(reader, name, call_id)))),
            None if is_call_event(&name) => Err(Quarantine::NoCallId),
            None => Ok(Event::Other { name }),
        },
    }
}

/// The documented call events. What is not documented is kept as it comes, with a call id or without.
fn is_call_event(name: &str) -> bool {
    matches!(
        name,
        "CALL_INCOMING_INITIATED"
            | "CALL_OUTGOING_INITIATED"
            | "CALL_ACCEPTED"
            | "CALL_ENDED"
            | "CALL_REJECTED"
            | "CALL_MISSED"
            | "CALL_NOT_PICKED"
    )
}

/// The event type that the shape of an object without `event` tells.
fn shape(object: &Object) -> Option<&'static str> {
    let has = |key: &str| object.get(key).is_some_and(|value| *value != Field::Null);
    let is_true =
        |key: &str| object.get(key).is_some_and(|v| matches!(v, Field::Bool(true)) || *v == Field::Text("true".into()));
    if is_true("conversationOpened") {
        Some("CONVERSATION_OPENED")
    } else if is_true("closeConversation") {
        Some("CLOSE_CONVERSATION")
    } else if has("chatId") && (has("assignedUserId") || has("assignedUserPhone") || has("assignedUserName")) {
        Some("CHAT_ASSIGNED_TO_AGENT")
    } else if has("response") && has("from") && has("to") && (has("messageId") || has("expirationTimestamp")) {
        Some("CALL_PERMISSION_REPLY_RECEIVED")
    } else if has("chatId") && has("customerPhone") && !has("callId") {
        Some("CHAT_UNASSIGNED")
    } else {
        None
    }
}

fn call(mut reader: Reader<'_>, name: String, call_id: String) -> CallEvent {
    let stated = reader.text("callStatus", &["callStatus"]).and_then(|text| reader.status(&text));
    let fields = CallFields {
        channel: reader.text("channel", &["channel"]).and_then(|text| reader.channel(&text)),
        direction: reader.text("callDirection", &["callDirection"]).and_then(|text| reader.direction(&text)),
        waba_number: reader.text("wabaNumber", &["wabaNumber"]),
        chat_id: reader.text("chatId", &["chatId"]),
        chat_message_id: reader.text("chatMessageId", &["chatMessageId"]),
        device_id: reader.text("deviceId", &["deviceId"]),
        customer_id: reader.text("customerId", &["customerId", "dtCustomerId"]),
        customer_name: reader.text("customerName", &["customerName"]),
        customer_number: reader.text("customerNumber", &["customerNumber", "customerPhoneNumber", "customerPhone"]),
        from: reader.text("from", &["from"]),
        to: reader.text("to", &["to"]),
        channel_number: reader.text("channelNumber", &["channelNumber"]),
        agent: reader.text("pickedBy", &["pickedBy"]),
        ended_by: reader.text("endedBy", &["endedBy"]),
        rejected_by: reader.text("rejectedBy", &["rejectedBy"]),
        failed_reason: reader.text("failedReason", &["failedReason"]),
        started_at: reader.time("callStartedAt"),
        ended_at: reader.time("callEndedAt"),
        duration_seconds: reader.seconds("durationInSeconds"),
        recording_url: reader.text("recordingUrl", &["recordingUrl"]),
    };
    let typed = match name.as_str() {
        "CALL_INCOMING_INITIATED" | "CALL_OUTGOING_INITIATED" | "CALL_NOT_PICKED" => Some(Status::Initiated),
        "CALL_ACCEPTED" => Some(Status::InProgress),
        // A failed call has no event type of its own: its end says so in the status.
        "CALL_ENDED" if stated == Some(Status::Failed) => Some(Status::Failed),
        "CALL_ENDED" => Some(Status::Ended),
        "CALL_REJECTED" => Some(Status::Rejected),
        "CALL_MISSED" => Some(Status::Missed),
        _ => None,
    };
    let mut statuses: Vec<Status> = typed.into_iter().chain(stated).collect();
    statuses.dedup();
    let fields = CallFields {
        // Zero is how the sender writes "not yet"; at the end it is a length.
        duration_seconds: fields.duration_seconds.filter(|s| *s > 0 || statuses.iter().any(|s| s.is_final())),
        ..fields
    };
    CallEvent { accepted: name == "CALL_ACCEPTED", name, call_id, statuses, fields, unreadable: reader.unreadable }
}

/// Reads fields and remembers which could not be read.
struct Reader<'a> {
    object: &'a Object<'a>,
    unreadable: Vec<&'static str>,
}

impl Reader<'_> {
    /// The first of several names under which a text stands; empty means absent.
    fn text(&mut self, field: &'static str, names: &[&str]) -> Option<String> {
        for name in names {
            let text = match self.object.get(name) {
                None | Some(Field::Null) => continue,
                Some(Field::Text(text)) => text_safe(text.trim()).into_owned(),
                Some(Field::Number(number)) => number.to_string(),
                Some(Field::Bool(_) | Field::Nested) => {
                    self.unreadable.push(field);
                    continue;
                }
            };
            if !text.is_empty() {
                return Some(text);
            }
        }
        None
    }

    fn time(&mut self, field: &'static str) -> Option<Timestamp> {
        let text = self.text(field, &[field])?;
        match text.parse::<Timestamp>() {
            Ok(time) => Some(whole_micros(time)),
            Err(_) => self.give_up(field),
        }
    }

    fn seconds(&mut self, field: &'static str) -> Option<u64> {
        let text = self.text(field, &[field])?;
        match text.parse::<f64>() {
            // In range, so the cast keeps the value.
            Ok(seconds) if (0.0..=MAX_DURATION_SECONDS).contains(&seconds) => Some(seconds.round() as u64),
            _ => self.give_up(field),
        }
    }

    fn status(&mut self, text: &str) -> Option<Status> {
        match text.to_ascii_uppercase().as_str() {
            "INITIATED" => Some(Status::Initiated),
            "IN_PROGRESS" => Some(Status::InProgress),
            "END" | "ENDED" => Some(Status::Ended),
            "REJECT" | "REJECTED" => Some(Status::Rejected),
            "MISSED" => Some(Status::Missed),
            "FAILED" => Some(Status::Failed),
            _ => self.give_up("callStatus"),
        }
    }

    fn direction(&mut self, text: &str) -> Option<Direction> {
        match text.to_ascii_uppercase().as_str() {
            "INCOMING" => Some(Direction::Incoming),
            "OUTGOING" => Some(Direction::Outgoing),
            _ => self.give_up("callDirection"),
        }
    }

    fn channel(&mut self, text: &str) -> Option<Channel> {
        match text.to_ascii_uppercase().as_str() {
            "WHATSAPP" => Some(Channel::Whatsapp),
            "PSTN" => Some(Channel::Pstn),
            _ => self.give_up("channel"),
        }
    }

    fn give_up<T>(&mut self, field: &'static str) -> Option<T> {
        self.unreadable.push(field);
        None
    }
}

#[cfg(test)]
#[path = "doubletick_tests.rs"]
mod tests;
