//! Random policies, holds, clocks and interruptions against a naive model: nothing is destroyed before the latest of its
//! dates or under a hold, and no policy that is accepted shortens a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use callvault::app::App;
use callvault::calls::records::{ArchiveReceipt, AudioRecord};
use callvault::clock::Clock;
use callvault::config::Config;
use callvault::custody::{CustodyError, NewHold};
use callvault::intake;
use callvault::journal::{Body, Kind, NewEntry};
use callvault::objects::{Content, ObjectKey};
use callvault::retention::{Dates, PolicySet};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::events::ended_with;

const START: &str = "2026-03-09T12:00:00Z";
const DAY: i64 = 86_400;

/// A recording as the model knows it.
struct Known {
    key: String,
    /// The latest date that it was ever promised.
    until: Timestamp,
    holds: BTreeSet<String>,
}

struct World {
    app: App,
    config: Config,
    jumped: Arc<AtomicI64>,
    known: BTreeMap<String, Known>,
    holds: u32,
    policies: tempfile::TempDir,
    random: fastrand::Rng,
}

fn clock(jumped: &Arc<AtomicI64>) -> Clock {
    let jumped = Arc::clone(jumped);
    let start: Timestamp = START.parse().unwrap();
    Clock::from_fn(move || start + SignedDuration::from_secs(jumped.load(Ordering::Relaxed)))
}

impl World {
    async fn new(dir: &std::path::Path, seed: u64) -> Self {
        let text = json!({"data_dir": dir.join("data"), "retention": {"disposition": true, "grace": "1s"}});
        let config = callvault::config::with_defaults(&text).unwrap();
        let jumped = Arc::new(AtomicI64::new(0));
        let app = App::open(config.clone(), clock(&jumped)).await.unwrap();
        app.custody().begin().await.unwrap();
        let (known, policies, random) = (BTreeMap::new(), tempfile::tempdir().unwrap(), fastrand::Rng::with_seed(seed));
        Self { app, config, jumped, known, holds: 0, policies, random }
    }

    fn now(&self) -> Timestamp {
        self.app.clock.now()
    }

    /// Everything that follows the journal has done so, and the store is as it is to be.
    async fn settle(&self) {
        let custody = self.app.custody();
        custody.settle().await.unwrap();
    }

    /// Archives a call that ended some years ago.
    async fn archive(&mut self) {
        let id = format!("call_{}", self.known.len());
        let end = self.now() - SignedDuration::from_secs(self.random.i64(0..9 * 365) * DAY);
        let agent = ["desk", "sales"][self.random.usize(..2)];
        let url = format!("https://calls.doubletick.io/{id}.mp3");
        let said = ended_with(&id, json!({"recordingUrl": url, "callEndedAt": end.to_string(), "pickedBy": agent}));
        let (entry, _) = intake::entry(Kind::WebhookImported, "test", said.to_string().as_bytes(), None);
        self.app.journal.append(vec![entry]).await.unwrap();
        let facts = self.app.calls.facts(&id).await.unwrap().unwrap();
        let kept = self.app.policies.current().kept(&facts, &Dates::of(&facts, None));
        let bytes = Bytes::from(format!("the sound of {id}"));
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let (key, vcon_key) =
            (format!("recordings/x/{id}/{sha256}.mp3"), format!("recordings/x/{id}/{sha256}.vcon.json"));
        for key in [&key, &vcon_key] {
            let content = Content::Bytes(bytes.clone());
            self.app.store.put_new(&ObjectKey::Journaled(key.clone()), content, kept.until).await.unwrap();
        }
        let audio = AudioRecord {
            media_type: "audio/mpeg".into(),
            seconds: 3.0,
            bit_rate: 64_000,
            channels: 1,
            sample_rate: 8_000,
            complete: true,
        };
        let receipt = ArchiveReceipt {
            call_id: id.clone(),
            source: hex::encode(Sha256::digest(&url)),
            object_key: key.clone(),
            version: None,
            sha256: sha256.clone(),
            size_bytes: bytes.len() as u64,
            audio,
            retain_until: kept.until,
            policy: kept.policy,
            policy_sha256: kept.policy_sha256,
            vcon_key,
            vcon_version: None,
            vcon_sha256: sha256,
            attempts: 1,
            resumed: false,
        };
        let body = Body::of_json(&receipt).unwrap();
        let entry = NewEntry::new(Kind::RecordingArchived, "system", Some(intake::call_key(&id)), body);
        self.app.journal.append(vec![entry]).await.unwrap();
        self.known.insert(id, Known { key, until: kept.until, holds: BTreeSet::new() });
    }

    async fn is_there(&self, known: &Known) -> bool {
        self.app.store.head(&known.key, None).await.unwrap().is_some()
    }

    async fn hold(&mut self) {
        let mut free = Vec::new();
        for (id, known) in &self.known {
            if self.is_there(known).await && !self.app.calls.facts(id).await.unwrap().unwrap().is_gone() {
                free.push(id.clone());
            }
        }
        let Some(id) = (!free.is_empty()).then(|| free[self.random.usize(..free.len())].clone()) else { return };
        self.holds += 1;
        let text = || "x".to_owned();
        let name = format!("hold-{}", self.holds);
        let hold = NewHold {
            name: name.clone(),
            matter: text(),
            reason: text(),
            custodian: text(),
            calls: vec![id.clone()],
            query: None,
        };
        self.app.custody().place(&hold, "one").await.unwrap();
        self.known.get_mut(&id).unwrap().holds.insert(name);
    }

    async fn release(&mut self) {
        let held = self.known.iter().find_map(|(id, known)| Some((id.clone(), known.holds.first()?.clone())));
        let Some((id, name)) = held else { return };
        let custody = self.app.custody();
        custody.release_hold(&name, "one").await.unwrap();
        assert!(custody.release_hold(&name, "one").await.is_err(), "one's own");
        custody.release_hold(&name, "two").await.unwrap();
        self.known.get_mut(&id).unwrap().holds.remove(&name);
    }

    /// A random set of policies: taken only if nothing is kept for less.
    async fn adopt(&mut self) {
        for file in std::fs::read_dir(self.policies.path()).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        let mut policy = |name: &str, conditions: &str| {
            let years = self.random.u32(1..9);
            let text =
                format!("id='{name}'\ntitle='t'\nperiod='P{years}Y'\nstart='call_end'\nreason='r'\n{conditions}");
            std::fs::write(self.policies.path().join(format!("{name}.toml")), text).unwrap();
        };
        policy("all", "");
        policy("desk", "[applies_to]\nagents=['desk']\n");
        let set = PolicySet::load(self.policies.path().to_str().unwrap(), &[]).unwrap();
        let custody = self.app.custody();
        match custody.adopt(set, "one").await {
            Ok(_) => {}
            Err(CustodyError::Shortens(_)) => return,
            Err(error) => panic!("{error}"),
        }
        let set = self.app.policies.current();
        for (id, known) in &mut self.known {
            let facts = self.app.calls.facts(id).await.unwrap().unwrap();
            if facts.is_gone() {
                continue;
            }
            let until = set.kept(&facts, &Dates::of(&facts, None)).until;
            assert!(until >= known.until || facts.recordings.is_empty(), "{id}: {until} is before {}", known.until);
            known.until = known.until.max(until);
        }
    }

    /// Proposes, approves, and executes, perhaps only up to some point.
    async fn dispose(&mut self) {
        let custody = self.app.custody();
        let Ok(proposed) = custody.propose(100, "one").await else { return };
        assert!(custody.approve(&proposed.id, "one").await.is_err(), "one's own");
        custody.approve(&proposed.id, "two").await.unwrap();
        if self.random.bool() {
            // Something comes in between.
            self.hold().await;
        }
        self.jumped.fetch_add(2, Ordering::Relaxed);
        self.execute_all().await;
    }

    async fn execute_all(&mut self) {
        let custody = self.app.custody();
        for id in custody.ready().await.unwrap() {
            if self.random.u8(..3) == 0 {
                let cut = Duration::from_micros(self.random.u64(..20_000));
                // Cut off anywhere.
                let _ = tokio::time::timeout(cut, custody.execute(&id, &|_, _| {})).await;
            } else {
                custody.execute(&id, &|_, _| {}).await.unwrap();
            }
        }
    }

    async fn restart(&mut self) {
        self.app.db.close().await;
        self.app = App::open(self.config.clone(), clock(&self.jumped)).await.unwrap();
        self.app.custody().begin().await.unwrap();
    }

    async fn check(&self) {
        for (id, known) in &self.known {
            let facts = self.app.calls.facts(id).await.unwrap().unwrap();
            if self.is_there(known).await {
                let lock = self.app.store.head(&known.key, None).await.unwrap().unwrap().retain_until.unwrap();
                assert!(lock >= known.until, "{id}: locked until {lock}, promised {}", known.until);
            } else {
                assert!(known.until <= self.now(), "{id} is destroyed before {}", known.until);
                assert!(known.holds.is_empty(), "{id} is destroyed under {:?}", known.holds);
                assert!(facts.is_gone());
            }
        }
    }
}

async fn world(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), seed).await;
    for _ in 0..40 {
        match world.random.u8(..9) {
            0..3 => world.archive().await,
            3 => world.hold().await,
            4 => world.release().await,
            5 => world.adopt().await,
            6 => {
                let days = world.random.i64(1..700);
                world.jumped.fetch_add(days * DAY, Ordering::Relaxed);
            }
            7 => world.dispose().await,
            _ => world.restart().await,
        }
        world.settle().await;
        world.check().await;
    }
    // In the end everything that was begun is done.
    for id in world.app.custody().ready().await.unwrap() {
        world.app.custody().execute(&id, &|_, _| {}).await.unwrap();
    }
    world.settle().await;
    world.check().await;
    let left =
        world.app.db.fetch_all("select subject from kept where disposition is not null and destroyed_at is null", &[]);
    assert_eq!(left.await.unwrap().len(), 0, "nothing is half destroyed");
    world.app.db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_destroyed_too_early_or_under_a_hold() {
    for seed in 0..12 {
        world(seed).await;
    }
}
