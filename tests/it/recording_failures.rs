//! Every way in which a recording may not come, and what the archive makes of it.

use serde_json::{Value, json};

use crate::app::{OFFICER, TestApp};
use crate::events::{CBR, SPEECH, ended, recording};
use crate::fake_doubletick::{FakeDoubleTick, Reply};

/// Gives up soon; what is not over by then is over at the next attempt.
const IMPATIENT: &[(&str, &str)] = &[("recordings.give_up_after", "\"300ms\""), ("recordings.max_bytes", "100000")];

fn open_flag<'a>(call: &'a Value, rule: &str) -> Option<&'a Value> {
    call["flags"].as_array().unwrap().iter().find(|flag| flag["rule"] == rule && flag["state"] == "open")
}

async fn archived_after(replies: Vec<Reply>, attempts: u64) {
    let app = TestApp::start().await;
    let url = app.sender.on("/a.mp3", replies);
    app.post(&ended("call_1", &url)).await;
    let call = app.call_in("call_1", "archived").await;
    assert_eq!(call["recording"]["attempts"], attempts);
    assert_eq!(app.get("/api/v1/calls/call_1/recording").await.body, CBR);
    app.settle().await;
    assert_eq!(app.call("call_1").await["flags"], json!([]), "a hitch is no reason for a flag");
    app.finish().await;
}

fn good() -> Reply {
    Reply::Audio(CBR.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn not_there_yet() {
    archived_after(vec![Reply::Status(404), Reply::Status(404), good()], 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_statuses() {
    let statuses = [401, 403, 408, 425, 429, 500, 502];
    let replies = statuses.map(Reply::Status).into_iter().chain([good()]).collect();
    archived_after(replies, statuses.len() as u64 + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_and_it_says_when() {
    let start = std::time::Instant::now();
    archived_after(vec![Reply::Late { seconds: 1 }, good()], 2).await;
    assert!(start.elapsed().as_millis() >= 1000, "the sender asked for a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_is_no_fault() {
    archived_after(vec![Reply::Drip(CBR.to_vec())], 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_off_on_its_way() {
    archived_after(vec![Reply::CutOff(CBR.to_vec()), good()], 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_length() {
    archived_after(vec![Reply::WrongLength(CBR.to_vec()), good()], 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_file_as_if_it_were_whole() {
    // In chunks, so that no length tells it: the last frame is not whole.
    archived_after(vec![Reply::Chunked(CBR[..CBR.len() / 2 + 50].to_vec()), good()], 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_file_for_ever_is_kept_and_flagged() {
    let app = TestApp::with(IMPATIENT).await;
    let half = CBR[..CBR.len() / 2 + 50].to_vec();
    let url = app.sender.on("/a.mp3", [Reply::Chunked(half.clone())]);
    app.post(&ended("call_1", &url)).await;
    let found = app.call_when("call_1", "it is flagged", |call| open_flag(call, "contradiction").is_some()).await;
    let reason = &open_flag(&found, "contradiction").unwrap()["reason"];
    assert_eq!(reason, "the recording breaks off in the middle of the audio");
    assert!(found["recording"]["attempts"].as_u64().unwrap() > 1, "it was tried again before");
    assert_eq!(app.get("/api/v1/calls/call_1/recording").await.body, half);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_file_is_kept_when_the_whole_one_is_gone() {
    let app = TestApp::with(IMPATIENT).await;
    let half = CBR[..CBR.len() / 2 + 50].to_vec();
    let url = app.sender.on("/a.mp3", [Reply::Chunked(half.clone()), Reply::Status(404)]);
    app.post(&ended("call_1", &url)).await;
    app.call_in("call_1", "archived").await;
    assert_eq!(app.get("/api/v1/calls/call_1/recording").await.body, half);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_audio_at_all() {
    let page = b"{\"error\":\"expired\"}".to_vec();
    archived_after(vec![Reply::Html, Reply::Empty, Reply::Audio(page), good()], 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_on_the_same_host() {
    let app = TestApp::start().await;
    app.sender.audio("/there.mp3", CBR);
    let url = app.sender.on("/here.mp3", [Reply::Redirect("/there.mp3".into())]);
    app.post(&ended("call_1", &url)).await;
    assert_eq!(app.call_in("call_1", "archived").await["recording"]["attempts"], 1);
    assert_eq!(app.sender.asked("/there.mp3").len(), 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_is_too_slow_is_tried_again() {
    let app = TestApp::with(&[("recordings.timeout", "\"300ms\"")]).await;
    let url = app.sender.on("/a.mp3", [Reply::Drip(CBR.to_vec()), good()]);
    app.post(&ended("call_1", &url)).await;
    assert_eq!(app.call_in("call_1", "archived").await["recording"]["attempts"], 2);
    app.finish().await;
}

/// Each ends as failed, with a reason and a flag; the first word says whether it was tried more than once.
#[tokio::test(flavor = "multi_thread")]
async fn failed_for_good() {
    // Long enough for a second attempt at what a busy machine is slow with.
    let patience = [("recordings.give_up_after", "\"3s\""), ("recordings.max_bytes", "100000")];
    let app = TestApp::with(&patience).await;
    let elsewhere = FakeDoubleTick::start_open().await;
    let away = Reply::Redirect(elsewhere.url("/a.mp3"));
    let home = Reply::Redirect("/loop.mp3".into());
    let cases = [
        ("/missing.mp3", Reply::Status(404), "given up: the sender answered 404"),
        ("/denied.mp3", Reply::Status(401), "given up: the sender answered 401"),
        ("/html.mp3", Reply::Html, "given up: "),
        ("/empty.mp3", Reply::Empty, "given up: "),
        ("/cut.mp3", Reply::CutOff(CBR.to_vec()), "given up: the recording broke off on its way"),
        ("/loop.mp3", home, "given up: the sender redirects more than"),
        ("/gone.mp3", Reply::Status(410), "the sender answered 410"),
        ("/away.mp3", away, "is not in recordings.hosts"),
        ("/endless.mp3", Reply::Endless(SPEECH.to_vec()), "larger than recordings.max_bytes"),
        ("/large.mp3", Reply::Audio(vec![0; 100_001]), "larger than recordings.max_bytes"),
    ];
    for (path, reply, _) in &cases {
        let url = app.sender.on(path, [reply.clone()]);
        app.post(&ended(path, &url)).await;
    }
    let addresses = [
        ("no url", "not a url", "is no URL"),
        ("other host", &elsewhere.url("/a.mp3"), "is not in recordings.hosts"),
        ("scheme", "ftp://127.0.0.1/a.mp3", "scheme"),
        ("credentials", &app.sender.url("/a.mp3").replace("http://", "http://user:password@"), "credentials"),
    ];
    for (call, url, _) in addresses {
        app.post(&ended(call, url)).await;
    }
    let expected = cases.iter().map(|(call, _, reason)| (*call, *reason));
    for (call, reason) in expected.chain(addresses.map(|(call, _, reason)| (call, reason))) {
        let flagged = |call: &Value| open_flag(call, "recording_failed").is_some();
        let found = app.call_when(call, "it is flagged", flagged).await;
        assert_eq!(found["recording"]["state"], "failed", "{call}");
        let error = found["recording"]["last_error"].as_str().unwrap();
        assert!(error.contains(reason), "{call}: {error}");
        assert_eq!(open_flag(&found, "recording_failed").unwrap()["reason"], error, "{call}");
        let attempts = found["recording"]["attempts"].as_u64().unwrap();
        assert_eq!(attempts > 1, reason.starts_with("given up"), "{call}: {attempts} attempts");
    }
    assert_eq!(elsewhere.requests(), 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retried_by_hand() {
    let app = TestApp::with(IMPATIENT).await;
    for n in 1..=3 {
        let url = app.sender.on(&format!("/{n}.mp3"), [Reply::Status(404)]);
        app.post(&ended(&format!("call_{n}"), &url)).await;
    }
    for n in 1..=3 {
        let flagged = |call: &Value| open_flag(call, "recording_failed").is_some();
        app.call_when(&format!("call_{n}"), "it is flagged", flagged).await;
        app.sender.audio(&format!("/{n}.mp3"), &recording(n));
    }
    // By the API, by the program for one, by the program for all.
    let answer = app.post_as(OFFICER, "/api/v1/calls/call_1/recording/retry").await;
    assert_eq!((answer.status, &answer.json()["state"]), (202, &json!("pending")));
    let one = app.cli(&["recording", "retry", "call_2"]).await;
    assert_eq!(crate::process::ended_with(&one, 0), "The recording will be fetched again.\n");
    app.call_in("call_1", "archived").await;
    app.call_in("call_2", "archived").await;
    let all = app.cli(&["recording", "retry", "--failed"]).await;
    assert!(crate::process::ended_with(&all, 0).starts_with("1 calls"));
    app.call_in("call_3", "archived").await;

    app.settle().await;
    for n in 1..=3 {
        let call = app.call(&format!("call_{n}")).await;
        let flag = call["flags"].as_array().unwrap().iter().find(|flag| flag["rule"] == "recording_failed").unwrap();
        assert_eq!(flag["state"], "resolved", "{call}");
        let kinds: Vec<&str> = call["events"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
        let order = ["recording.failed", "recording.retried", "recording.intended", "recording.archived"];
        let places: Vec<usize> = order.iter().map(|kind| kinds.iter().position(|k| k == kind).unwrap()).collect();
        assert!(places.is_sorted(), "{kinds:?}");
    }
    let journal = app.journal("&kind=recording.retried").await;
    let actors: Vec<&str> = journal.iter().map(|entry| entry["entry"]["actor"].as_str().unwrap()).collect();
    assert!(actors[0].starts_with("token:bootstrap-officer-"), "{actors:?}");
    assert_eq!(actors[1..], ["cli", "cli"]);
    // What is archived is not fetched again.
    app.post_as(OFFICER, "/api/v1/calls/call_1/recording/retry").await.problem(409);
    let again = app.cli(&["recording", "retry", "call_1"]).await;
    crate::process::ended_with(&again, 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_waiting_goes_on_after_a_restart() {
    let mut app = TestApp::start().await;
    let url = app.sender.on("/a.mp3", [Reply::Late { seconds: 2 }, good()]);
    app.post(&ended("call_1", &url)).await;
    let waits = |call: &Value| call["recording"]["attempts"] == 1;
    let call = app.call_when("call_1", "the first attempt is counted", waits).await;
    assert_eq!(call["recording"]["state"], "pending");
    assert_eq!(call["recording"]["last_error"], "the sender answered 503");
    app.restart().await;
    assert_eq!(app.call_in("call_1", "archived").await["recording"]["attempts"], 2);
    app.finish().await;
}
