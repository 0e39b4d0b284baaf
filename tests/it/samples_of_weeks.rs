//! Samples: seeded while the week runs, drawn afterwards, and the same for whoever draws them again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::app::{OFFICER, TestApp, write_config};
use crate::events::{ended_with, missed};
use crate::http::{Answer, eventually};
use crate::process;

const PLANS: &str =
    r#"[{ name = "each-agent", by = "agent", percent = 30 }, { name = "desk", by = "all", number = 4 }]"#;

/// A call of a minute by an agent that ended at a time.
fn call(call_id: &str, agent: &str, end: &str) -> Value {
    let end: jiff::Timestamp = end.parse().unwrap();
    let start = end - jiff::SignedDuration::from_secs(60);
    ended_with(
        call_id,
        json!({"callStartedAt": start.to_string(), "callEndedAt": end.to_string(), "durationInSeconds": 60,
            "pickedBy": agent, "endedBy": agent}),
    )
}

async fn entries(app: &TestApp, kind: &str, name: &str, count: usize) -> Vec<Value> {
    let filter = format!("&kind={kind}&subject=sample:{name}");
    let probe = || async {
        let entries = app.journal(&filter).await;
        (entries.len() >= count).then_some(entries)
    };
    eventually(&format!("{count} of {kind} for {name}"), probe).await
}

/// The sample as anybody draws it who has the seed and the calls: by the hash of both, as `sha256sum` gives it.
fn drawn_naively(seed: &str, calls: &BTreeSet<String>, wanted: usize) -> Vec<String> {
    let hash = |call: &String| hex::encode(Sha256::digest(format!("{seed}:{call}")));
    let mut order: Vec<(String, &String)> = calls.iter().map(|call| (hash(call), call)).collect();
    order.sort();
    order.into_iter().take(wanted).map(|(_, call)| call.clone()).collect()
}

fn digest(calls: &BTreeSet<String>) -> String {
    hex::encode(Sha256::digest(calls.iter().map(|call| format!("{call}\n")).collect::<String>()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_is_what_anybody_draws() {
    let app = TestApp::with(&[("review.samples", PLANS), ("timezone", "\"Asia/Kolkata\"")]).await;
    let seeded = entries(&app, "sample.seeded", "each-agent", 1).await.remove(0);
    let body = &seeded["body"];
    // The archive's clock stands at 9 March; in Kolkata Monday began the evening before.
    assert_eq!((&body["week"], &body["from"]), (&json!("2026-W11"), &json!("2026-03-08T18:30:00Z")));
    assert!(seeded["entry"]["at"].as_str() < body["to"].as_str(), "before its week ends");
    let seed = body["seed"].as_str().unwrap();
    assert_eq!(seed.len(), 64);

    let mut expected: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for n in 0..40 {
        let (id, agent) = (format!("call_{n:02}"), ["leela", "meera", "asha"][n % 3]);
        app.post(&call(&id, agent, &format!("2026-03-09T{:02}:{:02}:00Z", n % 10, n))).await;
        expected.entry(agent).or_default().insert(id);
    }
    // Others' weeks, and calls without a conversation.
    app.post(&call("before", "leela", "2026-03-08T18:29:59Z")).await;
    app.post(&call("first", "leela", "2026-03-08T18:30:00Z")).await;
    expected.get_mut("leela").unwrap().insert("first".into());
    app.post(&missed("call_missed")).await;
    app.settle().await;
    assert_eq!(app.journal("&kind=sample.drawn").await.len(), 0);

    app.jump(7);
    let drawn = entries(&app, "sample.drawn", "each-agent", 1).await.remove(0);
    let parts = drawn["body"]["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 3);
    let mut all_drawn = BTreeSet::new();
    for part in parts {
        let calls = &expected[part["of"].as_str().unwrap()];
        let wanted = (calls.len() * 30).div_ceil(100);
        assert_eq!(part["drawn"], json!(drawn_naively(seed, calls, wanted)), "{part}");
        assert_eq!(part["population"], calls.len());
        assert_eq!(part["population_sha256"], digest(calls));
        all_drawn.extend(part["drawn"].as_array().unwrap().iter().map(|call| call.as_str().unwrap().to_owned()));
    }
    let everybody: BTreeSet<String> = expected.values().flatten().cloned().collect();
    assert_eq!(drawn["body"]["population_sha256"], digest(&everybody));
    assert_eq!((&drawn["body"]["population"], &drawn["body"]["seeded"]), (&json!(41), &seeded["entry"]["seq"]));
    assert_eq!(drawn["body"]["drawn"], json!(all_drawn));
    assert!(!drawn["entry"].to_string().contains("leela"), "no agent in an entry");

    // The other sample has a seed of its own; a call that both drew has one flag.
    let other = entries(&app, "sample.drawn", "desk", 1).await.remove(0);
    let other_seed = entries(&app, "sample.seeded", "desk", 1).await.remove(0);
    let other_seed = other_seed["body"]["seed"].as_str().unwrap();
    assert_ne!(other_seed, seed);
    assert_eq!(other["body"]["parts"][0]["drawn"], json!(drawn_naively(other_seed, &everybody, 4)));
    all_drawn.extend(other["body"]["drawn"].as_array().unwrap().iter().map(|call| call.as_str().unwrap().to_owned()));
    app.found("flag=sample&flag_state=open", all_drawn.len() as u64).await;
    let flagged: Vec<Value> = app.journal("&kind=flag.raised").await;
    let flagged: Vec<&str> = flagged
        .iter()
        .filter(|entry| entry["body"]["rule"] == "sample")
        .map(|entry| entry["body"]["call_id"].as_str().unwrap())
        .collect();
    assert_eq!(flagged.len(), all_drawn.len(), "each once");
    assert!(flagged.iter().all(|call| all_drawn.contains(*call)));

    // The next week is seeded, and what happens to calls later draws nothing anew.
    entries(&app, "sample.seeded", "each-agent", 2).await;
    app.post(&call("told late", "leela", "2026-03-10T10:00:00Z")).await;
    app.settle().await;
    progress(&app, all_drawn.first().unwrap()).await;
    assert_eq!(app.journal("&kind=sample.drawn").await.len(), 2);
    app.finish().await;
}

/// The plan's progress as it is told, once one of its calls is reviewed.
async fn progress(app: &TestApp, one: &str) {
    let review = app.client.post(format!("{}/api/v1/calls/{one}/flags/sample/review", app.url)).bearer_auth(OFFICER);
    let review = review.header("content-type", "application/json").body(r#"{"state": "cleared"}"#);
    Answer::of(review).await.ok();
    let told = app.json("/api/v1/reviews").await;
    let weeks = told["progress"]["samples"].as_array().unwrap();
    let week = weeks.iter().find(|week| week["sample"] == "each-agent" && week["week"] == "2026-W11").unwrap();
    assert_eq!((&week["population"], &week["plan"]), (&json!(41), &json!("30 % a week by agent")));
    let flags = week["flags"].as_object().unwrap();
    let counted: u64 = flags.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(counted, week["drawn"].as_u64().unwrap());
    assert!(weeks.iter().any(|week| week["week"] == "2026-W12" && week["drawn_seq"].is_null()));
    // The command has the machine's clock, for which all of this is long ago.
    let lines = process::ended_with(&app.cli(&["flags", "sample", "--json", "--weeks", "520"]).await, 0);
    let same = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|line| line == week);
    assert!(same.is_some(), "{lines}");
    assert!(lines.lines().any(|line| line.contains(r#""week":"2026-W13""#) && line.contains(r#""seeded_seq":null"#)));
    let args = ["flags", "sample", "--name", "each-agent", "--population", "2026-W11"];
    let population = process::ended_with(&app.cli(&args).await, 0);
    assert_eq!(population.lines().count(), 41);
    assert!(population.contains("leela\tfirst\n"), "{population}");
    process::ended_with(&app.cli(&["flags", "sample", "--name", "each-agent", "--population", "2026-W01"]).await, 1);
    assert!(app.get("/reviews").await.text().contains("30 % a week by agent"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_week_in_which_nobody_served_has_no_sample() {
    let mut app = TestApp::start().await;
    app.post(&call("call_1", "leela", "2026-03-09T10:00:00Z")).await;
    app.settle().await;
    // The plan comes in the second week, and in the third nobody serves.
    app.stop().await;
    app.jump(7);
    write_config(app.scratch(), &app.sender, &[("review.samples", PLANS)]);
    app.serve_again().await;
    entries(&app, "sample.seeded", "each-agent", 1).await;
    app.post(&call("call_2", "leela", "2026-03-16T10:00:00Z")).await;
    app.settle().await;
    app.stop().await;
    app.jump(14);
    app.serve_again().await;
    // The week of the first server is drawn, late; the two without a seed never are.
    entries(&app, "sample.drawn", "each-agent", 1).await;
    let seeded = entries(&app, "sample.seeded", "each-agent", 2).await;
    let weeks: Vec<&str> = seeded.iter().map(|entry| entry["body"]["week"].as_str().unwrap()).collect();
    assert_eq!(weeks, ["2026-W12", "2026-W14"]);
    app.found("flag=sample", 1).await;
    let told = app.json("/api/v1/reviews").await;
    let weeks: BTreeMap<&str, &Value> = told["progress"]["samples"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|week| week["sample"] == "each-agent")
        .map(|week| (week["week"].as_str().unwrap(), week))
        .collect();
    assert_eq!(weeks.keys().copied().collect::<Vec<_>>(), ["2026-W12", "2026-W13", "2026-W14"]);
    assert_eq!((&weeks["2026-W12"]["drawn"], &weeks["2026-W13"]["seeded_seq"]), (&json!(1), &Value::Null));
    app.finish().await;
}
