//! A whole archive in a bucket: what comes into it, what `verify` says of what others did there, and what becomes of it
//! when the bucket is away or another one.
//!
//! Needs a running S3 server with Object Lock, whose address stands in S3_ENDPOINT: `make test` starts one.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use aws_sdk_s3::types::{ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode};
use callvault::app::{App, OpenError};
use callvault::clock::Clock;
use callvault::objects::StoreError;
use callvault::verify::{VerifyError, verify};
use jiff::Timestamp;
use serde_json::Value;

use super::s3_server::{Bucket, Gateway};
use super::until;
use crate::app::{TestApp, load, write_config};
use crate::events::{CBR, SPEECH, VBR, ended, recording};
use crate::fake_doubletick::Reply;
use crate::http::eventually;
use crate::leftovers::{Findings, files};
use crate::process::{ProcessApp, Start, ended_with, stderr};
use crate::scenario::{Deliveries, SETTINGS, finish, tail};

fn settings(bucket: &Bucket, more: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let more = more.iter().map(|(key, value)| (*key, (*value).to_owned()));
    bucket.toml().into_iter().chain(more).collect()
}

pub async fn app_in(bucket: &Bucket, more: &[(&'static str, &str)]) -> TestApp {
    let settings = settings(bucket, more);
    TestApp::with(&settings.iter().map(|(key, value)| (*key, value.as_str())).collect::<Vec<_>>()).await
}

pub async fn process_in(bucket: &Bucket) -> ProcessApp {
    let settings = settings(bucket, SETTINGS);
    ProcessApp::stopped(&settings.iter().map(|(key, value)| (*key, value.as_str())).collect::<Vec<_>>()).await
}

/// The receipt of a call's only recording.
async fn receipt(app: &TestApp, call_id: &str) -> Value {
    let entries = app.journal(&format!("&subject={call_id}&kind=recording.archived")).await;
    assert_eq!(entries.len(), 1);
    entries[0]["body"].clone()
}

/// What the verification finds, one line each.
pub async fn found(config: &Path) -> Result<Vec<String>, VerifyError> {
    let app = App::open_existing(load(config, ""), Clock::system()).await.unwrap();
    let mut findings = Findings::default();
    let report = verify(&app, &mut findings).await;
    app.db.close().await;
    report.map(|_| findings.0.into_iter().map(|damage| format!("{}: {}", damage.what, damage.why)).collect())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn an_archive_in_a_bucket() {
    let bucket = Bucket::locked().await;
    let mut app = app_in(&bucket, &[("storage.s3.prefix", "\"archive\"")]).await;
    let url = app.sender.audio("/a.mp3", SPEECH);
    app.post(&ended("call_1", &url)).await;
    app.call_in("call_1", "archived").await;
    app.settle().await;
    let receipt = receipt(&app, "call_1").await;
    for (key, version) in [("object_key", "version"), ("vcon_key", "vcon_version")] {
        let (key, version) = (receipt[key].as_str().unwrap(), receipt[version].as_str().unwrap());
        assert!(key.starts_with("recordings/2026/03/09/call_1/"), "the journal does not know the prefix: {key}");
        let name = format!("archive/{key}");
        assert_eq!(bucket.versions(&name).await, [version]);
        let kept = (ObjectLockMode::Compliance, "2031-03-09T11:00:03Z".parse::<Timestamp>().unwrap().as_second());
        assert_eq!(bucket.lock(&name, version).await, Some(kept));
    }
    let audio = app.get("/api/v1/calls/call_1/recording").await;
    assert_eq!((audio.status, &audio.body[..]), (200, SPEECH));
    let part = app.client.get(format!("{}/api/v1/calls/call_1/recording", app.url)).header("range", "bytes=1000-1999");
    let part = crate::http::Answer::of(part.bearer_auth(crate::app::AUDITOR)).await;
    assert_eq!((part.status, &part.body[..]), (206, &SPEECH[1000..2000]));
    assert_eq!(app.json("/api/v1/calls/call_1/waveform").await["peaks"].as_array().unwrap().len(), 1000);

    app.restart().await;
    // Another object over ours changes nothing of what is heard.
    let key = format!("archive/{}", receipt["object_key"].as_str().unwrap());
    let over = bucket.put(&key, "something else").await;
    let audio = app.get("/api/v1/calls/call_1/recording").await;
    assert_eq!(&audio.body[..], SPEECH);
    bucket.delete(&key, Some(&over)).await;
    let url = app.sender.audio("/b.mp3", VBR);
    app.post(&ended("call_2", &url)).await;
    app.call_in("call_2", "archived").await;
    app.settle().await;
    ended_with(&app.cli(&["verify"]).await, 0);
    ended_with(&app.cli(&["doctor"]).await, 0);
    app.finish().await;
}

/// What was done to the store, and how the verification calls it.
async fn done_to(bucket: &Bucket, app: &TestApp) -> Vec<(String, &'static str)> {
    let mut done = Vec::new();
    let mut of = async |call_id: &str, why: &'static str| {
        let receipt = receipt(app, call_id).await;
        let text = |name: &str| receipt[name].as_str().unwrap().to_owned();
        done.push((format!("object {} of call {call_id}", text("object_key")), why));
        (text("object_key"), text("version"))
    };
    let (key, version) = of("call_deleted", "it is missing from the store").await;
    bucket.delete(&key, Some(&version)).await;
    let (key, version) = of("call_replaced", "any more, only others").await;
    let over = bucket.put(&key, "theirs").await;
    bucket.delete(&key, Some(&version)).await;
    let replaced = (format!("object {key} version {over}"), "no receipt names this version");
    let (key, _) = of("call_hidden", "a delete marker hides it").await;
    bucket.delete(&key, None).await;
    let hidden = (format!("object {key}"), "it is a delete marker");
    let (key, version) = of("call_held", "its legal hold is not the journal's").await;
    bucket
        .aws("put-object-legal-hold", &["--key", &key, &format!("--version-id={version}"), "--legal-hold", "Status=ON"])
        .await
        .unwrap();
    let (key, version) = of("call_longer", "its lock ends 2040-").await;
    let retention = ObjectLockRetention::builder()
        .mode(ObjectLockRetentionMode::Governance)
        .retain_until_date(aws_sdk_s3::primitives::DateTime::from_secs(until(2040).as_second()));
    let longer = bucket.client.put_object_retention().bucket(&bucket.name).key(&key).version_id(version);
    longer.retention(retention.build()).send().await.unwrap();
    let (key, version) = of("call_rotten", "its SHA-256 is ").await;
    bucket.rot(&key, &version).await;
    let (key, _) = of("call_over", "").await;
    done.pop();
    let over = bucket.put(&key, &String::from_utf8_lossy(CBR)).await;
    let over = (format!("object {key} version {over}"), "no receipt names this version");
    let stranger = "recordings/2026/03/09/call_nobody/x.mp3";
    bucket.put(stranger, "theirs").await;
    done.extend([replaced, hidden, over, (format!("object {stranger}"), "no journal entry knows of it")]);
    done
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn verify_names_what_was_done_to_a_bucket() {
    let bucket = Bucket::locked().await;
    // Whoever has the right can do all of it in this mode.
    let mut app = app_in(&bucket, &[("storage.s3.object_lock", "\"governance\"")]).await;
    for (n, name) in (0..).zip(["deleted", "replaced", "hidden", "held", "longer", "rotten", "over", "untouched"]) {
        let url = app.sender.audio(&format!("/{name}.mp3"), &recording(n));
        app.post(&ended(&format!("call_{name}"), &url)).await;
        app.call_in(&format!("call_{name}"), "archived").await;
    }
    app.settle().await;
    assert_eq!(found(&app.config_file()).await.unwrap(), [""; 0]);
    let mut expected = done_to(&bucket, &app).await;
    app.stop().await;
    let mut lines = found(&app.config_file()).await.unwrap();
    let fits = |line: &str, (what, why): &(String, &str)| {
        line.strip_prefix(what.as_str()).is_some_and(|rest| rest.starts_with(": ") && rest.contains(why))
    };
    expected.retain(|expected| {
        let place = lines.iter().position(|line| fits(line, expected));
        place.map(|place| lines.remove(place)).is_none()
    });
    assert_eq!((expected, lines), (vec![], vec![]), "what is not named, and what else is");

    // The same bucket to an archive that demands the stronger mode.
    let strict = settings(&bucket, &[("storage.s3.object_lock", "\"compliance\"")]);
    let strict: Vec<(&str, &str)> = strict.iter().map(|(key, value)| (*key, value.as_str())).collect();
    write_config(app.scratch(), &app.sender, &strict);
    let weak = found(&app.config_file()).await.unwrap();
    let weak = weak.iter().filter(|line| line.contains("of call call_untouched") && line.contains("governance mode"));
    assert_eq!(weak.count(), 2, "the recording and its call record");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn a_bucket_that_is_away() {
    let (mut bucket, mut gateway) = (Bucket::locked().await, Gateway::start().await);
    bucket.endpoint.clone_from(&gateway.endpoint);
    let mut app = app_in(&bucket, &[]).await;
    let url = app.sender.audio("/a.mp3", CBR);
    app.post(&ended("call_1", &url)).await;
    app.call_in("call_1", "archived").await;
    app.settle().await;
    gateway.kill();
    // Nothing is known of the bucket, and nothing is called damaged.
    match found(&app.config_file()).await {
        Err(VerifyError::Store(StoreError::Io(_))) => {}
        other => panic!("{other:?}"),
    }
    let verified = app.cli(&["verify"]).await;
    ended_with(&verified, 1);
    assert!(stderr(&verified).contains("the S3 server can't be reached"), "{}", stderr(&verified));
    app.get("/api/v1/calls/call_1/recording").await.problem(503);
    // It starts all the same, and takes what comes.
    app.restart().await;
    let url = app.sender.audio("/b.mp3", VBR);
    app.post(&ended("call_2", &url)).await;
    let troubled = || async { app.get("/readyz").await.text().contains("the store can't be used").then_some(()) };
    eventually("readiness says what is wrong", troubled).await;
    assert_eq!(app.call("call_2").await["recording"]["state"], "pending");
    gateway.start_again().await;
    app.call_in("call_2", "archived").await;
    assert_eq!(app.sender.asked("/b.mp3").len(), 1, "it waited in the spool");
    app.finish().await;

    // The first start of all, with nobody there.
    gateway.kill();
    let app = app_in(&bucket, &[("storage.s3.prefix", "\"another\"")]).await;
    let url = app.sender.audio("/c.mp3", CBR);
    app.post(&ended("call_3", &url)).await;
    gateway.start_again().await;
    app.call_in("call_3", "archived").await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn journal_and_bucket_belong_together() {
    let (bucket, empty) = (Bucket::locked().await, Bucket::locked().await);
    let mut app = app_in(&bucket, &[]).await;
    let url = app.sender.audio("/a.mp3", CBR);
    app.post(&ended("call_1", &url)).await;
    app.call_in("call_1", "archived").await;
    app.settle().await;
    app.stop().await;
    // Recordings without a journal.
    let elsewhere = tempfile::tempdir().unwrap();
    let with = |bucket: &Bucket, more: &[(&'static str, &str)], dir: &Path| {
        let settings = settings(bucket, more);
        let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
        load(&write_config(dir, &app.sender, &settings), "")
    };
    let lost = App::open(with(&bucket, &[], elsewhere.path()), Clock::system()).await.err();
    match lost {
        Some(error @ OpenError::BucketWithoutJournal { .. }) => {
            let text = error.to_string();
            assert!(text.contains(&bucket.name) && text.contains("restore the database"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!elsewhere.path().join("data/callvault.db").exists(), "nothing was made that hides it");
    // Another place in the same bucket is another archive's.
    let other = with(&bucket, &[("storage.s3.prefix", "\"other\"")], elsewhere.path());
    App::open(other, Clock::system()).await.unwrap().db.close().await;

    // A journal without its recordings.
    let mut served = ProcessApp::stopped(&[]).await;
    let data = served.data_dir();
    let copied = std::process::Command::new("cp").arg("-a").arg(app.data_dir()).arg(&data).status().unwrap();
    assert!(copied.success());
    with(&empty, &[("storage.s3.prefix", "\"calls\"")], served.config_file().parent().unwrap());
    match served.try_serve("").await {
        Start::Ended(status) => assert_eq!(status.code(), Some(1)),
        other => panic!("{other:?}"),
    }
    let says = format!("the bucket {} (prefix calls) holds no recordings, though 1 are archived", empty.name);
    assert!(served.log().contains(&says), "{}", served.log());
    with(&bucket, &[], served.config_file().parent().unwrap());
    served.serve().await;
    served.finish().await;
}

/// Dies at a point of the store's own, and goes on after a restart.
async fn dies_at(point: &str) {
    let bucket = Bucket::locked().await;
    let mut app = process_in(&bucket).await;
    let mut deliveries = Deliveries::of_every_kind(&app);
    assert_eq!(app.try_serve(&format!("{point}=1*off->return(kill)")).await, Start::Ready);
    let started = Instant::now();
    let killed = loop {
        deliveries.send_once(&app).await;
        if let Some(status) = app.ended() {
            break status;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{point} is passed: {}", tail(&app));
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(killed.signal(), Some(9), "{point}");
    app.serve().await;
    assert!(deliveries.send(&mut app, Duration::from_secs(30)).await, "{point}: {}", tail(&app));
    // Verified in the course of it: one version of each object, with its lock.
    finish(app, &deliveries).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn dies_while_it_stores_and_goes_on() {
    for point in ["store.looked", "store.written", "archiver.stored", "archiver.record_stored"] {
        dies_at(point).await;
    }
}

/// A recording that goes up in parts, and a process that dies between them, and before the lock.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn dies_within_a_large_recording_and_goes_on() {
    let bucket = Bucket::locked().await;
    let mut app = process_in(&bucket).await;
    // Three seconds behind a tag of 70 MiB, whose length ID3v2.4 gives in four times seven bits.
    let head = b"ID3\x04\0\0\x23\0\0\0".to_vec();
    let url = app.sender.on("/large.mp3", [Reply::Behind { head, megabytes: 70, audio: CBR.to_vec() }]);
    for point in ["store.part_sent=2*off->return(kill)", "store.completed=return(kill)"] {
        assert_eq!(app.try_serve(point).await, Start::Ready);
        app.try_post(ended("call_large", &url).to_string()).await;
        let started = Instant::now();
        let killed = loop {
            if let Some(status) = app.ended() {
                break status;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{point} is passed: {}", tail(&app));
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(killed.signal(), Some(9), "{point}");
    }
    app.serve().await;
    let call = app.call_in("call_large", "archived").await;
    let key = call["recording"]["object_key"].as_str().unwrap();
    let versions = bucket.versions(key).await;
    assert_eq!(versions.len(), 1);
    let date: Timestamp = call["recording"]["retain_until"].as_str().unwrap().parse().unwrap();
    assert_eq!(bucket.lock(key, &versions[0]).await, Some((ObjectLockMode::Compliance, date.as_second())));
    assert_eq!(bucket.uploads().await, [""; 0]);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn credentials_stand_nowhere() {
    let secret = std::env::var("AWS_SECRET_ACCESS_KEY").unwrap();
    let bucket = Bucket::locked().await;
    let settings = settings(&bucket, &[]);
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let mut app = ProcessApp::fetching_from("trace", &[], &settings).await;
    let url = app.sender.audio("/a.mp3", CBR);
    app.post(&ended("call_1", &url)).await;
    app.call_in("call_1", "archived").await;
    app.settle().await;
    let mut places: Vec<(String, Vec<u8>)> = Vec::new();
    for args in [&["doctor"][..], &["verify"]] {
        let output = app.cli(args).await;
        places.push((format!("{args:?}"), [output.stdout, output.stderr].concat()));
    }
    for path in ["/readyz", "/metrics", "/api/v1/calls/call_1", "/api/v1/journal?limit=500"] {
        places.push((path.into(), app.get(path).await.body));
    }
    for file in files(&app.data_dir()) {
        places.push((file.display().to_string(), std::fs::read(&file).unwrap()));
    }
    let log = app.log();
    assert!(log.contains("TRACE") && log.contains(&bucket.name), "requests are logged at trace level");
    places.push(("log".into(), log.into_bytes()));
    for (place, bytes) in places {
        assert!(!String::from_utf8_lossy(&bytes).contains(&secret), "{place}");
    }
    assert_eq!(app.terminate().await.code(), Some(0));
}
