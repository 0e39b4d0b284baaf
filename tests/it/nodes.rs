//! Three nodes on one PostgreSQL and one bucket, while nodes, gateway and database die and come back at random: whatever
//! was acknowledged is there once, every recording has one receipt, and every node finds what the database has.
//!
//! `make nodes` runs it with 5,000 calls; NODES_CALLS and NODES_SEED choose otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde_json::Value;
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinHandle;

use crate::app::INGEST;
use crate::events::{accepted, ended_with, recording};
use crate::fake_doubletick::FakeDoubleTick;
use crate::http::{client, encoded, eventually};
use crate::leftovers::files;
use crate::objects::s3_server::{Bucket, Gateway};
use crate::process::{ProcessApp, Start, ended_with as ends_with, kill_now};
use crate::servers::Postgres;

const NODES: usize = 3;
const SENDERS: usize = 12;
/// Calls where nobody says how many.
const CALLS: u32 = 600;
/// Every so many-th webhook is sent twice.
const TWICE: usize = 10;
/// What nobody disturbs any more settles within this time, and one second more for every fifty calls.
const SETTLES: Duration = Duration::from_secs(120);

/// A webhook, and what became of the posts of it.
#[derive(Default)]
struct Delivery {
    body: String,
    posts: usize,
    /// The numbers that were given back.
    seqs: Vec<u64>,
    /// How often a node said that it put it by.
    spooled: usize,
}

/// What runs, and what of it can be told while it is killed.
struct Cluster {
    nodes: Vec<AsyncMutex<ProcessApp>>,
    /// Of the nodes that serve.
    addresses: Mutex<Vec<Option<(String, Pid)>>>,
    gateway: AsyncMutex<Gateway>,
    postgres: Postgres,
    /// Somebody still sends or kills.
    disturbed: AtomicBool,
    kills: AtomicUsize,
}

impl Cluster {
    async fn start(bucket: &Bucket, gateway: Gateway) -> Arc<Self> {
        let postgres = Postgres::start();
        let url = format!("{:?}", postgres.url());
        let mut settings = bucket.toml();
        settings.push(("database.url", url));
        settings.push(("storage.s3.endpoint", format!("{:?}", gateway.endpoint)));
        settings.push(("recordings.concurrency", "8".into()));
        let mut nodes: Vec<ProcessApp> = Vec::new();
        for _ in 0..NODES {
            // All fetch from one sender.
            let hosts = nodes.first().map(|node| format!("[{:?}]", node.sender.address));
            let hosts = hosts.map(|hosts| ("recordings.hosts", hosts));
            let all: Vec<_> = settings.iter().cloned().chain(hosts).collect();
            let all: Vec<_> = all.iter().map(|(key, value)| (*key, value.as_str())).collect();
            let mut node = ProcessApp::stopped(&all).await;
            node.keep_where_it_fails();
            node.serve().await;
            nodes.push(node);
        }
        let addresses = nodes.iter().map(|node| Some((node.url.clone(), node.pid()))).collect();
        Arc::new(Self {
            nodes: nodes.into_iter().map(AsyncMutex::new).collect(),
            addresses: Mutex::new(addresses),
            gateway: AsyncMutex::new(gateway),
            postgres,
            disturbed: AtomicBool::new(true),
            kills: AtomicUsize::new(0),
        })
    }

    fn address(&self, node: usize) -> Option<(String, Pid)> {
        self.addresses.lock().unwrap()[node].clone()
    }

    async fn kill_node(&self, node: usize, random: &mut fastrand::Rng) {
        let Some((_, pid)) = self.addresses.lock().unwrap()[node].take() else { return };
        kill_now(pid);
        self.kills.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(random.u64(0..1500))).await;
        let mut app = self.nodes[node].lock().await;
        while app.is_running() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.serve_again(node, &mut app).await;
    }

    /// A node can't start without its database; whoever runs it tries again.
    async fn serve_again(&self, node: usize, app: &mut ProcessApp) {
        while app.try_serve("").await != Start::Ready {
            app.kill_if_running();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.addresses.lock().unwrap()[node] = Some((app.url.clone(), app.pid()));
    }

    async fn kill_gateway(&self, random: &mut fastrand::Rng) {
        let mut gateway = self.gateway.lock().await;
        gateway.kill();
        self.kills.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(random.u64(0..2000))).await;
        gateway.start_again().await;
    }

    /// Kills whatever it likes, one thing after the other, and lets the rest work in between.
    async fn disturb(self: Arc<Self>, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        while self.disturbed.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(random.u64(200..3000))).await;
            match random.usize(0..NODES + 1) {
                NODES => self.kill_gateway(&mut random).await,
                node => self.kill_node(node, &mut random).await,
            }
        }
    }
}

/// The webhooks of so many calls in random order, some of them twice.
fn webhooks(sender: &FakeDoubleTick, calls: u32, random: &mut fastrand::Rng) -> (Vec<Delivery>, Vec<usize>) {
    let mut bodies = Vec::new();
    for n in 0..calls {
        let id = format!("call_{n}");
        let url = sender.audio(&format!("/{n}.mp3"), &recording(n));
        let fields = serde_json::json!({"recordingUrl": url, "customerName": format!("Customer {n}")});
        bodies.extend([accepted(&id), ended_with(&id, fields)].map(|event| event.to_string()));
    }
    let deliveries: Vec<Delivery> = bodies.into_iter().map(|body| Delivery { body, ..Delivery::default() }).collect();
    let mut order: Vec<usize> = (0..deliveries.len()).chain((0..deliveries.len()).step_by(TWICE)).collect();
    random.shuffle(&mut order);
    (deliveries, order)
}

/// Posts to nodes at random until one acknowledges.
async fn send(cluster: &Cluster, deliveries: &Mutex<Vec<Delivery>>, index: usize, random: &mut fastrand::Rng) {
    let client = client();
    loop {
        let Some((url, _)) = cluster.address(random.usize(0..NODES)) else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let body = {
            let mut deliveries = deliveries.lock().unwrap();
            deliveries[index].posts += 1;
            deliveries[index].body.clone()
        };
        let post = client.post(format!("{url}/webhooks/doubletick")).bearer_auth(INGEST).body(body);
        let answer = async {
            let answer = post.send().await.ok()?;
            let (status, text) = (answer.status(), answer.text().await.ok()?);
            assert!(status == 200 || status == 503, "{status}: {text}");
            (status == 200).then(|| serde_json::from_str::<Value>(&text).unwrap())
        };
        let answer = tokio::time::timeout(Duration::from_secs(20), answer).await.expect("every webhook is answered");
        if let Some(answer) = answer {
            let mut deliveries = deliveries.lock().unwrap();
            match answer["seq"].as_u64() {
                Some(seq) => deliveries[index].seqs.push(seq),
                None => {
                    assert_eq!(answer["spooled"], true, "{answer}");
                    deliveries[index].spooled += 1;
                }
            }
            return;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(10..200))).await;
    }
}

/// Sends everything, each sender one webhook after the other; the database is restarted twice on the way.
async fn send_all(cluster: &Arc<Cluster>, deliveries: Vec<Delivery>, order: Vec<usize>, seed: u64) -> Vec<Delivery> {
    let total = order.len();
    let (deliveries, next) = (Arc::new(Mutex::new(deliveries)), Arc::new(AtomicUsize::new(0)));
    let order = Arc::new(order);
    let sender = |n: usize| -> JoinHandle<()> {
        let (cluster, deliveries) = (Arc::clone(cluster), Arc::clone(&deliveries));
        let (next, order) = (Arc::clone(&next), Arc::clone(&order));
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed + n as u64);
            while let Some(index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                send(&cluster, &deliveries, *index, &mut random).await;
            }
        })
    };
    let senders: Vec<JoinHandle<()>> = (0..SENDERS).map(sender).collect();
    for (part, restart) in [(3, Postgres::stop as fn(&Postgres)), (2, Postgres::crash)] {
        while next.load(Ordering::Relaxed) < total / part {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        restart(&cluster.postgres);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        cluster.postgres.resume();
    }
    for sender in senders {
        sender.await.unwrap();
    }
    let mut deliveries = deliveries.lock().unwrap();
    std::mem::take(&mut deliveries)
}

/// What was acknowledged is journaled under its number, and nothing more often than it was posted.
async fn check_journal(app: &ProcessApp, deliveries: &[Delivery]) {
    let journaled = app.journaled().await;
    let mut copies: BTreeMap<&[u8], usize> = BTreeMap::new();
    journaled.values().for_each(|body| *copies.entry(body).or_default() += 1);
    let mut numbers = BTreeSet::new();
    for delivery in deliveries {
        for seq in &delivery.seqs {
            assert!(numbers.insert(*seq), "{seq} was given out twice");
            assert_eq!(journaled.get(seq).map(Vec::as_slice), Some(delivery.body.as_bytes()), "{seq}");
        }
        let copies = copies.get(delivery.body.as_bytes()).copied().unwrap_or_default();
        let acknowledged = delivery.seqs.len() + delivery.spooled;
        assert!(acknowledged > 0, "everything is acknowledged in the end");
        assert!(
            (acknowledged..=delivery.posts).contains(&copies),
            "{acknowledged} of {} posts were acknowledged, {copies} are journaled: {}",
            delivery.posts,
            delivery.body
        );
    }
}

/// Every recording has one receipt, and what lies in the bucket beside it is journaled, with the same bytes and lock.
async fn check_store(app: &ProcessApp, bucket: &Bucket, calls: u32) -> usize {
    let mut receipts = BTreeMap::new();
    for record in entries(app, "recording.archived").await {
        for (key, version) in [("object_key", "version"), ("vcon_key", "vcon_version")] {
            let text = |name: &str| record[name].as_str().unwrap().to_owned();
            let before = receipts.insert(text(key), (text(version), text("retain_until")));
            assert_eq!(before, None, "a second receipt for {}", text(key));
        }
    }
    assert_eq!(receipts.len(), 2 * calls as usize);
    let duplicates: BTreeSet<(String, String)> = entries(app, "recording.duplicated")
        .await
        .iter()
        .map(|record| (record["object_key"].as_str().unwrap().into(), record["version"].as_str().unwrap().into()))
        .collect();
    let mut further = 0;
    for (key, version, latest) in bucket.every_version().await {
        let Some((kept, until)) = receipts.get(&key) else { panic!("nobody knows of {key}") };
        if version != *kept {
            further += 1;
            assert!(
                duplicates.contains(&(key.clone(), version.clone())),
                "{key} {version} ({latest}) is not journaled"
            );
            assert_eq!(bucket.bytes(&key, &version).await, bucket.bytes(&key, kept).await, "{key}");
        }
        let until: jiff::Timestamp = until.parse().unwrap();
        assert_eq!(bucket.lock(&key, &version).await.map(|lock| lock.1), Some(until.as_second()), "{key} {version}");
    }
    assert_eq!(further, duplicates.len());
    further
}

/// The bodies of all entries of a kind.
async fn entries(app: &ProcessApp, kind: &str) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = app.json(&format!("/api/v1/journal?limit=500&kind={kind}{after}")).await;
        all.extend(page["entries"].as_array().unwrap().iter().map(|entry| entry["body"].clone()));
        match page["next"].as_u64() {
            Some(next) => after = format!("&after={next}"),
            None => return all,
        }
    }
}

/// The calls that a node's search finds.
async fn found(app: &ProcessApp) -> Vec<String> {
    app.shows_all().await;
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app.json(&format!("/api/v1/calls?limit=500{cursor}")).await;
        found.extend(page["calls"].as_array().unwrap().iter().map(|call| {
            assert_eq!(call["recording"]["state"], "archived", "{call}");
            call["call_id"].as_str().unwrap().to_owned()
        }));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", encoded(next)),
            None => break,
        }
    }
    found.sort();
    found
}

fn knob(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL and an S3 server: tests/run.sh has them"]
async fn three_nodes_whatever_dies() {
    let seed = knob("NODES_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let calls = knob("NODES_CALLS").map_or(CALLS, |calls| u32::try_from(calls).unwrap());
    let (bucket, mut random) = (Bucket::locked().await, fastrand::Rng::with_seed(seed));
    let cluster = Cluster::start(&bucket, Gateway::start().await).await;
    let (deliveries, order) = webhooks(&cluster.nodes[0].lock().await.sender, calls, &mut random);
    let (started, disturbing) = (Instant::now(), tokio::spawn(Arc::clone(&cluster).disturb(seed)));
    let deliveries = send_all(&cluster, deliveries, order, seed).await;
    let sent = started.elapsed();
    cluster.disturbed.store(false, Ordering::Relaxed);
    disturbing.await.unwrap();
    let cluster = Arc::into_inner(cluster).expect("nobody else is left");
    let kills = cluster.kills.load(Ordering::Relaxed);
    let mut nodes: Vec<ProcessApp> = cluster.nodes.into_iter().map(AsyncMutex::into_inner).collect();
    for node in &nodes {
        eventually_drained(node).await;
    }
    let patience = SETTLES + Duration::from_secs(u64::from(calls) / 50);
    assert!(nodes[0].settled_within(patience).await, "everything is settled: NODES_SEED={seed}");
    // Looks for second versions are behind the receipts by design.
    tokio::time::sleep(Duration::from_secs(6)).await;
    eprintln!(
        "{calls} calls sent in {sent:.0?}, settled after {:.0?}, {kills} kills, NODES_SEED={seed}",
        started.elapsed()
    );

    check_journal(&nodes[0], &deliveries).await;
    let further = check_store(&nodes[0], &bucket, calls).await;
    eprintln!("{further} second versions");
    let mut all: Vec<String> = (0..calls).map(|n| format!("call_{n}")).collect();
    all.sort();
    for node in &nodes {
        assert!(found(node).await == all, "a node's search has what the database has");
    }
    ends_with(&nodes[0].cli(&["verify"]).await, 0);
    for node in &mut nodes[1..] {
        assert_eq!(node.terminate().await.code(), Some(0));
        assert_eq!(files(&node.data_dir().join("spool")), BTreeSet::new(), "its spool is empty at rest");
    }
    nodes.remove(0).finish().await;
}

async fn eventually_drained(node: &ProcessApp) {
    eventually("what was put by is journaled", || async {
        (node.metric("callvault_webhook_spool_events").await == 0.0).then_some(())
    })
    .await;
}
