//! Marks for review: raised by thresholds, by the clock and by what the sender says, and taken back when it comes.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::events::{CBR, accepted, ended, ended_after, ended_with, event, missed, recording};
use crate::fake_doubletick::Reply;

fn flag<'a>(call: &'a Value, rule: &str) -> Option<&'a Value> {
    call["flags"].as_array().unwrap().iter().find(|flag| flag["rule"] == rule)
}

fn is(call: &Value, rule: &str, state: &str) -> bool {
    flag(call, rule).is_some_and(|flag| flag["state"] == state)
}

fn rules(call: &Value) -> Vec<&str> {
    call["flags"].as_array().unwrap().iter().map(|flag| flag["rule"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn by_length() {
    let settings = [("flags.short_call_seconds", "10"), ("flags.long_call_seconds", "60")];
    let app = TestApp::with(&settings).await;
    for seconds in [0, 9, 10, 60, 61] {
        app.post(&ended_after(&format!("call_{seconds}"), seconds)).await;
    }
    app.post(&missed("call_missed")).await;
    app.settle().await;
    for (call, expected) in [
        // Nobody answered: neither short nor without its recording. A call with a start but no length had a conversation.
        ("call_missed", vec![]),
        ("call_0", vec!["recording_missing", "short_call"]),
        ("call_9", vec!["recording_missing", "short_call"]),
        ("call_10", vec!["recording_missing"]),
        ("call_60", vec!["recording_missing"]),
        ("call_61", vec!["long_call", "recording_missing"]),
    ] {
        assert_eq!(rules(&app.call(call).await), expected, "{call}");
    }
    assert_eq!(flag(&app.call("call_9").await, "short_call").unwrap()["reason"], "9 s, below 10 s");
    // The flag's entry carries all that the decision rested on.
    let entry = &app.journal("&subject=call_61&kind=flag.raised").await;
    let long = entry.iter().map(|entry| &entry["body"]).find(|body| body["rule"] == "long_call").unwrap();
    assert_eq!((&long["threshold"], &long["call_id"]), (&json!("60 s"), &json!("call_61")));
    assert!(long["evaluated_at"].as_str().unwrap().starts_with("2026-03-09T12:"), "{long}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_is_missing_and_comes_later() {
    let app = TestApp::start().await;
    app.post(&ended("call_1", "")).await;
    let call = app.call_when("call_1", "it is flagged", |call| is(call, "recording_missing", "open")).await;
    assert_eq!(call["recording"]["state"], "missing");
    let url = app.sender.audio("/late.mp3", CBR);
    app.post(&ended("call_1", &url)).await;
    app.call_in("call_1", "archived").await;
    let call = app.call_when("call_1", "it is resolved", |call| is(call, "recording_missing", "resolved")).await;
    assert_eq!(flag(&call, "recording_missing").unwrap()["reason"], "the recording came after all");
    assert_eq!(app.found("flag=recording_missing&flag_state=resolved", 1).await["calls"][0]["call_id"], "call_1");
    assert_eq!(app.found("flag=recording_missing&flag_state=open", 0).await["calls"], json!([]));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_clock() {
    let settings = [("flags.call_overdue", "\"700ms\""), ("flags.recording_overdue", "\"700ms\"")];
    let app = TestApp::with(&settings).await;
    let url = app.sender.on("/late.mp3", [Reply::Late { seconds: 3 }, Reply::Audio(CBR.to_vec())]);
    app.post(&accepted("call_open")).await;
    app.post(&event("CALL_INCOMING_INITIATED", "call_ringing", json!({"callStatus": "INITIATED"}))).await;
    app.post(&ended("call_waiting", &url)).await;
    app.post(&missed("call_over")).await;

    let overdue = |call: &Value| is(call, "call_overdue", "open");
    let open = app.call_when("call_open", "it never ended", overdue).await;
    assert_eq!(flag(&open, "call_overdue").unwrap()["reason"], "accepted more than 700ms ago and never ended");
    app.call_when("call_ringing", "it never ended", overdue).await;
    let late = |state: &'static str| move |call: &Value| is(call, "recording_overdue", state);
    let waiting = app.call_when("call_waiting", "its recording is overdue", late("open")).await;
    assert_eq!(waiting["recording"]["state"], "pending");

    // What was lacking comes.
    app.call_when("call_waiting", "its recording came", late("resolved")).await;
    let url = app.sender.audio("/2.mp3", &recording(2));
    app.post(&ended("call_open", &url)).await;
    app.call_when("call_open", "it ended after all", |call| is(call, "call_overdue", "resolved")).await;
    app.post(&missed("call_ringing")).await;
    app.settle().await;
    assert_eq!(rules(&app.call("call_over").await), [""; 0]);
    let raised = app.journal("&kind=flag.raised").await;
    assert_eq!(raised.len(), 3, "each flag is raised once: {raised:#?}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_length_than_the_sender_says() {
    let app = TestApp::with(&[("flags.duration_tolerance_seconds", "2")]).await;
    let url = app.sender.audio("/a.mp3", CBR);
    for seconds in [3, 5, 6, 0] {
        let mut event = ended_after(&format!("call_{seconds}"), seconds);
        event["recordingUrl"] = json!(url);
        app.post(&event).await;
    }
    app.settle().await;
    // The recording lasts 3.024 s.
    for (call, flagged) in [("call_3", false), ("call_5", false), ("call_6", true), ("call_0", true)] {
        assert_eq!(flag(&app.call(call).await, "duration_mismatch").is_some(), flagged, "{call}");
    }
    let call = app.call("call_6").await;
    let reason = &flag(&call, "duration_mismatch").unwrap()["reason"];
    assert_eq!(reason, "the sender says 6 s, the recording lasts 3.0 s");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contradictions_are_kept_and_flagged() {
    let app = TestApp::start().await;
    let url = app.sender.audio("/a.mp3", CBR);
    let contradicting = [
        ("missed and ended", vec![missed("missed and ended"), ended("missed and ended", &url)], "ended"),
        ("accepted, missed", vec![accepted("accepted, missed"), missed("accepted, missed")], "missed"),
        (
            "number",
            vec![ended("number", &url), ended_with("number", json!({"customerNumber": "919999999999"}))],
            "ended",
        ),
        (
            "end before start",
            vec![ended_with("end before start", json!({"callEndedAt": "2026-03-09T10:00:00Z"}))],
            "ended",
        ),
        ("the future", vec![ended_with("the future", json!({"callEndedAt": "2026-03-11T00:00:00Z"}))], "ended"),
        ("unreadable", vec![ended_with("unreadable", json!({"callEndedAt": "soon"}))], "ended"),
    ];
    for (call, events, _) in &contradicting {
        assert!(events.iter().all(|event| event["callId"] == *call));
        for event in events {
            app.post(event).await;
        }
    }
    // The agent by number once and by name another time is no contradiction.
    app.post(&ended("agent", &url)).await;
    app.post(&ended_with("agent", json!({"recordingUrl": url, "pickedBy": "Farhan Siddiqui"}))).await;
    app.settle().await;
    for (call, _, status) in &contradicting {
        let found = app.call(call).await;
        assert!(is(&found, "contradiction", "open"), "{call}: {found:#}");
        assert_eq!(found["status"], *status, "{call}");
    }
    assert_eq!(rules(&app.call("agent").await), [""; 0]);
    let twice = app.journal("&subject=number&kind=webhook.received").await;
    assert_eq!(twice.len(), 2, "both statements are kept");
    assert_eq!(app.found("flag=contradiction", 6).await["total"], 6);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_can_not_be_true_does_not_shorten_the_keeping() {
    let app = TestApp::start().await;
    let url = app.sender.audio("/a.mp3", CBR);
    for (call, end) in [("long ago", "2020-01-01T00:00:00Z"), ("far ahead", "2099-01-01T00:00:00Z")] {
        app.post(&ended_with(call, json!({"recordingUrl": url, "callEndedAt": end, "callStartedAt": ""}))).await;
        let found = app.call_in(call, "archived").await;
        let until = found["recording"]["retain_until"].as_str().unwrap();
        assert!(until.starts_with("2031-03-09T12:"), "five years from the receipt, not {until}");
        assert!(found["recording"]["object_key"].as_str().unwrap().starts_with("recordings/2026/03/09/"));
        app.call_when(call, "it is flagged", |call| is(call, "contradiction", "open")).await;
    }
    // 29 February plus five years is 1 March, never a day short.
    let leap =
        json!({"recordingUrl": url, "callEndedAt": "2024-02-29T10:00:03Z", "callStartedAt": "2024-02-29T10:00:00Z"});
    app.post(&ended_with("leap", leap)).await;
    assert_eq!(app.call_in("leap", "archived").await["recording"]["retain_until"], "2029-03-01T10:00:03Z");
    app.finish().await;
}
