//! The call record beside each recording: an IETF vCon (draft-ietf-vcon-vcon-core, syntax 0.4.0).
//!
//! A pure function of the intent and of the webhooks up to the intent's `last_seq`: the same bytes in every run.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use uuid::{Builder, Uuid, Version};

use crate::calls::records::Intent;
use crate::calls::{Facts, Field};
use crate::intake;
use crate::journal::{Kind, Record};

/// Indices into `parties`.
const CUSTOMER: usize = 0;
const AGENT: usize = 1;
const SENDER: usize = 2;

/// A version 8 UUID with version 7's time layout, as the draft asks for.
pub(super) fn uuid_v8() -> Uuid {
    Builder::from_bytes(Uuid::now_v7().into_bytes()).with_version(Version::Custom).into_uuid()
}

/// Where a call's recording can be had from this archive.
pub(super) fn recording_url(public_url: &str, call_id: &str) -> String {
    format!("{public_url}/api/v1/calls/{}/recording", utf8_percent_encode(call_id, NON_ALPHANUMERIC))
}

/// The record's bytes: canonical JSON (RFC 8785).
pub(super) fn build(intent: &Intent, entries: &[Record]) -> serde_json::Result<Vec<u8>> {
    let webhooks: Vec<&Record> =
        entries.iter().filter(|r| matches!(r.entry.kind, Kind::WebhookReceived | Kind::WebhookImported)).collect();
    let facts = webhooks.iter().fold(None, |facts: Option<Facts>, record| {
        let body = record.body.as_ref().map_or(&[][..], |body| &body.bytes);
        Facts::fold(facts.clone(), &record.entry, body).ok().or(facts)
    });
    let facts = facts.unwrap_or_default();
    let record = json!({
        "uuid": intent.vcon_uuid,
        "created_at": intent.vcon_created_at.to_string(),
        "subject": format!("Recorded call {}", intent.call_id),
        "parties": parties(&facts),
        "dialog": [dialog(intent, &facts)],
        "attachments": webhooks.iter().map(|record| attachment(record)).collect::<Vec<_>>(),
    });
    serde_json_canonicalizer::to_vec(&record)
}

fn parties(facts: &Facts) -> Value {
    let mut customer = party(facts.text(Field::CustomerNumber).or_else(|| facts.text(Field::From)));
    if let Some(name) = facts.text(Field::CustomerName) {
        customer.insert("name".into(), name.into());
    }
    let agent = facts.text(Field::Agent);
    let is_number = agent.as_deref().is_some_and(|agent| tel(agent).is_some());
    let mut agent_party = party(agent.clone().filter(|_| is_number));
    if let Some(name) = agent.filter(|_| !is_number) {
        agent_party.insert("name".into(), name.into());
    }
    json!([customer, agent_party, {"name": "DoubleTick", "type": "organization"}])
}

fn party(number: Option<String>) -> Map<String, Value> {
    let mut party = Map::from_iter([("type".to_owned(), Value::from("person"))]);
    if let Some(tel) = number.as_deref().and_then(tel) {
        party.insert("tel".into(), tel.into());
    }
    party
}

/// A `tel:` URL (RFC 3966). The sender writes the country code, usually without the plus.
fn tel(number: &str) -> Option<String> {
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let is_number = number.chars().all(|c| c.is_ascii_digit() || " +-().".contains(c)) && digits.len() >= 3;
    let global = number.trim_start().starts_with('+') || digits.len() > 10;
    is_number.then(|| if global { format!("tel:+{digits}") } else { format!("tel:{digits};phone-context={digits}") })
}

fn dialog(intent: &Intent, facts: &Facts) -> Value {
    let mut dialog = json!({
        "type": "recording",
        "start": facts.sort_at().to_string(),
        "duration": (intent.audio.seconds * 1000.0).round() / 1000.0,
        "parties": [CUSTOMER, AGENT],
        "mediatype": intent.audio.media_type,
        "filename": intent.object_key.rsplit('/').next(),
        "url": intent.url,
        "content_hash": content_hash(&intent.sha512),
    });
    if facts.text(Field::Direction).as_deref() == Some("outgoing") {
        dialog["originator"] = AGENT.into();
    }
    dialog
}

/// `sha512-` and the hash in base64url without padding.
fn content_hash(sha512_hex: &str) -> String {
    format!("sha512-{}", URL_SAFE_NO_PAD.encode(hex::decode(sha512_hex).unwrap_or_default()))
}

/// A webhook as it was received, byte for byte.
fn attachment(record: &Record) -> Value {
    let bytes = record.body.as_ref().map_or(&[][..], |body| &body.bytes);
    let (body, encoding) = match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), "none"),
        Err(_) => (URL_SAFE_NO_PAD.encode(bytes), "base64url"),
    };
    let name = intake::understand(bytes).map_or_else(|_| "webhook".to_owned(), |event| event.name().to_owned());
    json!({
        "purpose": format!("webhook {name}"),
        "start": record.entry.received().to_string(),
        "party": SENDER,
        "dialog": 0,
        "mediatype": if bytes.first() == Some(&b'{') { "application/json" } else { "application/octet-stream" },
        "filename": format!("journal-{}.json", record.entry.seq),
        "body": body,
        "encoding": encoding,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phone_numbers_as_tel_urls() {
        assert_eq!(tel("919820011223").as_deref(), Some("tel:+919820011223"));
        assert_eq!(tel("+91 98200-11223").as_deref(), Some("tel:+919820011223"));
        assert_eq!(tel("Farhan Siddiqui"), None);
        assert_eq!(tel(""), None);
    }

    #[test]
    fn the_uuid_is_version_8() {
        assert_eq!(uuid_v8().get_version_num(), 8);
    }
}
