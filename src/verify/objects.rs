//! Every stored object against its receipt, and every object in the store against the journal.

use std::sync::Arc;

use futures_util::StreamExt;
use jiff::Timestamp;

use super::{Run, STEP, VerifyError};
use crate::calls::Facts;
use crate::fixity::{Fault, MISSING, Promise, Sound, promises, read_back};
use crate::objects::{Listed, ObjectStore, StoreError};

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
                    Ok(sound) => {
                        self.report.objects += 1;
                        self.report.object_bytes += sound.size;
                        for why in sound.lock.map(|lock| lock.why).into_iter().chain(sound.hold).chain(sound.others) {
                            self.damage(format!("object {} of call {}", promise.key, promise.call_id), why);
                        }
                    }
                    Err(Fault::Missing) => {
                        self.damage(format!("object {} of call {}", promise.key, promise.call_id), MISSING);
                    }
                    Err(Fault::Damage(why)) => {
                        self.damage(format!("object {} of call {}", promise.key, promise.call_id), why);
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

/// Reads one object back; what is wrong where its bytes are not right.
async fn check(store: Arc<dyn ObjectStore>, promise: Promise, now: Timestamp) -> (Promise, Result<Sound, Fault>) {
    let outcome = read_back(store.as_ref(), &promise, now).await;
    (promise, outcome)
}
