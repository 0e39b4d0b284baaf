//! Every stored object against its receipt, and every object in the store against the journal.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt;
use jiff::Timestamp;

use super::{Run, STEP, VerifyError};
use crate::app::App;
use crate::calls::Facts;
use crate::delivery::{DeliveredRecord, ReportRecord};
use crate::fixity::{Fault, MISSING, Promise, Sound, promises, read_back};
use crate::intake::call_key;
use crate::journal::{Filter, Kind};
use crate::objects::{Listed, ObjectKey, ObjectStore, StoreError};

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
                        let locks = sound.lock.map(|lock| lock.why).into_iter().chain(sound.hold);
                        let locks: Vec<String> = locks.collect();
                        let on_its_way = !locks.is_empty() && is_under_way(self.app, &promise).await?;
                        let locks = locks.into_iter().filter(|_| !on_its_way);
                        for why in locks.chain(sound.others) {
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
        let reports = self.reports().await?;
        self.strangers(&reports).await
    }

    /// Every report in the store against the entry that says so; the versions that are known, and the keys at which one was
    /// about to be stored.
    async fn reports(&mut self) -> Result<Reports, VerifyError> {
        let mut known = Reports::default();
        for kind in [Kind::ReportMade, Kind::ReportDelivered] {
            let (mut from, filter) = (0, Filter { kind: Some(kind), ..Filter::default() });
            loop {
                let records = match self.app.journal.read(from, STEP, &filter).await {
                    // Said already when the journal was read.
                    Err(error) if error.is_damage() => break,
                    other => other?,
                };
                let Some(last) = records.last() else { break };
                from = last.entry.seq + 1;
                for body in records.iter().filter_map(|record| record.body.as_ref()) {
                    if let Some(promise) = known.take(kind, &body.bytes) {
                        self.report_object(&promise).await?;
                    }
                }
            }
        }
        Ok(known)
    }

    async fn report_object(&mut self, promise: &Promise) -> Result<(), VerifyError> {
        let what = || format!("object {}", promise.key);
        match read_back(self.app.store.as_ref(), promise, self.app.clock.now()).await {
            Ok(sound) => {
                self.report.objects += 1;
                self.report.object_bytes += sound.size;
                for why in sound.lock.map(|lock| lock.why).into_iter().chain(sound.hold).chain(sound.others) {
                    self.damage(what(), why);
                }
            }
            Err(Fault::Missing) => self.damage(what(), MISSING),
            Err(Fault::Damage(why)) => self.damage(what(), why),
            Err(Fault::Away(error)) => return Err(error.into()),
        }
        Ok(())
    }

    /// Objects that no intent ever named, and versions that no receipt names.
    async fn strangers(&mut self, reports: &Reports) -> Result<(), VerifyError> {
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
            if listed.key.starts_with(ObjectKey::REPORTS) {
                if !reports.know(&listed) {
                    let what = format!("object {} version {}", listed.key, listed.version.unwrap_or_default());
                    self.damage(what.trim_end_matches(" version "), "no journal entry knows of it");
                }
                continue;
            }
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

/// The reports that the journal says are in the store.
#[derive(Default)]
struct Reports {
    versions: BTreeSet<(String, Option<String>)>,
    /// A crash between storing a report and saying so leaves one there: no damage.
    intended: BTreeSet<String>,
}

impl Reports {
    /// Takes in what an entry says of a report; what it promises of an object.
    fn take(&mut self, kind: Kind, body: &[u8]) -> Option<Promise> {
        if kind == Kind::ReportMade {
            self.intended.extend(serde_json::from_slice::<ReportRecord>(body).ok()?.object_key);
            return None;
        }
        let delivered: DeliveredRecord = serde_json::from_slice(body).ok()?;
        let object = delivered.object?;
        self.versions.insert((object.key.clone(), object.version.clone()));
        Some(Promise {
            call_id: String::new(),
            key: object.key,
            version: object.version,
            sha256: delivered.sha256,
            size: Some(object.size_bytes),
            retain_until: object.retain_until,
            held: false,
        })
    }

    fn know(&self, listed: &Listed) -> bool {
        self.versions.contains(&(listed.key.clone(), listed.version.clone()))
            || (self.intended.contains(&listed.key) && !self.versions.iter().any(|(key, _)| *key == listed.key))
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

/// Whether an object is about to be kept as the journal says, or was promised something else meanwhile: locks and holds
/// are journaled before they are set.
async fn is_under_way(app: &App, promise: &Promise) -> Result<bool, VerifyError> {
    if app.custody().is_behind(&call_key(&promise.call_id)).await? {
        return Ok(true);
    }
    let Some(facts) = app.calls.facts(&promise.call_id).await? else { return Ok(false) };
    let same = |now: &Promise| (&now.key, &now.version) == (&promise.key, &promise.version);
    let Some(now) = promises(&facts).into_iter().find(same) else { return Ok(facts.is_gone()) };
    let found = read_back(&*app.store, &now, app.clock.now()).await;
    Ok(found.is_ok_and(|sound| sound.lock.is_none() && sound.hold.is_none()))
}
