//! How fast what is over is destroyed: 10,000 recordings with their call records, on the filesystem.
//!
//! `cargo bench --bench disposition`

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise and prints its figures"
)]

mod common;

use std::time::Instant;

use bytes::Bytes;
use callvault::app::App;
use callvault::calls::records::{ArchiveReceipt, AudioRecord};
use callvault::clock::Clock;
use callvault::intake;
use callvault::journal::{Body, Kind, NewEntry};
use callvault::objects::{Content, ObjectKey};
use common::figure;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

const CALLS: usize = 10_000;
const AT_ONCE: usize = 32;
const BATCH: usize = 500;

fn webhook(number: usize) -> NewEntry {
    let body = json!({"event": "CALL_ENDED", "callId": format!("call_{number}"), "callStatus": "END",
        "customerName": "Ananya Kulkarni", "customerNumber": "919820011223", "pickedBy": "919833344556",
        "callStartedAt": "2019-03-09T11:00:00.000Z", "callEndedAt": "2019-03-09T11:00:03.000Z", "durationInSeconds": 3,
        "recordingUrl": format!("https://calls.doubletick.io/{number}.mp3")});
    intake::entry(Kind::WebhookImported, "bench", body.to_string().as_bytes(), None).0
}

async fn store(app: &App, number: usize) -> NewEntry {
    let bytes = Bytes::from(format!("the sound of {number}").repeat(1000));
    let (sha256, until): (_, Timestamp) =
        (hex::encode(Sha256::digest(&bytes)), "2024-03-09T11:00:03Z".parse().expect("a date"));
    let folder = format!("recordings/2019/03/09/call_{number}");
    let (object_key, vcon_key) = (format!("{folder}/{sha256}.mp3"), format!("{folder}/{sha256}.vcon.json"));
    for key in [&object_key, &vcon_key] {
        let content = Content::Bytes(bytes.clone());
        app.store.put_new(&ObjectKey::Journaled(key.clone()), content, until).await.expect("it is stored");
    }
    let audio = AudioRecord {
        media_type: "audio/mpeg".into(),
        seconds: 3.0,
        bit_rate: 64_000,
        channels: 1,
        sample_rate: 8_000,
        complete: true,
    };
    let call_id = format!("call_{number}");
    let receipt = ArchiveReceipt {
        call_id: call_id.clone(),
        source: hex::encode(Sha256::digest(format!("https://calls.doubletick.io/{number}.mp3"))),
        object_key,
        version: None,
        sha256: sha256.clone(),
        size_bytes: bytes.len() as u64,
        audio,
        retain_until: until,
        policy: "default".into(),
        policy_sha256: app.policies.current().sha256().into(),
        vcon_key,
        vcon_version: None,
        vcon_sha256: sha256,
        attempts: 1,
        resumed: false,
    };
    let body = Body::of_json(&receipt).expect("JSON");
    NewEntry::new(Kind::RecordingArchived, "system", Some(intake::call_key(&call_id)), body)
}

async fn run() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = json!({"data_dir": folder.path().join("data"), "retention": {"disposition": true, "grace": "0s"}});
    let config = callvault::config::with_defaults(&settings).expect("a configuration");
    let app = App::open(config, Clock::system()).await.expect("an archive");
    let custody = app.custody();
    custody.begin().await.expect("the policies are adopted");
    for from in (0..CALLS).step_by(BATCH) {
        app.journal.append((from..from + BATCH).map(webhook).collect()).await.expect("they are journaled");
        let receipts = stream::iter(from..from + BATCH).map(|number| store(&app, number)).buffered(AT_ONCE);
        app.journal.append(receipts.collect().await).await.expect("they are journaled");
    }
    custody.settle().await.expect("everything is followed");
    let proposed = custody.propose(CALLS as u64, "one").await.expect("they are due");
    assert_eq!(proposed.items.len(), CALLS, "all are due");
    custody.approve(&proposed.id, "two").await.expect("another approves");
    let begin = Instant::now();
    let done = custody.execute(&proposed.id, &|_, _| {}).await.expect("it is executed");
    let rate = CALLS as f64 / begin.elapsed().as_secs_f64();
    assert_eq!(done.certificate.calls.len(), CALLS, "all are destroyed");
    figure("disposition: recordings destroyed, with call record and bodies", format!("{rate:.0}/s"), "200/s");
    app.db.close().await;
}

fn main() {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(run());
}
