//! What a monitor sees: every counter from the beginning, and gauges that say how the archive is.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use callvault::clock::Clock;

use crate::events::{accepted, ended, missed, recording};
use crate::fake_doubletick::Reply;
use crate::http::eventually;
use crate::leftovers::files;
use crate::process::{ProcessApp, ended_with};
use crate::servers::Postgres;

/// Every sample by its name with labels, those sorted as they come.
async fn samples(app: &ProcessApp) -> BTreeMap<String, f64> {
    let answer = app.get("/metrics").await;
    assert_eq!(answer.status, 200);
    let text = answer.text();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.into(), value.parse().unwrap()))
        .collect()
}

/// A sample, once it has a value.
async fn is(app: &ProcessApp, name: &str, value: f64) {
    eventually(&format!("{name} is {value}"), || async {
        (samples(app).await.get(name) == Some(&value)).then_some(())
    })
    .await;
}

fn name_of(sample: &str) -> &str {
    sample.split('{').next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_counter_begins_at_zero_and_every_metric_says_what_it_is() {
    let app = ProcessApp::with(&[("recordings.give_up_after", "\"3s\"")]).await;
    let first = samples(&app).await;
    let counts = |sample: &str| name_of(sample).ends_with("_total");
    assert!(first.keys().filter(|sample| counts(sample)).count() > 10, "{first:?}");
    for (sample, value) in first.iter().filter(|(sample, _)| counts(sample)) {
        assert_eq!(*value, 0.0, "{sample}");
    }
    for class in ["2xx", "4xx", "5xx"] {
        let sample = format!("callvault_http_seconds_count{{route=\"/webhooks/doubletick\",status=\"{class}\"}}");
        assert_eq!(first.get(&sample), Some(&0.0), "{sample}");
    }
    // One of each that this archive can have.
    app.post(&ended("call_1", &app.sender.audio("/1.mp3", &recording(1)))).await;
    app.post(&ended("call_2", &app.sender.on("/2.mp3", vec![Reply::Status(404)]))).await;
    app.try_post("not understood".into()).await;
    app.call_in("call_1", "archived").await;
    app.call_in("call_2", "failed").await;
    let then = samples(&app).await;
    for (sample, least) in [
        ("callvault_webhooks_total{outcome=\"accepted\"}", 2.0),
        ("callvault_webhooks_total{outcome=\"quarantined\"}", 1.0),
        ("callvault_recordings_total{outcome=\"archived\"}", 1.0),
        ("callvault_recordings_total{outcome=\"failed\"}", 1.0),
        ("callvault_fetch_retries_total", 1.0),
        ("callvault_http_seconds_count{route=\"/webhooks/doubletick\",status=\"2xx\"}", 3.0),
    ] {
        assert!(then[sample] >= least, "{sample} is {}", then[sample]);
    }
    let new: Vec<&String> = then.keys().filter(|sample| counts(sample) && !first.contains_key(*sample)).collect();
    assert_eq!(new, [""; 0], "no counter appears with its first event");
    let text = app.get("/metrics").await.text();
    for sample in then.keys().filter(|sample| !sample.contains("fault_points")) {
        let name = ["_bucket", "_sum", "_count"].iter().fold(name_of(sample), |name, end| {
            name.strip_suffix(end)
                .filter(|_| sample.contains("_seconds_") || sample.contains("_entries_"))
                .unwrap_or(name)
        });
        assert!(text.contains(&format!("# HELP {name} ")), "{name} says what it is");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gauges_say_how_the_calls_are() {
    let app = ProcessApp::with(&[("spool.max_bytes", "50000000")]).await;
    for state in ["none", "pending", "archived", "failed", "missing", "destroyed"] {
        is(&app, &format!("callvault_recordings{{state=\"{state}\"}}"), 0.0).await;
    }
    is(&app, "callvault_flags_open{rule=\"recording_missing\"}", 0.0).await;
    is(&app, "callvault_recordings_oldest_pending_seconds", 0.0).await;
    let webhooks = samples(&app).await.get("callvault_webhook_spool_limit_bytes").copied().unwrap_or_default();
    is(&app, "callvault_spool_limit_bytes", 50_000_000.0 - webhooks).await;
    app.post(&ended("archived", &app.sender.audio("/1.mp3", &recording(1)))).await;
    app.post(&ended("missing", "")).await;
    app.post(&missed("none")).await;
    app.post(&ended("pending", &app.sender.on("/2.mp3", vec![Reply::Status(404)]))).await;
    for state in ["none", "pending", "archived", "missing"] {
        is(&app, &format!("callvault_recordings{{state=\"{state}\"}}"), 1.0).await;
    }
    is(&app, "callvault_calls", 4.0).await;
    is(&app, "callvault_flags_open{rule=\"recording_missing\"}", 1.0).await;
    let waits = "callvault_recordings_oldest_pending_seconds";
    let before = app.metric(waits).await;
    assert!(before > 0.0 && before < 15.0, "{before}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = app.metric(waits).await;
    assert!(after >= before + 1.0 && after < before + 15.0, "{before}, then {after}");
    // What was lacking comes, and the flag goes.
    app.post(&ended("missing", &app.sender.audio("/3.mp3", &recording(3)))).await;
    app.sender.audio("/2.mp3", &recording(2));
    assert!(app.cli(&["recording", "retry", "pending"]).await.status.success());
    is(&app, "callvault_recordings{state=\"archived\"}", 3.0).await;
    is(&app, "callvault_recordings{state=\"missing\"}", 0.0).await;
    is(&app, "callvault_flags_open{rule=\"recording_missing\"}", 0.0).await;
    is(&app, waits, 0.0).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_verify_shows() {
    // An object of its own can be damaged.
    let mut app = ProcessApp::with(&[("database.url", "\"sqlite\""), ("storage.kind", "\"filesystem\"")]).await;
    let (success, damages) = ("callvault_verify_last_success_seconds", "callvault_verify_damages");
    app.post(&ended("call_1", &app.sender.audio("/1.mp3", &recording(1)))).await;
    app.call_in("call_1", "archived").await;
    app.settle().await;
    is(&app, success, 0.0).await;
    is(&app, damages, 0.0).await;
    let now = || Clock::system().now().as_second() as f64;
    let started = now();
    ended_with(&app.cli(&["verify"]).await, 0);
    let sound = samples(&app).await[success];
    assert!(sound >= started && sound <= now(), "{started} {sound}");

    let objects = files(&app.data_dir().join("objects/recordings"));
    let object = objects.iter().find(|file| file.extension().is_some_and(|end| end == "mp3")).unwrap();
    let away = app.data_dir().join("away.mp3");
    fs::rename(object, &away).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    ended_with(&app.cli(&["verify"]).await, 1);
    assert!(app.metric(damages).await > 0.0);
    is(&app, success, sound).await;
    fs::rename(&away, object).unwrap();
    // It outlives the server, and what makes no sense is no success.
    assert_eq!(app.terminate().await.code(), Some(0));
    app.serve().await;
    is(&app, success, sound).await;
    let ahead = "{\"at\":\"2126-03-09T00:00:00Z\",\"damages\":0,\"sound_at\":\"2126-03-09T00:00:00Z\"}";
    for text in ["", "{}", ahead] {
        fs::write(app.data_dir().join("verify.json"), text).unwrap();
        is(&app, success, 0.0).await;
        is(&app, damages, 0.0).await;
    }
    ended_with(&app.cli(&["verify"]).await, 0);
    assert!(app.metric(success).await > sound);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: tests/run.sh has it"]
async fn metrics_are_told_while_the_database_is_away() {
    let postgres = Postgres::start();
    let url = format!("{:?}", postgres.url());
    let app = ProcessApp::with(&[("database.url", &url)]).await;
    app.post(&accepted("call_1")).await;
    app.post(&ended("call_1", &app.sender.on("/1.mp3", vec![Reply::Status(404)]))).await;
    is(&app, "callvault_recordings{state=\"pending\"}", 1.0).await;
    let waits = "callvault_recordings_oldest_pending_seconds";
    let (before, entries) = (app.metric(waits).await, app.metric("callvault_journal_entries").await);
    assert!(before > 0.0 && entries > 1.0);
    for (goes, comes_back) in
        [(Postgres::stop as fn(&Postgres), Postgres::resume as fn(&Postgres)), (Postgres::hang, Postgres::go_on)]
    {
        goes(&postgres);
        for _ in 0..3 {
            let started = Instant::now();
            let seen = samples(&app).await;
            assert!(started.elapsed() < Duration::from_secs(6), "a monitor waits ten seconds at most");
            assert_eq!(seen["callvault_journal_entries"], entries, "the last that was seen");
            assert!(seen[waits] > before, "it goes on waiting");
        }
        comes_back(&postgres);
    }
    app.sender.audio("/1.mp3", &recording(1));
    eventually("it is asked for again", || async {
        app.cli(&["recording", "retry", "call_1"]).await.status.success().then_some(())
    })
    .await;
    app.call_in("call_1", "archived").await;
    is(&app, waits, 0.0).await;
    app.finish().await;
}
