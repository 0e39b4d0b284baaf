//! For every n, the n-th operation of database, store and spool fails, half-happens or hangs; the end is the same.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::Value;

use crate::pair;
use crate::process::{ProcessApp, Start};
use crate::scenario::{Deliveries, SETTINGS, finish, outcome, tail};
use crate::soak::Knobs;

/// Everything that can go wrong for reasons that are not ours.
const OPERATIONS: &[&str] = &[
    "database.begin",
    "database.query",
    "database.fetch",
    "database.execute",
    "database.commit",
    "database.rollback",
    "store.put_new",
    "store.get",
    "store.examine",
    "spool.open",
    "spool.create",
    "spool.write",
    "spool.flush",
    "spool.rename",
    "spool.remove",
];
/// Steps on the way into a folder; what a bucket does on its way is the server's.
const INTO_A_FOLDER: [&str; 5] = ["store.synced", "store.linked", "store.lock_staged", "store.locked", "store.durable"];
/// Only a bucket is looked through, after an interruption.
const INTO_A_BUCKET: [&str; 1] = ["store.list"];

fn operations() -> Vec<&'static str> {
    [OPERATIONS, if pair::is_shared() { &INTO_A_BUCKET[..] } else { &INTO_A_FOLDER }].concat()
}

const KINDS: [&str; 3] = ["fail", "half", "hang"];

/// What the server may take to settle after a fault that passes by itself.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
struct Case {
    /// On an archive whose server was killed in the middle, in which a part of the work is to take up what was interrupted.
    interrupted: bool,
    operation: &'static str,
    kind: &'static str,
    /// Operations of this sort that go well before.
    before: u64,
}

/// Ways that once ended differently: in every run.
const ONCE_FOUND: [Case; 1] = [
    // The store was away for a moment, and what was put by in it waited for a minute.
    Case { interrupted: true, operation: "store.put_new", kind: "half", before: 2 },
];

/// An archive that nobody serves: a new one, or one whose server was killed when it had said where a recording will be.
async fn archive(interrupted: bool) -> (ProcessApp, Deliveries) {
    let mut app = ProcessApp::stopped(SETTINGS).await;
    let mut deliveries = Deliveries::of_every_kind(&app);
    if interrupted {
        assert_eq!(app.try_serve("archiver.intended=1*off->return(kill)").await, Start::Ready);
        deliveries.send(&mut app, SETTLED_WITHIN).await;
        let gone = async {
            while app.is_running() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SETTLED_WITHIN, gone).await.expect("it is killed");
    }
    (app, deliveries)
}

/// The faultless run: its outcome, and how many operations of each sort it takes.
async fn faultless(interrupted: bool) -> (Vec<Value>, Vec<(&'static str, u64)>) {
    let (mut app, mut deliveries) = archive(interrupted).await;
    app.serve().await;
    assert!(deliveries.send(&mut app, SETTLED_WITHIN).await);
    app.settle().await;
    let mut counted = Vec::new();
    for operation in operations() {
        let count = app.metric(&format!("callvault_fault_points{{point=\"{operation}\"}}")).await;
        counted.push((operation, count as u64));
    }
    let outcome = outcome(&app).await;
    finish(app, &deliveries).await;
    (outcome, counted)
}

/// A step within an operation has nothing that could half-happen or hang: it fails.
fn kinds(operation: &str) -> &'static [&'static str] {
    if INTO_A_FOLDER.contains(&operation) { &KINDS[..1] } else { &KINDS }
}

async fn breaks(case: Case, expected: &[Value]) {
    let Case { interrupted, operation, kind, before } = case;
    let (mut app, mut deliveries) = archive(interrupted).await;
    let faults = match before {
        0 => format!("{operation}=1*return({kind});patience=return(1500)"),
        before => format!("{operation}={before}*off->1*return({kind});patience=return(1500)"),
    };
    match app.try_serve(&faults).await {
        Start::Ready => {}
        // As whatever runs the program would do it.
        Start::Ended(status) => {
            assert_eq!(status.code(), Some(1), "{case:?}: {}", tail(&app));
            app.serve().await;
        }
        Start::Stuck => {
            app.terminate().await;
            app.serve().await;
        }
    }
    assert!(deliveries.send(&mut app, SETTLED_WITHIN).await, "{case:?}: all is taken: {}", tail(&app));
    // What hangs in the kernel can't be taken back: only a restart helps. Everything else passes by itself.
    let for_good = kind == "hang" && !operation.starts_with("database.");
    let patience = if for_good { Duration::from_secs(6) } else { SETTLED_WITHIN };
    if !app.settled_within(patience).await {
        assert!(for_good, "{case:?}: settled by itself: {}", tail(&app));
        assert_eq!(app.terminate().await.code(), Some(0), "{case:?}: ends in time");
        app.serve().await;
        assert!(app.settled_within(SETTLED_WITHIN).await, "{case:?}: settled after the restart: {}", tail(&app));
    }
    assert_eq!(outcome(&app).await, expected, "{case:?}");
    finish(app, &deliveries).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_operation_breaks_the_end_is_the_same() {
    let ((expected, fresh), (same, interrupted)) = tokio::join!(faultless(false), faultless(true));
    assert_eq!(expected, same, "an interruption changes nothing");
    let mut cases = Vec::new();
    for (interrupted, counted) in [(false, &fresh), (true, &interrupted)] {
        for (operation, count) in counted {
            for kind in kinds(operation) {
                cases.extend((0..*count).map(|before| Case { interrupted, operation, kind, before }));
            }
        }
    }
    for (operation, (once, again)) in operations().iter().zip(fresh.iter().zip(&interrupted)) {
        assert!(once.1 + again.1 > 0, "{operation} is used");
    }
    let (knobs, all) = (Knobs::read(), cases.len());
    let mut chosen = knobs.choose(cases, operations().len());
    chosen.extend(ONCE_FOUND);
    eprintln!("{} of {all} ways to break an operation; {}", chosen.len(), knobs.again());
    let expected = std::sync::Arc::new(expected);
    let mut all = stream::iter(chosen)
        .map(|case| {
            let expected = std::sync::Arc::clone(&expected);
            let done = tokio::spawn(async move { breaks(case, &expected).await });
            async move { (case, done.await) }
        })
        .buffer_unordered(knobs.at_once);
    let mut failed = 0;
    while let Some((case, done)) = all.next().await {
        if done.is_err() {
            eprintln!("{case:?}: told above");
            failed += 1;
        }
    }
    assert_eq!(failed, 0, "each is told above; {}", knobs.again());
}
