//! The door for webhooks: who may post, what is taken, and what is told about it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::app::{ADMIN, AUDITOR, INGEST, OFFICER, TestApp};
use crate::events::{accepted, ended, event, missed, recording};
use crate::http::Answer;

/// The largest body that is taken.
const LIMIT: usize = 256 * 1024;

async fn post_with(app: &TestApp, authorization: Option<&str>) -> Answer {
    let request = app.client.post(format!("{}/webhooks/doubletick", app.url)).body(missed("call_1").to_string());
    Answer::of(match authorization {
        Some(value) => request.header("authorization", value),
        None => request,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_who_may_post() {
    let app = TestApp::start().await;
    let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
    for good in [
        format!("Bearer {INGEST}"),
        format!("bearer {INGEST}"),
        format!("Bearer {ADMIN}"),
        basic(&format!("doubletick:{INGEST}")),
        basic(&format!(":{INGEST}")),
    ] {
        assert!(post_with(&app, Some(&good)).await.ok()["seq"].is_u64(), "{good}");
    }
    for bad in [
        None,
        Some("Bearer not-a-secret-of-the-tests".to_owned()),
        Some("Bearer ".to_owned()),
        Some(INGEST.to_owned()),
        Some(basic(&format!("{INGEST}:doubletick"))),
        Some("Basic %%%".to_owned()),
        Some(format!("Digest {INGEST}")),
    ] {
        let answer = post_with(&app, bad.as_deref()).await;
        answer.problem(401);
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{bad:?}");
    }
    for role in [OFFICER, AUDITOR] {
        post_with(&app, Some(&format!("Bearer {role}"))).await.problem(403);
    }
    assert_eq!(app.journal("&kind=webhook.received").await.len(), 5, "what was refused is not journaled");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_up_to_the_limit() {
    let app = TestApp::start().await;
    let mut body = missed("call_1").to_string();
    body.push_str(&" ".repeat(LIMIT - body.len()));
    assert_eq!(app.post_body(body.clone()).await.ok()["quarantined"], Value::Null);
    body.push(' ');
    assert!(app.post_body(body).await.problem(413).contains("256 KiB"));
    assert_eq!(app.journal("&kind=webhook.received").await.len(), 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_understood_is_kept_and_listed() {
    let app = TestApp::start().await;
    let bodies: [(&[u8], &str); 7] = [
        (b"", "not_an_object"),
        (b"hello", "not_an_object"),
        (b"[1,2]", "not_an_object"),
        (b"\xff\x00\xfe", "not_an_object"),
        (b"{\"event\":\"CALL_ENDED\",", "not_an_object"),
        (b"{\"something\":\"else\"}", "unknown_shape"),
        (b"{\"event\":\"CALL_ENDED\",\"callId\":\"\"}", "no_call_id"),
    ];
    let mut seqs = Vec::new();
    for (body, reason) in bodies {
        let answer = app.post_body(body.to_vec()).await.ok();
        assert_eq!(answer["quarantined"], reason, "{body:?}");
        seqs.push(answer["seq"].as_u64().unwrap());
    }
    app.post(&missed("call_1")).await;

    let listed = app.json("/api/v1/quarantine").await;
    let listed = listed["entries"].as_array().unwrap();
    assert_eq!(listed.len(), bodies.len());
    // The newest first, each with the exact bytes that came.
    for ((entry, (body, reason)), seq) in listed.iter().rev().zip(bodies).zip(seqs) {
        assert_eq!((&entry["entry"]["seq"], &entry["reason"]), (&json!(seq), &json!(reason)));
        assert_eq!(entry["entry"]["kind"], "webhook.quarantined");
        assert_eq!(STANDARD.decode(entry["body_bytes"].as_str().unwrap()).unwrap(), body);
    }
    let page = app.json("/api/v1/quarantine?limit=3").await;
    assert_eq!(page["entries"].as_array().unwrap(), &listed[..3]);
    let next = app.json(&format!("/api/v1/quarantine?limit=3&before={}", page["next"])).await;
    assert_eq!(next["entries"].as_array().unwrap(), &listed[3..6]);
    app.get_as(OFFICER, "/api/v1/quarantine").await.problem(403);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_events_are_kept() {
    let app = TestApp::start().await;
    for body in [json!({"event": "NEW_LEAD", "lead": 1}), json!({"event": "SOMETHING_OF_TOMORROW", "a": {"b": [1]}})] {
        let seq = app.post(&body).await;
        let kept = app.journal("").await.into_iter().find(|entry| entry["entry"]["seq"] == seq).unwrap();
        assert_eq!((&kept["body"], &kept["entry"]["kind"]), (&body, &json!("webhook.received")));
    }
    // An event type that nobody knows, about a call: it stands with the call.
    app.post(&missed("call_1")).await;
    app.post(&event("CALL_TRANSFERRED", "call_1", json!({"transferredTo": "919800000000"}))).await;
    let call = app.call("call_1").await;
    let events: Vec<&Value> = call["events"].as_array().unwrap().iter().map(|event| &event["event"]).collect();
    assert_eq!(events, ["CALL_MISSED", "CALL_TRANSFERRED"]);
    assert_eq!(call["status"], "missed");
    assert_eq!(app.json("/api/v1/quarantine").await["entries"], json!([]));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_carry_the_same_events() {
    let app = TestApp::start().await;
    let url = app.sender.audio("/form.mp3", &recording(1));
    let fields = ended("call_form", &url);
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs: Vec<(String, String)> =
        fields.as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
    assert_eq!(app.post_body(form.clone()).await.ok()["quarantined"], Value::Null);

    let mut multipart = String::new();
    for (name, value) in &pairs {
        let value = if name == "callId" { "call_multipart" } else { value };
        multipart.push_str(&format!("--xYzZy\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"));
    }
    multipart.push_str("--xYzZy--\r\n");
    assert_eq!(app.post_body(multipart).await.ok()["quarantined"], Value::Null);

    app.post(&ended("call_json", &url)).await;
    app.settle().await;
    let mut json = app.call("call_json").await;
    for other in ["call_form", "call_multipart"] {
        let mut call = app.call(other).await;
        for part in ["call_id", "first_seen_at", "events", "recording"] {
            (json[part], call[part]) = (Value::Null, Value::Null);
        }
        assert_eq!(call, json, "{other}");
    }
    // The journal has the form as it came, not our reading of it.
    let kept = &app.journal("&subject=call_form&kind=webhook.received").await[0];
    assert_eq!(STANDARD.decode(kept["body_bytes"].as_str().unwrap()).unwrap(), form.as_bytes());
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_change_nothing() {
    let app = TestApp::start().await;
    let url = app.sender.audio("/twice.mp3", &recording(1));
    let events = [accepted("call_1"), ended("call_1", &url)];
    for event in &events {
        app.post(event).await;
    }
    app.settle().await;
    let mut once = app.call("call_1").await;
    for event in events.iter().chain(&events) {
        app.post(event).await;
    }
    app.settle().await;
    let mut thrice = app.call("call_1").await;
    assert_eq!(thrice["events"].as_array().unwrap().len(), once["events"].as_array().unwrap().len() + 4);
    (once["events"], thrice["events"]) = (Value::Null, Value::Null);
    assert_eq!(once, thrice);
    assert_eq!(app.sender.asked("/twice.mp3").len(), 1, "what is archived is not fetched again");
    app.finish().await;
}
