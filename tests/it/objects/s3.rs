//! What only a bucket has: versions, locks that the server enforces, other people's clients.
//!
//! Needs a running S3 server with Object Lock, whose address stands in S3_ENDPOINT: `make test` starts one.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use aws_sdk_s3::types::ObjectLockMode;
use bytes::Bytes;
use callvault::clock::Clock;
use callvault::config::{ObjectLock, S3};
use callvault::objects::{Content, Examined, ObjectInfo, ObjectStore, S3Store, StoreError};
use futures_util::{StreamExt, TryStreamExt};
use jiff::{Timestamp, ToSpan};
use sha2::{Digest, Sha256};

use super::s3_server::{Bucket, Gateway};
use super::{bytes, contract, file, key, listed, read, until};

/// Smaller than any object here, with parts as small as servers take them.
async fn in_parts(bucket: &Bucket) -> S3Store {
    S3Store::with_parts(&bucket.settings(), 1 << 20, 5 << 20).await
}

/// How often each key is listed, and the strays by their reasons.
async fn all(store: &S3Store) -> (BTreeMap<String, usize>, Vec<String>) {
    let (mut keys, mut strays) = (BTreeMap::new(), Vec::new());
    let mut items = store.list("").await.unwrap();
    while let Some(item) = items.next().await {
        match item {
            Ok(listed) => *keys.entry(listed.key).or_default() += 1,
            Err(StoreError::Stray { key, why }) => strays.push(format!("{key}: {why}")),
            Err(error) => panic!("{error}"),
        }
    }
    (keys, strays)
}

async fn flaws(store: &S3Store, path: &str, version: Option<&str>) -> Vec<String> {
    store.examine(path, version).await.unwrap().unwrap().flaws
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn a_bucket_keeps_the_contract() {
    let bucket = Bucket::locked().await;
    let store = bucket.store().await;
    contract(Arc::new(store.clone())).await;
    let again = bucket.store().await;
    assert_eq!(listed(&again, "").await, listed(&store, "").await);
    assert_eq!(read(&again, &key("b/1.mp3"), None).await, b"the first");
    let mut items = store.list("").await.unwrap();
    while let Some(item) = items.next().await {
        let item = item.unwrap();
        let info = store.head(&item.key, item.version.as_deref()).await.unwrap().unwrap();
        assert_eq!((info.size, info.version), (item.size, item.version), "a list tells sizes and versions");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn two_prefixes_are_two_archives() {
    let bucket = Bucket::locked().await;
    let (one, other) =
        tokio::join!(async { S3Store::open(&S3 { prefix: "archive/one".into(), ..bucket.settings() }).await }, async {
            S3Store::open(&S3 { prefix: "archive/other/".into(), ..bucket.settings() }).await
        },);
    contract(Arc::new(one.clone())).await;
    assert_eq!(listed(&other, "").await.len(), 0);
    let (key, path) = (key("a/1.mp3"), key("a/1.mp3").path());
    other.put_new(&key, bytes("another archive's"), until(2031)).await.unwrap();
    assert_eq!(read(&one, &key, None).await, b"0123456789");
    assert_eq!(read(&other, &key, None).await, b"another archive's");
    assert_eq!(bucket.versions(&format!("archive/other/{path}")).await.len(), 1);
    assert_eq!(bucket.versions(&path).await.len(), 0);
    let refused = other.put_new(&key, bytes("more"), until(2031)).await.unwrap_err().to_string();
    assert!(!refused.contains("archive/other"), "nobody outside sees the prefix: {refused}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn another_client_sees_the_lock_and_can_not_break_it() {
    let bucket = Bucket::locked().await;
    let (store, path) = (bucket.store().await, key("a/1.mp3").path());
    let retain_until = until(2031) + 1.microsecond();
    let put = store.put_new(&key("a/1.mp3"), bytes("locked"), retain_until).await.unwrap();
    let version = put.version.unwrap();
    // An id may begin with a dash.
    let of = ["--key", &path, &format!("--version-id={version}")];
    let retention = bucket.aws("get-object-retention", &of).await.unwrap();
    assert_eq!(retention["Retention"]["Mode"], "COMPLIANCE");
    let date: Timestamp = retention["Retention"]["RetainUntilDate"].as_str().unwrap().parse().unwrap();
    assert_eq!(date, until(2031) + 1.second(), "never earlier than asked, and in whole seconds");
    assert_eq!(store.lock_flaw(Some(date), retain_until, until(2026)), None);
    assert!(store.lock_flaw(Some(until(2031)), retain_until, until(2026)).is_some());

    let denied = |outcome: Result<serde_json::Value, String>| {
        let error = outcome.unwrap_err();
        assert!(error.contains("AccessDenied"), "{error}");
    };
    denied(bucket.aws("delete-object", &of).await);
    denied(bucket.aws("delete-object", &[of.as_slice(), &["--bypass-governance-retention"]].concat()).await);
    let shorter = r#"{"Mode":"COMPLIANCE","RetainUntilDate":"2030-03-09T05:15:41Z"}"#;
    denied(bucket.aws("put-object-retention", &[of.as_slice(), &["--retention", shorter]].concat()).await);
    let weaker = r#"{"Mode":"GOVERNANCE","RetainUntilDate":"2040-03-09T05:15:41Z"}"#;
    denied(bucket.aws("put-object-retention", &[of.as_slice(), &["--retention", weaker]].concat()).await);
    store.set_legal_hold(&path, Some(&version), true).await.unwrap();
    let hold = bucket.aws("get-object-legal-hold", &of).await.unwrap();
    assert_eq!(hold["LegalHold"]["Status"], "ON");
    assert_eq!(read(&store, &key("a/1.mp3"), None).await, b"locked");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn what_somebody_put_there_before_us() {
    let bucket = Bucket::locked().await;
    let store = bucket.store().await;
    let (theirs, ours) = (key("a/1.mp3"), key("a/2.mp3"));
    let version = bucket.put(&theirs.path(), "other bytes").await;
    for (content, until) in [("our bytes!!", until(2031)), ("ours", until(2031)), ("", until(2031))] {
        let refused = store.put_new(&theirs, bytes(content), until).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    }
    assert_eq!(bucket.versions(&theirs.path()).await, std::slice::from_ref(&version), "nothing was written over it");
    assert_eq!(bucket.lock(&theirs.path(), &version).await, None, "nor locked");

    // The same bytes are as good as ours, once they are locked.
    let version = bucket.put(&ours.path(), "our bytes").await;
    let info = store.put_new(&ours, bytes("our bytes"), until(2031)).await.unwrap();
    assert_eq!((info.version.as_deref(), info.retain_until), (Some(version.as_str()), Some(until(2031))));
    let lock = bucket.lock(&ours.path(), &version).await;
    assert_eq!(lock, Some((ObjectLockMode::Compliance, until(2031).as_second())));
    assert_eq!(bucket.versions(&ours.path()).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn the_first_version_counts() {
    let bucket = Bucket::locked().await;
    let (store, key) = (bucket.store().await, key("a/1.mp3"));
    let path = key.path();
    let first = store.put_new(&key, bytes("the first"), until(2031)).await.unwrap();
    let version = first.version.clone().unwrap();
    for over in ["the first", "something else"] {
        bucket.put(&path, over).await;
    }
    assert_eq!(read(&store, &key, None).await, b"the first");
    let among_others = ObjectInfo { others: 2, ..first.clone() };
    assert_eq!(store.head(&path, None).await.unwrap().unwrap(), among_others);
    assert_eq!(store.put_new(&key, bytes("the first"), until(2031)).await.unwrap(), among_others);
    assert!(matches!(store.put_new(&key, bytes("something else"), until(2031)).await, Err(StoreError::Conflict(_))));
    assert_eq!(all(&store).await, (BTreeMap::from([(path.clone(), 3)]), vec![]), "every version is listed");
    assert_eq!(flaws(&store, &path, Some(&version)).await, [""; 0]);

    // Hidden is not gone.
    bucket.delete(&path, None).await;
    assert_eq!(read(&store, &key, None).await, b"the first");
    assert_eq!(store.put_new(&key, bytes("the first"), until(2032)).await.unwrap().version, first.version);
    let told = flaws(&store, &path, Some(&version)).await;
    assert!(told.len() == 1 && told[0].contains("a delete marker hides it"), "{told:?}");
    let (keys, strays) = all(&store).await;
    assert_eq!(keys, BTreeMap::from([(path.clone(), 3)]));
    assert!(strays.len() == 1 && strays[0].starts_with(&format!("{path}: it is a delete marker")), "{strays:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn many_writers_agree_on_one_version() {
    let bucket = Bucket::locked().await;
    // As many processes, each with several tasks.
    let stores = futures_util::future::join_all((0..4).map(|_| bucket.store())).await;
    for round in 0..5 {
        let (same, other) = (key(&format!("{round}/same")), key(&format!("{round}/other")));
        let puts = (0..16).map(|n| {
            let (store, same, other) = (stores[n % 4].clone(), same.clone(), other.clone());
            tokio::spawn(async move {
                let own = format!("bytes of {}", n % 8);
                tokio::join!(
                    store.put_new(&same, bytes("the same"), until(2031)),
                    store.put_new(&other, bytes(&own), until(2031))
                )
            })
        });
        let outcomes: Vec<_> = futures_util::future::join_all(puts).await.into_iter().map(Result::unwrap).collect();
        let mut versions: Vec<_> = outcomes.iter().map(|(same, _)| same.as_ref().unwrap().version.clone()).collect();
        versions.dedup();
        assert_eq!(versions.len(), 1, "{versions:?}");
        assert_eq!(versions[0].as_ref(), bucket.versions(&same.path()).await.last());
        let won: Vec<usize> = (0..16).filter(|n| outcomes[*n].1.is_ok()).collect();
        assert!(!won.is_empty() && won.iter().all(|n| n % 8 == won[0] % 8), "one of the contents wins: {won:?}");
        assert_eq!(read(&stores[0], &other, None).await, format!("bytes of {}", won[0] % 8).into_bytes());
        for (_, lost) in outcomes.iter().filter(|(_, other)| other.is_err()) {
            assert!(matches!(lost, Err(StoreError::Conflict(_))), "{lost:?}");
        }
    }
    // In one process, one writes at a time, and finds what the one before wrote.
    let puts = (0..16).map(|_| {
        let store = stores[0].clone();
        tokio::spawn(async move { store.put_new(&key("alone"), bytes("the same"), until(2031)).await.unwrap() })
    });
    futures_util::future::join_all(puts).await;
    assert_eq!(bucket.versions(&key("alone").path()).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn large_files_go_up_in_parts() {
    let bucket = Bucket::locked().await;
    let (store, key) = (in_parts(&bucket).await, key("large/1.mp3"));
    let (file, content, of) = file((11 << 20) + 77);
    // Left by an earlier run of this key, and by somebody else's of another.
    bucket.begin_upload(&key.path()).await;
    bucket.begin_upload(&format!("{}0", key.path())).await;
    let put = store.put_new(&key, of.clone(), until(2031)).await.unwrap();
    let version = put.version.clone().unwrap();
    assert_eq!((put.size, put.retain_until), (content.len() as u64, Some(until(2031))));
    let head = bucket.client.head_object().bucket(&bucket.name).key(key.path()).send().await.unwrap();
    assert!(head.e_tag().unwrap().ends_with("-3\""), "three parts: {:?}", head.e_tag());
    let lock = Some((ObjectLockMode::Compliance, until(2031).as_second()));
    assert_eq!(bucket.lock(&key.path(), &version).await, lock);
    assert_eq!(read(&store, &key, None).await, content);
    let Examined { sha256, flaws, info } = store.examine(&key.path(), Some(&version)).await.unwrap().unwrap();
    assert_eq!((sha256, flaws, info), (hex::encode(Sha256::digest(&content)), vec![], put.clone()));
    assert_eq!(bucket.uploads().await, [format!("{}0", key.path())]);
    assert_eq!(store.put_new(&key, of.clone(), until(2031)).await.unwrap(), put);
    assert_eq!(bucket.versions(&key.path()).await.len(), 1);
    // What began a moment ago may still be somebody's.
    assert_eq!(store.tidy().await.unwrap(), 0);
    assert_eq!(bucket.uploads().await.len(), 1);

    // A run that ended between the last part and the lock.
    let unlocked = super::key("large/2.mp3");
    let body = aws_sdk_s3::primitives::ByteStream::from(content);
    let theirs = bucket.client.put_object().bucket(&bucket.name).key(unlocked.path()).body(body).send().await.unwrap();
    store.put_new(&unlocked, of, until(2031)).await.unwrap();
    assert_eq!(bucket.lock(&unlocked.path(), theirs.version_id().unwrap()).await, lock);
    file.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn forgotten_uploads_are_aborted() {
    let (bucket, late) = (Bucket::locked().await, Gateway::with("-2h").await);
    let past = Bucket { name: bucket.name.clone(), ..Bucket::nowhere(late.endpoint.clone()).await };
    let store = S3Store::open(&S3 { prefix: "archive".into(), ..bucket.settings() }).await;
    for key in ["archive/recordings/old", "archive/recordings/old%2F", "another/recordings/old"] {
        past.begin_upload(key).await;
    }
    bucket.begin_upload("archive/recordings/new").await;
    assert_eq!(store.tidy().await.unwrap(), 2, "ours, begun two hours ago");
    assert_eq!(bucket.uploads().await, ["another/recordings/old", "archive/recordings/new"]);
    assert_eq!(store.tidy().await.unwrap(), 0);
    // The server's clock decides: to that one, the other has only just begun.
    let lagging = S3 { prefix: "another".into(), endpoint: late.endpoint.clone(), ..bucket.settings() };
    assert_eq!(S3Store::open(&lagging).await.tidy().await.unwrap(), 0);
}

/// The bytes that were hashed, or none.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn bytes_that_change_on_their_way_are_refused() {
    let bucket = Bucket::locked().await;
    let stores = [bucket.store().await, in_parts(&bucket).await];
    for (n, store) in stores.iter().enumerate() {
        let (mut file, content, of) = file(6 << 20);
        let key = key(&format!("changed/{n}.mp3"));
        // One byte, after it was hashed.
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(5 << 20)).unwrap();
        file.write_all(&[!content[5 << 20]]).unwrap();
        let refused = store.put_new(&key, of.clone(), until(2031)).await;
        assert!(matches!(refused, Err(StoreError::Io(_))), "{refused:?}");
        file.write_all(&vec![0; 2 << 20]).unwrap();
        assert!(matches!(store.put_new(&key, of, until(2031)).await, Err(StoreError::Io(_))), "longer");
        assert_eq!(store.head(&key.path(), None).await.unwrap(), None, "nothing of it is kept");
    }
    assert_eq!(bucket.uploads().await, [""; 0], "nor lies about");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn a_date_in_the_past_needs_no_lock() {
    let bucket = Bucket::locked().await;
    let store = in_parts(&bucket).await;
    let (_file, content, of) = file(6 << 20);
    for (name, content) in [("small", bytes("small")), ("large", of), ("bytes", Content::Bytes(Bytes::from(content)))] {
        let key = key(name);
        for _ in 0..2 {
            let put = store.put_new(&key, content.clone(), until(2021)).await.unwrap();
            assert_eq!(put.retain_until, None);
        }
        assert_eq!(bucket.lock(&key.path(), &bucket.versions(&key.path()).await[0]).await, None);
        let examined = store.examine(&key.path(), None).await.unwrap().unwrap();
        assert_eq!(examined.flaws, [""; 0]);
        assert_eq!(store.lock_flaw(examined.info.retain_until, until(2021), until(2026)), None);
        // What should be locked still, and is not, is damage.
        assert_eq!(store.lock_flaw(None, until(2031), until(2026)).as_deref(), Some("its lock is missing"));
        // A later date locks it after all.
        let put = store.put_new(&key, content, until(2031)).await.unwrap();
        assert_eq!(put.retain_until, Some(until(2031)));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn a_bucket_without_locks_is_refused() {
    for bucket in [Bucket::plain().await, Bucket::versioned().await] {
        let store = in_parts(&bucket).await;
        let (_file, _, large) = file(6 << 20);
        for (name, content) in [("small", bytes("small")), ("large", large)] {
            let refused = store.put_new(&key(name), content, until(2031)).await;
            let Err(StoreError::SetUp(why)) = refused else { panic!("{name}: {refused:?}") };
            assert!(why.contains("has no Object Lock") && why.contains(&bucket.name), "{name}: {why}");
            assert!(!why.contains('\n') && why.len() < 400, "{why}");
        }
        let (keys, strays) = all(&store).await;
        assert_eq!((keys.len(), strays.len()), (0, 0), "nothing is kept without a lock");
        assert_eq!(bucket.uploads().await, [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn without_locks_where_they_are_off() {
    for bucket in [Bucket::plain().await, Bucket::locked().await] {
        let store = S3Store::open(&S3 { object_lock: ObjectLock::Off, ..bucket.settings() }).await;
        assert!(!store.locks());
        let (key, path) = (key("a/1.mp3"), key("a/1.mp3").path());
        let put = store.put_new(&key, bytes("0123456789"), until(2031)).await.unwrap();
        assert_eq!((put.size, put.retain_until), (10, None));
        assert_eq!(store.put_new(&key, bytes("0123456789"), until(2032)).await.unwrap(), put);
        assert!(matches!(store.put_new(&key, bytes("other"), until(2031)).await, Err(StoreError::Conflict(_))));
        assert_eq!(store.head(&path, put.version.as_deref()).await.unwrap(), Some(put.clone()));
        assert_eq!(read(&store, &key, Some(2..5)).await, b"234");
        assert_eq!(flaws(&store, &path, put.version.as_deref()).await, [""; 0]);
        assert_eq!(store.lock_flaw(put.retain_until, until(2031), until(2026)), None);
        for refused in [
            store.extend_retention(&path, None, until(2033)).await,
            store.set_legal_hold(&path, put.version.as_deref(), true).await,
        ] {
            assert!(matches!(refused, Err(StoreError::SetUp(_))), "silence would look like a lock: {refused:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn of_two_modes_the_stronger_stays() {
    let bucket = Bucket::locked().await;
    let strict = bucket.store().await;
    let lax = S3Store::open(&S3 { object_lock: ObjectLock::Governance, ..bucket.settings() }).await;
    let (key, path) = (key("lax"), key("lax").path());
    let version = lax.put_new(&key, bytes("x"), until(2031)).await.unwrap().version.unwrap();
    assert_eq!(bucket.lock(&path, &version).await.unwrap().0, ObjectLockMode::Governance);
    assert_eq!(flaws(&lax, &path, None).await, [""; 0]);
    let told = flaws(&strict, &path, None).await;
    assert!(told.len() == 1 && told[0].contains("governance mode"), "{told:?}");
    // No right is needed to extend it as it is.
    strict.extend_retention(&path, Some(&version), until(2032)).await.unwrap();
    let extended = (ObjectLockMode::Governance, until(2032).as_second());
    assert_eq!(bucket.lock(&path, &version).await, Some(extended));

    let (key, path) = (super::key("strict"), super::key("strict").path());
    let version = strict.put_new(&key, bytes("x"), until(2031)).await.unwrap().version.unwrap();
    lax.put_new(&key, bytes("x"), until(2032)).await.unwrap();
    let kept = (ObjectLockMode::Compliance, until(2032).as_second());
    assert_eq!(bucket.lock(&path, &version).await, Some(kept));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn what_is_gone_is_told_apart() {
    let bucket = Bucket::locked().await;
    let lax = S3Store::open(&S3 { object_lock: ObjectLock::Governance, ..bucket.settings() }).await;
    let (key, path) = (key("a/1.mp3"), key("a/1.mp3").path());
    let first = lax.put_new(&key, bytes("the first"), until(2031)).await.unwrap().version.unwrap();
    let second = bucket.put(&path, "the second").await;
    bucket.delete(&path, Some(&first)).await;
    let gone = |outcome: Option<StoreError>| match outcome {
        Some(StoreError::VersionGone { key, version }) => assert_eq!((key, version), (path.clone(), first.clone())),
        other => panic!("{other:?}"),
    };
    gone(lax.examine(&path, Some(&first)).await.err());
    gone(lax.head(&path, Some(&first)).await.err());
    gone(lax.get(&path, Some(&first), None).await.err());
    gone(lax.extend_retention(&path, Some(&first), until(2033)).await.err());
    gone(lax.set_legal_hold(&path, Some(&first), true).await.err());

    bucket.delete(&path, Some(&second)).await;
    assert!(lax.examine(&path, Some(&first)).await.unwrap().is_none());
    assert_eq!(lax.head(&path, Some(&first)).await.unwrap(), None);
    assert!(matches!(lax.get(&path, Some(&first), None).await.err(), Some(StoreError::NotFound(_))));

    bucket.client.delete_bucket().bucket(&bucket.name).send().await.unwrap();
    for outcome in [
        lax.examine(&path, Some(&first)).await.err(),
        lax.head(&path, None).await.err(),
        lax.get(&path, Some(&first), None).await.err(),
        lax.list("").await.err(),
        lax.put_new(&key, bytes("again"), until(2031)).await.err(),
        lax.tidy().await.err(),
    ] {
        let Some(StoreError::SetUp(why)) = outcome else { panic!("{outcome:?}") };
        assert!(why.contains(&format!("there is no bucket {}", bucket.name)), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn lists_of_many_pages() {
    let bucket = Bucket::locked().await;
    let (store, own) = (bucket.store().await, key("many/%2E%2Esame"));
    let first = store.put_new(&own, bytes("the first"), until(2031)).await.unwrap();
    // Keys that need every care in a list, and more versions of one key than a page has.
    let strange =
        ["recordings/a b+c%2Fd", "recordings/ctl\u{1}\u{1f}", "recordings/é<&>\"", "recordings/many/%2E%2Esame0"];
    let puts = strange.iter().map(|name| (*name).to_owned()).chain((0..1010).map(|_| own.path()));
    let put = async |path: String| drop(bucket.put(&path, "theirs").await);
    futures_util::stream::iter(puts).for_each_concurrent(16, put).await;
    bucket.delete(&own.path(), None).await;
    let (keys, strays) = all(&store).await;
    let mut expected: BTreeMap<String, usize> = strange.iter().map(|name| ((*name).to_owned(), 1)).collect();
    expected.insert(own.path(), 1011);
    assert_eq!(keys, expected);
    assert_eq!(strays.len(), 1);
    assert_eq!(read(&store, &own, None).await, b"the first");
    let among_others = ObjectInfo { others: 1010, ..first.clone() };
    assert_eq!(store.head(&own.path(), None).await.unwrap().unwrap(), among_others);
    assert!(!flaws(&store, &own.path(), first.version.as_deref()).await.is_empty(), "the marker is on the first page");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn ranges_and_empty_objects() {
    let bucket = Bucket::locked().await;
    let (store, key) = (bucket.store().await, key("empty"));
    let put = store.put_new(&key, bytes(""), until(2031)).await.unwrap();
    assert_eq!(put.size, 0);
    assert_eq!(read(&store, &key, None).await, b"");
    assert_eq!(read(&store, &key, Some(0..0)).await, b"");
    let nobody = store.get("recordings/nobody", Some("x"), Some(0..0)).await;
    assert!(matches!(nobody.err(), Some(StoreError::NotFound(_))));
    let examined = store.examine(&key.path(), put.version.as_deref()).await.unwrap().unwrap();
    assert_eq!(examined.sha256, hex::encode(Sha256::digest("")));
    let (_file, content, of) = file(3 << 20);
    let large = super::key("large");
    let version = store.put_new(&large, of, until(2031)).await.unwrap().version;
    let range = (1 << 20) + 3..(2 << 20) + 5;
    let part: Vec<Bytes> =
        store.get(&large.path(), version.as_deref(), Some(range.clone())).await.unwrap().try_collect().await.unwrap();
    assert_eq!(part.concat(), content[range.start as usize..range.end as usize]);
}

/// A date that is still ahead when the request is made, and not any more when the server reads it, is no reason to store
/// the object without its lock for good.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn a_date_that_passes_meanwhile_is_tried_again() {
    let bucket = Bucket::locked().await;
    let store = bucket.store().await;
    let mut soon = Clock::system().now() + 1.second();
    for n in 0..40 {
        let outcome = store.put_new(&key(&format!("soon/{n}")), bytes("x"), soon).await;
        match outcome {
            Ok(_) | Err(StoreError::Io(_)) => {}
            other => panic!("{other:?}"),
        }
        // And again, which must do.
        let again = async || store.put_new(&key(&format!("soon/{n}")), bytes("x"), soon).await;
        crate::http::eventually("it is stored", || async { again().await.ok() }).await;
        soon += 50.milliseconds();
    }
}
