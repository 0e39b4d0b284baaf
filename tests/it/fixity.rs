//! Stored objects are read again: what is damaged is found and told once, what is mended is told, and a walk that was
//! stopped goes on.

use std::process::{Child, Stdio};

use callvault::app::App;
use callvault::calls::records::HoldRecord;
use callvault::clock::Clock;
use callvault::journal::{Body, Kind, NewEntry};
use callvault::objects::{self, ObjectStore};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::app::{self, TestApp};
use crate::events::{ended, recording};
use crate::http::eventually;
use crate::pair::EMBEDDED;
use crate::process::{ProcessApp, ended_with, program, stderr};
use crate::raw::Raw;

const NO_LIMIT: [&str; 2] = ["--max-bytes-per-second", "0"];

/// An archive with so many recordings, each of a call of its own.
async fn archive(calls: u32, settings: &[(&str, &str)]) -> ProcessApp {
    let app = ProcessApp::with(settings).await;
    for n in 0..calls {
        let url = app.sender.audio(&format!("/{n}.mp3"), &recording(n));
        app.post(&ended(&format!("call_{n}"), &url)).await;
    }
    for n in 0..calls {
        app.call_in(&format!("call_{n}"), "archived").await;
    }
    app.settle().await;
    app
}

async fn key_of(app: &ProcessApp, call_id: &str) -> String {
    let call = app.call_in(call_id, "archived").await;
    call["recording"]["object_key"].as_str().unwrap().to_owned()
}

async fn bodies(app: &ProcessApp, kind: &str) -> Vec<(Value, Value)> {
    let page = app.json(&format!("/api/v1/journal?limit=500&kind={kind}")).await;
    let entries = page["entries"].as_array().unwrap();
    entries.iter().map(|entry| (entry["entry"].clone(), entry["body"].clone())).collect()
}

fn run(all: bool) -> Vec<&'static str> {
    let mut args = vec!["fixity", "run"];
    args.extend(NO_LIMIT);
    if all {
        args.push("--all");
    }
    args
}

async fn degraded(app: &ProcessApp) -> bool {
    let parts = app.json("/readyz").await;
    parts["degraded"].as_array().unwrap().iter().any(|part| part["part"] == "fixity")
}

fn store_of(app: &ProcessApp) -> impl Future<Output = std::sync::Arc<dyn ObjectStore>> {
    let config = app::load(&app.config_file(), "");
    async move { objects::open(&config).await.unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_found_and_told_once_and_its_mending_too() {
    let app = archive(2, &EMBEDDED).await;
    assert!(ended_with(&app.cli(&run(true)).await, 0).starts_with("4 objects"), "all are fine");
    let checked = bodies(&app, "fixity.checked").await;
    assert_eq!((checked.len(), &checked[0].1["objects"], &checked[0].0["subject"]), (1, &4.into(), &Value::Null));
    assert_eq!(checked[0].1["every_seconds"], 90 * 24 * 3600);

    let file = app.data_dir().join("objects").join(key_of(&app, "call_0").await);
    let sound = std::fs::read(&file).unwrap();
    let mut flipped = sound.clone();
    flipped[1000] ^= 1;
    overwrite(&file, &flipped);
    for _ in 0..2 {
        let output = app.cli(&run(true)).await;
        let said = ended_with(&output, 1);
        assert!(said.contains("FAILED") && said.contains("its SHA-256 is"), "{said}");
    }
    let failed = bodies(&app, "fixity.failed").await;
    assert_eq!(failed.len(), 1, "told once, however often it is found");
    assert_eq!(failed[0].0["subject"], "fixity:call_0");
    assert_eq!(
        (&failed[0].1["call_id"], &failed[0].1["object_key"]),
        (&"call_0".into(), &key_of(&app, "call_0").await.into())
    );
    eventually("the server tells of it", || async { degraded(&app).await.then_some(()) }).await;
    assert_eq!(app.metric("callvault_fixity_failing").await, 1.0);
    let status: Value = serde_json::from_str(&ended_with(&app.cli(&["fixity", "status", "--json"]).await, 1)).unwrap();
    assert_eq!((&status["objects"], &status["failing"]), (&4.into(), &1.into()));

    overwrite(&file, &sound);
    // What failed is read again at every run, due or not.
    assert!(ended_with(&app.cli(&run(false)).await, 0).contains("1 mended"));
    let mended = bodies(&app, "fixity.checked").await;
    let (entry, body) = mended.last().unwrap();
    assert_eq!((&entry["subject"], &body["objects"]), (&"fixity:call_0".into(), &1.into()));
    assert!(body["mended"]["was"].as_str().unwrap().contains("its SHA-256 is"));
    ended_with(&app.cli(&["fixity", "status"]).await, 0);
    eventually("the server tells that it is well", || async { (!degraded(&app).await).then_some(()) }).await;
    app.finish().await;
}

fn overwrite(file: &std::path::Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(file, bytes).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o444)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_the_journal_does_not_know_fails_and_what_is_on_its_way_does_not() {
    let mut app = archive(1, &[]).await;
    let (store, key) = (store_of(&app).await, key_of(&app, "call_0").await);
    let version = store.head(&key, None).await.unwrap().unwrap().version;
    store.set_legal_hold(&key, version.as_deref(), true).await.unwrap();
    assert!(ended_with(&app.cli(&run(true)).await, 1).contains("its legal hold is not the journal's"));
    store.set_legal_hold(&key, version.as_deref(), false).await.unwrap();
    assert!(ended_with(&app.cli(&run(false)).await, 0).contains("1 mended"));
    assert_eq!(bodies(&app, "fixity.failed").await.len(), 1);

    let until = store.head(&key, None).await.unwrap().unwrap().retain_until.unwrap();
    let later = until + jiff::SignedDuration::from_hours(24);
    store.extend_retention(&key, version.as_deref(), later).await.unwrap();
    assert!(ended_with(&app.cli(&run(true)).await, 0).starts_with("2 objects"), "its entry is on its way");
    // What verification wants to see, it sees no more: the lock is longer than the journal says. And nobody brings the
    // store in step any more.
    app.settle().await;
    assert_eq!(app.terminate().await.code(), Some(0));
    let held = HoldRecord { call_id: "call_0".into(), hold: "a lawsuit".into() };
    append(&app, "call_0", Kind::HoldCaught, &held).await;
    assert!(ended_with(&app.cli(&run(true)).await, 0).contains("2 left for later"), "and so is the hold");
    append(&app, "call_0", Kind::HoldLifted, &held).await;
    assert!(ended_with(&app.cli(&run(true)).await, 0).starts_with("2 objects"));
}

/// Has the journal say something of a call.
async fn append(app: &ProcessApp, call_id: &str, kind: Kind, record: &impl serde::Serialize) {
    let archive = App::open_existing(app::load(&app.config_file(), ""), Clock::system()).await.unwrap();
    let entry = NewEntry::new(kind, "system", Some(call_id.into()), Body::of_json(record).unwrap());
    archive.journal.append(vec![entry]).await.unwrap();
    archive.db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_whose_disk_is_not_mounted_is_not_called_damaged() {
    let app = archive(1, &EMBEDDED).await;
    let (there, away) = (app.data_dir().join("objects/recordings"), app.data_dir().join("objects/.staging/away"));
    std::fs::rename(&there, &away).unwrap();
    let output = app.cli(&run(true)).await;
    ended_with(&output, 1);
    assert!(stderr(&output).contains("it holds no recordings at all"), "{}", stderr(&output));
    std::fs::rename(&away, &there).unwrap();
    assert!(ended_with(&app.cli(&run(true)).await, 0).starts_with("2 objects"));
    assert_eq!(bodies(&app, "fixity.failed").await.len(), 0);
    app.finish().await;
}

/// A run that pauses for hours after its first object.
fn slow_run(app: &ProcessApp) -> Child {
    let mut command = program();
    command.arg("--config").arg(app.config_file()).args(["fixity", "run", "--max-bytes-per-second", "1"]);
    command.current_dir(app.config_file().parent().unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

async fn raw(app: &ProcessApp) -> Raw {
    Raw::of(&app::load(&app.config_file(), ""), app.config_file().parent().unwrap()).await
}

async fn count(app: &ProcessApp, condition: &str) -> u64 {
    let mut raw = raw(app).await;
    let counted = raw.texts(&format!("select cast(count(*) as text) from {condition}")).await;
    raw.close().await;
    counted[0].parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_leaves_and_one_that_was_stopped_goes_on() {
    let mut app = archive(3, &[]).await;
    ended_with(&app.cli(&["fixity", "status"]).await, 0);
    // The server must not go on in its stead.
    assert_eq!(app.terminate().await.code(), Some(0));
    let mut raw_db = raw(&app).await;
    raw_db.run("update fixity set looked_at = 0").await;
    raw_db.close().await;

    let killed = slow_run(&app);
    eventually("it has the job", || async {
        (count(&app, "leases where name = 'job:fixity'").await == 1).then_some(())
    })
    .await;
    let second = app.cli(&run(false)).await;
    assert_eq!(ended_with(&second, 0), "");
    assert!(stderr(&second).contains(&format!("fixity is being done already, by process {}", killed.id())));
    kill_process(Pid::from_child(&killed), Signal::KILL).unwrap();
    killed.wait_with_output().unwrap();
    let mut raw_db = raw(&app).await;
    // Else it would be waited for.
    raw_db.run("delete from leases").await;
    raw_db.close().await;

    let stopped = slow_run(&app);
    eventually("it has the job", || async {
        (count(&app, "leases where name = 'job:fixity'").await == 1).then_some(())
    })
    .await;
    kill_process(Pid::from_child(&stopped), Signal::TERM).unwrap();
    let stopped = stopped.wait_with_output().unwrap();
    assert!(stderr(&stopped).contains("it goes on where it was"), "{}", stderr(&stopped));
    let first: u64 = ended_with(&stopped, 1).split(' ').next().unwrap().parse().unwrap();
    assert_eq!(count(&app, "fixity where looked_at = 0").await, 6 - first, "what was read is noted");
    let rest = ended_with(&app.cli(&run(false)).await, 0);
    assert!(rest.starts_with(&format!("{} objects", 6 - first)), "{first} and then {rest}");
    app.serve().await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_lacking_or_make_no_sense_are_found_and_made_anew() {
    let mut app = archive(2, &[]).await;
    ended_with(&app.cli(&["fixity", "status"]).await, 0);
    assert_eq!(app.terminate().await.code(), Some(0));
    for (damage, rows) in [
        ("delete from fixity where part = 0", 2),
        ("update fixity set object = object || 'x' where part = 1", 2),
        ("update fixity set version = coalesce(version, '') || 'x'", 4),
        ("update fixity set object = ''", 4),
    ] {
        let mut raw_db = raw(&app).await;
        assert_eq!(raw_db.run(damage).await, rows, "{damage}");
        raw_db.close().await;
        let said = ended_with(&app.cli(&["verify"]).await, 1);
        assert_eq!(said.matches("run callvault fixity run --all").count() as u64, rows, "{said}");
        let said = ended_with(&app.cli(&run(true)).await, 0);
        assert!(said.starts_with("4 objects"), "{damage}: {said}");
        ended_with(&app.cli(&["verify"]).await, 0);
    }
    let mut raw_db = raw(&app).await;
    raw_db.run("insert into fixity (seq, part, object, looked_at) values (0, 0, 'x', 0)").await;
    raw_db.close().await;
    assert!(ended_with(&app.cli(&["verify"]).await, 1).contains("fixity row 0, 0: no journal entry knows of it"));
    // Nothing is promised of it.
    assert!(ended_with(&app.cli(&run(false)).await, 0).starts_with("0 objects"));
    ended_with(&app.cli(&["verify"]).await, 0);
    app.serve().await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_reads_again_what_is_due() {
    let app = TestApp::start().await;
    app.post(&ended("call_1", &app.sender.audio("/1.mp3", &recording(1)))).await;
    app.call_in("call_1", "archived").await;
    app.settle().await;
    assert_eq!(app.journal("&kind=fixity.checked").await.len(), 0, "nothing is due yet");
    app.jump(91);
    let checked = eventually("it is read again", || async {
        let checked = app.journal("&kind=fixity.checked").await;
        (!checked.is_empty()).then_some(checked)
    })
    .await;
    assert_eq!((checked.len(), &checked[0]["body"]["objects"]), (1, &2.into()));
    app.finish().await;
}
