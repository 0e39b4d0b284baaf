//! What the journal promises of each stored object, and whether the store keeps it.

use jiff::Timestamp;

use crate::calls::{Facts, KeptObject};
use crate::objects::{Examined, ObjectStore, StoreError};

/// What is promised of one version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    pub call_id: String,
    pub key: String,
    /// `None` where the store keeps no versions.
    pub version: Option<String>,
    /// Lower-case hex.
    pub sha256: String,
    /// In bytes; `None` where the receipt does not say.
    pub size: Option<u64>,
    pub retain_until: Timestamp,
    /// The call is under a legal hold.
    pub held: bool,
}

/// Everything that is promised of a call's objects: each recording, its call record, and further versions of either. Nothing
/// of a call that is destroyed, or about to be.
#[must_use]
pub fn promises(facts: &Facts) -> Vec<Promise> {
    if facts.is_gone() {
        return Vec::new();
    }
    let held = facts.held_by().next().is_some();
    let promise = |object: KeptObject| Promise {
        call_id: facts.call_id.clone(),
        key: object.key,
        version: object.version,
        sha256: object.sha256,
        size: object.size,
        retain_until: object.retain_until,
        held,
    };
    facts.objects().into_iter().map(promise).collect()
}

/// An object whose bytes are those that were promised, and what is wrong with how it is kept.
#[derive(Clone, Debug, Default)]
pub struct Sound {
    /// In bytes.
    pub size: u64,
    pub lock: Option<LockFlaw>,
    /// The store has a hold on it and the journal knows of none, or the other way round.
    pub hold: Option<String>,
    /// In words.
    pub others: Vec<String>,
}

/// A lock that is not the promised one.
#[derive(Clone, Debug)]
pub struct LockFlaw {
    pub why: String,
    /// It lasts longer than was promised.
    pub longer: bool,
}

/// In words, of an object that is not there.
pub const MISSING: &str = "it is missing from the store";

/// Why an object was not found as it was promised.
#[derive(Debug)]
pub enum Fault {
    /// There is no such object.
    Missing,
    /// In words.
    Damage(String),
    /// The store does not answer, which says nothing about the object.
    Away(StoreError),
}

/// Reads an object back and compares it with what was promised, as of `now`.
///
/// # Errors
/// Its bytes are not the promised ones, or can't be read.
pub async fn read_back(store: &dyn ObjectStore, promise: &Promise, now: Timestamp) -> Result<Sound, Fault> {
    let examined = match store.examine(&promise.key, promise.version.as_deref()).await {
        Ok(examined) => examined,
        Err(error) => return Err(unreadable(store, promise, error).await),
    };
    let Examined { info, sha256, flaws } = examined.ok_or(Fault::Missing)?;
    if sha256 != promise.sha256 {
        return Err(Fault::Damage(format!("its SHA-256 is {sha256}, the receipt says {}", promise.sha256)));
    }
    if promise.size.is_some_and(|size| size != info.size) {
        return Err(Fault::Damage(format!("it has {} bytes, not those of the receipt", info.size)));
    }
    let longer = info.retain_until.is_some_and(|found| found > promise.retain_until);
    let lock = store.lock_flaw(info.retain_until, promise.retain_until, now).map(|why| LockFlaw { why, longer });
    let hold =
        (store.locks() && info.legal_hold != promise.held).then(|| "its legal hold is not the journal's".to_owned());
    Ok(Sound { size: info.size, lock, hold, others: flaws })
}

/// One object that can't be read is damage; a store that is away is not, and would make damage of everything.
async fn unreadable(store: &dyn ObjectStore, promise: &Promise, error: StoreError) -> Fault {
    if store.is_remote()
        && let Err(away) = store.list(&promise.key).await
    {
        return Fault::Away(away);
    }
    Fault::Damage(match error {
        StoreError::Io(error) => format!("it can't be read: {error}"),
        other => other.to_string(),
    })
}
