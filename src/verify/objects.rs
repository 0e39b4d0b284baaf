//! Every stored object against its receipt, and every object in the store against the journal.

use std::sync::Arc;

use futures_util::StreamExt;
use jiff::Timestamp;

use super::{Run, STEP, VerifyError};
use crate::app::App;
use crate::calls::{Facts, KeptObject};
use crate::intake::call_key;
use crate::objects::{Examined, Listed, ObjectKey, ObjectStore, StoreError};

/// What the journal promises of one object.
struct Promise {
    call_id: String,
    object: KeptObject,
    held: bool,
}

impl std::fmt::Display for Promise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "object {} of call {}", self.object.key, self.call_id)
    }
}

/// Objects that are read at the same time for each core: while one waits for the disk, another is hashed.
const EACH_CORE: usize = 2;

impl Run<'_> {
    pub(super) async fn objects(&mut self) -> Result<(), VerifyError> {
        let (.., recordings) = self.app.calls.counts().await?;
        self.progress.begin("objects", recordings * 2);
        let mut from = i64::MIN;
        loop {
            let rows = self.app.calls.stored(from, STEP).await?;
            let Some(next) = rows.last().and_then(|last| last.first_seq.checked_add(1)) else { break };
            from = next;
            // A row that does not read back was named before.
            let columns = rows.iter().filter_map(|row| row.columns.as_ref().ok());
            let facts = columns.filter_map(|row| serde_json::from_str::<Facts>(&row.facts).ok());
            let promises: Vec<Promise> = facts.flat_map(|facts| promises(&facts)).collect();
            // Tasks of their own, so that every core hashes.
            let (store, now) = (&self.app.store, self.app.clock.now());
            let begin = |promise| tokio::spawn(check(Arc::clone(store), promise, now));
            let at_once = EACH_CORE * std::thread::available_parallelism().map_or(1, usize::from);
            let mut checks = futures_util::stream::iter(promises).map(begin).buffer_unordered(at_once);
            while let Some(checked) = checks.next().await {
                let (promise, outcome) = checked.map_err(std::io::Error::from)?;
                match outcome {
                    Ok((bytes, flaws)) => {
                        self.report.objects += 1;
                        self.report.object_bytes += bytes;
                        for why in flaws {
                            self.damage(promise.to_string(), why);
                        }
                    }
                    Err(Fault::Damage(why)) => self.damage(promise.to_string(), why),
                    Err(Fault::Lock(why)) => {
                        if !is_under_way(self.app, &promise).await? {
                            self.damage(promise.to_string(), why);
                        }
                    }
                    Err(Fault::Away(error)) => return Err(error.into()),
                }
                self.progress.advance(1);
            }
        }
        self.strangers().await
    }

    /// Objects that no intent ever named, and versions that no receipt names.
    async fn strangers(&mut self) -> Result<(), VerifyError> {
        let mut objects = self.app.store.list("").await?;
        while let Some(listed) = objects.next().await {
            let listed = match listed {
                Ok(listed) => listed,
                Err(StoreError::Stray { key, why }) => {
                    self.damage(format!("object {key}"), why);
                    continue;
                }
                // What is away is not damaged, and nothing comes after it.
                Err(error) if self.app.store.is_remote() => return Err(error.into()),
                Err(error) => {
                    self.damage("store", error.to_string());
                    continue;
                }
            };
            if let Some(name) = listed.key.strip_prefix(ObjectKey::DISPOSITIONS) {
                let id = name.split('.').next().unwrap_or_default();
                if self.app.custody().disposition(id).await.is_ok_and(|known| known.is_some()) {
                    continue;
                }
            }
            let folder = listed.key.rsplit('/').nth(1).unwrap_or_default().to_owned();
            let owner = self.app.calls.facts_of(&[folder]).await?;
            if !owner.skipped.is_empty() {
                continue;
            }
            match owner.facts.iter().map(|facts| knows(facts, &listed)).max().unwrap_or(Known::Not) {
                Known::Well => {}
                Known::ByKey => self.damage(
                    format!("object {} version {}", listed.key, listed.version.unwrap_or_default()),
                    "no receipt names this version: it was written beside the one that is kept",
                ),
                Known::Not => self.damage(format!("object {}", listed.key), "no journal entry knows of it"),
            }
        }
        Ok(())
    }
}

/// How much the journal knows of a version in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    Not,
    /// A receipt names another version of this key.
    ByKey,
    /// A receipt names it, or it is on its way to one.
    Well,
}

fn knows(facts: &Facts, listed: &Listed) -> Known {
    let receipts = facts.recordings.values().filter_map(|recording| recording.receipt.as_ref());
    let kept = receipts.flat_map(|(.., receipt)| {
        [(&receipt.object_key, &receipt.version), (&receipt.vcon_key, &receipt.vcon_version)]
    });
    let mut by_key = false;
    for (_, version) in kept.filter(|(key, _)| **key == listed.key) {
        let duplicate = listed.version.clone().map(|version| (listed.key.clone(), version));
        if *version == listed.version || duplicate.is_some_and(|other| facts.duplicates.contains(&other)) {
            return Known::Well;
        }
        by_key = true;
    }
    let intents = facts.recordings.values().filter_map(|recording| recording.intent.as_ref());
    let mut intended = intents.flat_map(|(_, intent)| [&intent.object_key, &intent.vcon_key]);
    match by_key {
        true => Known::ByKey,
        false if intended.any(|key| *key == listed.key) => Known::Well,
        false => Known::Not,
    }
}

fn promises(facts: &Facts) -> Vec<Promise> {
    let held = facts.held_by().next().is_some();
    let promise = |object| Promise { call_id: facts.call_id.clone(), object, held };
    facts.objects().into_iter().map(promise).collect()
}

/// Whether an object is about to be kept as the journal says, or was promised something else meanwhile: a lock is
/// moved before that is journaled, and a hold is journaled before it is set.
async fn is_under_way(app: &App, promise: &Promise) -> Result<bool, VerifyError> {
    let subject = call_key(&promise.call_id);
    let sql = "select call_seq from kept where subject = $1
        and (lock_wanted > locked_until or held <> held_in_store or disposition is not null)";
    if app.db.fetch_optional(sql, &[subject.as_str().into()]).await?.is_some() {
        return Ok(true);
    }
    let Some(facts) = app.calls.facts(&promise.call_id).await? else { return Ok(false) };
    let Some(now) = promises(&facts).into_iter().find(|now| now.object.is_same(&promise.object)) else {
        return Ok(facts.is_gone());
    };
    Ok(read_back(&*app.store, &now, app.clock.now()).await.is_ok())
}

/// The number of bytes that were right, and how they are kept badly.
type Kept = (u64, Vec<String>);

/// Why an object was not found as it was promised.
enum Fault {
    Damage(String),
    /// It is not kept as long, or not held, as it is to be.
    Lock(String),
    /// The store does not answer, which says nothing about the object.
    Away(StoreError),
}

impl From<&str> for Fault {
    fn from(why: &str) -> Self {
        Self::Damage(why.to_owned())
    }
}

/// Reads one object back; what is wrong where its bytes are not right.
async fn check(store: Arc<dyn ObjectStore>, promise: Promise, now: Timestamp) -> (Promise, Result<Kept, Fault>) {
    let outcome = read_back(store.as_ref(), &promise, now).await;
    (promise, outcome)
}

async fn read_back(store: &dyn ObjectStore, promise: &Promise, now: Timestamp) -> Result<Kept, Fault> {
    let object = &promise.object;
    let examined = match store.examine(&object.key, object.version.as_deref()).await {
        Ok(examined) => examined,
        Err(error) => return Err(unreadable(store, &object.key, error).await),
    };
    let Examined { info, sha256, flaws } = examined.ok_or("it is missing from the store")?;
    if sha256 != object.sha256 {
        return Err(Fault::Damage(format!("its SHA-256 is {sha256}, the receipt says {}", object.sha256)));
    }
    if object.size.is_some_and(|size| size != info.size) {
        return Err(Fault::Damage(format!("it has {} bytes, not those of the receipt", info.size)));
    }
    if let Some(flaw) = store.lock_flaw(info.retain_until, object.retain_until, now) {
        return Err(Fault::Lock(flaw));
    }
    if store.locks() && info.legal_hold != promise.held {
        return Err(Fault::Lock("its legal hold is not the journal's".into()));
    }
    Ok((info.size, flaws))
}

/// One object that can't be read is damage; a store that is away is not, and would make damage of everything.
async fn unreadable(store: &dyn ObjectStore, key: &str, error: StoreError) -> Fault {
    if store.is_remote()
        && let Err(away) = store.list(key).await
    {
        return Fault::Away(away);
    }
    Fault::Damage(match error {
        StoreError::Io(error) => format!("it can't be read: {error}"),
        other => other.to_string(),
    })
}
