//! What `doctor` says of a bucket: every fault that a real server can be given.
//!
//! Needs a running S3 server with Object Lock, whose address stands in S3_ENDPOINT: `make test` starts one.

use std::path::PathBuf;
use std::process::Command;

use callvault::clock::Clock;
use callvault::config::S3;
use callvault::objects::{ObjectStore, S3Store};
use jiff::ToSpan;
use tempfile::TempDir;

use super::listed;
use super::s3_server::{Bucket, Gateway, endpoint};
use crate::app::write_config;
use crate::fake_doubletick::FakeDoubleTick;
use crate::process::{program, run, stderr, stdout};

/// The program's configuration for a bucket.
struct Patient {
    _dir: TempDir,
    config: PathBuf,
}

impl Patient {
    async fn with(bucket: &Bucket, more: &[(&'static str, &str)]) -> Self {
        let (dir, sender) = (tempfile::tempdir().unwrap(), FakeDoubleTick::start().await);
        let mut settings = bucket.toml();
        for (key, value) in more {
            settings.retain(|(known, _)| known != key);
            settings.push((key, (*value).to_owned()));
        }
        let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let config = write_config(dir.path(), &sender, &settings);
        Self { _dir: dir, config }
    }

    fn doctor(&self) -> Command {
        let mut command = program();
        command.arg("--config").arg(&self.config).arg("doctor");
        command
    }
}

/// The lines that doctor has about the store, and whether one of them is a fault.
async fn told(command: Command) -> (Vec<String>, bool) {
    let output = run(command).await;
    let text = stdout(&output);
    let about = |line: &&str| line.get(6..).is_some_and(|rest| rest.starts_with("store "));
    let lines: Vec<String> = text.lines().filter(about).map(str::to_owned).collect();
    assert!(!lines.is_empty(), "{text}{}", stderr(&output));
    for secret in ["AWS_SECRET_ACCESS_KEY"].iter().filter_map(|name| std::env::var(name).ok()) {
        assert!(!text.contains(&secret) && !stderr(&output).contains(&secret));
    }
    let bad = lines.iter().any(|line| line.starts_with("FAIL"));
    assert!(!bad || output.status.code() == Some(1), "a fault ends with 1");
    (lines, bad)
}

/// The one fault that doctor finds, in one line.
async fn fault(command: Command) -> String {
    let (lines, bad) = told(command).await;
    let faults: Vec<&String> = lines.iter().filter(|line| line.starts_with("FAIL")).collect();
    assert!(bad && faults.len() == 1, "{lines:?}");
    faults[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn a_bucket_as_it_should_be() {
    let bucket = Bucket::locked().await;
    let patient = Patient::with(&bucket, &[("storage.s3.prefix", "\"archive\"")]).await;
    for _ in 0..2 {
        let (lines, bad) = told(patient.doctor()).await;
        assert!(!bad && lines.len() == 1, "{lines:?}");
        let fine =
            format!("ok    store          bucket {} at {}: Object Lock (compliance), written", bucket.name, endpoint());
        assert!(lines[0].starts_with(&fine), "{lines:?}");
    }
    let versions = bucket.versions("archive/doctor/probe").await;
    assert_eq!(versions.len(), 1, "put once, and tried again");
    assert!(bucket.lock("archive/doctor/probe", &versions[0]).await.is_some());
    assert_eq!(bucket.uploads().await, [""; 0]);
    let store = S3Store::open(&S3 { prefix: "archive".into(), ..bucket.settings() }).await;
    assert_eq!(listed(&store, "").await.len(), 0, "it is none of the archive's");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn buckets_that_can_not_keep_anything() {
    let missing = Bucket::nowhere(endpoint()).await;
    let text = fault(Patient::with(&missing, &[]).await.doctor()).await;
    assert!(text.contains(&format!("there is no bucket {}: make it, with Object Lock", missing.name)), "{text}");

    let plain = Bucket::plain().await;
    let text = fault(Patient::with(&plain, &[]).await.doctor()).await;
    assert!(text.contains("keeps no versions") && text.contains("make another with Object Lock"), "{text}");
    assert_eq!(plain.versions("doctor/probe").await.len(), 0, "nothing is put where it can't be locked");

    let versioned = Bucket::versioned().await;
    let text = fault(Patient::with(&versioned, &[]).await.doctor()).await;
    assert!(text.contains("has no Object Lock") && text.contains("storage.s3.bucket"), "{text}");

    // Where locks are off, that is what somebody should know.
    for bucket in [plain, versioned] {
        let (lines, bad) = told(Patient::with(&bucket, &[("storage.s3.object_lock", "\"off\"")]).await.doctor()).await;
        assert!(!bad && lines.len() == 2, "{lines:?}");
        assert!(lines[1].starts_with("note  store          storage.s3.object_lock is off"), "{lines:?}");
    }
    let lax = Patient::with(&Bucket::locked().await, &[("storage.s3.object_lock", "\"governance\"")]).await;
    let (lines, bad) = told(lax.doctor()).await;
    assert!(!bad && lines[0].contains("Object Lock (governance)") && lines[1].contains("is governance"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn credentials_that_are_wrong_or_missing() {
    let patient = Patient::with(&Bucket::locked().await, &[]).await;
    let mut none = patient.doctor();
    none.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let text = fault(none).await;
    assert!(text.contains("there are no credentials") && text.contains("set AWS_ACCESS_KEY_ID"), "{text}");

    let mut unknown = patient.doctor();
    unknown.env("AWS_ACCESS_KEY_ID", "nobody");
    let text = fault(unknown).await;
    assert!(text.contains("does not know the access key"), "{text}");

    let mut wrong = patient.doctor();
    wrong.env("AWS_SECRET_ACCESS_KEY", "not-the-secret-of-the-tests");
    let text = fault(wrong).await;
    assert!(text.contains("does not belong to the access key") && !text.contains("not-the-secret"), "{text}");

    // A profile does as well.
    let home = tempfile::tempdir().unwrap();
    let name = |name: &str| std::env::var(name).unwrap();
    let (id, secret) = (name("AWS_ACCESS_KEY_ID"), name("AWS_SECRET_ACCESS_KEY"));
    let file = home.path().join("credentials");
    std::fs::write(&file, format!("[calls]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")).unwrap();
    let mut profile = patient.doctor();
    profile.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    profile.env("AWS_SHARED_CREDENTIALS_FILE", &file).env("AWS_PROFILE", "calls");
    let (lines, bad) = told(profile).await;
    assert!(!bad, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn a_server_that_is_not_there() {
    let bucket = Bucket::locked().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = Patient::with(&bucket, &[("storage.s3.endpoint", &format!("\"http://{free}\""))]).await;
    let text = fault(nobody.doctor()).await;
    assert!(text.contains("can't be reached") && text.contains("check storage.s3.endpoint"), "{text}");

    // Nobody answers to TLS there.
    let plain = endpoint().replace("http://", "https://");
    let tls = Patient::with(&bucket, &[("storage.s3.endpoint", &format!("{plain:?}"))]).await;
    let text = fault(tls.doctor()).await;
    assert!(text.contains("can't be reached") && text.contains("check storage.s3.endpoint"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn rights_that_are_lacking() {
    for (forbidden, right) in [
        (vec!["s3:ListBucketVersions"], "s3:ListBucketVersions"),
        (vec!["s3:GetBucketVersioning"], "s3:GetBucketVersioning"),
        (vec!["s3:GetBucketObjectLockConfiguration"], "s3:GetBucketObjectLockConfiguration"),
        (vec!["s3:PutObject"], "s3:PutObject"),
        (vec!["s3:GetObject", "s3:GetObjectVersion"], "s3:GetObjectVersion"),
        (vec!["s3:PutObjectRetention"], "s3:PutObjectRetention"),
        (vec!["s3:PutObjectLegalHold"], "s3:PutObjectLegalHold"),
        (vec!["s3:ListBucketMultipartUploads"], "s3:ListBucketMultipartUploads"),
        (vec!["s3:AbortMultipartUpload"], "s3:AbortMultipartUpload"),
    ] {
        let bucket = Bucket::locked().await;
        bucket.forbid(&forbidden).await;
        let text = fault(Patient::with(&bucket, &[]).await.doctor()).await;
        let says = format!("these credentials may not do {right} in the bucket {}: give them that right", bucket.name);
        assert!(text.contains(&says), "{forbidden:?}: {text}");
        if right == "s3:GetObjectVersion" {
            assert!(text.contains("read back"), "{text}");
            // Found again, and not readable either.
            let again = fault(Patient::with(&bucket, &[]).await.doctor()).await;
            assert!(again.contains(&says), "{again}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn a_probe_that_is_not_ours() {
    let bucket = Bucket::locked().await;
    bucket.put("doctor/probe", "somebody else's").await;
    let text = fault(Patient::with(&bucket, &[]).await.doctor()).await;
    assert!(text.contains("somebody put another object at doctor/probe"), "{text}");
    assert_eq!(listed(&bucket.store().await, "").await.len(), 1, "and it is listed as what it is");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn a_clock_that_is_off() {
    let store = Bucket::locked().await.store().await;
    let now = Clock::system().now();
    for (off, says) in
        [(4.minutes(), None), (7.minutes(), Some("7 minutes ahead of")), (-2.hours(), Some("minutes behind"))]
    {
        let found = store.diagnose(now + off).await;
        match says {
            None => assert_eq!((found.faults.len(), found.fine.is_empty()), (0, false), "{found:?}"),
            Some(says) => {
                assert_eq!(found.faults.len(), 1, "{found:?}");
                let fault = &found.faults[0];
                assert!(fault.contains(says) && fault.contains("set the one that is wrong"), "{fault}");
            }
        }
    }

    // As the program says it, to a server whose clock is the wrong one.
    let late = Gateway::with("-2h").await;
    let patient =
        Patient::with(&Bucket::locked().await, &[("storage.s3.endpoint", &format!("{:?}", late.endpoint))]).await;
    let text = fault(patient.doctor()).await;
    assert!(text.contains("this machine's clock is 120 minutes ahead of the S3 server's"), "{text}");
}
