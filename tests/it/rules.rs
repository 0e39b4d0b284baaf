//! Rules about business hours and about an agent's calls together, and the rules once more over the past.

use serde_json::{Value, json};

use crate::app::{OFFICER, TestApp, write_config};
use crate::events::ended_with;
use crate::http::Answer;
use crate::process;

/// A call of so many seconds by an agent, begun at a time of 9 March 2026.
fn call(call_id: &str, agent: &str, time: &str, seconds: i64) -> Value {
    let start: jiff::Timestamp = format!("2026-03-09T{time}Z").parse().unwrap();
    let end = start + jiff::SignedDuration::from_secs(seconds);
    ended_with(
        call_id,
        json!({"callStartedAt": start.to_string(), "callEndedAt": end.to_string(), "durationInSeconds": seconds,
            "pickedBy": agent, "endedBy": agent}),
    )
}

/// The ids of the calls that are flagged by a rule, in their order.
async fn flagged(app: &TestApp, rule: &str) -> Vec<String> {
    let raised = app.journal("&kind=flag.raised").await;
    let of_rule = raised.iter().filter(|entry| entry["body"]["rule"] == rule);
    let mut ids: Vec<String> = of_rule.map(|entry| entry["body"]["call_id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

async fn evaluate(app: &TestApp, args: &[&str]) -> Vec<Value> {
    let said = process::ended_with(&app.cli(&[&["flags", "evaluate", "--json"], args].concat()).await, 0);
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_out_of_hours() {
    let app = TestApp::with(&[
        ("flags.business_hours.timezone", "\"Asia/Kolkata\""),
        ("flags.business_hours.monday", "\"09:00-13:00, 14:00-18:00\""),
    ])
    .await;
    // In Kolkata it is five and a half hours later.
    for (id, time, seconds) in [
        ("morning", "03:30:00", 60),
        ("early", "03:29:59", 60),
        ("lunch", "07:29:30", 60),
        ("evening", "12:00:00", 600),
    ] {
        app.post(&call(id, "Leela", time, seconds)).await;
    }
    app.post(&crate::events::missed("missed")).await;
    app.settle().await;
    assert_eq!(flagged(&app, "out_of_hours").await, ["early", "lunch"]);
    let evening = app.call("evening").await;
    assert!(!evening["flags"].to_string().contains("out_of_hours"), "until 17:40 it is within them");
    let raised = app.journal("&kind=flag.raised&subject=lunch").await;
    let raised = raised.iter().find(|entry| entry["body"]["rule"] == "out_of_hours").unwrap();
    assert_eq!(
        (&raised["body"]["reason"], &raised["body"]["threshold"]),
        (
            &json!(
                "from Monday 2026-03-09 12:59 to 13:00 in Asia/Kolkata; business hours are 09:00-13:00, 14:00-18:00 on that day"
            ),
            &json!("monday 09:00-13:00, 14:00-18:00 (Asia/Kolkata)")
        )
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn short_calls_that_come_together() {
    let app = TestApp::with(&[("flags.repeated_short_calls", "{ count = 3, within = \"10m\" }")]).await;
    let at = |minute: u32| format!("{:02}:{:02}:00", 5 + minute / 60, minute % 60);
    // Their minutes, counted one by one.
    let minutes = [0_u32, 3, 4, 5, 9, 20, 31, 40, 41, 42, 60, 75, 76, 77, 78, 79, 80];
    let (mut expected, mut after) = (Vec::new(), None);
    for (place, minute) in minutes.iter().enumerate() {
        let counts = |other: &usize| after.is_none_or(|after| *other > after) && minute - minutes[*other] <= 10;
        if (0..=place).filter(counts).count() >= 3 {
            expected.push(format!("call_{minute:02}"));
            after = Some(place);
        }
    }
    for (place, minute) in minutes.iter().enumerate() {
        // The same number in two spellings; longer calls and others' don't count.
        let agent = ["919833344556", "+91 98333 44556"][place % 2];
        app.post(&call(&format!("call_{minute:02}"), agent, &at(*minute), 1)).await;
        app.post(&call(&format!("long_{minute:02}"), agent, &at(*minute), 30)).await;
        app.post(&call(&format!("other_{minute:02}"), &format!("Agent {}", place % 9), &at(*minute), 1)).await;
    }
    app.settle().await;
    assert_eq!(flagged(&app, "repeated_short_calls").await, expected);
    let raised = app.journal("&kind=flag.raised&subject=call_04").await;
    let raised = raised.iter().find(|entry| entry["body"]["rule"] == "repeated_short_calls").unwrap();
    assert_eq!(
        (&raised["body"]["reason"], &raised["body"]["threshold"]),
        (&json!("3 short calls of this agent within 10m, after call_03, call_00"), &json!("3 within 10m"))
    );
    // One that is heard of late completes what lacked one.
    app.post(&call("late_30", "919833344556", &at(30), 1)).await;
    app.post(&call("late_32", "919833344556", &at(32), 1)).await;
    app.settle().await;
    expected.push("late_32".into());
    assert_eq!(flagged(&app, "repeated_short_calls").await, expected);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_with_other_thresholds() {
    let app = TestApp::start().await;
    for (id, seconds) in [("call_1", 1), ("call_3", 3), ("call_5", 5), ("call_9", 9)] {
        app.post(&call(id, "Leela", &format!("10:{seconds:02}:00"), seconds)).await;
    }
    app.settle().await;
    let size = async || app.journal("&kind=flag.raised").await.len();
    let before = size().await;
    let lines = evaluate(&app, &["--dry-run"]).await;
    assert_eq!((lines.len(), &lines[0]["rules"], &lines[0]["calls"]), (1, &json!({}), &json!(4)));
    // A look at other thresholds journals nothing, whatever is asked for.
    let lines = evaluate(&app, &["--set", "short_call_seconds=6", "--set", "long_call_seconds=8"]).await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["rules"]["short_call"]["raise"], json!({"total": 2, "calls": ["call_3", "call_5"]}));
    assert_eq!(lines[0]["rules"]["long_call"]["raise"], json!({"total": 1, "calls": ["call_9"]}));
    let lines = evaluate(&app, &["--set", "short_call_seconds=1"]).await;
    assert_eq!(lines[0]["rules"]["short_call"]["no_longer"], json!({"total": 1, "calls": ["call_1"]}));
    let lines =
        evaluate(&app, &["--set", "business_hours.sunday=10:00-11:00", "--since", "2026-03-09T10:04:00Z"]).await;
    assert_eq!(lines[0]["rules"]["out_of_hours"]["raise"], json!({"total": 2, "calls": ["call_5", "call_9"]}));
    let together = ["--set", "repeated_short_calls.count=3", "--set", "short_call_seconds=9"];
    let lines = evaluate(&app, &together).await;
    assert_eq!(lines[0]["rules"]["repeated_short_calls"]["raise"], json!({"total": 1, "calls": ["call_5"]}));
    process::ended_with(&app.cli(&["flags", "evaluate", "--set", "short_calls=1"]).await, 1);
    process::ended_with(&app.cli(&["flags", "evaluate", "--since", "soon"]).await, 1);
    assert_eq!(size().await, before);

    // The configuration says it now; the record keeps what an earlier one raised.
    let settings =
        [("flags.short_call_seconds", "6"), ("flags.repeated_short_calls", "{ count = 3, within = \"1h\" }")];
    write_config(app.scratch(), &app.sender, &settings);
    let said = process::ended_with(&app.cli(&["flags", "evaluate"]).await, 0);
    assert!(said.contains("short_call would be raised on: call_3, call_5"), "{said}");
    assert!(said.ends_with("Journaled: 3 flags raised, 0 resolved.\n"), "{said}");
    assert_eq!(flagged(&app, "short_call").await, ["call_1", "call_3", "call_5"]);
    assert_eq!(flagged(&app, "repeated_short_calls").await, ["call_5"]);
    let raised = app.journal("&kind=flag.raised&subject=call_5").await;
    assert!(raised.iter().any(|e| e["body"]["threshold"] == "6 s" && e["entry"]["actor"] == "cli"), "{raised:#?}");
    // Once it is there it is not raised again, reviewed or not.
    app.settle().await;
    let review =
        app.client.post(format!("{}/api/v1/calls/call_3/flags/short_call/review", app.url)).bearer_auth(OFFICER);
    let review = review.header("content-type", "application/json").body(r#"{"state": "cleared"}"#);
    Answer::of(review).await.ok();
    for line in evaluate(&app, &[]).await {
        assert_eq!(line["rules"], json!({}), "{line}");
    }
    let lines = evaluate(&app, &["--set", "repeated_short_calls.count=0", "--set", "short_call_seconds=2"]).await;
    assert_eq!(lines[0]["rules"]["repeated_short_calls"]["no_longer"], json!({"total": 1, "calls": ["call_5"]}));
    assert_eq!(lines[0]["rules"]["short_call"]["no_longer"], json!({"total": 1, "calls": ["call_5"]}));
    app.finish().await;
}
