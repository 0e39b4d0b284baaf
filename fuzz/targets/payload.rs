//! A webhook's body: read without panic, always the same way, into an event that every part behind it can hold.

#![no_main]

use callvault::calls::Facts;
use callvault::intake::{CallEvent, Event, call_key, entry, is_call_subject, understand};
use callvault::journal::{Entry, Kind};
use libfuzzer_sys::fuzz_target;

const YEAR: u64 = 366 * 86_400;

fuzz_target!(|body: &[u8]| {
    let event = understand(body);
    assert_eq!(event, understand(body), "reading is a function of the bytes");
    let (new, quarantined) = entry(Kind::WebhookReceived, "token:fuzz", body, None);
    assert_eq!(event.is_err(), quarantined.is_some());
    assert_eq!(new.kind == Kind::WebhookQuarantined, quarantined.is_some());
    if let Some(subject) = &new.subject {
        let key = subject.strip_prefix("chat:").unwrap_or(subject);
        assert!((1..=100).contains(&key.len()), "{key:?}");
        assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-%~".contains(&b)), "{key:?}");
    }
    if let Ok(Event::Call(call)) = &event {
        read(call);
        assert!(new.subject.as_deref().is_some_and(is_call_subject));
        fold(body, call);
    }
});

/// What a call's event may hold.
fn read(call: &CallEvent) {
    assert!(!call.call_id.trim().is_empty());
    let fields = &call.fields;
    let texts = [&fields.customer_name, &fields.customer_number, &fields.agent, &fields.recording_url, &fields.from];
    let ids = [&fields.waba_number, &fields.chat_id, &fields.chat_message_id, &fields.device_id, &fields.customer_id];
    for text in texts.into_iter().chain(ids).flatten().chain([&call.call_id, &call.name]) {
        assert!(!text.is_empty() && !text.contains('\0'), "{text:?}");
    }
    assert!(fields.duration_seconds.is_none_or(|seconds| seconds <= YEAR));
    for time in [fields.started_at, fields.ended_at].into_iter().flatten() {
        assert_eq!(time.subsec_nanosecond() % 1000, 0, "times are whole microseconds");
    }
    let key = call_key(&call.call_id);
    assert!(key.starts_with('~') || decoded(&key) == call.call_id.as_bytes(), "{key}");
}

/// Folding an event twice, or before another of the same call, changes nothing but the range of entries.
fn fold(body: &[u8], call: &CallEvent) {
    let other = format!("{{\"event\":\"CALL_ACCEPTED\",\"callId\":{}}}", json_text(&call.call_id));
    let Ok(Event::Call(accepted)) = understand(other.as_bytes()) else { panic!("{other}") };
    assert_eq!(accepted.call_id, call.call_id);
    let fold = |first: &[u8], second: &[u8]| {
        let facts = Facts::fold(None, &at(0), first).expect("it is a call's event");
        let facts = Facts::fold(Some(facts), &at(1), second).expect("it is a call's event");
        (facts.fields, facts.statuses, facts.recordings.into_keys().collect::<Vec<_>>(), facts.unreadable)
    };
    assert_eq!(fold(body, other.as_bytes()), fold(other.as_bytes(), body), "the order does not matter");
    let once = Facts::fold(None, &at(0), body).expect("it is a call's event");
    assert_eq!(Facts::fold(Some(once.clone()), &at(0), body).expect("again"), once, "repetition does not matter");
}

fn at(seq: u64) -> Entry {
    Entry {
        seq,
        at: jiff::Timestamp::UNIX_EPOCH,
        received_at: None,
        kind: Kind::WebhookReceived,
        actor: "token:fuzz".into(),
        subject: None,
        body: Default::default(),
        reason: None,
    }
}

fn json_text(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if u32::from(c) < 0x20 => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

fn decoded(key: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), key.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let digits = std::str::from_utf8(&rest[..2]).expect("two digits");
            bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
            rest = &rest[2..];
        } else {
            bytes.push(byte);
        }
    }
    bytes
}
