//! A small history with everything in it that an archive has to cope with, sent the way the sender does: again until it
//! is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::events::{accepted, ended, missed, recording};
use crate::fake_doubletick::Reply;
use crate::process::{ProcessApp, ended_with};

/// Requests under way at the same time.
const AT_ONCE: usize = 8;
/// No request may wait longer for its answer, whatever hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Settings under which nothing in a scenario is slow for its own sake.
pub const SETTINGS: &[(&str, &str)] = &[("recordings.concurrency", "3")];

/// What is sent, and what of it was acknowledged under which number.
#[derive(Default)]
pub struct Deliveries {
    pub bodies: Vec<String>,
    pub acknowledged: BTreeMap<usize, u64>,
}

impl Deliveries {
    /// Calls of every kind: plain, told twice, missed, with a late address, with half a recording first, with a sender
    /// that is out of order first, and a body that nobody understands.
    pub fn of_every_kind(app: &ProcessApp) -> Self {
        let sender = &app.sender;
        let audio = |n: u32| sender.audio(&format!("/{n}.mp3"), &recording(n));
        let half = sender.on("/half.mp3", [Reply::WrongLength(recording(3)), Reply::Audio(recording(3))]);
        let down = sender.on("/down.mp3", [Reply::Status(503), Reply::Drip(recording(4))]);
        let (plain, twice, late) = (audio(0), audio(1), audio(2));
        let events = [
            accepted("call_plain"),
            ended("call_plain", &plain),
            ended("call_twice", &twice),
            ended("call_twice", &twice),
            missed("call_missed"),
            ended("call_late", ""),
            ended("call_late", &late),
            ended("call_half", &half),
            ended("call_down", &down),
        ];
        let mut bodies: Vec<String> = events.iter().map(Value::to_string).collect();
        bodies.push("nobody understands this".into());
        Self { bodies, acknowledged: BTreeMap::new() }
    }

    pub fn waiting(&self) -> Vec<usize> {
        (0..self.bodies.len()).filter(|index| !self.acknowledged.contains_key(index)).collect()
    }

    /// Sends everything that is not acknowledged, once; nothing is waited for longer than an answer may take.
    pub async fn send_once(&mut self, app: &ProcessApp) {
        let posts = self.waiting().into_iter().map(|index| {
            let body = self.bodies[index].clone();
            async move {
                let answer = tokio::time::timeout(ANSWER_WITHIN, app.try_post(body)).await;
                (index, answer.expect("every request is answered in time"))
            }
        });
        let answers: Vec<_> = stream::iter(posts).buffer_unordered(AT_ONCE).collect().await;
        self.acknowledged.extend(answers.into_iter().filter_map(|(index, seq)| Some((index, seq?))));
    }

    /// Sends again and again until all is acknowledged; `false` where the server is gone before, or time is up.
    pub async fn send(&mut self, app: &mut ProcessApp, patience: Duration) -> bool {
        let started = Instant::now();
        loop {
            self.send_once(app).await;
            if self.waiting().is_empty() {
                return true;
            }
            if !app.is_running() || started.elapsed() > patience {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every acknowledged event is in the journal, under its number, and no number was given out twice.
    pub async fn check_journal(&self, app: &ProcessApp) {
        let kept = app.journaled().await;
        let numbers: BTreeSet<u64> = self.acknowledged.values().copied().collect();
        assert_eq!(numbers.len(), self.acknowledged.len(), "a number was given out twice: {:?}", self.acknowledged);
        for (index, seq) in &self.acknowledged {
            let body = kept.get(seq).map(|body| String::from_utf8_lossy(body).into_owned());
            assert_eq!(body.as_ref(), Some(&self.bodies[*index]), "it was acknowledged as {seq}");
        }
    }
}

/// What an archive says of its calls in the end, without what depends on when and how often things were tried.
pub async fn outcome(app: &ProcessApp) -> Vec<Value> {
    app.shows_all().await;
    let calls = app.json("/api/v1/calls?limit=500").await;
    let mut calls: Vec<Value> = calls["calls"].as_array().unwrap().iter().map(timeless).collect();
    calls.sort_by_key(|call| call["call_id"].as_str().unwrap().to_owned());
    calls
}

fn timeless(call: &Value) -> Value {
    let open = call["flags"].as_array().unwrap().iter().filter(|flag| flag["state"] == "open");
    let recording = &call["recording"];
    json!({
        "call_id": call["call_id"], "status": call["status"], "ended_at": call["ended_at"],
        "customer": call["customer"], "agent": call["agent"], "recordings": call["recordings"],
        "flags": open.map(|flag| flag["rule"].clone()).collect::<Vec<_>>(),
        "state": recording["state"], "sha256": recording["sha256"], "object_key": recording["object_key"],
        "retain_until": recording["retain_until"], "audio_seconds": recording["audio_seconds"],
    })
}

/// Checks a served archive from outside, and then at rest: nothing lost, nothing twice, nothing half, all of it sound.
pub async fn finish(app: ProcessApp, deliveries: &Deliveries) {
    assert_eq!(deliveries.waiting(), Vec::<usize>::new(), "everything is acknowledged in the end");
    assert!(app.settled_within(Duration::from_secs(60)).await, "everything is settled: {}", tail(&app));
    deliveries.check_journal(&app).await;
    ended_with(&app.cli(&["verify"]).await, 0);
    app.finish().await;
}

/// The end of the server's log, for a message.
pub fn tail(app: &ProcessApp) -> String {
    let log = app.log();
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains("DEBUG")).collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
