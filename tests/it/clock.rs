//! The machine's clock jumps by years, forth and back, while the archive serves and between two starts.

use serde_json::Value;

use crate::app::TestApp;
use crate::events::{accepted, ended, recording};
use crate::fake_doubletick::Reply;
use crate::http::eventually;

const TEN_YEARS: i64 = 3653;

/// Has a recording that comes only at the fourth try; the clock jumps after the first.
async fn fetched_through_a_jump(app: &TestApp, call_id: &str, n: u32, days: i64) -> Value {
    let path = format!("/{n}.mp3");
    let down = std::iter::repeat_n(Reply::Status(503), 3);
    app.post(&ended(call_id, &app.sender.on(&path, down.chain([Reply::Audio(recording(n))])))).await;
    eventually("it is tried", || async { (!app.sender.asked(&path).is_empty()).then_some(()) }).await;
    app.jump(days);
    app.call_in(call_id, "archived").await
}

/// The journal's own time never runs backwards.
async fn in_order(app: &TestApp) {
    let entries = app.journal("").await;
    let times: Vec<&str> = entries.iter().map(|view| view["entry"]["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_gives_nothing_up_and_keeps_nothing_waiting() {
    let app = TestApp::with(&[("recordings.retry_base", "\"300ms\"")]).await;
    fetched_through_a_jump(&app, "call_forth", 1, TEN_YEARS).await;
    fetched_through_a_jump(&app, "call_back", 2, -TEN_YEARS).await;
    let behind = fetched_through_a_jump(&app, "call_behind", 3, -TEN_YEARS).await;
    assert_eq!(behind["recording"]["retain_until"], "2031-03-09T11:00:03Z", "by the end that is known");
    in_order(&app).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_retention_date_is_too_early_while_the_clock_is_behind() {
    let app = TestApp::start().await;
    app.jump(-TEN_YEARS);
    // In the journal it is 2026: tokens were made. The end can't be true by this clock, but it is.
    app.post(&ended("call_1", &app.sender.audio("/1.mp3", &recording(1)))).await;
    let call = app.call_in("call_1", "archived").await;
    assert_eq!(call["recording"]["retain_until"], "2031-03-09T11:00:03Z");
    in_order(&app).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_back_between_two_starts_keeps_nothing_waiting() {
    let mut app = TestApp::with(&[("recordings.retry_base", "\"600s\"")]).await;
    app.jump(TEN_YEARS);
    let url = app.sender.on("/1.mp3", [Reply::Status(503), Reply::Audio(recording(1))]);
    app.post(&ended("call_1", &url)).await;
    app.call_when("call_1", "it was tried", |call| call["recording"]["attempts"] == 1).await;
    app.stop().await;
    app.jump(-TEN_YEARS);
    app.serve_again().await;
    app.call_in("call_1", "archived").await;
    in_order(&app).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_begins_while_the_clock_is_ahead_is_not_forgotten() {
    let app = TestApp::with(&[("flags.call_overdue", "\"1s\"")]).await;
    app.jump(2);
    app.post(&accepted("call_1")).await;
    app.jump(-4);
    let overdue = |call: &Value| call["flags"].to_string().contains("call_overdue");
    let call = app.call_when("call_1", "it is flagged", overdue).await;
    assert!(call["flags"].to_string().contains("still to come"), "{call}");
    app.post(&ended("call_1", &app.sender.audio("/1.mp3", &recording(1)))).await;
    let ended = |call: &Value| {
        let mut flags = call["flags"].as_array().unwrap().iter();
        flags.all(|flag| flag["rule"] != "call_overdue" || flag["state"] == "resolved")
    };
    app.call_when("call_1", "the flag ends", ended).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_the_future_is_none() {
    let app = TestApp::start().await;
    app.jump(TEN_YEARS);
    let auditor = crate::journal::token_names(&app, "auditor").await.remove(0);
    let session = app.cookie(&auditor, callvault::access::Role::Auditor).await;
    let ask = || app.client.get(format!("{}/api/v1/calls", app.url)).header("cookie", &session).send();
    // The index may not be there yet.
    let known = || async { (ask().await.unwrap().status() == 200).then_some(()) };
    eventually("the session is known", known).await;
    app.jump(-TEN_YEARS);
    assert_eq!(ask().await.unwrap().status(), 401);
    // The next session takes it away; until then `verify` names it.
    app.cookie(&auditor, callvault::access::Role::Auditor).await;
    app.finish().await;
}
