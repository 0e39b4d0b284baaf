//! Jobs that the server runs by itself: when they are due, once on all nodes, and once for all that was missed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use callvault::app::App;
use callvault::clock::Clock;
use callvault::db::Db;
use callvault::journal::{Filter, Kind};
use callvault::schedule::{Plan, Scheduler};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::app::{TestApp, load, write_config};
use crate::events::{ended, recording};
use crate::fake_doubletick::FakeDoubleTick;
use crate::http::eventually;
use crate::pair;
use crate::process::{ended_with, stderr};

/// Daily at six; the tests begin at noon.
fn daily<'a>(job: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let run = [("schedule.daily.cron", "\"0 6 * * *\""), ("schedule.daily.job", job)];
    [&run, more].concat()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits until somebody keeps the schedule: what is due from then on is run.
async fn is_scheduled(db: &Db) {
    let kept = async || db.fetch_all("select name from schedule", &[]).await.unwrap().len() == 1;
    eventually("it is in the schedule", || async { kept().await.then_some(()) }).await;
}

async fn delivered(app: &TestApp, times: usize) -> Vec<Value> {
    eventually(&format!("{times} reports are delivered"), || async {
        let found = app.journal("&kind=report.delivered").await;
        (found.len() >= times).then_some(found)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_is_due_is_made_and_goes_where_it_should() {
    let folder = tempfile::tempdir().unwrap();
    let out = format!("{:?}", folder.path());
    let more =
        [("schedule.daily.args", "[\"--all\"]"), ("schedule.daily.out", &out), ("schedule.daily.to_bucket", "true")];
    let app = TestApp::with(&daily("\"fixity\"", &more)).await;
    app.post(&ended("call_1", &app.sender.audio("/1.mp3", &recording(1)))).await;
    app.call_in("call_1", "archived").await;
    app.settle().await;
    is_scheduled(&app.parts().db).await;
    assert_eq!(app.journal("&kind=report.made").await.len(), 0, "it is past six");

    app.jump(1);
    let found = delivered(&app, 1).await;
    let made = app.journal("&kind=report.made").await;
    assert_eq!((made.len(), &made[0]["entry"]["subject"]), (1, &"report:fixity".into()));
    let (made, found) = (&made[0]["body"], &found[0]["body"]);
    assert_eq!((&made["schedule"], &made["sha256"]), (&"daily".into(), &found["sha256"]));
    let (file, key) = (found["file"].as_str().unwrap(), found["object"]["key"].as_str().unwrap());
    assert_eq!(key, format!("reports/2026/03/{file}"));
    assert_eq!(names(folder.path()), [file]);
    let bytes = std::fs::read(folder.path().join(file)).unwrap();
    assert_eq!(app.stored(key).await, bytes);
    let report: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((&report["report"], &report["objects"], &report["failed"]), (&"fixity".into(), &2.into(), &0.into()));
    let kept = app.parts().store.head(key, None).await.unwrap().unwrap();
    let years = kept.retain_until.unwrap().duration_since("2031-03-10T12:00:00Z".parse().unwrap());
    assert!(years.abs() < SignedDuration::from_hours(1), "five years from when it was made: {kept:?}");
    // Which looks at the reports in the store, too.
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_runs_once() {
    let folder = tempfile::tempdir().unwrap();
    let out = format!("{:?}", folder.path());
    let mut app = TestApp::with(&daily("\"fixity\"", &[("schedule.daily.out", &out)])).await;
    is_scheduled(&app.parts().db).await;
    app.stop().await;
    app.jump(5);
    app.serve_again().await;
    delivered(&app, 1).await;
    let done_until = eventually("the run has ended", || async {
        let sql = "select done_until from schedule where ended_at is not null";
        app.parts().db.fetch_optional(sql, &[]).await.unwrap().map(|row| row.int("done_until").unwrap())
    })
    .await;
    let last: Timestamp = "2026-03-14T06:00:00Z".parse().unwrap();
    assert!(done_until > last.as_microsecond(), "one for all five days");
    app.jump(1);
    assert_eq!(delivered(&app, 2).await.len(), 2, "and one for the day after");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_told_until_it_works_again() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("not-mounted");
    let out = format!("{missing:?}");
    let app = TestApp::with(&daily("\"verify\"", &[("schedule.daily.out", &out)])).await;
    let told = async |unwell: bool| {
        let app = &app;
        eventually(&format!("told: {unwell}"), || async move {
            let parts = app.json("/readyz").await;
            let part =
                parts["degraded"].as_array().unwrap().iter().find(|part| part["part"] == "scheduled jobs").cloned();
            (part.is_some() == unwell).then_some(part)
        })
        .await
    };
    is_scheduled(&app.parts().db).await;
    app.jump(1);
    let part = told(true).await.unwrap();
    assert!(part["why"].as_str().unwrap().contains("daily: the report verify-"), "{part}");
    std::fs::create_dir(&missing).unwrap();
    app.jump(1);
    told(false).await;
    assert_eq!(names(&missing).len(), 1);
    app.finish().await;
}

/// How often a report was made, as another process sees it.
async fn made(app: &App) -> usize {
    let filter = Filter { kind: Some(Kind::ReportDelivered), ..Filter::default() };
    app.journal.read(0, 100, &filter).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_one_runs_what_is_due_and_the_other_takes_over() {
    let (dir, sender) = (tempfile::tempdir().unwrap(), FakeDoubleTick::start().await);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let file = write_config(dir.path(), &sender, &daily("\"fixity\"", &[]));
    let hours = Arc::new(AtomicI64::new(0));
    // Each has a folder of its own.
    let start = async |node: usize| {
        let hours = Arc::clone(&hours);
        let noon: Timestamp = "2026-03-09T12:00:00Z".parse().unwrap();
        let clock = Clock::from_fn(move || noon + SignedDuration::from_hours(hours.load(Ordering::Relaxed)));
        let mut config = load(&file, "");
        config.schedule.get_mut("daily").unwrap().out = folders[node].path().to_owned();
        let app = Arc::new(App::open(config, clock).await.unwrap());
        let scheduler = Scheduler::new(Arc::clone(&app), Plan::of(&app.config).unwrap(), app.node().unwrap());
        let stop = CancellationToken::new();
        let running = tokio::spawn(Arc::new(scheduler).run(stop.clone()));
        (app, stop, running)
    };
    let (app, first_stop, first) = start(0).await;
    is_scheduled(&app.db).await;
    let (other, second_stop, second) = start(1).await;
    for day in 1..=3 {
        hours.fetch_add(24, Ordering::Relaxed);
        eventually("the day's report is there", || async { (made(&app).await >= day).then_some(()) }).await;
    }
    assert_eq!((made(&app).await, names(folders[1].path()).len()), (3, 0), "the other leaves it to the first");
    first_stop.cancel();
    first.await.unwrap();
    hours.fetch_add(24, Ordering::Relaxed);
    eventually("the other makes it", || async { (made(&other).await >= 4).then_some(()) }).await;
    second_stop.cancel();
    second.await.unwrap();
    assert_eq!(made(&other).await, 4, "each day once");
    assert_eq!(folders.each_ref().map(|folder| names(folder.path()).len()), [3, 1]);
    app.db.close().await;
    other.db.close().await;
    pair::remove(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_in_the_schedule_is_named_at_the_start() {
    let (dir, sender) = (tempfile::tempdir().unwrap(), FakeDoubleTick::start().await);
    for (key, value, says) in [
        ("schedule.daily.cron", "\"0 6 * *\"", "schedule.daily.cron: \"0 6 * *\" is no cron expression"),
        ("schedule.daily.job", "\"fixty\"", "schedule.daily.job: there is no job \"fixty\": give one of"),
        ("schedule.daily.jb", "\"fixity\"", "schedule.daily.jb in"),
        ("schedule.daily.jb", "\"fixity\"", "did you mean schedule.daily.job?"),
        ("schedule.Daily.cron", "\"0 6 * * *\"", "schedule.Daily"),
        (
            "schedule.daily.post",
            "\"http://reports.example/?key=hunter2\"",
            "schedule.daily.post: give an https address",
        ),
        ("delivery.keep", "\"5 years\"", "delivery.keep: \"5 years\" is no ISO 8601 period"),
    ] {
        let mut settings = pair::EMBEDDED.to_vec();
        settings.extend(daily("\"fixity\"", &[]));
        settings.push((key, value));
        let file = write_config(dir.path(), &sender, &settings);
        let output = crate::process::cli(&file, &["serve"]).await;
        ended_with(&output, 1);
        let said = stderr(&output);
        assert!(said.contains(says) && !said.contains("hunter2"), "{key}: {said}");
    }
}
