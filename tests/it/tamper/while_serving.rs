//! A damaged row under a running server: it is left out and told of, everything else goes on, and it comes back when it is
//! mended.

use serde_json::Value;

use crate::app::{TestApp, load};
use crate::events::{accepted, ended, ended_after, missed, recording};
use crate::http::eventually;
use crate::raw::Raw;

async fn raw(app: &TestApp) -> Raw {
    Raw::of(&load(&app.config_file(), ""), app.scratch()).await
}

/// Changes rows beside the server.
async fn change(app: &TestApp, sql: &str) {
    let mut raw = raw(app).await;
    assert!(raw.run(sql).await > 0, "{sql}");
    raw.close().await;
}

async fn value(app: &TestApp, sql: &str) -> String {
    let mut raw = raw(app).await;
    let value = raw.texts(sql).await.remove(0);
    raw.close().await;
    value
}

/// A column's value as a literal.
async fn literal(app: &TestApp, column: &str, of: &str) -> String {
    let raw = raw(app).await;
    let literal = raw.literal(column);
    raw.close().await;
    value(app, &format!("select {literal} from {of}")).await
}

/// How many rows `/readyz` says are damaged, without naming anything to whoever asks.
async fn told(app: &TestApp, rows: usize) {
    let probe = || async {
        let degraded = app.get("/readyz").await.ok()["degraded"].clone();
        let of_rows = degraded.as_array().unwrap().iter().find(|part| part["part"] == "database").cloned();
        match of_rows {
            None => (rows == 0).then_some(()),
            Some(part) => part["why"].as_str().unwrap().starts_with(&format!("{rows} stored rows ")).then_some(()),
        }
    };
    eventually(&format!("readiness tells of {rows} rows"), probe).await;
}

fn flags(call: &Value) -> usize {
    call["flags"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_call_holds_nobody_up_and_heals() {
    let app = TestApp::start().await;
    app.post(&ended_after("call_bad", 1)).await;
    app.post(&ended_after("call_good", 1)).await;
    app.settle().await;
    let facts = literal(&app, "facts", "calls where call_id = 'call_bad'").await;
    change(&app, "update calls set facts = '{' where call_id = 'call_bad'").await;
    // Everything is looked at once more.
    change(&app, "update cursors set next_seq = 0").await;
    app.post(&ended_after("call_behind", 1)).await;
    app.call_when("call_behind", "the call behind is flagged", |call| flags(call) > 0).await;
    app.found("q=call_behind&flag=short_call", 1).await;
    told(&app, 1).await;
    change(&app, &format!("update calls set facts = {facts} where call_id = 'call_bad'")).await;
    told(&app, 0).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_mends_the_damaged_row_of_its_call() {
    let app = TestApp::start().await;
    app.post(&accepted("call_bad")).await;
    app.settle().await;
    change(&app, "update calls set facts = 'nonsense' where call_id = 'call_bad'").await;
    change(&app, "update cursors set next_seq = 0").await;
    app.post(&missed("call_other")).await;
    told(&app, 1).await;
    app.post(&ended_after("call_bad", 1)).await;
    let call = app.call_when("call_bad", "it is flagged", |call| flags(call) > 0).await;
    assert_eq!((&call["status"], &call["agent"]), (&"ended".into(), &"919833344556".into()));
    app.found("q=call_bad&status=ended&flag=short_call", 1).await;
    told(&app, 0).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_entry_holds_nobody_up_and_heals() {
    let app = TestApp::start().await;
    let seq = app.post(&missed("call_bad")).await;
    app.settle().await;
    let entry = literal(&app, "entry", &format!("journal where seq = {seq}")).await;
    change(&app, &format!("update journal set entry = 'x' || entry where seq = {seq}")).await;
    change(&app, "update cursors set next_seq = 0").await;
    app.post(&ended_after("call_behind", 1)).await;
    app.call_when("call_behind", "the call behind is flagged", |call| flags(call) > 0).await;
    told(&app, 1).await;
    change(&app, &format!("update journal set entry = {entry} where seq = {seq}")).await;
    told(&app, 0).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_call_is_left_out_of_a_new_index_until_it_is_mended() {
    let app = TestApp::start().await;
    for n in 0..5 {
        app.post(&missed(&format!("call_{n}"))).await;
    }
    app.found("limit=1", 5).await;
    let facts = literal(&app, "facts", "calls where call_id = 'call_2'").await;
    change(&app, "update calls set facts = '[]' where call_id = 'call_2'").await;
    std::fs::remove_dir_all(app.data_dir().join("index/live")).unwrap();
    app.found("limit=1&q=call_1 OR call_3 OR call_4 OR call_0", 4).await;
    app.found("limit=1", 4).await;
    change(&app, &format!("update calls set facts = {facts} where call_id = 'call_2'")).await;
    app.found("limit=1", 5).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_asks_for_a_recording_without_a_journal_entry_is_named_and_not_fetched() {
    let app = TestApp::start().await;
    app.post(&ended("call_real", &app.sender.audio("/real.mp3", &recording(1)))).await;
    app.settle().await;
    let stray = app.sender.audio("/stray.mp3", &recording(2));
    change(
        &app,
        &format!(
            "insert into recordings (call_seq, source, call_id, url, state, analysed)
             values (0, 'stray', 'call_real', '{stray}', 'pending', false)"
        ),
    )
    .await;
    let queued = "insert into recording_work (call_seq, source, host, lane, next_attempt_at, leased_until, attempts)
                  values (0, 'stray', '127.0.0.1', 0, 0, 0, 0)";
    change(&app, queued).await;
    told(&app, 1).await;
    app.post(&ended("call_next", &app.sender.audio("/next.mp3", &recording(3)))).await;
    app.call_in("call_next", "archived").await;
    assert_eq!(app.sender.asked("/stray.mp3").len(), 0);
    let attempts = "select case when attempts = 0 and next_attempt_at > 0 then 'waits' else '' end from recording_work where source = 'stray'";
    assert_eq!(value(&app, attempts).await, "waits", "it waits for a while");
    change(&app, "delete from recordings where source = 'stray'").await;
    change(&app, "delete from recording_work where source = 'stray'").await;
    app.finish().await;
}

/// Nobody can have written such a lease or pause: the recording is fetched all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_or_a_pause_of_a_hundred_years_does_not_keep_a_recording_away() {
    use crate::fake_doubletick::Reply;
    let app = TestApp::with(&[("recordings.retry_base", "\"5m\"")]).await;
    let far = 253_402_300_799_000_000_i64;
    for (path, change_to) in [
        ("/lease.mp3", format!("next_attempt_at = 0, leased_until = {far}, lease_owner = 'nobody'")),
        ("/pause.mp3", format!("next_attempt_at = {far}")),
    ] {
        let url = app.sender.on(path, [Reply::Status(503), Reply::Audio(recording(1))]);
        let call_id = format!("call_{}", &path[1..6]);
        app.post(&ended(&call_id, &url)).await;
        app.call_when(&call_id, "it was tried once", |call| call["recording"]["attempts"] == 1).await;
        change(&app, &format!("update recording_work set {change_to}")).await;
        app.call_in(&call_id, "archived").await;
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_wrong_with_an_archive_that_grows() {
    let app = TestApp::start().await;
    app.post(&ended_after("call_first", 30)).await;
    app.found("limit=1", 1).await;
    let checked = std::sync::atomic::AtomicBool::new(false);
    let growing = async {
        let mut n = 0;
        while !checked.load(std::sync::atomic::Ordering::Relaxed) {
            app.post(&ended_after(&format!("call_{n}"), 30)).await;
            n += 1;
        }
    };
    let checking = async {
        for _ in 0..4 {
            crate::process::ended_with(&app.cli(&["verify"]).await, 0);
        }
        checked.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    tokio::join!(growing, checking);
    app.finish().await;
}
