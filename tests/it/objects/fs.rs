//! What only files have: staging, sidecars, interruptions.

use std::sync::Arc;

use callvault::objects::{FsStore, ObjectStore, StoreError};
use sha2::{Digest, Sha256};

use super::{bytes, contract, key, listed, read, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_file_system_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("objects");
    let store = FsStore::open(&root).unwrap();
    contract(Arc::new(store.clone())).await;
    assert_eq!(std::fs::read_dir(root.join(".staging")).unwrap().count(), 0, "nothing is left in staging");
    // All of it is still there for the next process.
    let again = FsStore::open(&root).unwrap();
    assert_eq!(listed(&again, "").await, listed(&store, "").await);
    assert_eq!(read(&again, &key("b/1.mp3"), None).await, b"the first");
    assert_eq!(again.head(&key("e/1.mp3").path(), None).await.unwrap().unwrap().retain_until, Some(until(2037)));
}

/// What an interruption may leave behind on a disk, and what is made of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_file_system_after_an_interruption() {
    let folder = tempfile::tempdir().unwrap();
    let store = FsStore::open(folder.path()).unwrap();
    let key = key("a/1.mp3");
    store.put_new(&key, bytes("whole"), until(2031)).await.unwrap();
    let sidecar = folder.path().join(format!("{}.retention.json", key.path()));
    let text: serde_json::Value = serde_json::from_slice(&std::fs::read(&sidecar).unwrap()).unwrap();
    let sha256 = hex::encode(Sha256::digest("whole"));
    let expected = serde_json::json!({"retain_until": "2031-03-09T05:15:41Z", "legal_hold": false, "size_bytes": 5, "sha256": sha256});
    assert_eq!(text, expected);

    // Between the link and the sidecar: the object says that its lock is missing, and another put mends it.
    std::fs::remove_file(&sidecar).unwrap();
    assert_eq!(store.head(&key.path(), None).await.unwrap().unwrap().retain_until, None);
    store.put_new(&key, bytes("whole"), until(2031)).await.unwrap();
    assert_eq!(store.head(&key.path(), None).await.unwrap().unwrap().retain_until, Some(until(2031)));
    // A sidecar that can't be read is no reason to think that there is no lock.
    std::fs::write(&sidecar, "{\"retain_until\":").unwrap();
    assert!(matches!(store.head(&key.path(), None).await, Err(StoreError::Lock { .. })));
    assert!(matches!(store.put_new(&key, bytes("whole"), until(2031)).await, Err(StoreError::Lock { .. })));

    // What had no name yet is no object, and goes away at the next start.
    std::fs::write(folder.path().join(".staging/half"), "ha").unwrap();
    assert_eq!(listed(&store, "recordings/2026/03/09/h").await.len(), 0);
    assert_eq!(store.tidy().await.unwrap(), 1);
}
