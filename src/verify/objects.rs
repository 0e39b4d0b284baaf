//! Every stored object against its receipt, and every object in the store against the journal.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt;
use jiff::Timestamp;

use super::{Run, STEP, VerifyError};
use crate::calls::Facts;
use crate::objects::{Examined, ObjectStore, StoreError};

/// What a receipt promises of one object.
struct Promise {
    call_id: String,
    key: String,
    version: Option<String>,
    sha256: String,
    size: Option<u64>,
    retain_until: Timestamp,
    held: bool,
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
            let begin = |promise| tokio::spawn(check(Arc::clone(&self.app.store), promise));
            let at_once = EACH_CORE * std::thread::available_parallelism().map_or(1, usize::from);
            let mut checks = futures_util::stream::iter(promises).map(begin).buffer_unordered(at_once);
            while let Some(checked) = checks.next().await {
                let (promise, outcome) = checked.map_err(std::io::Error::from)?;
                match outcome {
                    Ok((bytes, flaws)) => {
                        self.report.objects += 1;
                        self.report.object_bytes += bytes;
                        for why in flaws {
                            self.damage(format!("object {} of call {}", promise.key, promise.call_id), why);
                        }
                    }
                    Err(why) => self.damage(format!("object {} of call {}", promise.key, promise.call_id), why),
                }
                self.progress.advance(1);
            }
        }
        self.strangers().await
    }

    /// Objects that no intent ever named.
    async fn strangers(&mut self) -> Result<(), VerifyError> {
        let mut objects = self.app.store.list("").await?;
        while let Some(info) = objects.next().await {
            let info = match info {
                Ok(info) => info,
                // Named with its object already.
                Err(StoreError::Lock { .. }) => continue,
                Err(StoreError::Stray { key, why }) => {
                    self.damage(format!("object {key}"), why);
                    continue;
                }
                Err(error) => {
                    self.damage("store", error.to_string());
                    continue;
                }
            };
            let folder = info.key.rsplit('/').nth(1).unwrap_or_default().to_owned();
            let owner = self.app.calls.facts_of(&[folder]).await?;
            let known: BTreeSet<String> = owner.facts.iter().flat_map(|facts| intended(facts)).collect();
            if owner.skipped.is_empty() && !known.contains(&info.key) {
                self.damage(format!("object {}", info.key), "no journal entry knows of it");
            }
        }
        Ok(())
    }
}

fn promises(facts: &Facts) -> Vec<Promise> {
    let receipts = facts.recordings.values().filter_map(|recording| recording.receipt.as_ref());
    let (mut seen, held) = (BTreeSet::new(), !facts.call().holds.is_empty());
    let mut promises = Vec::new();
    for (.., receipt) in receipts {
        if !seen.insert(receipt.object_key.clone()) {
            continue;
        }
        let promise = |key: &str, version: &Option<String>, sha256: &str, size| Promise {
            call_id: facts.call_id.clone(),
            key: key.to_owned(),
            version: version.clone(),
            sha256: sha256.to_owned(),
            size,
            retain_until: receipt.retain_until,
            held,
        };
        promises.push(promise(&receipt.object_key, &receipt.version, &receipt.sha256, Some(receipt.size_bytes)));
        promises.push(promise(&receipt.vcon_key, &receipt.vcon_version, &receipt.vcon_sha256, None));
    }
    promises
}

/// Every key that an interrupted or finished run may have written.
fn intended(facts: &Facts) -> Vec<String> {
    let intents = facts.recordings.values().filter_map(|recording| recording.intent.as_ref());
    let intents = intents.flat_map(|(_, intent)| [intent.object_key.clone(), intent.vcon_key.clone()]);
    let receipts = facts.recordings.values().filter_map(|recording| recording.receipt.as_ref());
    let receipts = receipts.flat_map(|(.., receipt)| [receipt.object_key.clone(), receipt.vcon_key.clone()]);
    intents.chain(receipts).collect()
}

/// The number of bytes that were right, and how they are kept badly.
type Kept = (u64, Vec<String>);

/// Reads one object back; what is wrong where its bytes are not right.
async fn check(store: Arc<dyn ObjectStore>, promise: Promise) -> (Promise, Result<Kept, String>) {
    let outcome = read_back(store.as_ref(), &promise).await;
    (promise, outcome)
}

async fn read_back(store: &dyn ObjectStore, promise: &Promise) -> Result<Kept, String> {
    let examined = store.examine(&promise.key, promise.version.as_deref()).await;
    let examined = examined.map_err(|error| match error {
        StoreError::Io(error) => format!("it can't be read: {error}"),
        other => other.to_string(),
    })?;
    let Examined { info, sha256, flaws } = examined.ok_or("it is missing from the store")?;
    if sha256 != promise.sha256 {
        return Err(format!("its SHA-256 is {sha256}, the receipt says {}", promise.sha256));
    }
    if promise.size.is_some_and(|size| size != info.size) {
        return Err(format!("it has {} bytes, not those of the receipt", info.size));
    }
    match info.retain_until {
        None => Err("its lock is missing".into()),
        Some(until) if until != promise.retain_until => {
            Err(format!("its lock ends {until}, the receipt says {}", promise.retain_until))
        }
        Some(_) if info.legal_hold != promise.held => Err("its legal hold is not the journal's".into()),
        Some(_) => Ok((info.size, flaws)),
    }
}
