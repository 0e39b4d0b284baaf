//! Working flags off: by one, by two at once, by many; never by the agent concerned.

use std::collections::BTreeMap;

use callvault::access::Role;
use serde_json::{Value, json};

use crate::app::{AUDITOR, INGEST, OFFICER, TestApp};
use crate::events::{CBR, ended, ended_after, ended_with};
use crate::http::{Answer, encoded, eventually};
use crate::process;

fn flag<'a>(call: &'a Value, rule: &str) -> &'a Value {
    call["flags"].as_array().unwrap().iter().find(|flag| flag["rule"] == rule).unwrap_or(&Value::Null)
}

async fn send(app: &TestApp, secret: &str, path: &str, body: &Value) -> Answer {
    let request = app.client.post(format!("{}{path}", app.url)).bearer_auth(secret);
    Answer::of(request.header("content-type", "application/json").body(body.to_string())).await
}

async fn review(app: &TestApp, secret: &str, (call, rule): (&str, &str), body: &Value) -> Answer {
    send(app, secret, &format!("/api/v1/calls/{}/flags/{rule}/review", encoded(call)), body).await
}

/// A call of one second by an agent, which is flagged short_call and recording_missing.
fn short(call_id: &str, agent: &str) -> Value {
    let mut event = ended_after(call_id, 1);
    (event["pickedBy"], event["endedBy"]) = (agent.into(), agent.into());
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn from_open_to_cleared() {
    let app = TestApp::start().await;
    app.post(&ended_after("call_1", 1)).await;
    app.settle().await;
    let about = ("call_1", "short_call");
    let state = async || flag(&app.call("call_1").await, "short_call")["state"].clone();
    // Looking at a call is not reviewing it.
    app.get("/calls/call_1").await;
    assert_eq!(state().await, "open");
    for (secret, status) in [(AUDITOR, 403), (INGEST, 403), ("nobody", 401)] {
        review(&app, secret, about, &json!({"state": "cleared"})).await.problem(status);
    }
    for wrong in [json!({}), json!({"state": "open"}), json!({"state": "cleared", "why": "?"}), json!("cleared")] {
        review(&app, OFFICER, about, &wrong).await.problem(400);
    }
    review(&app, OFFICER, about, &json!({"state": "cleared", "outcome": "x".repeat(101)})).await.problem(400);
    review(&app, OFFICER, ("call_1", "long_call"), &json!({"state": "cleared"})).await.problem(409);
    review(&app, OFFICER, ("call_1", "no such rule"), &json!({"state": "cleared"})).await.problem(409);
    review(&app, OFFICER, ("call_2", "short_call"), &json!({"state": "cleared"})).await.problem(404);
    assert_eq!(app.journal("&kind=flag.reviewed").await.len(), 0);

    let begun = review(&app, OFFICER, about, &json!({"state": "in_review", "note": " listening "})).await.ok();
    assert_eq!((&begun["state"], &begun["rule"]), (&json!("in_review"), &json!("short_call")));
    app.found("flag=short_call&flag_state=in_review", 1).await;
    app.found("flag=short_call&flag_state=open", 0).await;
    app.found("q=flag_state:in_review", 1).await;
    let done = review(&app, OFFICER, about, &json!({"state": "cleared", "outcome": "no breach"})).await.ok();
    assert_eq!((&done["review"]["outcome"], &done["reason"]), (&json!("no breach"), &json!("1 s, below 2 s")));
    assert!(done["review"]["reviewer"].as_str().unwrap().starts_with("token:bootstrap-officer"), "{done}");
    app.found("flag_state=cleared", 1).await;
    for again in ["in_review", "escalated", "cleared"] {
        let why = review(&app, OFFICER, about, &json!({"state": again})).await.problem(409);
        assert!(why.contains("cleared already"), "{why}");
    }
    let said = app.journal("&kind=flag.reviewed").await;
    assert_eq!(said.len(), 2);
    assert_eq!(
        said[0]["body"],
        json!({"call_id": "call_1", "note": "listening", "rule": "short_call", "state": "in_review"})
    );
    assert!(!said[0]["entry"].to_string().contains("listening"), "notes are personal data");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_resolved_and_what_is_raised_anew() {
    let app = TestApp::start().await;
    let url = app.sender.audio("/late.mp3", CBR);
    app.post(&ended("call_1", "")).await;
    app.call_when("call_1", "it is flagged", |call| flag(call, "recording_missing")["state"] == "open").await;
    app.post(&ended("call_1", &url)).await;
    app.call_when("call_1", "it came", |call| flag(call, "recording_missing")["state"] == "resolved").await;
    let why = review(&app, OFFICER, ("call_1", "recording_missing"), &json!({"state": "cleared"})).await.problem(409);
    assert!(why.contains("resolved"), "{why}");

    let contradicts = |number: &str| ended_with("call_1", json!({"recordingUrl": url, "customerNumber": number}));
    let about = ("call_1", "contradiction");
    app.post(&contradicts("919999999991")).await;
    app.call_when("call_1", "it contradicts itself", |call| flag(call, "contradiction")["state"] == "open").await;
    review(&app, OFFICER, about, &json!({"state": "cleared", "outcome": "typing error"})).await.ok();
    // Another contradiction raises the flag anew: the review of the first says nothing of it.
    app.post(&contradicts("919999999992")).await;
    let call = app.call_when("call_1", "it is open anew", |call| flag(call, "contradiction")["state"] == "open").await;
    assert_eq!(flag(&call, "contradiction")["review"], Value::Null);
    let listed = app.json("/api/v1/reviews").await;
    assert_eq!(
        (&listed["reviews"][0]["state"], &listed["reviews"][0]["flag_state"]),
        (&json!("cleared"), &json!("open"))
    );
    review(&app, OFFICER, about, &json!({"state": "escalated"})).await.ok();
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_reviewers_one_is_told() {
    let app = TestApp::start().await;
    for call in 0..8 {
        app.post(&ended_after(&format!("call_{call}"), 1)).await;
    }
    app.settle().await;
    for call in 0..8 {
        let (call, clear, escalate) =
            (format!("call_{call}"), json!({"state": "cleared"}), json!({"state": "escalated"}));
        let about = (call.as_str(), "short_call");
        let (one, other) = tokio::join!(review(&app, OFFICER, about, &clear), review(&app, OFFICER, about, &escalate));
        let mut statuses = [one.status, other.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{call}");
    }
    assert_eq!(app.journal("&kind=flag.reviewed").await.len(), 8);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn never_by_the_agent_concerned() {
    let app = TestApp::start().await;
    let create = |name: &'static str, agent: Option<&'static str>| {
        let app = &app;
        async move {
            let mut args = vec!["token", "create", name, "--role", "officer"];
            args.extend(agent.iter().flat_map(|agent| ["--agent", agent]));
            process::ended_with(&app.cli(&args).await, 0).trim().to_owned()
        }
    };
    let by_name = create("farhan.siddiqui", None).await;
    let by_agent = create("desk-7", Some("+91 98333 44556")).await;
    let somebody = create("asha", Some("919800000000")).await;
    process::ended_with(&app.cli(&["token", "create", "none", "--role", "officer", "--agent", "--"]).await, 2);
    let listed = process::ended_with(&app.cli(&["token", "list", "--json"]).await, 0);
    assert!(listed.contains(r#""agent":"+91 98333 44556""#), "{listed}");
    let made = app.journal("&kind=token.created").await;
    assert!(made.iter().any(|entry| entry["body"]["agent"] == "+91 98333 44556"), "{made:#?}");

    app.post(&short("by number", "919833344556")).await;
    app.post(&short("by name", "Farhan Siddiqui")).await;
    app.settle().await;
    let cleared = json!({"state": "cleared"});
    for (secret, call) in [(&by_agent, "by number"), (&by_name, "by name")] {
        let why = review(&app, secret, (call, "short_call"), &cleared).await.problem(403);
        assert!(why.contains("your own call"), "{why}");
    }
    // Neither with many, nor with a page's form.
    app.found("flag=short_call&flag_state=open", 2).await;
    let many = send(&app, &by_agent, "/api/v1/reviews?flag=short_call", &cleared).await.ok();
    assert_eq!((&many["changed"], &many["skipped"]), (&json!(1), &json!(1)), "{many}");
    assert_eq!(many["examples"][0]["call_id"], "by number");
    review(&app, &by_agent, ("by number", "recording_missing"), &cleared).await.problem(403);
    review(&app, &somebody, ("by number", "recording_missing"), &cleared).await.ok();
    let page = app.get_as(&by_agent, "/calls/by%20number").await;
    assert!(page.text().contains("id=\"own-call\"") && !page.text().contains("class=\"review\""), "{}", page.text());
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_search_finds() {
    let app = TestApp::start().await;
    for call in 0..30 {
        app.post(&short(&format!("call_{call:02}"), if call % 2 == 0 { "Leela" } else { "Meera" })).await;
    }
    app.settle().await;
    review(&app, OFFICER, ("call_00", "short_call"), &json!({"state": "escalated"})).await.ok();
    review(&app, OFFICER, ("call_02", "short_call"), &json!({"state": "in_review"})).await.ok();
    app.found("flag_state=escalated", 1).await;
    let begin = json!({"state": "in_review"});
    for wrong in ["cursor=x", "facets=day", "nonsense=1"] {
        send(&app, OFFICER, &format!("/api/v1/reviews?{wrong}"), &begin).await.problem(400);
    }
    send(&app, AUDITOR, "/api/v1/reviews?agent=leela", &begin).await.problem(403);
    let done = send(&app, OFFICER, "/api/v1/reviews?agent=leela&flag=short_call", &begin).await.ok();
    assert_eq!((&done["changed"], &done["skipped"]), (&json!(13), &json!(2)), "{done}");
    let reasons = done["reasons"].as_object().unwrap();
    assert!(reasons.keys().any(|why| why.contains("escalated already")), "{done}");
    assert_eq!(reasons["it is in this state already"], 1);
    // What is in the index may be older than what is so: the answer is by what is so.
    app.found("flag=short_call&flag_state=in_review", 14).await;
    let clear = json!({"state": "cleared", "outcome": "no breach"});
    let done = send(&app, OFFICER, "/api/v1/reviews?flag=short_call&flag_state=in_review", &clear).await.ok();
    assert_eq!((&done["changed"], &done["skipped"]), (&json!(14), &json!(0)), "{done}");
    // Without a rule all that is still to review; what is done with is not told of.
    app.found("flag_state=cleared", 14).await;
    let done = send(&app, OFFICER, "/api/v1/reviews?agent=leela", &clear).await.ok();
    assert_eq!((&done["changed"], &done["skipped"]), (&json!(15), &json!(0)), "{done}");

    let listed = app.json("/api/v1/reviews?limit=500").await;
    assert_eq!(listed["reviews"].as_array().unwrap().len(), 30);
    let leela = listed["progress"]["agents"].as_array().unwrap().iter().find(|one| one["agent"] == "Leela").unwrap();
    assert_eq!(leela["flags"], json!({"cleared": 29, "escalated": 1}));
    app.finish().await;
}

/// What the journal says, naively: of each flag the latest review.
async fn latest_reviews(app: &TestApp) -> BTreeMap<(String, String), (u64, String, String)> {
    let mut latest = BTreeMap::new();
    for record in app.journal("&kind=flag.reviewed").await {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (entry, body) = (&record["entry"], &record["body"]);
        let said = (entry["seq"].as_u64().unwrap(), text(&entry["actor"]), text(&body["state"]));
        latest.insert((text(&body["call_id"]), text(&body["rule"])), said);
    }
    latest
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_what_the_journal_says() {
    let app = TestApp::start().await;
    let access = &app.parts().access;
    let asha = access.create_token("asha", Role::Officer, "test").await.unwrap();
    let vikram = access.create_token("vikram", Role::Officer, "test").await.unwrap();
    for call in 0..12 {
        app.post(&short(&format!("call_{call:02}"), ["Leela", "Meera", "919811111111"][call % 3])).await;
    }
    app.settle().await;
    for call in 0..12 {
        let id = format!("call_{call:02}");
        if call % 2 == 0 {
            review(&app, &vikram, (&id, "short_call"), &json!({"state": "in_review"})).await.ok();
        }
        if call % 4 < 2 {
            let state = ["cleared", "escalated"][call / 4 % 2];
            review(&app, &asha, (&id, "short_call"), &json!({"state": state})).await.ok();
        }
        review(&app, &vikram, (&id, "recording_missing"), &json!({"state": "cleared"})).await.ok();
    }
    let latest = latest_reviews(&app).await;
    let agent = |id: &str| ["Leela", "Meera", "919811111111"][id[5..].parse::<usize>().unwrap() % 3];
    type Fits<'a> = &'a dyn Fn(&str, &str, &str, &str) -> bool;
    let cases: [(&str, Fits<'_>); 6] = [
        ("", &|_, _, _, _| true),
        ("reviewer=asha", &|_, _, by, _| by == "token:asha"),
        ("reviewer=token:vikram&state=cleared", &|_, _, by, state| by == "token:vikram" && state == "cleared"),
        ("rule=short_call&agent=%2B91+98111+11111", &|id, rule, _, _| {
            rule == "short_call" && agent(id) == "919811111111"
        }),
        ("state=escalated&state=in_review&from=2026-03-09&to=2026-03-09", &|_, _, _, state| state != "cleared"),
        ("to=2026-03-08", &|_, _, _, _| false),
    ];
    for (query, fits) in cases {
        let mut expected: Vec<u64> = latest
            .iter()
            .filter(|((id, rule), (_, by, state))| fits(id, rule, by, state))
            .map(|(_, (seq, ..))| *seq)
            .collect();
        expected.sort_unstable_by(|a, b| b.cmp(a));
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = app.json(&format!("/api/v1/reviews?{query}&limit=5{cursor}")).await;
            found.extend(page["reviews"].as_array().unwrap().iter().map(|one| one["seq"].as_u64().unwrap()));
            let by_reviewer = page["progress"]["reviewers"].as_array().unwrap();
            let counted: u64 = by_reviewer
                .iter()
                .flat_map(|one| one["reviews"].as_object().unwrap().values())
                .map(|n| n.as_u64().unwrap())
                .sum();
            assert_eq!(counted, expected.len() as u64, "{query}");
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(found, expected, "{query}");
    }
    for wrong in ["state=open", "from=soon", "cursor=x", "limit=0", "what=ever"] {
        app.get(&format!("/api/v1/reviews?{wrong}")).await.problem(400);
    }
    let page = app.get("/reviews").await;
    assert!(page.text().contains("Leela") && page.text().contains("vikram"), "{}", page.text());
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_form_without_a_script() {
    let app = TestApp::start().await;
    app.post(&ended_after("call_1", 1)).await;
    app.settle().await;
    app.parts().access.create_token("asha", Role::Officer, "test").await.unwrap();
    let cookie = app.cookie("asha", Role::Officer).await;
    let page =
        |cookie: String| Answer::of(app.client.get(format!("{}/calls/call_1", app.url)).header("cookie", cookie));
    let shown = page(cookie.clone()).await.text();
    assert!(shown.contains(r#"action="/calls/call_1/flags/short_call/review""#), "{shown}");
    let send = async |origin: &str, body: &'static str| {
        let request = app.client.post(format!("{}/calls/call_1/flags/short_call/review", app.url));
        let request = request.header("cookie", cookie.clone()).header("origin", origin);
        Answer::of(request.header("content-type", "application/x-www-form-urlencoded").body(body)).await
    };
    assert_eq!(send("https://elsewhere.example", "state=cleared&outcome=&note=").await.status, 403);
    assert_eq!(send(&app.url, "outcome=&note=").await.status, 400);
    let sent = send(&app.url, "state=cleared&outcome=no+breach&note=").await;
    assert_eq!((sent.status, sent.header("location")), (303, "/calls/call_1?reviewed=cleared#flags"));
    assert_eq!(send(&app.url, "state=cleared").await.status, 409);
    let shown = page(cookie.clone()).await.text();
    assert!(shown.contains("Cleared by <bdi>asha</bdi>") && shown.contains("no breach"), "{shown}");
    assert!(!shown.contains("flags/short_call/review"), "nothing is left to say");
    assert!(shown.contains("flags/recording_missing/review"));
    // An auditor looks only.
    app.parts().access.create_token("audit", Role::Auditor, "test").await.unwrap();
    assert!(!page(app.cookie("audit", Role::Auditor).await).await.text().contains("class=\"review\""));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_command_line() {
    let app = TestApp::start().await;
    for call in ["call_1", "call_2"] {
        app.post(&ended_after(call, 1)).await;
    }
    app.settle().await;
    let run = async |args: &[&str], code| process::ended_with(&app.cli(&[&["flags"], args].concat()).await, code);
    assert!(run(&["list"], 0).await.ends_with("4 flags\n"));
    run(&["review", "call_1", "short_call", "--as", "cleared", "--outcome", "no breach"], 0).await;
    run(&["review", "call_1", "short_call", "--as", "cleared"], 1).await;
    run(&["review", "call_1", "short_call", "--as", "open"], 2).await;
    run(&["review", "call_9", "short_call", "--as", "cleared"], 1).await;
    let lines = run(&["list", "--state", "cleared", "--json"], 0).await;
    let line: Value = serde_json::from_str(lines.trim()).unwrap();
    assert_eq!(
        (&line["call_id"], &line["reviewer"], &line["outcome"]),
        (&json!("call_1"), &json!("cli"), &json!("no breach"))
    );
    eventually("both are found", || async {
        (app.found("flag=recording_missing", 2).await["total"] == 2).then_some(())
    })
    .await;
    let done: Value = serde_json::from_str(
        &run(&["review-found", "--flag", "recording_missing", "--as", "in_review", "--json"], 0).await,
    )
    .unwrap();
    assert_eq!((&done["changed"], &done["skipped"]), (&json!(2), &json!(0)));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_before_gets_its_rows() {
    let mut app = TestApp::start().await;
    for call in 0..3 {
        app.post(&short(&format!("call_{call}"), "Leela")).await;
    }
    app.settle().await;
    review(&app, OFFICER, ("call_1", "short_call"), &json!({"state": "escalated"})).await.ok();
    let rows = app.json("/api/v1/reviews").await;
    app.settle().await;
    // As the migration leaves it.
    let db = &app.parts().db;
    assert_eq!(db.execute("delete from flags", &[]).await.unwrap(), 6);
    db.execute("insert into cursors (name, next_seq) values ('flag rows', 0)", &[]).await.unwrap();
    app.restart().await;
    assert_eq!(app.json("/api/v1/reviews").await, rows);
    let left = app.parts().db.fetch_all("select name from cursors where name = 'flag rows'", &[]).await.unwrap();
    assert!(left.is_empty());
    app.finish().await;
}
