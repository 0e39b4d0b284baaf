//! The search over HTTP: every spelling, every filter, and a walk that misses nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::events::{CBR, accepted, ended, ended_after, ended_with, event, missed};
use crate::http::encoded;

/// Calls that differ in everything that can be searched for.
async fn filled(settings: &[(&str, &str)]) -> TestApp {
    let app = TestApp::with(settings).await;
    let url = app.sender.audio("/a.mp3", CBR);
    app.post(&ended("call_ananya", &url)).await;
    let meera = json!({"customerName": "मीरा शर्मा", "customerNumber": "+91 97699-55441", "customerId": "customer_2",
        "callDirection": "OUTGOING", "pickedBy": "Farhan Siddiqui", "endedBy": "Farhan Siddiqui", "durationInSeconds": 900,
        "callStartedAt": "2026-03-08T18:45:00.000Z", "callEndedAt": "2026-03-08T19:00:00.000Z"});
    app.post(&ended_with("call_meera", meera)).await;
    let jose = json!({"customerName": "José Álvarez", "customerNumber": "4420 7946 0958", "callStatus": "REJECT",
        "callEndedAt": "2026-03-07T09:00:00.000Z", "channel": "PSTN", "from": "+442079460958", "to": "+912240009999",
        "wabaNumber": "912240005678"});
    app.post(&event("CALL_REJECTED", "call_jose", jose)).await;
    app.post(&missed("call_missed")).await;
    app.settle().await;
    app
}

async fn ids(app: &TestApp, query: &str) -> Vec<String> {
    let answer = app.json(&format!("/api/v1/calls?{query}")).await;
    let calls = answer["calls"].as_array().unwrap();
    assert_eq!(answer["total"], calls.len(), "{query}");
    calls.iter().map(|call| call["call_id"].as_str().unwrap().strip_prefix("call_").unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_numbers_in_every_spelling() {
    let app = filled(&[]).await;
    for (q, expected) in [
        ("मीरा", vec!["meera"]),
        ("शर्मा मीरा", vec!["meera"]),
        ("jose alvarez", vec!["jose"]),
        ("JOSÉ", vec!["jose"]),
        ("farhan", vec!["meera"]),
        ("agent:\"Farhan Siddiqui\"", vec!["meera"]),
        ("customer:ananya", vec!["missed", "ananya"]),
        ("call_ananya", vec!["ananya"]),
        ("customer_2", vec!["meera"]),
        ("9769955441", vec!["meera"]),
        ("+91 97699 55441", vec!["meera"]),
        ("919769955441", vec!["meera"]),
        ("09769955441", vec!["meera"]),
        ("0091-9769955441", vec!["meera"]),
        ("(97699) 55441", vec!["meera"]),
        ("699554", vec!["meera"]),
        ("441", vec!["meera"]),
        ("number:55441", vec!["meera"]),
        ("020 7946 0958", vec!["jose"]),
        ("+44 20 7946 0958", vec!["jose"]),
        ("2079460958", vec!["jose"]),
        ("direction:outgoing", vec!["meera"]),
        ("duration:>600", vec!["meera"]),
        ("duration:800..1000 AND NOT ananya", vec!["meera"]),
        ("status:rejected OR status:missed", vec!["missed", "jose"]),
        ("(status:rejected OR meera) direction:incoming", vec!["jose"]),
        ("recording:archived", vec!["ananya"]),
        ("flag:recording_missing", vec!["meera"]),
        ("waba:912240005678", vec!["jose"]),
        ("started:2026-03-08..2026-03-08", vec!["meera"]),
        ("nobody", vec![]),
    ] {
        assert_eq!(ids(&app, &format!("q={}", encoded(q))).await, expected, "{q}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_facets_and_order() {
    let app = filled(&[]).await;
    for (query, expected) in [
        ("", vec!["missed", "ananya", "meera", "jose"]),
        ("status=missed&status=rejected", vec!["missed", "jose"]),
        ("status=missed&direction=outgoing", vec![]),
        ("agent=Farhan", vec!["meera"]),
        ("agent=919833344556&agent=farhan", vec!["ananya", "meera"]),
        ("customer=Jos%C3%A9", vec!["jose"]),
        ("number=97699", vec!["meera"]),
        ("number=%2B91%2022%204000%209999", vec!["jose"]),
        ("channel=pstn", vec!["jose"]),
        ("waba_number=%2B912240005678", vec!["jose"]),
        ("recording=none", vec!["missed", "jose"]),
        ("flag=recording_missing&flag_state=open", vec!["meera"]),
        ("on_hold=true", vec![]),
        ("min_duration=3&max_duration=3", vec!["ananya"]),
        ("started_from=2026-03-08T18:45:00Z&started_to=2026-03-08T18:45:00Z", vec!["meera"]),
        ("started_to=2026-03-08", vec!["meera", "jose"]),
        ("sort=started_at", vec!["jose", "meera", "ananya", "missed"]),
        ("sort=-duration&min_duration=1", vec!["meera", "ananya"]),
        ("sort=duration&min_duration=1", vec!["ananya", "meera"]),
        ("q=", vec!["missed", "ananya", "meera", "jose"]),
    ] {
        assert_eq!(ids(&app, query).await, expected, "{query}");
    }
    let answer = app.json("/api/v1/calls?facets=agent,direction,status,flag,recording,day&limit=1").await;
    assert_eq!((&answer["total"], answer["calls"].as_array().unwrap().len()), (&json!(4), 1));
    assert_eq!(answer["facets"]["direction"], json!({"incoming": 3, "outgoing": 1}));
    assert_eq!(answer["facets"]["status"], json!({"ended": 2, "missed": 1, "rejected": 1}));
    assert_eq!(answer["facets"]["agent"], json!({"919833344556": 1, "Farhan Siddiqui": 1}));
    assert_eq!(answer["facets"]["recording"], json!({"archived": 1, "missing": 1, "none": 2}));
    assert_eq!(answer["facets"]["flag"], json!({"recording_missing": 1}));
    assert_eq!(answer["facets"]["day"], json!({"2026-03-07": 1, "2026-03-08": 1, "2026-03-09": 2}));
    assert!(answer["took_ms"].is_u64());

    let stats = app.json("/api/v1/stats").await;
    assert_eq!([&stats["calls"], &stats["initiated"], &stats["accepted"]], [4, 4, 2]);
    assert_eq!((&stats["connect_rate"], &stats["by_status"]["ended"]), (&json!(0.5), &json!(2)));
    assert_eq!(app.json("/api/v1/stats?direction=outgoing").await["by_direction"], json!({"outgoing": 1}));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_are_those_of_the_configured_zone() {
    // 18:45 UTC on the 8th is a quarter past midnight on the 9th in India.
    let app = filled(&[("timezone", "\"Asia/Kolkata\"")]).await;
    assert_eq!(ids(&app, "started_from=2026-03-09").await, ["missed", "ananya", "meera"]);
    assert_eq!(ids(&app, "started_to=2026-03-08").await, ["jose"]);
    assert_eq!(ids(&app, "q=started%3A2026-03-09").await, ["missed", "ananya", "meera"]);
    let answer = app.json("/api/v1/calls?facets=day").await;
    assert_eq!(answer["facets"]["day"], json!({"2026-03-07": 1, "2026-03-09": 3}));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_read_is_refused_and_says_where() {
    let app = filled(&[]).await;
    for (query, place) in [
        ("q=ananya%20AND%20(meera", "q, character 12"),
        ("q=%22open", "q, character 1"),
        ("q=duration%3Asoon", "q, character"),
        ("q=nosuchfield%3Ax", "q, character 1"),
        ("status=over", "status"),
        ("started_from=yesterday", "started_from"),
        ("min_duration=-1", "min_duration"),
        ("number=12", "number"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("sort=name", "sort"),
        ("facets=colour", "facets"),
        ("cursor=abc", "cursor"),
        ("on_hold=maybe", "on_hold"),
        ("colour=red", "\"colour\""),
        ("Status=ended", "\"Status\""),
    ] {
        for path in ["/api/v1/calls", "/api/v1/stats", "/api/v1/calls.csv"] {
            if path == "/api/v1/calls" || query.starts_with("q=") || query.starts_with("status") {
                let detail = app.get(&format!("{path}?{query}")).await.problem(400);
                assert!(detail.contains(place), "{path}?{query}: {detail}");
            }
        }
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_meets_every_call_once_while_others_arrive() {
    let app = TestApp::start().await;
    let known: BTreeSet<String> = (0..40).map(|n| format!("call_{n:03}")).collect();
    for (n, call) in known.iter().enumerate() {
        app.post(&ended_after(call, i64::try_from(n / 4).unwrap())).await;
    }
    app.found("limit=1", 40).await;
    for sort in ["-started_at", "started_at", "-duration", "duration"] {
        let (mut met, mut cursor, mut arrived) = (Vec::new(), String::new(), 0);
        loop {
            let page = app.json(&format!("/api/v1/calls?limit=7&sort={sort}{cursor}")).await;
            met.extend(
                page["calls"].as_array().unwrap().iter().map(|call| call["call_id"].as_str().unwrap().to_owned()),
            );
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
            // Before and behind the place of the walk.
            for seconds in [0, 5, 99] {
                arrived += 1;
                app.post(&ended_after(&format!("new_{sort}_{arrived}"), seconds)).await;
            }
            app.found(&format!("q={}&limit=1", encoded(&format!("new_{sort}_{arrived}"))), 1).await;
        }
        let old: Vec<&String> = met.iter().filter(|call| known.contains(*call)).collect();
        assert_eq!(old.len(), known.len(), "{sort}");
        assert_eq!(met.iter().collect::<BTreeSet<_>>().len(), met.len(), "{sort}: none twice");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn found_within_two_seconds_of_the_acknowledgement() {
    let app = TestApp::start().await;
    for n in 0..5 {
        app.post(&accepted(&format!("call_{n}"))).await;
        let acknowledged = Instant::now();
        app.found(&format!("q=call_{n}"), 1).await;
        assert!(acknowledged.elapsed() < Duration::from_secs(2), "{n}: {:?}", acknowledged.elapsed());
    }
    // A change of what is known is found as soon.
    app.post(&missed("call_3")).await;
    let acknowledged = Instant::now();
    app.found("status=missed", 1).await;
    assert!(acknowledged.elapsed() < Duration::from_secs(2), "{:?}", acknowledged.elapsed());
    let live = app.json("/api/v1/live").await;
    assert_eq!(live["calls"].as_array().unwrap().len(), 4);
    assert_eq!(live["agents"], json!([{"agent": "919833344556", "calls": 4}]));
    assert_eq!(app.json("/api/v1/calls?q=call_0").await["calls"][0]["flags"], Value::Array(Vec::new()));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_several_parts_are_found_as_they_are_typed() {
    let app = TestApp::start().await;
    for (n, name) in
        ["Farhan-Ali Khan", "Li-Wei", "O'Brien", "Ananya Kulkarni", "<script>alert(1)</script>"].iter().enumerate()
    {
        app.post(&ended_with(&format!("call_{n}"), serde_json::json!({"customerName": name}))).await;
    }
    for (q, total) in [
        ("Farhan-Ali", 1),
        ("farhan-al", 1),
        ("farhan/ali", 1),
        ("farhan_ali", 1),
        ("farhan@ali.com", 0),
        ("li-w", 1),
        ("Li-Wei", 1),
        ("wei-li", 1),
        ("ananya.kulk", 1),
        ("agent:li-wei", 0),
        ("customer:li-we", 1),
        ("<script>alert(1)", 1),
        ("o'bri", 1),
    ] {
        let found = app.found(&format!("q={}", crate::http::encoded(q)), total).await;
        assert_eq!(found["total"], total, "{q}");
    }
    app.finish().await;
}
