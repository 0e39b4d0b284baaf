//! Webhooks in the documented shape, and recordings to go with them.

use serde_json::{Value, json};

/// When calls of the tests end, if nothing else is said. Within the archive's "today", see `app::NOW`.
pub const ENDED: &str = "2026-03-09T11:00:03.000Z";

/// Three seconds of real telephone audio.
pub const CBR: &[u8] = include_bytes!("../fixtures/audio/cbr.mp3");
/// Another three seconds.
pub const VBR: &[u8] = include_bytes!("../fixtures/audio/vbr.mp3");
/// Ten seconds of two voices.
pub const SPEECH: &[u8] = include_bytes!("../../src/demo/assets/08-wrong-number.mp3");
/// A recording in which nobody says anything.
pub const SILENCE: &[u8] = include_bytes!("../../src/demo/assets/11-silence.mp3");

/// An event with all 19 fields, absent ones empty as the sender has it.
pub fn event(event: &str, call_id: &str, fields: Value) -> Value {
    let mut body = json!({
        "event": event, "callId": call_id, "chatMessageId": "", "chatId": "", "wabaNumber": "912240001234",
        "customerNumber": "919820011223", "customerName": "Ananya Kulkarni", "customerId": "customer_Zt61mPq8Ls",
        "callDirection": "INCOMING", "callStatus": "", "failedReason": "", "durationInSeconds": 0, "callStartedAt": "",
        "callEndedAt": "", "pickedBy": "", "rejectedBy": "", "endedBy": "", "recordingUrl": "", "deviceId": "device_5f2c",
    });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// Somebody picked up.
pub fn accepted(call_id: &str) -> Value {
    let fields =
        json!({"callStatus": "IN_PROGRESS", "callStartedAt": "2026-03-09T11:00:00.000Z", "pickedBy": "919833344556"});
    event("CALL_ACCEPTED", call_id, fields)
}

/// The end of a call of three seconds; `recording_url` may be empty.
pub fn ended(call_id: &str, recording_url: &str) -> Value {
    ended_with(call_id, json!({"recordingUrl": recording_url}))
}

/// The same, with fields changed.
pub fn ended_with(call_id: &str, fields: Value) -> Value {
    let mut body = event(
        "CALL_ENDED",
        call_id,
        json!({"callStatus": "END", "callStartedAt": "2026-03-09T11:00:00.000Z", "callEndedAt": ENDED,
            "durationInSeconds": 3, "pickedBy": "919833344556", "endedBy": "919833344556"}),
    );
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// The end of a call of so many seconds without a recording.
pub fn ended_after(call_id: &str, seconds: i64) -> Value {
    let end: jiff::Timestamp = "2026-03-09T11:00:00Z".parse().unwrap();
    let start = end - jiff::SignedDuration::from_secs(seconds);
    ended_with(
        call_id,
        json!({"durationInSeconds": seconds, "callStartedAt": start.to_string(), "callEndedAt": end.to_string()}),
    )
}

/// A call that nobody took.
pub fn missed(call_id: &str) -> Value {
    event("CALL_MISSED", call_id, json!({"callStatus": "MISSED", "callEndedAt": ENDED}))
}

/// The audio of `cbr.mp3` as different bytes for each `n`: behind an ID3v2 tag, with `n` in its padding.
pub fn recording(n: u32) -> Vec<u8> {
    let mut bytes = b"ID3\x04\0\0\0\0\0\x20".to_vec();
    bytes.extend([0; 28]);
    bytes.extend(n.to_be_bytes());
    bytes.extend(CBR);
    bytes
}
