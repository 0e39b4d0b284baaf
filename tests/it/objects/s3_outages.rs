//! A server that is away: stopped where it stands, killed, or gone in the middle of something.
//!
//! Each test has a gateway of its own, on the cluster that `make test` starts.

use std::time::{Duration, Instant};

use callvault::config::S3;
use callvault::objects::{ObjectStore, S3Store, StoreError};
use futures_util::TryStreamExt;

use super::s3_server::{Bucket, Gateway};
use super::{bytes, file, key, read, until};
use crate::http::eventually;

/// Nothing waits longer for a server that does not answer; a read tries three times.
const SOON: Duration = Duration::from_secs(25);

fn is_passing<T>(outcome: Result<T, StoreError>) -> String {
    match outcome {
        Err(StoreError::Io(error)) => error.to_string(),
        Err(other) => panic!("{other:?} is nothing that passes"),
        Ok(_) => panic!("it can't have worked"),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn a_server_that_stands_still() {
    let (bucket, gateway) = (Bucket::locked().await, Gateway::start().await);
    let store = bucket.store_at(&gateway.endpoint).await;
    let settings = S3 { endpoint: gateway.endpoint.clone(), ..bucket.settings() };
    let parts = S3Store::with_parts(&settings, 1 << 20, 5 << 20).await;
    let (_file, content, large) = file(24 << 20);
    let version = store.put_new(&key("before"), large.clone(), until(2031)).await.unwrap().version;
    let (path, small_key, parts_key) = (key("before").path(), key("small"), key("parts"));
    // A stream that began well.
    let mut stream = store.get(&path, version.as_deref(), None).await.unwrap();
    stream.try_next().await.unwrap().unwrap();

    gateway.freeze();
    let asked = Instant::now();
    let of_stream = async {
        while let Some(chunk) = stream.try_next().await.transpose() {
            if let Err(error) = chunk {
                return Err::<(), StoreError>(error.into());
            }
        }
        Ok(())
    };
    let outcomes = tokio::join!(
        of_stream,
        store.put_new(&small_key, bytes("small"), until(2031)),
        parts.put_new(&parts_key, large.clone(), until(2031)),
        async { store.get(&path, version.as_deref(), None).await.map(drop) },
        store.examine(&path, version.as_deref()),
        store.head(&path, version.as_deref()),
        async { store.list("").await.map(drop) },
        store.extend_retention(&path, version.as_deref(), until(2032)),
        store.tidy(),
    );
    let (a, b, c, d, e, f, g, h, i) = outcomes;
    let told = [
        is_passing(a),
        is_passing(b),
        is_passing(c),
        is_passing(d),
        is_passing(e),
        is_passing(f),
        is_passing(g),
        is_passing(h),
        is_passing(i),
    ];
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    assert!(told.iter().all(|why| why.contains("S3 server") && !why.contains("127.0.0.1")), "{told:?}");

    gateway.thaw();
    for (name, store, content) in [("small", &store, bytes("small")), ("parts", &parts, large)] {
        let put = || async { store.put_new(&key(name), content.clone(), until(2031)).await.ok() };
        let first = eventually("it is stored after all", put).await;
        assert_eq!(bucket.versions(&key(name).path()).await.last(), first.version.as_ref());
    }
    assert_eq!(read(&parts, &key("parts"), None).await, content);
}

/// While bytes are on their way, not before.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn a_server_that_stops_in_the_middle_of_an_upload() {
    let (bucket, gateway) = (Bucket::locked().await, Gateway::start().await);
    let store = bucket.store_at(&gateway.endpoint).await;
    let (_file, content, large) = file(60 << 20);
    let put = tokio::spawn({
        let (store, large) = (store.clone(), large.clone());
        async move { store.put_new(&key("large"), large, until(2031)).await }
    });
    tokio::time::sleep(Duration::from_millis(60)).await;
    gateway.freeze();
    let asked = Instant::now();
    if let Err(error) = put.await.unwrap() {
        is_passing::<()>(Err(error));
        assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    }
    gateway.thaw();
    let put = || async { store.put_new(&key("large"), large.clone(), until(2031)).await.ok() };
    eventually("it is stored after all", put).await;
    assert_eq!(read(&store, &key("large"), None).await, content);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn a_server_that_is_killed_and_comes_back() {
    let (bucket, mut gateway) = (Bucket::locked().await, Gateway::start().await);
    let settings = S3 { endpoint: gateway.endpoint.clone(), ..bucket.settings() };
    let store = S3Store::with_parts(&settings, 1 << 20, 5 << 20).await;
    for round in 0..4 {
        let (_file, content, large) = file((30 << 20) + round);
        let (small, parts) = (key(&format!("{round}/small")), key(&format!("{round}/parts")));
        let puts = tokio::spawn({
            let (store, small, parts, large) = (store.clone(), small.clone(), parts.clone(), large.clone());
            async move {
                let large = store.put_new(&parts, large, until(2031));
                tokio::join!(store.put_new(&small, bytes("small"), until(2031)), large)
            }
        });
        tokio::time::sleep(Duration::from_millis(fastrand::u64(5..400))).await;
        gateway.kill();
        let asked = Instant::now();
        let (one, other) = puts.await.unwrap();
        assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
        for error in [one.err(), other.err()].into_iter().flatten() {
            is_passing::<()>(Err(error));
        }
        let away = is_passing(store.list("").await.map(drop));
        assert!(away.contains("can't be reached"), "{away}");
        gateway.start_again().await;
        for (key, of) in [(&small, bytes("small")), (&parts, large)] {
            let put = || async { store.put_new(key, of.clone(), until(2031)).await.ok() };
            let put = eventually("it is stored after all", put).await;
            let versions = bucket.versions(&key.path()).await;
            assert_eq!(versions.last(), put.version.as_ref(), "the first of {}", versions.len());
            let lock = bucket.lock(&key.path(), &put.version.unwrap()).await.unwrap();
            assert_eq!(lock.1, until(2031).as_second());
        }
        assert_eq!(read(&store, &parts, None).await, content);
        assert_eq!(bucket.uploads().await, [""; 0], "nothing of a broken upload is left");
    }
}

/// A clock that is off spoils signatures; the server's own date mends them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn a_server_whose_clock_is_off() {
    let (bucket, late) = (Bucket::locked().await, Gateway::with("-3h").await);
    let store = bucket.store_at(&late.endpoint).await;
    let refused = store.put_new(&key("a"), bytes("a"), until(2031)).await;
    let told = matches!(&refused, Err(StoreError::SetUp(why)) if why.contains("clock"));
    assert!(told || refused.is_ok(), "{refused:?}");
    let version = store.put_new(&key("a"), bytes("a"), until(2031)).await.unwrap().version.unwrap();
    assert_eq!(bucket.lock(&key("a").path(), &version).await.unwrap().1, until(2031).as_second());
    assert_eq!(bucket.versions(&key("a").path()).await.len(), 1);
    // Past for us, not for the server that keeps the lock.
    let soon = callvault::clock::Clock::system().now() - jiff::SignedDuration::from_hours(1);
    let put = store.put_new(&key("b"), bytes("b"), soon).await.unwrap();
    assert!(put.retain_until.is_some(), "{put:?}");
}

/// A put that nobody waits for any more, at whatever point.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an S3 server: tests/run.sh starts it"]
async fn a_put_that_is_given_up() {
    let bucket = Bucket::locked().await;
    let store = S3Store::with_parts(&bucket.settings(), 1 << 20, 5 << 20).await;
    let (_file, content, large) = file(11 << 20);
    for round in 0..12 {
        let key = key(&format!("{round}"));
        let put = store.put_new(&key, large.clone(), until(2031));
        let _ = tokio::time::timeout(Duration::from_millis(round * 25), put).await;
        let put = store.put_new(&key, large.clone(), until(2031)).await.unwrap();
        assert_eq!(bucket.versions(&key.path()).await.last(), put.version.as_ref());
        assert_eq!(bucket.lock(&key.path(), &put.version.unwrap()).await.unwrap().1, until(2031).as_second());
    }
    assert_eq!(read(&store, &key("3"), None).await, content);
    assert_eq!(bucket.uploads().await, [""; 0]);
}

/// Nobody listens there, or not with this protocol.
#[tokio::test(flavor = "multi_thread")]
async fn no_server_at_all() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = |endpoint: String| S3 {
        bucket: "calls".into(),
        prefix: String::new(),
        region: "us-east-1".into(),
        endpoint,
        force_path_style: true,
        object_lock: callvault::config::ObjectLock::Compliance,
    };
    let store = S3Store::open(&settings(format!("http://{free}"))).await;
    match store.list("").await.err() {
        // Where the tests run without a server there are no credentials either.
        Some(StoreError::SetUp(why)) => assert!(why.contains("there are no credentials"), "{why}"),
        Some(StoreError::Io(why)) => assert!(why.to_string().contains("can't be reached"), "{why}"),
        other => panic!("{other:?}"),
    }
}
