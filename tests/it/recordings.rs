//! What becomes of a recording that comes as it should: the same hash everywhere, and every way to listen to it.

use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::app::{AUDITOR, OFFICER, TestApp};
use crate::events::{CBR, SILENCE, SPEECH, VBR, ended, ended_with, recording};
use crate::fake_doubletick::{API_KEY, FakeDoubleTick, Reply};
use crate::http::{Answer, encoded};
use crate::leftovers::files;
use crate::pair::EMBEDDED;
use crate::process::ProcessApp;

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_hash_everywhere() {
    let app = TestApp::start().await;
    let url = app.sender.audio("/a.mp3", CBR);
    app.post(&ended("call_1", &url)).await;
    let call = app.call_in("call_1", "archived").await;
    let recording = &call["recording"];
    let hash = sha256(CBR);
    assert_eq!(recording["sha256"], hash);
    assert_eq!((&recording["size_bytes"], &recording["media_type"]), (&json!(CBR.len()), &json!("audio/mpeg")));
    assert_eq!((&recording["audio_seconds"], &recording["attempts"]), (&json!(3.0), &json!(1)));
    assert_eq!(recording["retain_until"], "2031-03-09T11:00:03Z");
    let key = recording["object_key"].as_str().unwrap();
    assert_eq!(key, format!("recordings/2026/03/09/call_1/{hash}.mp3"));

    assert_eq!(app.stored(key).await, CBR);
    let kept = app.parts().store.head(key, None).await.unwrap().unwrap();
    assert_eq!((kept.size, kept.legal_hold), (CBR.len() as u64, false));
    assert_eq!(kept.retain_until, Some("2031-03-09T11:00:03Z".parse().unwrap()));

    let receipt = &app.journal("&subject=call_1&kind=recording.archived").await[0]["body"];
    assert_eq!((&receipt["sha256"], &receipt["object_key"]), (&json!(hash), &json!(key)));

    let audio = app.get("/api/v1/calls/call_1/recording").await;
    assert_eq!((audio.status, &audio.body[..]), (200, CBR));
    let digest = STANDARD.encode(Sha256::digest(CBR));
    assert_eq!(audio.header("repr-digest"), format!("sha-256=:{digest}:"));
    assert_eq!(audio.header("etag"), format!("\"{hash}\""));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_and_its_lock() {
    let app = TestApp::with(&EMBEDDED).await;
    app.post(&ended("call_1", &app.sender.audio("/a.mp3", CBR))).await;
    let call = app.call_in("call_1", "archived").await;
    let key = call["recording"]["object_key"].as_str().unwrap();
    let file = app.object(key);
    assert_eq!(std::fs::read(&file).unwrap(), CBR);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o444, "nobody may write to it");
    let sidecar = std::fs::read(app.object(&format!("{key}.retention.json"))).unwrap();
    let sidecar: Value = serde_json::from_slice(&sidecar).unwrap();
    let expected = json!({"retain_until": "2031-03-09T11:00:03Z", "legal_hold": false, "size_bytes": CBR.len(),
        "sha256": sha256(CBR)});
    assert_eq!(sidecar, expected);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listening_in_parts() {
    let app = TestApp::start().await;
    let url = app.sender.audio("/a.mp3", SPEECH);
    app.post(&ended("call_1", &url)).await;
    app.call_in("call_1", "archived").await;
    let url = format!("{}/api/v1/calls/call_1/recording", app.url);
    let with = |name: &str, value: &str| Answer::of(app.client.get(&url).bearer_auth(OFFICER).header(name, value));
    let size = SPEECH.len();

    for (range, from, to) in [
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=100-", 100, size - 1),
        ("bytes=-10", size - 10, size - 1),
        ("bytes=29000-99999999", 29000, size - 1),
    ] {
        let part = with("range", range).await;
        assert_eq!((part.status, part.header("accept-ranges")), (206, "bytes"), "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {from}-{to}/{size}"), "{range}");
        assert_eq!(part.header("content-length"), (to - from + 1).to_string(), "{range}");
        assert_eq!(part.body, &SPEECH[from..=to], "{range}");
    }
    let outside = with("range", &format!("bytes={size}-")).await;
    outside.problem(416);
    assert_eq!(outside.header("content-range"), format!("bytes */{size}"));
    for whole in ["bytes=0-1,5-6", "lines=1-2", "nonsense"] {
        assert_eq!(with("range", whole).await.status, 200, "{whole}");
    }

    let etag = format!("\"{}\"", sha256(SPEECH));
    for tag in [etag.clone(), format!("\"other\", {etag}"), format!("W/{etag}"), "*".into()] {
        let answer = with("if-none-match", &tag).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{tag}");
    }
    assert_eq!(with("if-none-match", "\"other\"").await.status, 200);
    let request = || app.client.get(&url).bearer_auth(OFFICER).header("range", "bytes=0-9");
    assert_eq!(Answer::of(request().header("if-range", &etag)).await.status, 206);
    assert_eq!(Answer::of(request().header("if-range", "\"other\"")).await.status, 200);

    let head = Answer::of(app.client.head(&url).bearer_auth(OFFICER)).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, &*size.to_string(), 0));
    assert_eq!(head.header("content-disposition"), "inline; filename=\"call_1.mp3\"");
    let download = app.get("/api/v1/calls/call_1/recording?download=1").await;
    assert_eq!(download.header("content-disposition"), "attachment; filename=\"call_1.mp3\"");
    assert_eq!(download.header("x-content-type-options"), "nosniff");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_none_the_state_is_told() {
    let app = TestApp::start().await;
    app.post(&crate::events::missed("call_none")).await;
    app.post(&ended("call_missing", "")).await;
    for (call, state) in [("call_none", "none"), ("call_missing", "missing")] {
        for part in ["recording", "waveform"] {
            let answer = app.get(&format!("/api/v1/calls/{call}/{part}")).await;
            assert!(answer.problem(404).contains(state));
            assert_eq!(answer.json()["state"], state);
        }
        app.post_as(OFFICER, &format!("/api/v1/calls/{call}/recording/retry")).await.problem(409);
    }
    app.get("/api/v1/calls/nobody/recording").await.problem(404);
    app.post_as(OFFICER, "/api/v1/calls/nobody/recording/retry").await.problem(404);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shape_of_the_sound() {
    let app = TestApp::start().await;
    let (speech, silence) = (app.sender.audio("/speech.mp3", SPEECH), app.sender.audio("/silence.mp3", SILENCE));
    app.post(&ended_with("call_speech", json!({"recordingUrl": speech}))).await;
    app.post(&ended_with("call_silent", json!({"recordingUrl": silence}))).await;
    app.settle().await;
    for call in ["call_speech", "call_silent"] {
        let wave = app.json(&format!("/api/v1/calls/{call}/waveform")).await;
        let peaks: Vec<f64> = wave["peaks"].as_array().unwrap().iter().map(|peak| peak.as_f64().unwrap()).collect();
        assert_eq!(peaks.len(), 1000);
        assert!(peaks.iter().all(|peak| (0.0..=1.0).contains(peak)));
        let loud = peaks.iter().filter(|peak| **peak > 0.1).count();
        assert_eq!(loud > 300, call == "call_speech", "{call}: {loud} loud peaks");
        let seconds = app.call(call).await["recording"]["audio_seconds"].as_f64().unwrap();
        assert!((wave["seconds"].as_f64().unwrap() - seconds).abs() < 0.2, "{call}");
    }
    let flagged =
        |call: &Value| call["flags"].as_array().unwrap().iter().any(|flag| flag["rule"] == "silent_recording");
    assert!(flagged(&app.call("call_silent").await));
    assert!(!flagged(&app.call("call_speech").await));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_address_is_kept_as_a_further_recording() {
    let app = TestApp::start().await;
    let (first, second) = (app.sender.audio("/1.mp3", CBR), app.sender.audio("/2.mp3", VBR));
    app.post(&ended("call_1", &first)).await;
    app.call_in("call_1", "archived").await;
    app.post(&ended("call_1", &second)).await;
    let has_second = |call: &Value| call["recordings"][0]["state"] == "archived";
    let call = app.call_when("call_1", "the second is archived", has_second).await;
    assert_eq!(
        (&call["recording"]["sha256"], &call["recordings"][0]["sha256"]),
        (&json!(sha256(CBR)), &json!(sha256(VBR)))
    );
    assert_eq!(app.get("/api/v1/calls/call_1/recording").await.body, CBR);
    assert_eq!(app.get("/api/v1/calls/call_1/recording?number=2").await.body, VBR);
    app.get("/api/v1/calls/call_1/recording?number=3").await.problem(404);
    app.settle().await;
    let flags = app.call("call_1").await["flags"].clone();
    assert_eq!(flags[0]["rule"], "contradiction", "{flags}");
    assert!(flags[0]["reason"].as_str().unwrap().contains("2 different recordings"), "{flags}");

    // A third address with bytes that are kept already adds no recording.
    let third = app.sender.audio("/3.mp3", CBR);
    app.post(&ended("call_1", &third)).await;
    app.settle().await;
    assert_eq!(app.call("call_1").await["recordings"].as_array().unwrap().len(), 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_id_leaves_the_store() {
    let app = TestApp::with(&EMBEDDED).await;
    let long = "x".repeat(10_000);
    let ids =
        ["../../../etc/cron.d/x", "..", ".", "a/b", "/absolute", "C:\\x", "a\0b", "%2e%2e%2f", "नमस्ते", "a b\n", &long];
    for (n, id) in ids.iter().enumerate() {
        let url = app.sender.audio(&format!("/{n}.mp3"), &recording(u32::try_from(n).unwrap()));
        app.post(&ended(id, &url)).await;
    }
    app.settle().await;
    let answer = app.found("limit=500", ids.len() as u64).await;
    let store = app.data_dir().join("objects/recordings/2026/03/09");
    for call in answer["calls"].as_array().unwrap() {
        let id = call["call_id"].as_str().unwrap();
        assert!(ids.iter().any(|sent| sent.replace('\0', "\u{fffd}").trim() == id), "{id:.40}");
        let key = call["recording"]["object_key"].as_str().unwrap();
        let file = app.object(key).canonicalize().unwrap();
        let inside = file.strip_prefix(store.canonicalize().unwrap()).unwrap();
        assert_eq!(inside.components().count(), 2, "a folder of the call's own and a file: {inside:?}");
        // Clients take these two for steps in a path; the search finds them.
        if id != "." && id != ".." {
            assert_eq!(app.call(id).await["recording"]["sha256"], call["recording"]["sha256"]);
            let audio = app.get(&format!("/api/v1/calls/{}/recording?download=1", encoded(id))).await;
            let name = audio.header("content-disposition").strip_prefix("attachment; filename=\"").unwrap();
            let name = name.strip_suffix(".mp3\"").unwrap();
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)), "{name}");
            assert_eq!(sha256(&audio.body), call["recording"]["sha256"].as_str().unwrap());
        }
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_goes_to_the_listed_host_and_nowhere_else() {
    let elsewhere = FakeDoubleTick::start_open().await;
    elsewhere.audio("/stolen.mp3", CBR);
    // Every attempt's errors are seen, and the last comes soon.
    let mut app = ProcessApp::with(&[("recordings.give_up_after", "\"200ms\"")]).await;
    let fine = app.sender.audio("/fine.mp3", CBR);
    let away = app.sender.on("/away.mp3", [Reply::Redirect(elsewhere.url("/stolen.mp3"))]);
    let broken = app.sender.on("/broken.mp3", [Reply::CutOff(CBR.to_vec())]);
    let denied = app.sender.on("/denied.mp3", [Reply::Status(401)]);
    app.post(&ended("call_fine", &format!("{fine}?v=2&sig=a%2Bb"))).await;
    app.post(&ended("call_away", &away)).await;
    app.post(&ended("call_direct", &elsewhere.url("/stolen.mp3"))).await;
    app.post(&ended("call_broken", &broken)).await;
    app.post(&ended("call_denied", &denied)).await;
    app.call_in("call_fine", "archived").await;
    for call in ["call_away", "call_direct", "call_broken", "call_denied"] {
        app.call_in(call, "failed").await;
    }

    let asked = app.sender.asked("/fine.mp3");
    assert_eq!(
        asked[0].query,
        format!("v=2&sig=a%2Bb&token={API_KEY}"),
        "the rest of the query stays as it was signed"
    );
    assert!(!asked[0].headers.contains_key("authorization"));
    assert_eq!(elsewhere.requests(), 0, "a host that is not listed is not even asked");

    let metrics = app.get("/metrics").await.text();
    assert!(metrics.contains("callvault_recordings_total{outcome=\"failed\"} 4"), "{metrics}");
    let needles = [API_KEY.to_owned(), encoded(API_KEY)];
    let absent = |what: &str, text: &[u8]| {
        for needle in &needles {
            assert!(!text.windows(needle.len()).any(|window| window == needle.as_bytes()), "the key stands in {what}");
        }
    };
    absent("the metrics", metrics.as_bytes());
    app.settle().await;
    let mut looked_into = 0;
    for file in files(&app.data_dir()) {
        // The index merges its files as it likes.
        let Ok(content) = std::fs::read(&file) else { continue };
        absent(&file.display().to_string(), &content);
        looked_into += 1;
    }
    assert!(looked_into > 10, "{looked_into} files");
    let log = app.log();
    assert!(log.contains("recording failed"), "the log says something");
    absent("the log", log.as_bytes());
    for secret in [crate::app::INGEST, AUDITOR] {
        assert!(!log.contains(secret), "a token's secret stands in the log");
    }
    assert_eq!(app.terminate().await.code(), Some(0));
    for (name, content) in app.contents().await {
        absent(&name, &content);
    }
    app.serve().await;
    app.finish().await;
}
