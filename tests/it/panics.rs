//! A panic anywhere is told, counted, and costs neither the archive nor the other parts.

use std::time::Duration;

use serde_json::json;

use crate::events::ended;
use crate::http::eventually;
use crate::process::{ProcessApp, Start};
use crate::scenario::{Deliveries, SETTINGS, finish, tail};

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_panic_are_started_again() {
    let mut app = ProcessApp::stopped(SETTINGS).await;
    let mut deliveries = Deliveries::of_every_kind(&app);
    let workers = [
        ("archiver", "archiver.claimed"),
        ("analyser", "analysis.decoded"),
        ("indexer", "search.committed"),
        ("flagger", "flags.judged"),
        ("listener", "listener.look"),
    ];
    let faults: Vec<String> = workers.iter().map(|(_, point)| format!("{point}=1*panic")).collect();
    assert_eq!(app.try_serve(&faults.join(";")).await, Start::Ready);
    assert!(deliveries.send(&mut app, Duration::from_secs(30)).await, "{}", tail(&app));
    assert!(app.settled_within(Duration::from_secs(60)).await, "all go on: {}", tail(&app));
    for (worker, _) in workers {
        let told = || async {
            let ready = app.get("/readyz").await.ok();
            ready["degraded"].as_array().unwrap().iter().any(|part| part["part"] == worker).then_some(())
        };
        eventually(&format!("readiness tells of the {worker}"), told).await;
        let restarts = app.metric(&format!("callvault_worker_restarts_total{{worker=\"{worker}\"}}")).await;
        assert_eq!(restarts, 1.0, "{worker}");
    }
    assert_eq!(app.metric("callvault_panics_total").await, 5.0);
    assert!(app.log().contains("the program panicked"), "it is told where");
    finish(app, &deliveries).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_makes_the_archiver_panic_is_tried_again() {
    let mut app = ProcessApp::stopped(SETTINGS).await;
    let mut deliveries = Deliveries::of_every_kind(&app);
    assert_eq!(app.try_serve("archiver.hashed=2*panic").await, Start::Ready);
    assert!(deliveries.send(&mut app, Duration::from_secs(30)).await, "{}", tail(&app));
    finish(app, &deliveries).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_makes_the_writer_panic_is_quarantined_alone() {
    let mut app = ProcessApp::stopped(&[]).await;
    // The batch panics, and the event on its own once more; four tokens are made and the policies adopted before.
    assert_eq!(app.try_serve("journal.projected=5*off->2*panic").await, Start::Ready);
    let url = app.sender.audio("/a.mp3", &crate::events::recording(1));
    app.post(&ended("call_poison", &url)).await;
    let quarantine = app.json("/api/v1/quarantine").await;
    let reasons: Vec<_> =
        quarantine["entries"].as_array().unwrap().iter().map(|view| &view["entry"]["reason"]).collect();
    assert_eq!(reasons, ["projection_failed"], "{quarantine}");
    app.post(&ended("call_next", &url)).await;
    app.call_in("call_next", "archived").await;
    assert_eq!(app.metric("callvault_panics_total").await, 2.0);
    assert!(!app.log().contains("Ananya"), "nobody is named in the log");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_hangs_is_answered_for() {
    let mut app = ProcessApp::stopped(&[]).await;
    assert_eq!(app.try_serve("journal.commit=5*off->sleep(3600000)").await, Start::Ready);
    let url = format!("{}/webhooks/doubletick", app.url);
    let post = || app.client.post(&url).bearer_auth(crate::app::INGEST).body(json!({"event": "NEW_LEAD"}).to_string());
    let asked = std::time::Instant::now();
    let answer = tokio::time::timeout(Duration::from_secs(20), crate::http::Answer::of(post())).await;
    let answer = answer.expect("an answer in bounded time");
    if crate::pair::is_shared() {
        assert_eq!(answer.ok(), json!({"spooled": true}), "it waits on the node's disk");
        assert_eq!(app.get("/readyz").await.status, 200);
    } else {
        answer.problem(503);
        assert_eq!(answer.header("retry-after"), "1");
        assert!(asked.elapsed() > Duration::from_secs(5), "patience comes first: {:?}", asked.elapsed());
        assert_eq!(app.get("/readyz").await.status, 503);
    }
    assert_eq!(app.get("/healthz").await.status, 200);
    assert_eq!(app.terminate().await.code(), Some(0), "it ends in time");
    app.serve().await;
    app.post(&json!({"event": "NEW_LEAD"})).await;
    app.finish().await;
}
