use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::calls::RecordingState;
use crate::journal::Body;

fn webhook(seq: u64, body: &Json) -> (Entry, Vec<u8>) {
    entry(seq, Kind::WebhookReceived, body)
}

fn entry(seq: u64, kind: Kind, body: &Json) -> (Entry, Vec<u8>) {
    let bytes = body.to_string().into_bytes();
    let entry = Entry {
        seq,
        at: jiff::Timestamp::from_second(1_773_000_000 + seq.cast_signed()).unwrap(),
        received_at: None,
        kind,
        actor: "token:t".into(),
        subject: Some("call_1".into()),
        body: Body::of_bytes(&bytes).hash(),
        reason: None,
    };
    (entry, bytes)
}

fn fold_all<'a>(entries: impl IntoIterator<Item = &'a (Entry, Vec<u8>)>) -> Facts {
    let folded = entries.into_iter().fold(None, |facts, (entry, body)| Some(Facts::fold(facts, entry, body).unwrap()));
    folded.unwrap()
}

fn event(name: &str, more: Json) -> Json {
    let mut body =
        json!({"event": name, "callId": "call_1", "customerName": "Ananya Kulkarni", "callDirection": "INCOMING"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn ended(more: Json) -> Json {
    let mut body = event(
        "CALL_ENDED",
        json!({"callStatus": "END", "callStartedAt": "2026-03-09T05:12:07.000Z",
        "callEndedAt": "2026-03-09T05:15:41.000Z", "durationInSeconds": 214}),
    );
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn a_whole_call() {
    let url = "https://recordings.doubletick.io/call_1.mp3";
    let entries = [
        webhook(3, &event("CALL_INCOMING_INITIATED", json!({"callStatus": "INITIATED"}))),
        webhook(4, &event("CALL_ACCEPTED", json!({"callStatus": "IN_PROGRESS", "pickedBy": "919833344556"}))),
    ];
    let facts = fold_all(&entries);
    assert_eq!(facts.call().status, "in_progress");
    assert_eq!(facts.recording_state(), RecordingState::Pending);
    let (last, body) = webhook(9, &ended(json!({"recordingUrl": url})));
    let facts = Facts::fold(Some(facts), &last, &body).unwrap();
    let call = facts.call();
    assert_eq!((call.status.as_str(), call.duration_seconds), ("ended", Some(214)));
    assert_eq!((facts.first_seq, facts.last_seq), (3, 9));
    assert_eq!(call.recording.state, RecordingState::Pending);
    assert_eq!(facts.recordings.values().next().unwrap().url, url);
}

#[test]
fn what_kind_of_end_it_was() {
    let state = |bodies: &[Json]| {
        let entries: Vec<_> = bodies.iter().enumerate().map(|(n, body)| webhook(n as u64, body)).collect();
        let facts = fold_all(&entries);
        (facts.status().as_str(), facts.recording_state().as_str())
    };
    let given_up = event("CALL_ENDED", json!({"callStatus": "END", "durationInSeconds": 0, "pickedBy": "Farhan"}));
    assert_eq!(state(&[given_up]), ("ended", "none"));
    assert_eq!(state(&[ended(json!({"durationInSeconds": 9}))]), ("ended", "missing"));
    assert_eq!(state(&[event("CALL_MISSED", json!({"callStatus": "MISSED"}))]), ("missed", "none"));
    assert_eq!(state(&[event("CALL_REJECTED", json!({"callStatus": "REJECT"}))]), ("rejected", "none"));
    assert_eq!(state(&[event("CALL_ENDED", json!({"callStatus": "FAILED"}))]), ("failed", "none"));
    assert_eq!(state(&[event("CALL_NOT_PICKED", json!({"callStatus": "INITIATED"}))]), ("initiated", "none"));
    assert_eq!(state(&[event("POST_CALL_DISPOSITION", json!({}))]), ("initiated", "none"));
    // An acceptance without a recording is a gap, whatever the end is called.
    let accepted = event("CALL_ACCEPTED", json!({"callStatus": "IN_PROGRESS"}));
    assert_eq!(state(&[accepted, event("CALL_MISSED", json!({"callStatus": "MISSED"}))]), ("missed", "missing"));
}

#[test]
fn a_known_value_is_never_replaced_by_an_empty_one() {
    let entries = [
        webhook(0, &ended(json!({"chatId": "chat_1"}))),
        webhook(1, &ended(json!({"chatId": "", "customerName": null}))),
    ];
    let call = fold_all(&entries).call();
    assert_eq!((call.chat_id.as_deref(), call.customer.name.as_deref()), (Some("chat_1"), Some("Ananya Kulkarni")));
}

#[test]
fn numbers_compare_as_numbers() {
    let entries =
        [webhook(0, &ended(json!({"durationInSeconds": 9}))), webhook(1, &ended(json!({"durationInSeconds": 240})))];
    assert_eq!(fold_all(&entries).call().duration_seconds, Some(240));
}

#[test]
fn a_recording_from_failure_to_receipt() {
    let url = "https://recordings.doubletick.io/a.mp3";
    let source = source_of(url);
    let start = webhook(0, &ended(json!({"recordingUrl": url})));
    let failed = entry(
        1,
        Kind::RecordingFailed,
        &json!({"call_id": "call_1", "source": source, "reason": "the sender answered 410", "attempts": 1}),
    );
    let retried = entry(2, Kind::RecordingRetried, &json!({"call_id": "call_1", "source": source}));
    let state = |entries: &[&(Entry, Vec<u8>)]| fold_all(entries.iter().copied()).recording_state();
    assert_eq!(state(&[&start, &failed]), RecordingState::Failed);
    assert_eq!(state(&[&start, &failed, &retried]), RecordingState::Pending);
    assert_eq!(
        state(&[&start, &retried, &failed]),
        RecordingState::Pending,
        "the later word counts, not the later reading"
    );
}

#[test]
fn what_can_not_be_folded_says_so() {
    let (no_call, body) = webhook(0, &json!({"event": "NEW_LEAD"}));
    assert!(matches!(Facts::fold(None, &no_call, &body), Err(FoldError::NotACall(_))));
    let (record, body) = entry(0, Kind::RecordingFailed, &json!({"nonsense": true}));
    assert!(Facts::fold(None, &record, &body).is_err());
    let known = fold_all(&[webhook(0, &ended(json!({})))]);
    assert!(matches!(Facts::fold(Some(known), &record, &body), Err(FoldError::Body(..))));
}

/// Events of one call with every kind of disagreement among them.
fn any_event() -> impl Strategy<Value = Json> {
    let name = prop::sample::select(vec![
        ("CALL_INCOMING_INITIATED", "INITIATED"),
        ("CALL_ACCEPTED", "IN_PROGRESS"),
        ("CALL_ENDED", "END"),
        ("CALL_ENDED", "FAILED"),
        ("CALL_REJECTED", "REJECT"),
        ("CALL_MISSED", "MISSED"),
        ("CALL_NOT_PICKED", "INITIATED"),
        ("POST_CALL_DISPOSITION", ""),
    ]);
    let date = prop::sample::select(vec!["", "2026-03-09T05:12:07Z", "2026-03-09T05:15:41Z", "yesterday"]);
    let url = prop::sample::select(vec!["", "https://a.example/1.mp3", "https://a.example/2.mp3"]);
    (name, date.clone(), date, 0..300u64, url, "[ab]{0,2}", "[0-9]{0,3}").prop_map(
        |((name, status), start, end, seconds, url, customer, number)| {
            event(
                name,
                json!({"callStatus": status, "callStartedAt": start, "callEndedAt": end, "durationInSeconds": seconds,
                "recordingUrl": url, "customerName": customer, "customerNumber": number}),
            )
        },
    )
}

proptest! {
    /// Any order, any repetition: the same call.
    #[test]
    fn order_and_repetition_do_not_matter(
        events in prop::collection::vec(any_event(), 1..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let entries: Vec<_> = events.iter().enumerate().map(|(n, body)| webhook(n as u64, body)).collect();
        let once = fold_all(&entries);
        let mut shuffled: Vec<&(Entry, Vec<u8>)> = order.iter().map(|index| index.get(&entries)).collect();
        shuffled.extend(&entries);
        shuffled.reverse();
        prop_assert_eq!(&fold_all(shuffled), &once);
    }

    /// Events that arrive in another order give the same call, but for the times of receipt.
    #[test]
    fn order_of_arrival_does_not_matter(events in prop::collection::vec(any_event(), 1..8), swap in any::<prop::sample::Index>()) {
        let call = |events: &[Json]| {
            let entries: Vec<_> = events.iter().enumerate().map(|(n, body)| webhook(n as u64, body)).collect();
            let mut call = fold_all(&entries).call();
            call.first_seen_at = jiff::Timestamp::UNIX_EPOCH;
            call.recordings.sort_by(|a, b| a.source.cmp(&b.source));
            // Which of two addresses stands first is decided by which came first.
            (call.recording.source.take(), call).1
        };
        let mut rotated = events.clone();
        rotated.rotate_left(swap.index(events.len()));
        let (a, b) = (call(&events), call(&rotated));
        prop_assert_eq!((a.status, a.duration_seconds, a.customer, a.started_at, a.ended_at, a.recording.state),
            (b.status, b.duration_seconds, b.customer, b.started_at, b.ended_at, b.recording.state));
    }

    /// What is stored reads back.
    #[test]
    fn facts_survive_storage(events in prop::collection::vec(any_event(), 1..12)) {
        let entries: Vec<_> = events.iter().enumerate().map(|(n, body)| webhook(n as u64, body)).collect();
        let facts = fold_all(&entries);
        let text = serde_json::to_string(&facts).unwrap();
        prop_assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
    }
}
