//! What else lies at an archive's keys: what attempts that were cut off left there, and what others put there first.

use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::s3_archive::{app_in, found, process_in};
use super::s3_server::Bucket;
use crate::events::{CBR, ended, recording};
use crate::process::{Start, ended_with};
use crate::scenario::tail;

/// The last look for what is late comes after one and a half minutes.
const PATIENCE: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn what_a_cut_off_attempt_left_is_kept_like_the_first() {
    let bucket = Bucket::locked().await;
    let mut app = process_in(&bucket).await;
    let url = app.sender.audio("/a.mp3", &recording(1));
    // It dies when it has said where the recording will be; what it sent may be on its way.
    assert_eq!(app.try_serve("archiver.intended=return(kill)").await, Start::Ready);
    app.try_post(ended("call_1", &url).to_string()).await;
    while app.is_running() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    app.serve().await;
    let call = app.call_in("call_1", "archived").await;
    let key = call["recording"]["object_key"].as_str().unwrap().to_owned();
    let vcon_key = call["recording"]["vcon_key"].as_str().unwrap().to_owned();
    let (first, first_record) = (bucket.versions(&key).await.remove(0), bucket.versions(&vcon_key).await.remove(0));
    // Now it comes to light, without a lock.
    let late = bucket.put_bytes(&key, &recording(1)).await;
    let record = bucket.bytes(&vcon_key, &first_record).await;
    let late_record = bucket.put_bytes(&vcon_key, &record).await;
    assert_eq!(bucket.lock(&key, &late).await, None);
    let started = Instant::now();
    let journaled = loop {
        let page = app.json("/api/v1/journal?kind=recording.duplicated").await;
        let entries = page["entries"].as_array().unwrap().clone();
        if entries.len() == 2 {
            break entries;
        }
        assert!(started.elapsed() < PATIENCE, "{}", tail(&app));
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let said: Vec<(&str, &str)> = journaled
        .iter()
        .map(|entry| (entry["body"]["object_key"].as_str().unwrap(), entry["body"]["version"].as_str().unwrap()))
        .collect();
    assert_eq!(said, [(key.as_str(), late.as_str()), (vcon_key.as_str(), late_record.as_str())]);
    for (key, first, late) in [(&key, &first, &late), (&vcon_key, &first_record, &late_record)] {
        assert!(bucket.lock(key, first).await.is_some());
        assert_eq!(bucket.lock(key, late).await, bucket.lock(key, first).await, "it ends with the first");
    }
    ended_with(&app.cli(&["verify"]).await, 0);
    let audio = app.get("/api/v1/calls/call_1/recording").await;
    assert_eq!(audio.body, recording(1));
    // A lock of it that somebody lengthened, or its bytes rotting, is damage like that of the first.
    bucket.rot(&key, &late).await;
    let verified = ended_with(&app.cli(&["verify"]).await, 1);
    assert!(verified.contains(&format!("object {key} of call call_1: its SHA-256 is")), "{verified}");
    app.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn a_key_that_is_taken_costs_no_recording() {
    let bucket = Bucket::locked().await;
    let mut app = app_in(&bucket, &[]).await;
    let sha256 = hex::encode(Sha256::digest(CBR));
    let taken = |extension: &str| format!("recordings/2026/03/09/call_1/{sha256}.{extension}");
    for key in [taken("mp3"), taken("vcon.json")] {
        bucket.put(&key, "theirs").await;
    }
    app.post(&ended("call_1", &app.sender.audio("/a.mp3", CBR))).await;
    let call = app.call_in("call_1", "archived").await;
    let key = call["recording"]["object_key"].as_str().unwrap();
    assert_eq!(key, format!("recordings/2026/03/09/call_1/{sha256}-2.mp3"));
    assert_eq!(app.stored(key).await, CBR);
    assert_eq!(app.get("/api/v1/calls/call_1/recording").await.body, CBR);
    app.settle().await;
    app.stop().await;
    let damages = found(&app.config_file()).await.unwrap();
    let expected = [taken("mp3"), taken("vcon.json")].map(|key| format!("object {key}: no journal entry knows of it"));
    assert_eq!(damages, expected, "what somebody put there is named");
}
