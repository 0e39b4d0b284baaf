//! The store's contract, as a suite over the trait: every backend has to pass it, and has tests of its own beside.

mod fs;
mod s3;
#[cfg(feature = "failpoints")]
mod s3_archive;
mod s3_doctor;
mod s3_outages;
pub mod s3_server;
#[cfg(feature = "failpoints")]
mod s3_versions;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use callvault::objects::{Content, ObjectKey, ObjectStore, StoreError};
use futures_util::{StreamExt, TryStreamExt};
use jiff::{Timestamp, ToSpan};
use sha2::{Digest, Sha256};

fn key(name: &str) -> ObjectKey {
    ObjectKey::Journaled(format!("recordings/2026/03/09/{name}"))
}

fn bytes(text: &str) -> Content {
    Content::Bytes(Bytes::copy_from_slice(text.as_bytes()))
}

fn until(year: i16) -> Timestamp {
    format!("{year}-03-09T05:15:41Z").parse().unwrap()
}

async fn read(store: &dyn ObjectStore, key: &ObjectKey, range: Option<std::ops::Range<u64>>) -> Vec<u8> {
    let chunks: Vec<Bytes> = store.get(&key.path(), None, range).await.unwrap().try_collect().await.unwrap();
    chunks.concat()
}

async fn listed(store: &dyn ObjectStore, prefix: &str) -> BTreeSet<String> {
    store.list(prefix).await.unwrap().map(|info| info.unwrap().key).collect().await
}

async fn put_and_read(store: &dyn ObjectStore) {
    let key = key("a/1.mp3");
    assert_eq!(store.head(&key.path(), None).await.unwrap(), None);
    assert!(matches!(store.get(&key.path(), None, None).await.err(), Some(StoreError::NotFound(_))));
    let put = store.put_new(&key, bytes("0123456789"), until(2031)).await.unwrap();
    let head = store.head(&key.path(), None).await.unwrap().unwrap();
    assert_eq!(put, head);
    assert_eq!((head.key, head.size, head.retain_until, head.legal_hold), (key.path(), 10, Some(until(2031)), false));
    assert_eq!(read(store, &key, None).await, b"0123456789");
    for (range, expected) in [(0..1, "0"), (3..7, "3456"), (9..10, "9"), (0..10, "0123456789"), (4..4, "")] {
        assert_eq!(read(store, &key, Some(range.clone())).await, expected.as_bytes(), "{range:?}");
    }
}

async fn never_replaced(store: &dyn ObjectStore) {
    let key = key("b/1.mp3");
    store.put_new(&key, bytes("the first"), until(2031)).await.unwrap();
    // The same again is done already; a later date counts, an earlier one doesn't.
    for (year, kept) in [(2031, 2031), (2030, 2031), (2033, 2033), (2032, 2033)] {
        let info = store.put_new(&key, bytes("the first"), until(year)).await.unwrap();
        assert_eq!(info.retain_until, Some(until(kept)));
    }
    for other in ["the other", "", "the first and more"] {
        let refused = store.put_new(&key, bytes(other), until(2040)).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
        assert_eq!(read(store, &key, None).await, b"the first");
        let head = store.head(&key.path(), None).await.unwrap().unwrap();
        assert_eq!((head.size, head.retain_until), (9, Some(until(2033))), "nothing changes");
    }
}

async fn from_a_file(store: &dyn ObjectStore) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let content = vec![7; 700_000];
    file.write_all(&content).unwrap();
    let of = |size, sha256| Content::File { path: file.path().to_owned(), size, sha256 };
    let (size, sha256) = (content.len() as u64, Sha256::digest(&content).into());
    let key = key("c/1.mp3");
    for _ in 0..2 {
        assert_eq!(store.put_new(&key, of(size, sha256), until(2031)).await.unwrap().size, size);
    }
    file.close().unwrap();
    assert_eq!(read(store, &key, None).await, content, "the object outlives the file that it was made of");
}

async fn one_winner(store: Arc<dyn ObjectStore>) {
    let key = key("d/1.mp3");
    let contents: Vec<String> = (0..8).map(|n| format!("{n}").repeat(50_000)).collect();
    let puts = contents.iter().map(|content| {
        let (store, key, content) = (Arc::clone(&store), key.clone(), content.clone());
        tokio::spawn(async move { store.put_new(&key, bytes(&content), until(2031)).await })
    });
    // Whoever looks meanwhile sees nothing or the whole.
    let looking = tokio::spawn({
        let (store, key, contents) = (Arc::clone(&store), key.clone(), contents.clone());
        async move {
            for _ in 0..200 {
                if let Ok(stream) = store.get(&key.path(), None, None).await {
                    let seen: Vec<Bytes> = stream.try_collect().await.unwrap();
                    assert!(
                        contents.iter().any(|content| content.as_bytes() == seen.concat()),
                        "half an object was seen"
                    );
                }
                tokio::task::yield_now().await;
            }
        }
    });
    let outcomes = futures_util::future::join_all(puts).await;
    let won: Vec<usize> = (0..8).filter(|n| outcomes[*n].as_ref().unwrap().is_ok()).collect();
    assert_eq!(won.len(), 1, "one wins");
    let lost = outcomes.into_iter().filter_map(|outcome| outcome.unwrap().err());
    assert!(lost.into_iter().all(|error| matches!(error, StoreError::Conflict(_))));
    assert_eq!(read(&*store, &key, None).await, contents[won[0]].as_bytes());
    looking.await.unwrap();

    let same = (0..8).map(|_| {
        let (store, key) = (Arc::clone(&store), self::key("d/2.mp3"));
        tokio::spawn(async move { store.put_new(&key, bytes("the same"), until(2031)).await })
    });
    for outcome in futures_util::future::join_all(same).await {
        outcome.unwrap().unwrap();
    }
}

async fn locks(store: &dyn ObjectStore) {
    let key = key("e/1.mp3");
    store.put_new(&key, bytes("locked"), until(2031)).await.unwrap();
    let path = key.path();
    let lock = async || {
        let info = store.head(&path, None).await.unwrap().unwrap();
        (info.retain_until.unwrap(), info.legal_hold)
    };
    store.extend_retention(&path, None, until(2031)).await.unwrap();
    let shorter = store.extend_retention(&path, None, until(2031) - 1.microsecond()).await;
    assert!(matches!(shorter, Err(StoreError::Shortened { .. })), "{shorter:?}");
    assert_eq!(lock().await, (until(2031), false));
    store.extend_retention(&path, None, until(2035)).await.unwrap();
    store.set_legal_hold(&path, None, true).await.unwrap();
    assert_eq!(lock().await, (until(2035), true));
    store.put_new(&key, bytes("locked"), until(2036)).await.unwrap();
    assert_eq!(lock().await, (until(2036), true), "a hold outlives another put");
    store.set_legal_hold(&path, None, false).await.unwrap();
    store.extend_retention(&path, None, until(2037)).await.unwrap();
    assert_eq!(lock().await, (until(2037), false));
    assert_eq!(read(store, &key, None).await, b"locked");
    for nobody in [
        store.extend_retention("nobody/1", None, until(2031)).await,
        store.set_legal_hold("nobody/1", None, true).await,
    ] {
        assert!(matches!(nobody, Err(StoreError::NotFound(_))), "{nobody:?}");
    }
}

async fn lists(store: &dyn ObjectStore) {
    for name in ["1.mp3", "1.vcon.json", "2.mp3", "20/3.mp3"] {
        store.put_new(&ObjectKey::Journaled(format!("listed/f/{name}")), bytes(name), until(2031)).await.unwrap();
    }
    for (prefix, expected) in [
        ("listed/", vec!["1.mp3", "1.vcon.json", "2.mp3", "20/3.mp3"]),
        ("listed/f/1", vec!["1.mp3", "1.vcon.json"]),
        ("listed/f/2", vec!["2.mp3", "20/3.mp3"]),
        ("listed/f/20/", vec!["20/3.mp3"]),
        ("listed/f/1.mp3", vec!["1.mp3"]),
        ("listed/g", vec![]),
    ] {
        let expected: BTreeSet<String> = expected.into_iter().map(|name| format!("listed/f/{name}")).collect();
        assert_eq!(listed(store, prefix).await, expected, "{prefix}");
    }
    assert!(listed(store, "").await.len() >= 4, "objects alone, and all of them");
}

async fn hostile_keys(store: &dyn ObjectStore) {
    let before = listed(store, "").await;
    let long = "x".repeat(300);
    for path in
        ["", "/", "/etc/x", "../x", "a/../../x", "a/./x", "a//x", ".hidden/x", "a\\x", "a\0x", "a b", "a/", "é", &long]
    {
        let key = ObjectKey::Journaled(path.to_owned());
        let put = store.put_new(&key, bytes("x"), until(2031)).await;
        assert!(matches!(put, Err(StoreError::InvalidKey(_))), "{path:?}: {put:?}");
        assert!(matches!(store.get(path, None, None).await.err(), Some(StoreError::InvalidKey(_))), "{path:?}");
        assert!(store.head(path, None).await.is_err(), "{path:?}");
    }
    assert_eq!(listed(store, "").await, before);
}

/// A file of so many bytes, none of them like its neighbours.
fn file(size: usize) -> (tempfile::NamedTempFile, Vec<u8>, Content) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let content: Vec<u8> = (0..size).map(|n| (n / 251 + n % 253) as u8).collect();
    file.write_all(&content).unwrap();
    let sha256 = Sha256::digest(&content).into();
    let of = Content::File { path: file.path().to_owned(), size: size as u64, sha256 };
    (file, content, of)
}

/// Everything that any store has to keep to.
async fn contract(store: Arc<dyn ObjectStore>) {
    put_and_read(&*store).await;
    never_replaced(&*store).await;
    from_a_file(&*store).await;
    one_winner(Arc::clone(&store)).await;
    locks(&*store).await;
    lists(&*store).await;
    hostile_keys(&*store).await;
}
