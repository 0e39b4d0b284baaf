//! The process dies at every named point on the way of an event and its recording, and goes on after a restart.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use crate::pair;
use crate::process::{ProcessApp, Start, ended_with, program, run, stderr};
use crate::scenario::{Deliveries, SETTINGS, finish, outcome, tail};

/// From "request read" to "receipt journaled", and what follows. The start alone passes the first group, once for each of
/// four tokens and for the policies.
const POINTS: &[&str] = &[
    "journal.taken",
    "journal.begun",
    "journal.projected",
    "journal.commit",
    "journal.committed",
    "journal.answered",
    "webhook.read",
    "journal.queued",
    "webhook.answer",
    "archiver.claimed",
    "archiver.fetching",
    "archiver.streaming",
    "archiver.half_kept",
    "archiver.settling",
    "archiver.hashed",
    "archiver.intended",
    "archiver.stored",
    "archiver.record_stored",
    "archiver.receipted",
    "archiver.spool_removed",
    "archiver.done",
    "analysis.decoded",
    "analysis.journaled",
    "flags.judged",
    "search.applied",
    "search.committed",
];

/// On the way into a folder, and into a bucket.
const INTO_A_FOLDER: &[&str] = &["store.synced", "store.linked", "store.lock_staged", "store.locked", "store.durable"];
const INTO_A_BUCKET: &[&str] = &["store.looked", "store.written"];

/// The points of an archive under test.
pub fn points() -> Vec<&'static str> {
    [POINTS, if pair::is_shared() { INTO_A_BUCKET } else { INTO_A_FOLDER }].concat()
}

/// Points that are passed at the first start, once for each token and for the policies.
pub fn passed_at_start(point: &str) -> u32 {
    if point.starts_with("journal.") && point != "journal.queued" { 5 } else { 0 }
}

async fn dies_at(point: &'static str) {
    let mut app = ProcessApp::stopped(SETTINGS).await;
    let mut deliveries = Deliveries::of_every_kind(&app);
    let faults = match passed_at_start(point) {
        0 => format!("{point}=return(kill)"),
        skipped => format!("{point}={skipped}*off->return(kill)"),
    };
    let mut killed = match app.try_serve(&faults).await {
        Start::Ended(status) => Some(status),
        Start::Ready => None,
        Start::Stuck => panic!("{point}: {}", tail(&app)),
    };
    let started = Instant::now();
    while killed.is_none() && started.elapsed() < Duration::from_secs(30) {
        deliveries.send_once(&app).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        killed = app.ended();
    }
    let killed = killed.unwrap_or_else(|| panic!("{point} is passed: {}", tail(&app)));
    assert_eq!(killed.signal(), Some(9), "{point}: {}", tail(&app));
    app.serve().await;
    assert!(deliveries.send(&mut app, Duration::from_secs(30)).await, "{point}: all is taken: {}", tail(&app));
    finish(app, &deliveries).await;
    eprintln!("{point}: well after {:.1?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn dies_at_every_point_and_goes_on() {
    let mut all = stream::iter(points()).map(|point| tokio::spawn(dies_at(point))).buffer_unordered(4);
    while let Some(done) = all.next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_dies_is_finished_by_the_next() {
    let app = ProcessApp::start().await;
    let lines = app.config_file().with_file_name("past.jsonl");
    // More than one batch: the first is journaled when the process dies.
    let past: Vec<String> =
        (0..700).map(|n| crate::events::missed(&format!("call_past_{n}")).to_string() + "\n").collect();
    std::fs::write(&lines, past.concat()).unwrap();
    let import = |faults: &str| {
        let mut command = program();
        command.env("FAILPOINTS", faults).arg("--config").arg(app.config_file()).arg("import").arg(&lines);
        command
    };
    let died = run(import("import.batch=return(kill)")).await;
    assert_eq!(died.status.signal(), Some(9), "{}", stderr(&died));
    let again = run(import("")).await;
    ended_with(&again, 0);
    assert!(stderr(&again).contains("200 journaled (0 of them quarantined), 500 known"), "{}", stderr(&again));
    app.settle().await;
    assert_eq!(app.json("/api/v1/calls?limit=1").await["total"], 700);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_secret_nobody_saw_can_be_revoked() {
    let app = ProcessApp::start().await;
    let mut create = program();
    create.env("FAILPOINTS", "token.created=return(kill)").arg("--config").arg(app.config_file());
    create.args(["token", "create", "phone", "--role", "ingest"]);
    let died = run(create).await;
    assert_eq!((died.status.signal(), died.stdout.len()), (Some(9), 0));
    ended_with(&app.cli(&["token", "create", "phone", "--role", "ingest"]).await, 1);
    ended_with(&app.cli(&["token", "revoke", "phone"]).await, 0);
    ended_with(&app.cli(&["token", "create", "phone-2", "--role", "ingest"]).await, 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_faults_every_point_is_passed() {
    let mut app = ProcessApp::start().await;
    let mut deliveries = Deliveries::of_every_kind(&app);
    assert!(deliveries.send(&mut app, Duration::from_secs(30)).await);
    app.settle().await;
    let metrics = app.get("/metrics").await.text();
    for point in points() {
        assert!(metrics.contains(&format!("callvault_fault_points{{point=\"{point}\"}}")), "{point}");
    }
    assert_eq!(outcome(&app).await.len(), 6);
    finish(app, &deliveries).await;
}
