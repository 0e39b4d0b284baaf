//! The command line: what it prints, how it ends, and how it gets on with a running server.

use std::io::Write;
use std::process::Stdio;
use std::time::Instant;

use serde_json::{Value, json};

use crate::app::{TestApp, write_config};
use crate::events::{CBR, accepted, ended, missed};
use crate::fake_doubletick::{FakeDoubleTick, Reply};
use crate::pair;
use crate::process::{ProcessApp, ended_with, program, run, stderr, stdout};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_and_where_errors_go() {
    let (dir, sender) = (tempfile::tempdir().unwrap(), FakeDoubleTick::start().await);
    let config = write_config(dir.path(), &sender, &pair::EMBEDDED);
    let cli = async |args: &[&str]| crate::process::cli(&config, args).await;
    for usage in [
        vec![],
        vec!["nonsense"],
        vec!["search", "--colour", "red"],
        vec!["show"],
        vec!["recording", "retry"],
        vec!["token", "create", "x", "--role", "king"],
    ] {
        let output = cli(&usage).await;
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""), "{usage:?}");
        assert!(!stderr(&output).is_empty());
    }
    for help in ["--help", "--version"] {
        assert!(ended_with(&cli(&[help]).await, 0).contains("callvault"));
    }
    // A command that only looks makes no archive.
    for command in
        [vec!["search"], vec!["show", "x"], vec!["verify"], vec!["export", "--format", "csv"], vec!["reindex"]]
    {
        let output = cli(&command).await;
        assert_eq!(ended_with(&output, 1), "", "{command:?}");
        let error = stderr(&output);
        assert!(error.contains("there is no archive in") && error.trim().lines().count() == 1, "{error}");
    }
    assert!(!dir.path().join("data/callvault.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_names_the_nearest() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("callvault.toml");
    for (text, nearest) in [
        ("[recordings]\nretry_bse = \"5s\"\n", "recordings.retry_base"),
        ("lisen = \"127.0.0.1:1\"\n", "listen"),
        ("[flag]\nshort_call_seconds = 3\n", "flags.short_call_seconds"),
    ] {
        std::fs::write(&file, text).unwrap();
        // From the working directory, without being named.
        let mut command = program();
        command.arg("doctor").current_dir(dir.path());
        let output = run(command).await;
        ended_with(&output, 1);
        assert!(stderr(&output).contains(&format!("did you mean {nearest}?")), "{}", stderr(&output));
    }
    std::fs::remove_file(&file).unwrap();
    let mut command = program();
    command.arg("doctor").current_dir(dir.path()).env("CALLVAULT_STORAGE__KNID", "s3");
    let output = run(command).await;
    ended_with(&output, 1);
    assert!(stderr(&output).contains("CALLVAULT_STORAGE__KNID; did you mean storage.kind?"), "{}", stderr(&output));
    let mut command = program();
    command.args(["doctor", "--config", "nowhere.toml"]).current_dir(dir.path());
    ended_with(&run(command).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_is_refused_and_told_of_the_first() {
    let app = TestApp::start().await;
    let start = Instant::now();
    let output = app.cli(&["serve"]).await;
    ended_with(&output, 1);
    let told = stderr(&output);
    assert!(told.contains("is served already") && told.contains(&app.url), "{told}");
    assert!(told.contains(&format!("process {}", std::process::id())), "{told}");
    assert!(start.elapsed().as_secs() < 10);
    assert_eq!(app.get("/readyz").await.status, 200, "the first goes on");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_beside_a_running_server() {
    let app = TestApp::start().await;
    let created = app.cli(&["token", "create", "intake-2", "--role", "ingest"]).await;
    let secret = ended_with(&created, 0);
    assert_eq!((secret.lines().count(), stderr(&created).as_str()), (1, ""), "alone on stdout");
    let url = format!("{}/webhooks/doubletick", app.url);
    let body = missed("call_1").to_string();
    let answer = crate::http::Answer::of(app.client.post(url).bearer_auth(secret.trim()).body(body)).await.ok();
    let entry = &app.journal("&subject=call_1").await[0]["entry"];
    assert_eq!((&entry["seq"], &entry["actor"]), (&answer["seq"], &json!("token:intake-2")));

    let listed = lines(&ended_with(&app.cli(&["token", "list", "--json"]).await, 0));
    let names: Vec<&str> = listed.iter().map(|token| token["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"intake-2") && names.len() == 5, "{names:?}");
    let table = ended_with(&app.cli(&["token", "list"]).await, 0);
    assert!(!table.contains(secret.trim()) && table.contains("in force"));
    ended_with(&app.cli(&["token", "revoke", "intake-2"]).await, 0);
    assert!(ended_with(&app.cli(&["token", "list"]).await, 0).contains("revoked"));
    for bad in ["bootstrap-x", "a b", "ä", "", "x/y"] {
        let output = app.cli(&["token", "create", bad, "--role", "admin"]).await;
        assert_eq!(ended_with(&output, 1), "", "{bad}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn importing_twice_adds_nothing() {
    let app = TestApp::start().await;
    let url = app.sender.audio("/old.mp3", CBR);
    let again = crate::events::event("CALL_NOT_PICKED", "call_3", json!({"callStatus": "INITIATED"}));
    app.post(&missed("call_known")).await;
    let file = app.scratch().join("past.jsonl");
    let mut text = String::new();
    for body in [accepted("call_1"), ended("call_1", &url), missed("call_known"), again.clone(), again] {
        text.push_str(&format!("{body}\n"));
    }
    text.push_str("\n{\"event\":\"CALL_ENDED\",\n{\"event\":\"NEW_LEAD\"}\r\n");
    text.push_str(&format!("{}{}\n", missed("call_huge"), " ".repeat(300_000)));
    std::fs::write(&file, text).unwrap();
    let import = async || app.cli(&["import", file.to_str().unwrap()]).await;

    let first = import().await;
    ended_with(&first, 1);
    assert!(
        stderr(&first).contains("6 journaled (1 of them quarantined), 1 known already, 1 refused."),
        "{}",
        stderr(&first)
    );
    assert!(stderr(&first).contains("line 7: quarantined") && stderr(&first).contains("line 9: over 256 KiB"));
    assert_eq!(
        app.call_in("call_1", "archived").await["status"],
        "ended",
        "the running server fetches what was imported"
    );
    app.settle().await;
    let size = app.journal("").await.len();
    let second = import().await;
    assert!(stderr(&second).contains("0 journaled (0 of them quarantined), 7 known already"), "{}", stderr(&second));
    app.settle().await;
    assert_eq!(app.journal("").await.len(), size);
    assert_eq!(app.journal("&kind=webhook.imported").await.len(), 5);
    let twice = app.journal("&subject=call_3&kind=webhook.imported").await;
    assert_eq!(twice.len(), 2, "what the file has twice is there twice");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn importing_from_standard_input_before_the_first_server() {
    let (dir, sender) = (tempfile::tempdir().unwrap(), FakeDoubleTick::start().await);
    let config = write_config(dir.path(), &sender, &[]);
    let input = dir.path().join("input");
    std::fs::write(&input, format!("{}\n{}", missed("call_1"), missed("call_2"))).unwrap();
    let mut command = program();
    command.arg("--config").arg(&config).args(["import", "-"]).stdin(Stdio::from(std::fs::File::open(&input).unwrap()));
    ended_with(&run(command).await, 0);
    ended_with(&crate::process::cli(&config, &["reindex"]).await, 0);
    let found = ended_with(&crate::process::cli(&config, &["search", "--json"]).await, 0);
    assert_eq!(lines(&found).len(), 2);
    // What the index has not taken in while nobody serves is no damage.
    std::fs::write(&input, missed("call_3").to_string()).unwrap();
    ended_with(&crate::process::cli(&config, &["import", input.to_str().unwrap()]).await, 0);
    ended_with(&crate::process::cli(&config, &["verify"]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_things_up() {
    let app = TestApp::start().await;
    let url = app.sender.audio("/a.mp3", CBR);
    app.post(&ended("call_1", &url)).await;
    app.post(&missed("call_2")).await;
    app.settle().await;
    let by_api = app.json("/api/v1/calls?q=Ananya").await["calls"].clone();
    let found = ended_with(&app.cli(&["search", "Ananya", "--json"]).await, 0);
    assert_eq!(lines(&found), *by_api.as_array().unwrap());
    let found = ended_with(&app.cli(&["search", "--status", "missed", "--json", "--limit", "1"]).await, 0);
    assert_eq!(lines(&found)[0]["call_id"], "call_2");
    let table = ended_with(&app.cli(&["search", "+91 98200 11223"]).await, 0);
    assert!(table.contains("call_1") && table.ends_with("2 calls\n"), "{table}");
    assert_eq!(ended_with(&app.cli(&["search", "nobody"]).await, 0), "0 calls\n");
    let unreadable = app.cli(&["search", "(Ananya"]).await;
    ended_with(&unreadable, 2);
    assert!(stderr(&unreadable).contains("q, character"), "{}", stderr(&unreadable));

    let shown: Value = serde_json::from_str(&ended_with(&app.cli(&["show", "call_1", "--json"]).await, 0)).unwrap();
    let by_api = app.call("call_1").await;
    let kinds = |call: &Value| call["events"].as_array().unwrap().iter().map(|e| e["kind"].clone()).collect::<Vec<_>>();
    assert_eq!((&shown["recording"], kinds(&shown)), (&by_api["recording"], kinds(&by_api)));
    assert_eq!(shown["events"], by_api["events"]);
    let plain = ended_with(&app.cli(&["show", "call_1"]).await, 0);
    assert!(plain.contains(by_api["recording"]["sha256"].as_str().unwrap()), "{plain}");
    ended_with(&app.cli(&["show", "nobody"]).await, 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor() {
    let mut app = TestApp::start().await;
    app.post(&missed("call_1")).await;
    app.settle().await;
    let well = ended_with(&app.cli(&["doctor"]).await, 0);
    for part in ["configuration", "data directory", "store", "database", "search index", "tokens"] {
        assert!(well.lines().any(|line| line.starts_with("ok") && line.contains(part)), "{part}: {well}");
    }
    assert!(well.contains("running: process"), "{well}");
    assert!(!well.contains("FAIL"));
    app.stop().await;
    if pair::is_shared() {
        pair::remove(app.scratch());
    } else {
        std::fs::write(app.data_dir().join("callvault.db"), "no database at all, but long enough to look at").unwrap();
    }
    let ill = ended_with(&app.cli(&["doctor"]).await, 1);
    assert!(ill.lines().any(|line| line.starts_with("FAIL  database")), "{ill}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_on_a_machine_without_an_archive() {
    let (dir, sender) = (tempfile::tempdir().unwrap(), FakeDoubleTick::start().await);
    let policies = dir.path().join("nowhere");
    let setting = format!("{:?}", policies.to_str().unwrap());
    let config = write_config(dir.path(), &sender, &[("retention.policies", &setting)]);
    let ill = ended_with(&crate::process::cli(&config, &["doctor"]).await, 1);
    for part in ["policies", "database"] {
        assert!(ill.lines().any(|line| line.starts_with("FAIL") && line.contains(part)), "{part}: {ill}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_cleanly() {
    let mut app = ProcessApp::start().await;
    // In the middle of a fetch that would take for ever, and of a request that waits for its body.
    let url = app.sender.on("/endless.mp3", [Reply::Endless(CBR.to_vec()), Reply::Audio(CBR.to_vec())]);
    app.post(&ended("call_1", &url)).await;
    let asked = || async { (app.sender.requests() > 0).then_some(()) };
    crate::http::eventually("the fetch begins", asked).await;
    let mut waiting = std::net::TcpStream::connect(app.url.strip_prefix("http://").unwrap()).unwrap();
    let head = "POST /webhooks/doubletick HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n";
    let secret = crate::app::INGEST;
    waiting.write_all(format!("{head}Authorization: Bearer {secret}\r\n\r\n{{\"event\":").as_bytes()).unwrap();
    let start = Instant::now();
    assert_eq!(app.terminate().await.code(), Some(0));
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    let spool = std::fs::read_dir(app.data_dir().join("spool")).unwrap();
    assert_eq!(spool.count(), 0, "half a fetch is of no use at rest");
    app.serve().await;
    app.call_in("call_1", "archived").await;
    app.finish().await;
}
