//! A streaming replica answers what need not be the latest. Whatever is the matter with it, nothing is missing.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::events::{accepted, ended, missed, recording};
use crate::http::eventually;
use crate::leftovers::files;
use crate::process::{ProcessApp, ended_with, stdout};
use crate::servers::Postgres;

const UP: &str = "callvault_replica_up";
const BEHIND: &str = "callvault_replica_behind_entries";

/// A primary with its replica, and a node that knows both.
struct Pair {
    primary: Postgres,
    replica: Postgres,
    app: ProcessApp,
}

/// A node on two servers.
async fn node(primary: &Postgres, replica: &Postgres) -> ProcessApp {
    let (url, replica_url) = (format!("{:?}", primary.url()), format!("{:?}", replica.url()));
    ProcessApp::with(&[("database.url", &url), ("database.replica_url", &replica_url)]).await
}

impl Pair {
    async fn start() -> Self {
        let primary = Postgres::start();
        let replica = Postgres::replica_of(&primary);
        let app = node(&primary, &replica).await;
        let this = Self { primary, replica, app };
        this.is_used(true).await;
        this
    }

    async fn is_used(&self, used: bool) {
        eventually(&format!("the replica is used: {used}"), || async {
            (self.app.metric(UP).await == f64::from(u8::from(used))).then_some(())
        })
        .await;
    }

    /// It follows no further, until it goes on.
    fn pause(&self) {
        self.replica.sql("select pg_wal_replay_pause()");
        // Asked for, it comes with the next that is to be taken in.
        self.primary.sql("create schema if not exists elsewhere");
        self.primary.sql("create table if not exists elsewhere.nothing (n int)");
        self.primary.sql("insert into elsewhere.nothing values (1)");
        while self.replica.sql("select pg_get_wal_replay_pause_state()") != "paused" {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn go_on(&self) {
        self.replica.sql("select pg_wal_replay_resume()");
    }

    /// How often calls were looked for by their keys there.
    fn looked_up(&self, server: &Postgres) -> u64 {
        let sql = "select idx_scan from pg_stat_user_tables where relname = 'calls'";
        server.sql(sql).parse().unwrap()
    }

    /// Of a call, which must be told at the first attempt.
    async fn status(&self, call_id: &str) -> String {
        let call = self.app.get(&format!("/api/v1/calls/{call_id}")).await.ok();
        call["status"].as_str().unwrap().to_owned()
    }

    async fn part(&self) -> Option<String> {
        let degraded = self.app.get("/readyz").await.json()["degraded"].clone();
        let part = degraded.as_array().unwrap().iter().find(|part| part["part"] == "replica").cloned();
        part.map(|part| part["why"].as_str().unwrap().to_owned())
    }

    async fn finish(self) {
        self.app.finish().await;
    }
}

async fn found(app: &ProcessApp, query: &str) -> Vec<String> {
    let answer = app.json(&format!("/api/v1/calls?{query}")).await;
    let calls = answer["calls"].as_array().unwrap();
    assert_eq!(answer["total"], calls.len(), "every call that is counted is shown: {answer}");
    let mut ids: Vec<String> = calls.iter().map(|call| call["call_id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

async fn eventually_found(app: &ProcessApp, query: &str, ids: &[&str]) {
    eventually(&format!("{query} finds {ids:?}"), || async { (found(app, query).await == ids).then_some(()) }).await;
}

fn kinds(call: &Value) -> Vec<&str> {
    call["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: tests/run.sh has it"]
async fn calls_searches_exports_and_the_journal_are_read_from_the_replica() {
    let pair = Pair::start().await;
    let app = &pair.app;
    app.post(&accepted("call_1")).await;
    app.post(&ended("call_2", &app.sender.audio("/2.mp3", &recording(2)))).await;
    app.call_in("call_2", "archived").await;
    app.settle().await;
    eventually("the replica has it all", || async { (app.metric(BEHIND).await == 0.0).then_some(()) }).await;
    eventually_found(app, "limit=9", &["call_1", "call_2"]).await;
    let entries = app.metric("callvault_journal_entries").await;
    // Once nothing comes from the primary, all of it comes from the replica.
    pair.primary.stop();
    let call = app.json("/api/v1/calls/call_2").await;
    assert_eq!(call["recording"]["state"], "archived");
    assert!(kinds(&call).contains(&"recording.archived"), "{call}");
    assert_eq!(found(app, "limit=9").await, ["call_1", "call_2"]);
    assert_eq!(app.get("/calls/call_2").await.status, 200);
    assert_eq!(app.get("/api/v1/calls.jsonl").await.text().lines().count(), 2);
    let journal = app.json("/api/v1/journal?limit=500").await;
    assert_eq!(journal["entries"].as_array().unwrap().len() as f64, entries);
    assert_eq!(app.json("/api/v1/quarantine").await["entries"], Value::Array(Vec::new()));
    // Of a call that the replica does not know nobody knows whether there is one.
    assert_eq!(app.get("/api/v1/calls/call_3").await.status, 503);
    // It may even go and come back meanwhile.
    pair.replica.stop();
    assert_eq!(app.get("/api/v1/calls/call_2").await.status, 503);
    pair.replica.resume();
    eventually("it answers again", || async { (app.get("/api/v1/calls/call_2").await.status == 200).then_some(()) })
        .await;
    pair.is_used(true).await;
    assert_eq!(pair.part().await, None);
    pair.primary.resume();
    eventually("it can be told", || async { (app.get("/api/v1/calls/call_3").await.status == 404).then_some(()) })
        .await;
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: tests/run.sh has it"]
async fn a_replica_that_lags_makes_nothing_missing() {
    let pair = Pair::start().await;
    let app = &pair.app;
    app.post(&accepted("call_1")).await;
    eventually_found(app, "status=in_progress", &["call_1"]).await;
    eventually("the replica has it", || async { (app.metric(BEHIND).await == 0.0).then_some(()) }).await;
    pair.pause();
    app.post(&missed("call_2")).await;
    app.post(&ended("call_1", "")).await;
    let call = app.json("/api/v1/calls/call_2").await;
    assert_eq!(call["status"], "missed", "a new call is asked of the primary");
    assert_eq!(kinds(&call), ["webhook.received"], "with all that is known of it");
    assert_eq!(pair.status("call_1").await, "in_progress", "the state that the replica knows");
    // This node's own events are found by it all the same; what is shown of them is there.
    eventually_found(app, "status=ended&status=missed&limit=9", &["call_1", "call_2"]).await;
    let exported = app.get("/api/v1/calls.csv").await.text();
    assert!(exported.contains("call_1") && exported.contains("call_2"), "{exported}");
    // The index is built again, from a server that does not know them.
    let file = files(&app.data_dir().join("index/live")).into_iter().find(|file| file.ends_with("meta.json")).unwrap();
    let built = |log: &str| log.matches("building the search index").count();
    let before = built(&app.log());
    fs::write(&file, "{}").unwrap();
    eventually("it is built again", || async { (built(&app.log()) > before).then_some(()) }).await;
    // The old one answers until the new one is there, which of two calls takes no time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    eventually_found(app, "status=ended&status=missed&limit=9", &["call_1", "call_2"]).await;
    pair.go_on();
    eventually("what it shows is as new again", || async { (pair.status("call_1").await == "ended").then_some(()) })
        .await;
    eventually_found(app, "limit=9", &["call_1", "call_2"]).await;
    ended_with(&app.cli(&["reindex"]).await, 0);
    let asked = || app.log().matches("building the search index again, as requested").count();
    eventually("it is built again, as requested", || async { (asked() == 1).then_some(()) }).await;
    eventually_found(app, "limit=9", &["call_1", "call_2"]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(asked(), 1, "once is enough");
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: tests/run.sh has it"]
async fn the_index_of_a_node_says_how_far_it_is_behind() {
    let pair = Pair::start().await;
    let writer = &pair.app;
    // Another node of the same archive, which takes no webhooks.
    let searcher = node(&pair.primary, &pair.replica).await;
    eventually("it uses the replica", || async { (searcher.metric(UP).await == 1.0).then_some(()) }).await;
    writer.post(&missed("call_0")).await;
    eventually_found(&searcher, "limit=9", &["call_0"]).await;
    writer.settle().await;
    pair.pause();
    for n in 1..=5 {
        writer.post(&missed(&format!("call_{n}"))).await;
    }
    let index_behind = "callvault_search_behind_entries";
    for name in [BEHIND, index_behind] {
        eventually(&format!("{name} says it"), || async { (searcher.metric(name).await == 5.0).then_some(()) }).await;
    }
    let answer = searcher.get("/api/v1/calls").await;
    assert_eq!((answer.header("callvault-index-behind"), &answer.ok()["total"]), ("5", &Value::from(1)));
    assert_eq!(searcher.json("/api/v1/calls/call_5").await["status"], "missed", "not found, and not missing either");
    // Nobody asks without a pause for what is not there yet.
    let asked = || -> u64 {
        pair.replica.sql("select sum(xact_commit) from pg_stat_database where datname = 'postgres'").parse().unwrap()
    };
    let before = asked();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let questions = asked() - before;
    assert!(questions < 200, "{questions} questions in three seconds");
    let all = ["call_0", "call_1", "call_2", "call_3", "call_4", "call_5"];
    // The node that took them in finds them, whatever the replica knows.
    eventually_found(writer, "limit=9", &all).await;
    pair.go_on();
    eventually_found(&searcher, "limit=9", &all).await;
    for name in [BEHIND, index_behind] {
        eventually(&format!("{name} is 0"), || async { (searcher.metric(name).await == 0.0).then_some(()) }).await;
    }
    searcher.finish().await;
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: tests/run.sh has it"]
async fn a_replica_that_is_away_is_told_of_and_taken_up_again() {
    let pair = Pair::start().await;
    let app = &pair.app;
    app.post(&accepted("call_1")).await;
    eventually_found(app, "limit=9", &["call_1"]).await;
    type Step = fn(&Postgres);
    let ways: [(Step, Step); 3] =
        [(Postgres::stop, Postgres::resume), (Postgres::crash, Postgres::resume), (Postgres::hang, Postgres::go_on)];
    for (goes, comes_back) in ways {
        goes(&pair.replica);
        let started = Instant::now();
        assert_eq!(pair.status("call_1").await, "in_progress", "the primary stands in");
        assert!(started.elapsed() < Duration::from_secs(5), "and soon");
        assert_eq!(found(app, "limit=9").await, ["call_1"]);
        pair.is_used(false).await;
        let why = pair.part().await.expect("it is told");
        assert!(why.contains("can't be asked"), "{why}");
        assert_eq!(app.get("/readyz").await.status, 200, "webhooks are taken");
        app.post(&accepted("call_1")).await;
        app.shows_all().await;
        let before = pair.looked_up(&pair.primary);
        assert_eq!(pair.status("call_1").await, "in_progress");
        eventually("the primary was asked", || async { (pair.looked_up(&pair.primary) > before).then_some(()) }).await;
        comes_back(&pair.replica);
        pair.is_used(true).await;
        assert_eq!(pair.part().await, None, "and well again");
        let before = pair.looked_up(&pair.replica);
        eventually("it is asked again", || async {
            pair.status("call_1").await;
            (pair.looked_up(&pair.replica) > before).then_some(())
        })
        .await;
    }
    pair.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: tests/run.sh has it"]
async fn a_server_that_is_no_replica_of_this_archive_is_not_asked() {
    let (primary, other) = (Postgres::start(), Postgres::start());
    // Another archive's, and its replica.
    let stranger = ProcessApp::with(&[("database.url", &format!("{:?}", other.url()))]).await;
    stranger.post(&accepted("call_of_others")).await;
    stranger.finish().await;
    let replica_of_other = Postgres::replica_of(&other);
    for (server, why) in [(&other, "it is no replica"), (&replica_of_other, "its journal is another one")] {
        let app = node(&primary, server).await;
        app.post(&accepted("call_1")).await;
        let told = eventually("it is told", || async {
            let degraded = app.get("/readyz").await.json()["degraded"].to_string();
            degraded.contains("replica").then_some(degraded)
        })
        .await;
        assert!(told.contains(why), "{told}");
        let said = stdout(&app.cli(&["doctor"]).await);
        let line = said.lines().find(|line| line.contains("replica  ")).unwrap();
        assert!(line.starts_with("FAIL") && line.contains(why) && line.contains("database.replica_url"), "{line}");
        assert_eq!(app.get("/api/v1/calls/call_of_others").await.status, 404);
        assert_eq!(app.json("/api/v1/calls/call_1").await["status"], "in_progress");
        app.finish().await;
        // The same database for the next.
        primary.sql("drop schema public cascade");
        primary.sql("create schema public");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: tests/run.sh has it"]
async fn doctor_looks_at_the_replica() {
    let pair = Pair::start().await;
    let line = async |verdict: &str| {
        let said = stdout(&pair.app.cli(&["doctor"]).await);
        let lines = said.lines().filter(|line| line.contains(" replica "));
        lines.filter(|line| line.starts_with(verdict)).collect::<Vec<_>>().join("\n")
    };
    let follows = eventually("it follows", || async {
        let line = line("ok").await;
        line.contains("it follows, 0 journal entries behind").then_some(line)
    });
    follows.await;
    pair.pause();
    assert!(line("note").await.contains("pg_wal_replay_resume()"));
    pair.go_on();
    assert_eq!(line("note").await, "");
    pair.replica.stop();
    let said = line("FAIL").await;
    assert!(said.contains("can't be asked") && said.contains("See that it runs"), "{said}");
    pair.replica.resume();
    // Made a server of its own, it follows nobody any more.
    pair.replica.sql("select pg_promote()");
    let said = line("FAIL").await;
    assert!(said.contains("it is no replica"), "{said}");
    pair.is_used(false).await;
    pair.finish().await;
}
