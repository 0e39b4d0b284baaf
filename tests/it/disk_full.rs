//! Each folder in turn lies on a small disk that runs full: what can't be kept is not acknowledged, what is acknowledged
//! is kept, and all goes on once there is room, without a restart.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::events::{ended, recording};
use crate::http::eventually;
use crate::pair::EMBEDDED;
use crate::place::Place;
use crate::process::{ProcessApp, ended_with};

/// Takes all the room that is left, as a file without a name that nobody can tidy away; gives it back when dropped.
struct Filler(#[allow(dead_code, reason = "held open")] File);

impl Filler {
    fn on(folder: &Path) -> Self {
        let path = folder.join("filler");
        let mut file = File::create_new(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut block = vec![1; 64 * 1024];
        while !block.is_empty() {
            match file.write(&block) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => block.truncate(block.len() / 2),
                Err(error) => panic!("the disk is filled: {error}"),
            }
        }
        Self(file)
    }
}

/// A server one of whose folders lies on a disk of so many megabytes.
async fn with_small(folder: &str, megabytes: u64, settings: &[(&str, &str)]) -> ProcessApp {
    let mut app = ProcessApp::stopped(settings).await;
    let place = Place::with_small_disk(&app.data_dir().join(folder), megabytes << 20);
    app.live_in(place);
    app.serve().await;
    app
}

fn call(app: &ProcessApp, n: u32) -> Value {
    ended(&format!("call_{n}"), &app.sender.audio(&format!("/{n}.mp3"), &recording(n)))
}

/// The part that `/readyz` calls degraded, once it does; it must be ready all the same.
async fn degraded(app: &ProcessApp, part: &str) -> String {
    let probe = || async {
        let ready = app.get("/readyz").await.ok();
        let found = ready["degraded"].as_array().unwrap().iter().find(|degraded| degraded["part"] == part).cloned();
        found.map(|found| found["why"].as_str().unwrap().to_owned())
    };
    eventually(&format!("{part} is degraded"), probe).await
}

/// Once there is room again: everything archived, nothing degraded, all of it sound.
async fn recovers(app: ProcessApp, calls: u32) {
    for n in 0..calls {
        app.call_in(&format!("call_{n}"), "archived").await;
    }
    assert!(
        app.settled_within(Duration::from_secs(60)).await,
        "{}",
        crate::process::stderr(&app.cli(&["verify"]).await)
    );
    let probe = || async { (app.get("/readyz").await.ok()["degraded"] == serde_json::json!([])).then_some(()) };
    eventually("nothing is degraded", probe).await;
    let found = || async { (app.json("/api/v1/calls?limit=1").await["total"] == calls).then_some(()) };
    eventually("every call is found", found).await;
    ended_with(&app.cli(&["verify"]).await, 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_the_database_nothing_is_acknowledged() {
    let app = with_small("", 48, &EMBEDDED).await;
    app.post(&call(&app, 0)).await;
    app.call_in("call_0", "archived").await;
    let full = Filler::on(&app.data_dir());
    let not_ready = || async { (app.get("/readyz").await.status == 503).then_some(()) };
    eventually("it says that it is not ready", not_ready).await;
    let (mut sent, mut refused) = (1, 0);
    // The write-ahead log may have room for some yet.
    while refused < 3 && sent < 500 {
        match app.try_post(call(&app, sent).to_string()).await {
            Some(_) => sent += 1,
            None => refused += 1,
        }
    }
    assert_eq!(refused, 3, "503 while it lasts");
    drop(full);
    let ready = || async { (app.get("/readyz").await.status == 200).then_some(()) };
    eventually("it is ready again", ready).await;
    app.post(&call(&app, sent)).await;
    recovers(app, sent + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_objects_recordings_wait() {
    let app = with_small("objects", 1, &EMBEDDED).await;
    let full = Filler::on(&app.data_dir().join("objects"));
    for n in 0..6 {
        app.post(&call(&app, n)).await;
    }
    let why = degraded(&app, "recordings").await;
    assert!(why.contains("store") && why.contains("No space"), "{why}");
    assert!(app.get("/metrics").await.text().contains("callvault_degraded{part=\"recordings\"} 1"));
    drop(full);
    recovers(app, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_in_the_spool_recordings_wait() {
    let app = with_small("spool", 1, &[]).await;
    let full = Filler::on(&app.data_dir().join("spool"));
    for n in 0..6 {
        app.post(&call(&app, n)).await;
    }
    let why = degraded(&app, "recordings").await;
    assert!(why.contains("spool") && why.contains("No space"), "{why}");
    drop(full);
    recovers(app, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_the_index_calls_are_kept_and_found_later() {
    let app = with_small("index", 64, &[]).await;
    app.post(&call(&app, 0)).await;
    app.settle().await;
    let full = Filler::on(&app.data_dir().join("index"));
    for n in 1..6 {
        app.post(&call(&app, n)).await;
    }
    let why = degraded(&app, "search").await;
    assert!(!why.is_empty());
    app.call_in("call_5", "archived").await;
    drop(full);
    recovers(app, 6).await;
}
