//! The call record beside each recording, read as an outsider would.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use crate::app::TestApp;
use crate::events::{CBR, accepted, ended, ended_with};

const SCHEMA: &str = include_str!("../fixtures/vcon_json_schema.json");

#[track_caller]
fn assert_valid(vcon: &Value) {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(vcon).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(errors, [""; 0], "{vcon:#}");
}

async fn vcon_of(app: &TestApp, call_id: &str) -> (Value, Vec<u8>) {
    let call = app.call_in(call_id, "archived").await;
    let bytes = app.stored(call["recording"]["vcon_key"].as_str().unwrap()).await;
    (serde_json::from_slice(&bytes).unwrap(), bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_to_the_draft() {
    let app = TestApp::start().await;
    let url = app.sender.audio("/a.mp3", CBR);
    // The bytes of a webhook are kept as they came, odd spaces and all.
    let first = format!("\n  {}  ", accepted("call_1")).replace("\":\"", "\" : \"");
    let last = ended("call_1", &url).to_string();
    for body in [&first, &last] {
        app.post_body(body.clone()).await.ok();
    }
    let (vcon, bytes) = vcon_of(&app, "call_1").await;
    assert_valid(&vcon);
    assert_eq!(serde_json_canonicalizer::to_vec(&vcon).unwrap(), bytes, "RFC 8785");
    let uuid: uuid::Uuid = vcon["uuid"].as_str().unwrap().parse().unwrap();
    assert_eq!(uuid.get_version_num(), 8);

    let dialog = &vcon["dialog"][0];
    assert_eq!((&dialog["type"], &dialog["mediatype"]), (&json!("recording"), &json!("audio/mpeg")));
    assert_eq!((&dialog["start"], &dialog["duration"]), (&json!("2026-03-09T11:00:00Z"), &json!(3.024)));
    let hash = format!("sha512-{}", URL_SAFE_NO_PAD.encode(Sha512::digest(CBR)));
    assert_eq!(dialog["content_hash"], hash);
    let path = dialog["url"].as_str().unwrap().split_once("8470").unwrap().1;
    assert_eq!(app.get(path).await.body, CBR, "the address in the record leads to the recording");
    assert_eq!(dialog["parties"], json!([0, 1]));
    assert_eq!(vcon["parties"][0], json!({"type": "person", "name": "Ananya Kulkarni", "tel": "tel:+919820011223"}));
    assert_eq!(vcon["parties"][1], json!({"type": "person", "tel": "tel:+919833344556"}));

    let attachments = vcon["attachments"].as_array().unwrap();
    let bodies: Vec<&str> = attachments.iter().map(|attachment| attachment["body"].as_str().unwrap()).collect();
    assert_eq!(bodies, [first.as_str(), last.as_str()]);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_values_keep_to_it_too() {
    let app = TestApp::start().await;
    let url = app.sender.audio("/a.mp3", CBR);
    let fields = json!({"recordingUrl": url, "callDirection": "OUTGOING", "pickedBy": "Farhan Siddiqui", "customerName": "",
        "customerNumber": "call me", "callStartedAt": "yesterday", "callEndedAt": "", "wabaNumber": ""});
    app.post(&ended_with("call \u{1f600} 1", fields)).await;
    let (vcon, _) = vcon_of(&app, "call \u{1f600} 1").await;
    assert_valid(&vcon);
    assert_eq!(vcon["dialog"][0]["originator"], 1, "the agent called");
    assert_eq!(vcon["parties"][1]["name"], "Farhan Siddiqui");

    // A body that is no text at all.
    let mut form =
        format!("event=CALL_ENDED&callId=call_2&callStatus=END&durationInSeconds=3&recordingUrl={url}").into_bytes();
    form.extend(b"&customerName=%FF%FE");
    app.post_body(form.clone()).await.ok();
    let (vcon, _) = vcon_of(&app, "call_2").await;
    assert_valid(&vcon);
    assert_eq!(vcon["attachments"][0]["body"], String::from_utf8(form).unwrap());
    app.finish().await;
}
