//! Destroys what a decision names: objects, bodies, and what is left in the spool. Every step can be run again.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::execute::AT_ONCE;
use super::records::Skipped;
use crate::calls::Facts;
use crate::calls::records::{DestroyedObject, DestroyedRecord, DestroyingRecord};
use crate::custody::{Custody, CustodyError};
use crate::fault;
use crate::intake::call_key;
use crate::journal::{AppendError, Body, Kind, NewEntry, Record};
use crate::objects::StoreError;

/// True for entries whose bodies hold what was said of a person; receipts, decisions and dispositions stay.
fn is_personal(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::WebhookReceived
            | Kind::WebhookImported
            | Kind::WebhookQuarantined
            | Kind::RecordingFailed
            | Kind::RecordingAnalysed
            | Kind::FlagRaised
            | Kind::FlagResolved
            | Kind::FlagReviewed
    )
}

impl Custody {
    /// Destroys calls, together; what may not be destroyed any more is told in `skipped`.
    pub(super) async fn destroy_calls(
        &self,
        id: &str,
        calls: &[DestroyedRecord],
        skipped: &mut Vec<Skipped>,
    ) -> Result<(), CustodyError> {
        let condemned = self.condemn(id, calls, skipped).await?;
        fault::point("disposition.condemned");
        let going: Vec<DestroyedRecord> =
            calls.iter().filter(|call| condemned.contains_key(&call.call_id)).cloned().collect();
        let records: Vec<DestroyedRecord> =
            stream::iter(going).map(|call| self.destroy_objects(call).boxed()).buffered(AT_ONCE).try_collect().await?;
        fault::point("disposition.objects_gone");
        let mut erased = Vec::new();
        let mut entries = Vec::new();
        for mut record in records {
            let subject = call_key(&record.call_id);
            let history = self.journal.about(&subject, u64::MAX).await?;
            record.erased = personal(&history);
            erased.extend_from_slice(&record.erased);
            // Done already by a run before this one.
            if condemned.get(&record.call_id) != Some(&true) {
                entries.push(NewEntry::new(Kind::CallDestroyed, "system", Some(subject), Body::of_json(&record)?));
            }
        }
        match self.journal.append(entries).await {
            // Another run of the same was faster with one of them; the rest is appended.
            Ok(_) | Err(AppendError::Refused(_)) => {}
            Err(error) => return Err(error.into()),
        }
        fault::point("disposition.destroyed");
        self.erase(&erased).await?;
        fault::point("disposition.erased");
        Ok(())
    }

    /// Journals that calls are about to be destroyed; gives those that are, with whether they are destroyed already.
    async fn condemn(
        &self,
        id: &str,
        calls: &[DestroyedRecord],
        skipped: &mut Vec<Skipped>,
    ) -> Result<BTreeMap<String, bool>, CustodyError> {
        let keys: Vec<String> = calls.iter().map(|call| call_key(&call.call_id)).collect();
        let before = self.calls.facts_of(&keys).await?.facts;
        let (mut entries, mut late) = (Vec::new(), BTreeMap::new());
        let (now, policies_sha256) = (self.clock.now(), self.policies.current().sha256().to_owned());
        for facts in before.iter().filter(|facts| !facts.is_gone()) {
            // Since the decision something may have come that keeps it.
            if let Err(why) = self.judge_call(&facts.call_id, id, now).await? {
                late.insert(facts.call_id.clone(), why);
                continue;
            }
            let (call_id, disposition) = (facts.call_id.clone(), id.to_owned());
            let record = DestroyingRecord { call_id, disposition, policies_sha256: policies_sha256.clone() };
            let subject = Some(call_key(&facts.call_id));
            entries.push(NewEntry::new(Kind::CallDestroying, "system", subject, Body::of_json(&record)?));
        }
        if !entries.is_empty() {
            match self.journal.append(entries).await {
                // A hold came first to some of them: whose it is, their facts say.
                Ok(_) | Err(AppendError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let after = self.calls.facts_of(&keys).await?.facts;
        let known: BTreeMap<&str, &Facts> = after.iter().map(|facts| (facts.call_id.as_str(), &**facts)).collect();
        let mut condemned = BTreeMap::new();
        for call in calls {
            match known.get(call.call_id.as_str()) {
                // A database from before the call: only its end is left to be told.
                None => _ = condemned.insert(call.call_id.clone(), false),
                Some(facts) if facts.is_gone() => {
                    condemned.insert(call.call_id.clone(), facts.destroyed.is_some());
                }
                Some(facts) => {
                    let why = late.remove(&call.call_id).unwrap_or_else(|| match facts.held_by().next() {
                        Some(hold) => format!("it is under the hold {hold}"),
                        None => "a hold was being placed, or policies adopted: propose it again".into(),
                    });
                    skipped.push(Skipped { call_id: Some(call.call_id.clone()), seq: facts.first_seq, why });
                }
            }
        }
        Ok(condemned)
    }

    /// Destroys every version of a call's objects, those that nobody knew of too, and sees that nothing is left.
    async fn destroy_objects(&self, mut call: DestroyedRecord) -> Result<DestroyedRecord, CustodyError> {
        let now = self.clock.now();
        for recording in &mut call.recordings {
            for object in &recording.objects {
                self.store.destroy(&object.key, object.version.as_deref(), now).await?;
            }
            let keys: BTreeSet<String> = recording.objects.iter().map(|object| object.key.clone()).collect();
            for key in keys {
                let left: Vec<_> = self
                    .store
                    .list(&key)
                    .await?
                    .try_filter(|listed| {
                        let same = listed.key == key;
                        async move { same }
                    })
                    .try_collect()
                    .await?;
                for other in left {
                    let sha256 = match self.store.examine(&key, other.version.as_deref()).await? {
                        Some(examined) => examined.sha256,
                        None => continue,
                    };
                    self.store.destroy(&key, other.version.as_deref(), now).await?;
                    recording.objects.push(DestroyedObject { key: key.clone(), version: other.version, sha256 });
                }
                if self.store.head(&key, None).await?.is_some() {
                    let why = "it is there still, though it was destroyed".into();
                    return Err(StoreError::Kept { key, why }.into());
                }
            }
            self.remove_leftovers(&recording.source).await?;
        }
        Ok(call)
    }

    /// What an attempt left in this node's spool.
    async fn remove_leftovers(&self, source: &str) -> Result<(), CustodyError> {
        let (folder, source) = (self.spool.clone(), source.to_owned());
        let remove = move || {
            let entries = match std::fs::read_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                if entry.file_name().to_string_lossy().contains(&source) {
                    std::fs::remove_file(entry.path())?;
                }
            }
            Ok::<(), std::io::Error>(())
        };
        let done = tokio::task::spawn_blocking(remove).await.map_err(std::io::Error::other).flatten();
        done.map_err(|error| CustodyError::Store(StoreError::Io(error)))
    }

    /// Erases bodies with their salts. The entries stay, and still prove.
    pub(super) async fn erase(&self, seqs: &[u64]) -> Result<(), CustodyError> {
        let mut tx = self.db.begin().await?;
        tx.write(vec![crate::journal::erased(seqs)]).await?;
        Ok(tx.commit().await?)
    }

    /// What databases keep of what is deleted.
    pub(super) async fn clean_up(&self) -> Result<(), CustodyError> {
        self.catch_up().await?;
        Ok(self.db.forget_deleted().await?)
    }
}

fn personal(history: &[Record]) -> Vec<u64> {
    let kept = |record: &&Record| record.body.is_some() && is_personal(record.entry.kind);
    history.iter().filter(kept).map(|record| record.entry.seq).collect()
}
