//! The sender's documented samples, in any order and more than once: always the same calls.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::events::{SPEECH, accepted, ended_with, missed, recording};

/// The host in the samples; the recordings of the tests lie elsewhere.
const HOST: &str = "https://recordings.doubletick.io";

const SAMPLES: [&str; 17] = [
    include_str!("../fixtures/doubletick/call_accepted_incoming.json"),
    include_str!("../fixtures/doubletick/call_accepted_outgoing.json"),
    include_str!("../fixtures/doubletick/call_ended_17_fields.json"),
    include_str!("../fixtures/doubletick/call_ended_never_answered.json"),
    include_str!("../fixtures/doubletick/call_ended_pstn.json"),
    include_str!("../fixtures/doubletick/call_ended_short_no_recording.json"),
    include_str!("../fixtures/doubletick/call_ended_with_recording.json"),
    include_str!("../fixtures/doubletick/call_incoming_initiated.json"),
    include_str!("../fixtures/doubletick/call_missed.json"),
    include_str!("../fixtures/doubletick/call_not_picked.json"),
    include_str!("../fixtures/doubletick/call_outgoing_initiated.json"),
    include_str!("../fixtures/doubletick/call_permission_accept.json"),
    include_str!("../fixtures/doubletick/call_rejected.json"),
    include_str!("../fixtures/doubletick/chat_assigned_api.json"),
    include_str!("../fixtures/doubletick/chat_assigned_by_bot.json"),
    include_str!("../fixtures/doubletick/chat_unassigned_api.json"),
    include_str!("../fixtures/doubletick/undocumented_event.json"),
];

/// What the documentation implies: status, direction, channel, seconds, customer, agent, state of the recording, flags.
/// The tests' recordings are shorter than the samples say, so each archived one is flagged for that.
fn expected() -> BTreeMap<&'static str, Value> {
    let (ananya, meera) = ("Ananya Kulkarni", "मीरा शर्मा");
    let (number, farhan) = ("919833344556", "Farhan Siddiqui");
    BTreeMap::from([
        (
            "call_7Qm2Xk9sVb",
            json!(["ended", "incoming", "whatsapp", 214, ananya, number, "archived", ["duration_mismatch"]]),
        ),
        (
            "call_B83nZy0dRe",
            json!(["ended", "outgoing", "whatsapp", 9, meera, farhan, "missing", ["recording_missing", "short_call"]]),
        ),
        ("call_K6tGh3jXyo", json!(["rejected", "incoming", "whatsapp", 0, ananya, null, "none", []])),
        ("call_M1pWq7uTca", json!(["ended", "outgoing", "whatsapp", 0, meera, farhan, "none", []])),
        ("call_P0cLd8mEwz", json!(["missed", "incoming", "whatsapp", 0, ananya, null, "none", []])),
        (
            "call_T5yUi2oPas",
            json!(["ended", "incoming", "pstn", 1865, ananya, number, "archived", ["duration_mismatch"]]),
        ),
        (
            "call_V4bNm6qWer",
            json!(["ended", "incoming", "whatsapp", 240, ananya, number, "archived", ["duration_mismatch"]]),
        ),
    ])
}

/// What an archive makes of the samples in an order: each call without the times at which we heard of it.
async fn calls_after(order: &[usize]) -> BTreeMap<String, Value> {
    let app = TestApp::with(&[("flags.short_call_seconds", "20")]).await;
    app.sender.audio("/call_7Qm2Xk9sVb.mp3", SPEECH);
    app.sender.audio("/call_V4bNm6qWer.mp3", &recording(4));
    app.sender.audio("/call_T5yUi2oPas.mp3", &recording(5));
    for index in order {
        let body = SAMPLES[*index].replace(HOST, &app.sender.url(""));
        assert_eq!(app.post_body(body).await.ok()["quarantined"], Value::Null, "sample {index}");
    }
    app.settle().await;
    let answer = app.json("/api/v1/calls").await;
    let mut calls = BTreeMap::new();
    for mut call in answer["calls"].as_array().unwrap().iter().cloned() {
        call["first_seen_at"] = Value::Null;
        call["recording"]["archived_at"] = Value::Null;
        call["flags"].as_array_mut().unwrap().sort_by_key(|flag| flag["rule"].to_string());
        calls.insert(call["call_id"].as_str().unwrap().to_owned(), call);
    }
    assert_eq!(app.json("/api/v1/quarantine").await["entries"], json!([]));
    app.finish().await;
    calls
}

fn essence(call: &Value) -> Value {
    let flags = call["flags"].as_array().unwrap().iter().map(|flag| {
        assert_eq!(flag["state"], "open", "{flag}");
        flag["rule"].clone()
    });
    json!([
        call["status"],
        call["direction"],
        call["channel"],
        call["duration_seconds"],
        call["customer"]["name"],
        call["agent"],
        call["recording"]["state"],
        flags.collect::<Vec<_>>()
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn any_order_gives_the_same_calls() {
    let in_order: Vec<usize> = (0..SAMPLES.len()).collect();
    let backwards: Vec<usize> = in_order.iter().rev().copied().collect();
    // Steps of 7 and 11 through 17 meet each sample once.
    let mixed: Vec<usize> = (0..SAMPLES.len()).map(|n| n * 7 % SAMPLES.len()).collect();
    let twice: Vec<usize> = (0..2 * SAMPLES.len()).map(|n| n * 11 % SAMPLES.len()).collect();

    let calls = calls_after(&in_order).await;
    let found: BTreeMap<&str, Value> = calls.iter().map(|(id, call)| (id.as_str(), essence(call))).collect();
    assert_eq!(found, expected());
    let pstn = &calls["call_T5yUi2oPas"];
    assert_eq!(
        [&pstn["from"], &pstn["to"], &pstn["channel_number"]],
        ["+919820011223", "+912240009999", "+912240009999"]
    );
    assert_eq!(calls["call_V4bNm6qWer"]["customer"]["number"], "919820011223", "the help pages' name of the field");
    assert_eq!(calls["call_7Qm2Xk9sVb"]["chat_id"], "chat_r4T8pLw1");
    assert_eq!(calls["call_K6tGh3jXyo"]["rejected_by"], "919833344556");
    assert_eq!(calls["call_7Qm2Xk9sVb"]["recording"]["retain_until"], "2031-03-09T05:15:41Z");

    for (name, order) in [("backwards", backwards), ("mixed", mixed), ("twice", twice)] {
        assert_eq!(calls_after(&order).await, calls, "{name}");
    }
}

/// Every order of some indices.
fn orders(indices: &[usize]) -> Vec<Vec<usize>> {
    if indices.is_empty() {
        return vec![Vec::new()];
    }
    let from = |first: &usize| {
        let rest: Vec<usize> = indices.iter().filter(|index| *index != first).copied().collect();
        orders(&rest).into_iter().map(|order| [vec![*first], order].concat()).collect::<Vec<_>>()
    };
    indices.iter().flat_map(from).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_contradict_each_other_give_the_same_call_in_any_order() {
    let app = TestApp::start().await;
    let other = json!({"durationInSeconds": 7, "customerName": "Ananya K", "pickedBy": "Farhan", "endedBy": "Farhan",
        "callDirection": "OUTGOING", "callEndedAt": "2026-03-09T11:00:07Z"});
    let all = orders(&[0, 1, 2, 3]);
    assert_eq!(all.len(), 24);
    for order in &all {
        let id = format!("call_{order:?}");
        let events = [accepted(&id), ended_with(&id, json!({})), ended_with(&id, other.clone()), missed(&id)];
        for index in order {
            app.post(&events[*index]).await;
        }
    }
    app.settle().await;
    let mut first = Value::Null;
    for order in &all {
        let mut call = app.call(&format!("call_{order:?}")).await;
        for part in ["call_id", "first_seen_at", "events"] {
            call[part] = Value::Null;
        }
        call["flags"].as_array_mut().unwrap().sort_by_key(|flag| flag["rule"].to_string());
        if first.is_null() {
            first = call.clone();
        }
        assert_eq!(call, first, "{order:?}");
    }
    assert_eq!((&first["status"], &first["flags"][0]["rule"]), (&json!("ended"), &json!("contradiction")));
    app.finish().await;
}
