//! Database or bucket go away under load: no webhook is refused, none is lost or doubled, and their order stays. For
//! OUTAGE_SECONDS, or five seconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use callvault::clock::Clock;
use serde_json::Value;

use crate::app::INGEST;
use crate::events::{accepted, ended, recording};
use crate::http::{Answer, eventually};
use crate::objects::s3_server::{Bucket, Gateway};
use crate::process::ProcessApp;
use crate::servers::Postgres;

/// Senders at the same time; each waits for an answer before it sends the next.
const SENDERS: usize = 8;
/// What a sender pauses between two webhooks.
const PACE: Duration = Duration::from_millis(10);

/// Senders that post until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    spooled: Arc<AtomicU64>,
    senders: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

/// How long a part is away.
fn outage() -> Duration {
    Duration::from_secs(std::env::var("OUTAGE_SECONDS").map_or(5, |seconds| seconds.parse().expect("a number")))
}

impl Load {
    /// Calls that were accepted.
    fn on(app: &ProcessApp) -> Self {
        Self::of(app, PACE, |id| accepted(id).to_string())
    }

    fn of(app: &ProcessApp, pace: Duration, body: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let body = Arc::new(body);
        let (stop, spooled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let url = format!("{}/webhooks/doubletick", app.url);
        let sender = |sender: usize| {
            let (stop, spooled, client, url) =
                (Arc::clone(&stop), Arc::clone(&spooled), app.client.clone(), url.clone());
            let body = Arc::clone(&body);
            tokio::spawn(async move {
                let mut sent = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let body = body(&format!("call_{sender}_{}", sent.len()));
                    let started = Instant::now();
                    let answer = Answer::of(client.post(&url).bearer_auth(INGEST).body(body.clone())).await.ok();
                    assert!(started.elapsed() < Duration::from_secs(10), "every webhook is answered soon");
                    spooled.fetch_add(u64::from(answer["spooled"] == true), Ordering::Relaxed);
                    assert!(answer["spooled"] == true || answer["seq"].is_u64(), "{answer}");
                    sent.push(body);
                    tokio::time::sleep(pace).await;
                }
                sent
            })
        };
        let senders = (0..SENDERS).map(sender).collect();
        Self { stop, spooled, senders }
    }

    fn spooled(&self) -> u64 {
        self.spooled.load(Ordering::Relaxed)
    }

    /// What each sent, in order; all of it was acknowledged.
    async fn end(self) -> Vec<Vec<String>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = Vec::new();
        for sender in self.senders {
            sent.push(sender.await.unwrap());
        }
        sent
    }
}

async fn on(postgres: &Postgres, settings: &[(&str, &str)]) -> ProcessApp {
    let url = format!("{:?}", postgres.url());
    ProcessApp::with(&[settings, &[("database.url", &url)]].concat()).await
}

async fn degraded(app: &ProcessApp) -> Value {
    app.get("/readyz").await.ok()["degraded"].clone()
}

/// Everything that was acknowledged is journaled once, and each sender's in the order in which it sent it.
async fn all_is_journaled(app: &ProcessApp, sent: &[Vec<String>]) {
    eventually("nothing waits any more", || async {
        (app.metric("callvault_webhook_spool_events").await == 0.0).then_some(())
    })
    .await;
    let mut journaled: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (seq, body) in app.journaled().await {
        journaled.entry(String::from_utf8(body).unwrap()).or_default().push(seq);
    }
    for sender in sent {
        let seqs: Vec<u64> = sender
            .iter()
            .map(|body| match journaled.get(body).map(Vec::as_slice) {
                Some([seq]) => *seq,
                other => panic!("{body} is journaled as {other:?}"),
            })
            .collect();
        assert!(seqs.is_sorted(), "in order: {seqs:?}");
        assert!(!seqs.is_empty());
    }
    assert_eq!(journaled.values().flatten().count(), sent.iter().flatten().count(), "and nothing else");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: tests/run.sh has it"]
async fn no_webhook_is_lost_while_the_database_is_away() {
    let postgres = Postgres::start();
    let mut app = on(&postgres, &[]).await;
    app.keep_where_it_fails();
    let load = Load::on(&app);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(load.spooled(), 0, "while the database is there, everything goes straight into it");
    type Step = fn(&Postgres);
    let ways: [(Step, Step); 3] =
        [(Postgres::stop, Postgres::resume), (Postgres::crash, Postgres::resume), (Postgres::hang, Postgres::go_on)];
    for (goes, comes_back) in ways {
        let before = load.spooled();
        goes(&postgres);
        tokio::time::sleep(outage()).await;
        assert!(load.spooled() > before + 100, "webhooks are put by");
        let degraded = degraded(&app).await;
        let parts: Vec<&str> = degraded.as_array().unwrap().iter().map(|part| part["part"].as_str().unwrap()).collect();
        assert!(parts.contains(&"webhooks") && parts.contains(&"journal"), "the node is ready and says so: {degraded}");
        comes_back(&postgres);
        eventually("what waits is journaled beside what comes", || async {
            (app.metric("callvault_webhook_spool_events").await == 0.0).then_some(())
        })
        .await;
        let direct = load.spooled();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(load.spooled(), direct, "and then it goes straight into the database again");
    }
    let sent = load.end().await;
    all_is_journaled(&app, &sent).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL and an S3 server: tests/run.sh has them"]
async fn no_recording_is_lost_while_the_bucket_is_away() {
    let (postgres, bucket, mut gateway) = (Postgres::start(), Bucket::locked().await, Gateway::start().await);
    let mut settings = bucket.toml();
    settings.push(("storage.s3.endpoint", format!("{:?}", gateway.endpoint)));
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let mut app = on(&postgres, &settings).await;
    app.keep_where_it_fails();
    // One recording that many calls share: what lies in the sender's store is not what is tested.
    let url = app.sender.audio("/all.mp3", &recording(1));
    let load = Load::of(&app, Duration::from_millis(400), move |id| ended(id, &url).to_string());
    let archived = "callvault_recordings_total{outcome=\"archived\"}";
    eventually("recordings come in", || async { (app.metric(archived).await >= 10.0).then_some(()) }).await;
    gateway.kill();
    tokio::time::sleep(outage()).await;
    assert_eq!(app.metric("callvault_store_up").await, 0.0);
    assert!(app.metric("callvault_spool_bytes").await > 10_000.0, "they are fetched while their links live");
    let degraded = degraded(&app).await;
    let told = |part: &Value| part["part"] == "recordings";
    assert!(degraded.as_array().unwrap().iter().any(told), "the node is ready and says what is wrong: {degraded}");
    let fetched = app.sender.requests();
    gateway.start_again().await;
    let sent = load.end().await;
    assert!(app.settled_within(Duration::from_secs(60) + 5 * outage()).await, "everything is archived in the end");
    let total = sent.iter().flatten().count();
    assert_eq!(app.metric("callvault_store_up").await, 1.0);
    assert!(fetched > 20 && app.sender.requests() < total + total / 4, "what waited is not asked for again");
    all_is_journaled(&app, &sent).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: tests/run.sh has it"]
async fn what_waits_outlives_the_node_and_keeps_when_it_was_received() {
    let postgres = Postgres::start();
    let mut app = on(&postgres, &[]).await;
    let url = app.sender.audio("/1.mp3", &recording(1));
    app.post(&accepted("call_1")).await;
    postgres.stop();
    let body = ended("call_1", &url).to_string();
    let post = app.client.post(format!("{}/webhooks/doubletick", app.url)).bearer_auth(INGEST).body(body.clone());
    let received = Clock::system().now();
    assert_eq!(Answer::of(post).await.ok(), serde_json::json!({"spooled": true}));
    app.kill();
    tokio::time::sleep(Duration::from_secs(2)).await;
    postgres.resume();
    app.serve().await;
    let call = app.call_in("call_1", "archived").await;
    let all = call["events"].as_array().unwrap();
    let events: Vec<&Value> = all.iter().filter(|event| event["kind"] == "webhook.received").collect();
    assert_eq!(events.len(), 2, "{call:#}");
    let told: jiff::Timestamp = events[1]["received_at"].as_str().unwrap().parse().unwrap();
    assert!(told.duration_since(received).abs() < jiff::SignedDuration::from_secs(2), "{told} is not {received}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: tests/run.sh has it"]
async fn a_full_spool_refuses_and_loses_nothing() {
    let postgres = Postgres::start();
    let app = on(&postgres, &[("spool.max_bytes", "100000")]).await;
    postgres.stop();
    let mut taken = Vec::new();
    let refused = loop {
        let body = accepted(&format!("call_{}", taken.len())).to_string();
        let post = app.client.post(format!("{}/webhooks/doubletick", app.url)).bearer_auth(INGEST).body(body.clone());
        let answer = Answer::of(post).await;
        if answer.status != 200 {
            break answer;
        }
        taken.push(body);
        assert!(taken.len() < 100, "ten thousand bytes are full by then");
    };
    assert!(refused.problem(503).contains("send it again"));
    assert!(!taken.is_empty());
    // What it told a moment ago it may tell once more.
    let told = || async { (app.get("/readyz").await.status == 503).then_some(()) };
    eventually("the node says that it can take no more", told).await;
    postgres.resume();
    all_is_journaled(&app, &[taken]).await;
    eventually("the node is ready again", || async { (app.get("/readyz").await.status == 200).then_some(()) }).await;
    app.finish().await;
}
