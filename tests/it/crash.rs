//! The process is killed in the middle of its work: what it acknowledged is there, and everything is finished after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::events::{ended, recording};
use crate::process::{ProcessApp, ended_with};

const CALLS: u32 = 100;
/// What a hundred recordings may take.
const SETTLES: Duration = Duration::from_secs(60);
/// Requests under way at the same time.
const AT_ONCE: usize = 8;

/// Posts all bodies, eight at a time; what was acknowledged, by index.
async fn post_all(app: &ProcessApp, bodies: &[String]) -> BTreeMap<usize, u64> {
    let posts = bodies.iter().enumerate().map(|(index, body)| async move { (index, app.try_post(body.clone()).await) });
    let answers: Vec<_> = stream::iter(posts).buffer_unordered(AT_ONCE).collect().await;
    answers.into_iter().filter_map(|(index, seq)| Some((index, seq?))).collect()
}

/// A round: killed once so many recordings were asked for, whatever else is under way then.
async fn round(killed_after: usize) {
    let app = ProcessApp::start().await;
    let bodies: Vec<String> = (0..CALLS)
        .map(|n| ended(&format!("call_{n}"), &app.sender.audio(&format!("/{n}.mp3"), &recording(n))).to_string())
        .collect();
    let app = Arc::new(tokio::sync::RwLock::new(app));
    let pid = app.read().await.pid();
    let posting = async { post_all(&*app.read().await, &bodies).await };
    let killing = async {
        let started = std::time::Instant::now();
        while app.read().await.sender.requests() < killed_after && started.elapsed() < crate::http::PATIENCE {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        crate::process::kill_now(pid);
    };
    let (acknowledged, ()) = tokio::join!(posting, killing);
    let mut app = Arc::into_inner(app).unwrap().into_inner();
    app.kill();
    assert!(!acknowledged.is_empty(), "something was acknowledged");
    assert!(killed_after > 10 || acknowledged.len() < bodies.len(), "killed in the middle of the posts");
    let missing: Vec<String> = (0..bodies.len())
        .filter(|index| !acknowledged.contains_key(index))
        .map(|index| bodies[index].clone())
        .collect();

    app.serve().await;
    let again = post_all(&app, &missing).await;
    assert_eq!(again.len(), missing.len(), "all are taken now");
    let kept = app.journaled().await;
    for (index, seq) in &acknowledged {
        assert_eq!(
            kept.get(seq).map(Vec::as_slice),
            Some(bodies[*index].as_bytes()),
            "call {index} was acknowledged as {seq}"
        );
    }
    assert!(app.settled_within(SETTLES).await, "everything is settled");
    app.shows_all().await;
    let calls = app.json("/api/v1/calls?limit=500").await;
    assert_eq!(calls["total"], CALLS);
    for call in calls["calls"].as_array().unwrap() {
        assert_eq!(call["recording"]["state"], "archived", "{call:#}");
        assert_eq!((&call["flags"], &call["recordings"]), (&json!([]), &Value::Array(Vec::new())));
    }
    let verified = ended_with(&app.cli(&["verify"]).await, 0);
    assert!(verified.contains(&format!("{CALLS} calls, {} objects", 2 * CALLS)), "{verified}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_the_first_recordings() {
    round(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle() {
    round(25).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_near_the_end() {
    round(80).await;
}
