//! One archive under load whose server is killed again and again, at random moments and at random points. In `make test`
//! a few times; `make soak` does it 200 times.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::events::{accepted, ended, missed, recording};
use crate::fake_doubletick::Reply;
use crate::points::points;
use crate::process::{ProcessApp, Start, ended_with};
use crate::scenario::{Deliveries, finish, tail};

/// Calls that begin in each round.
const CALLS: u32 = 12;
/// Rounds after which everything is looked at.
const CHECK_EVERY: u32 = 25;

/// What the environment says of how much to do: see the Makefile.
pub struct Knobs {
    pub seed: u64,
    rounds: Option<u32>,
    /// Ways to break an operation that are tried; all of them if it is `all`.
    operations: Option<String>,
    pub at_once: usize,
}

impl Knobs {
    pub fn read() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let number =
            |name: &str| text(name).map(|value| value.parse::<u64>().unwrap_or_else(|_| panic!("{name}={value}")));
        Self {
            seed: number("SOAK_SEED").unwrap_or_else(|| fastrand::u64(1..1_000_000)),
            rounds: number("SOAK_ROUNDS").map(|rounds| u32::try_from(rounds).unwrap()),
            operations: text("SOAK_OPERATIONS"),
            at_once: usize::try_from(number("SOAK_AT_ONCE").unwrap_or(4)).unwrap(),
        }
    }

    /// How to run the same again.
    pub fn again(&self) -> String {
        let rounds = self.rounds.map_or_else(String::new, |rounds| format!(" ROUNDS={rounds}"));
        let operations = self.operations.as_ref().map_or_else(String::new, |number| format!(" OPERATIONS={number}"));
        format!("again: make soak SEED={}{rounds}{operations}", self.seed)
    }

    /// A seeded choice.
    pub fn choose<T>(&self, mut all: Vec<T>, usual: usize) -> Vec<T> {
        let number = match self.operations.as_deref() {
            Some("all") => return all,
            Some(number) => number.parse().expect("a number, or all"),
            None => usual,
        };
        fastrand::Rng::with_seed(self.seed).shuffle(&mut all);
        all.truncate(number);
        all
    }
}

/// Adds the calls of a round; some of their recordings come badly at first.
fn add_calls(app: &ProcessApp, deliveries: &mut Deliveries, random: &mut fastrand::Rng, round: u32) {
    for n in round * CALLS..(round + 1) * CALLS {
        let (id, audio, path) = (format!("call_{n}"), recording(n), format!("/{n}.mp3"));
        let bad = match random.u8(0..10) {
            0 => Some(Reply::WrongLength(audio.clone())),
            1 => Some(Reply::CutOff(audio.clone())),
            2 => Some(Reply::Status(503)),
            3 => Some(Reply::Drip(audio.clone())),
            _ => None,
        };
        let url = app.sender.on(&path, bad.into_iter().chain([Reply::Audio(audio)]));
        let events = match random.u8(0..8) {
            0 => vec![missed(&id)],
            1 => vec![ended(&id, ""), ended(&id, &url)],
            2 => vec![ended(&id, &url), ended(&id, &url)],
            3 => vec![ended(&id, &url), accepted(&id)],
            _ => vec![accepted(&id), ended(&id, &url)],
        };
        deliveries.bodies.extend(events.iter().map(ToString::to_string));
    }
}

/// Serves, sends, and kills; `true` where the server died at the point.
async fn round(app: &mut ProcessApp, deliveries: &mut Deliveries, random: &mut fastrand::Rng) -> bool {
    let points = points();
    let point = points[random.usize(0..points.len())];
    let faults = if random.bool() { format!("{point}={}*off->return(kill)", random.u32(1..12)) } else { String::new() };
    let life = Duration::from_millis(random.u64(1..2500));
    match app.try_serve(&faults).await {
        Start::Ready => {}
        Start::Ended(_) => return true,
        Start::Stuck => panic!("{faults}: {}", tail(app)),
    }
    let pid = app.pid();
    let end = tokio::spawn(async move {
        tokio::time::sleep(life).await;
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    });
    while !end.is_finished() {
        deliveries.send_once(app).await;
        if !end.is_finished() && app.ended().is_some() {
            // Its number may soon be another process's.
            end.abort();
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    app.kill_if_running();
    false
}

/// How often the search finds each call, and how many it says there are.
async fn found(app: &ProcessApp) -> (BTreeMap<String, u32>, u64) {
    let (mut found, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let page = app.json(&format!("/api/v1/calls?limit=500{cursor}")).await;
        for call in page["calls"].as_array().unwrap() {
            *found.entry(call["call_id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", crate::http::encoded(next)),
            None => return (found, page["total"].as_u64().unwrap()),
        }
    }
}

/// Everything that must be true of a served archive in which everything was sent.
async fn check(app: &mut ProcessApp, deliveries: &mut Deliveries, calls: u32) {
    app.serve().await;
    assert!(deliveries.send(app, Duration::from_secs(60)).await, "all is taken: {}", tail(app));
    assert!(app.settled_within(Duration::from_secs(120)).await, "settled: {}", tail(app));
    deliveries.check_journal(app).await;
    let (found, total) = found(app).await;
    let expected: BTreeMap<String, u32> = (0..calls).map(|n| (format!("call_{n}"), 1)).collect();
    let wrong: Vec<_> = found.iter().filter(|(id, times)| expected.get(*id) != Some(*times)).collect();
    assert_eq!(
        (found.len(), total, wrong),
        (expected.len(), u64::from(calls), vec![]),
        "every call once: {}",
        tail(app)
    );
    for n in 0..calls {
        let call = app.json(&format!("/api/v1/calls/call_{n}")).await;
        let expected = hex::encode(Sha256::digest(recording(n)));
        let recording = &call["recording"];
        let archived = recording["state"] == "archived" && recording["sha256"] == expected;
        assert!(archived || call["status"] == "missed", "{call:#}");
    }
    ended_with(&app.cli(&["verify"]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again() {
    let knobs = Knobs::read();
    let rounds = knobs.rounds.unwrap_or(5);
    eprintln!("soak: {rounds} kills; {}", knobs.again());
    let mut random = fastrand::Rng::with_seed(knobs.seed);
    let mut app = ProcessApp::stopped(&[]).await;
    app.keep_where_it_fails();
    let (mut deliveries, mut at_points, began) = (Deliveries::default(), 0, Instant::now());
    for n in 0..rounds {
        add_calls(&app, &mut deliveries, &mut random, n);
        at_points += u32::from(round(&mut app, &mut deliveries, &mut random).await);
        if (n + 1) % CHECK_EVERY == 0 {
            check(&mut app, &mut deliveries, (n + 1) * CALLS).await;
            app.kill();
            eprintln!("soak: {} kills survived in {:.0?}", n + 1, began.elapsed());
        }
    }
    check(&mut app, &mut deliveries, rounds * CALLS).await;
    let events = deliveries.bodies.len();
    finish(app, &deliveries).await;
    let (calls, took) = (rounds * CALLS, began.elapsed());
    eprintln!(
        "soak: {rounds} kills, {at_points} of them at points, {events} events, {calls} calls, {took:.0?}: nothing lost"
    );
}
