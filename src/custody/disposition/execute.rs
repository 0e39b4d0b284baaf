//! Carries out what was approved: decides what of it may still be destroyed, puts that into the store, destroys it, and
//! certifies it. From the decision on every step can be run again, after a crash and on a database that was restored.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::records::{CERTIFICATE, Certificate, DECISION, Decided, Decision, Executed, Item, Skipped};
use super::states::{Disposition, DispositionState};
use crate::calls::Facts;
use crate::calls::records::{DestroyedObject, DestroyedRecord, DestroyedRecording, DestroyingRecord};
use crate::clock::from_micros;
use crate::custody::{Custody, CustodyError};
use crate::fault;
use crate::intake::call_key;
use crate::journal::{AppendError, Body, Kind, NewEntry, Record};
use crate::objects::{Content, ObjectKey, StoreError};
use crate::retention::{Dates, client_events};

/// Calls that are destroyed together.
const CHUNK: usize = 100;
/// Objects and calls that are worked on at the same time.
const AT_ONCE: usize = 16;

/// How far an execution came.
pub type Progress<'a> = dyn Fn(u64, u64) + Send + Sync + 'a;

/// What became of an execution.
#[derive(Debug)]
pub struct Executing {
    pub certificate: Certificate,
    pub sha256: String,
    pub key: String,
}

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
    /// Executes a disposition whose time of grace is over, or goes on with one.
    ///
    /// # Errors
    /// [`CustodyError::Refused`] where it is not time, or nobody approved it; database, journal or store: then it is run
    /// again later and ends in the same place.
    pub async fn execute(&self, id: &str, progress: &Progress<'_>) -> Result<Executing, CustodyError> {
        self.must_dispose()?;
        self.catch_up().await?;
        let unknown = || CustodyError::Unknown(format!("disposition {id}"));
        let disposition = self.disposition(id).await?.ok_or_else(unknown)?;
        let refused = |why: String| Err(CustodyError::Refused(why));
        match disposition.state {
            DispositionState::Executing => {}
            DispositionState::Approved => {
                let from = disposition.from(self.terms).unwrap_or(Timestamp::MAX);
                if from > self.clock.now() {
                    return refused(format!("its time of grace lasts until {from:.0}: it can be cancelled until then"));
                }
            }
            DispositionState::Proposed => return refused("nobody approved it yet".into()),
            DispositionState::Cancelled => return refused("it was cancelled".into()),
            DispositionState::Executed => return refused("it is executed already".into()),
        }
        let decision = self.decide(&disposition).await?;
        self.carry_out(decision, progress).await
    }

    /// Goes on with every decision that is in the store and not executed: after a crash, and on a database that was
    /// restored from before. How many there were.
    ///
    /// # Errors
    /// Database, journal or store.
    pub async fn resume(&self) -> Result<u64, CustodyError> {
        let mut open = Vec::new();
        let mut listed = self.store.list(ObjectKey::DISPOSITIONS).await?;
        while let Some(found) = listed.next().await {
            let Ok(found) = found else { continue };
            let name = found.key.strip_prefix(ObjectKey::DISPOSITIONS).and_then(|name| name.strip_suffix(".json"));
            let Some(id) = name.filter(|name| !name.contains('.')) else { continue };
            let executed = self.disposition(id).await?.is_some_and(|known| known.state == DispositionState::Executed);
            if !executed && !open.iter().any(|known| known == id) {
                open.push(id.to_owned());
            }
        }
        if !open.is_empty() && !self.terms.on {
            let many = open.len();
            self.health.report(
                "disposition",
                format!("{many} decided dispositions wait in the store while retention.disposition is off"),
            );
            return Ok(0);
        }
        for id in &open {
            tracing::warn!(id, "a disposition that is decided is not executed here: carrying it out");
            if let Some(bytes) = self.read_whole(&decision_key(id)).await? {
                self.carry_out((serde_json::from_slice(&bytes)?, bytes), &|_, _| {}).await?;
            }
        }
        Ok(open.len() as u64)
    }

    /// Destroys once more what a certificate names: where the store itself was restored from before.
    ///
    /// # Errors
    /// It is no certificate; database, journal or store.
    pub async fn apply_again(&self, certificate: &Certificate) -> Result<Vec<Skipped>, CustodyError> {
        self.must_dispose()?;
        if certificate.format != CERTIFICATE {
            return Err(CustodyError::Refused("this is no certificate of destruction".into()));
        }
        let mut skipped = Vec::new();
        for chunk in certificate.calls.chunks(CHUNK) {
            self.destroy_calls(&certificate.id, chunk, &mut skipped).await?;
        }
        self.erase(&certificate.entries.iter().map(|item| item.seq).collect::<Vec<_>>()).await?;
        self.clean_up().await?;
        Ok(skipped)
    }

    /// What of a disposition may still be destroyed. The decision is in the store, durable, on return.
    async fn decide(&self, disposition: &Disposition) -> Result<(Decision, Bytes), CustodyError> {
        if let Some(bytes) = self.read_whole(&decision_key(&disposition.id)).await? {
            return Ok((serde_json::from_slice(&bytes)?, bytes));
        }
        let now = self.clock.now();
        let mut decision = Decision {
            format: DECISION.into(),
            id: disposition.id.clone(),
            proposed_by: disposition.proposed_by.clone(),
            proposed_at: disposition.proposed_at,
            approved_by: disposition.approved_by.clone().unwrap_or_default(),
            approved_at: disposition.approved_at.unwrap_or(now),
            decided_at: now,
            calls: Vec::new(),
            entries: Vec::new(),
            skipped: Vec::new(),
        };
        let judge = |item| self.judge(item, &disposition.id, now).boxed();
        let mut judged = stream::iter(disposition.items.clone()).map(judge).buffered(AT_ONCE);
        while let Some((item, judged)) = judged.try_next().await? {
            match judged {
                Ok(Some(record)) => decision.calls.push(record),
                Ok(None) => decision.entries.push(item),
                Err(why) => decision.skipped.push(Skipped { call_id: item.call_id, seq: item.seq, why }),
            }
        }
        drop(judged);
        let bytes = Bytes::from(serde_json_canonicalizer::to_vec(&decision)?);
        let key = ObjectKey::Journaled(decision_key(&disposition.id));
        match self.store.put_new(&key, Content::Bytes(bytes.clone()), self.kept_like_everything(now)).await {
            Ok(_) => Ok((decision, bytes)),
            // Another process decided at the same moment.
            Err(StoreError::Conflict(_)) => {
                let bytes = self.read_whole(&key.path()).await?.ok_or(CustodyError::Vanished)?;
                Ok((serde_json::from_slice(&bytes)?, bytes))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Decisions and certificates are kept by the policy for everything.
    fn kept_like_everything(&self, now: Timestamp) -> Timestamp {
        let set = self.policies.current();
        set.kept_by(&[set.policies().0], &Dates { received: now, ..Dates::default() }).until
    }

    async fn judge(
        &self,
        item: Item,
        disposition: &str,
        now: Timestamp,
    ) -> Result<(Item, Result<Option<DestroyedRecord>, String>), CustodyError> {
        let judged = match &item.call_id {
            Some(call_id) => self.judge_call(call_id, disposition, now).await?.map(Some),
            None => self.judge_entry(&item, now).await?.map(|()| None),
        };
        Ok((item, judged))
    }

    /// What would be left of a call, or why it may not be destroyed.
    async fn judge_call(
        &self,
        call_id: &str,
        disposition: &str,
        now: Timestamp,
    ) -> Result<Result<DestroyedRecord, String>, CustodyError> {
        let Some(facts) = self.calls.facts(call_id).await? else { return Ok(Err("there is no such call".into())) };
        if facts.destroyed.is_some() {
            return Ok(Err("it is destroyed already".into()));
        }
        if let Some(hold) = facts.held_by().next() {
            return Ok(Err(format!("it is under the hold {hold}")));
        }
        let pending = |state| matches!(state, crate::calls::RecordingState::Pending);
        if facts.recordings.values().any(|recording| pending(recording.state())) {
            return Ok(Err("a recording of it is still awaited".into()));
        }
        let history = self.journal.about(&call_key(call_id), u64::MAX).await?;
        let events = client_events(&self.db, &facts).await?;
        let dates = Dates { events, ..Dates::of(&facts, facts.journaled(&history)) };
        let kept = self.policies.current().kept(&facts, &dates);
        if kept.open_ended {
            return Ok(Err(format!("its time is open by the policy {}", kept.policy)));
        }
        let locked = facts.recordings.values().filter_map(|recording| recording.retain_until()).max();
        let until = locked.map_or(kept.until, |locked| kept.until.max(locked));
        if until > now {
            return Ok(Err(format!("it is kept until {until:.0}")));
        }
        for object in facts.objects() {
            let found = self.store.head(&object.key, object.version.as_deref()).await?;
            match found {
                Some(info) if info.legal_hold => return Ok(Err("the store has a legal hold on it".into())),
                Some(info) if info.retain_until.is_some_and(|until| until > now) => {
                    let until = info.retain_until.unwrap_or_default();
                    return Ok(Err(format!("the store keeps it until {until:.0}")));
                }
                _ => {}
            }
        }
        Ok(Ok(left_of(&facts, disposition, (kept.policy, kept.policy_sha256))))
    }

    async fn judge_entry(&self, item: &Item, now: Timestamp) -> Result<Result<(), String>, CustodyError> {
        let sql = "select due_at from kept where call_seq = $1 and what = 'quarantine' and destroyed_at is null";
        let row = self.db.fetch_optional(sql, &[item.seq.cast_signed().into()]).await?;
        Ok(match row.map(|row| row.int("due_at")).transpose()? {
            None => Err("it is erased already".into()),
            Some(due) if due > now.as_microsecond() => Err(format!("it is kept until {:.0}", from_micros(due))),
            Some(_) => Ok(()),
        })
    }

    /// Destroys what a decision names, and certifies it.
    async fn carry_out(
        &self,
        (decision, bytes): (Decision, Bytes),
        progress: &Progress<'_>,
    ) -> Result<Executing, CustodyError> {
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let decided = Decided {
            id: decision.id.clone(),
            key: decision_key(&decision.id),
            version: None,
            sha256: sha256.clone(),
            calls: decision.calls.len() as u64,
            entries: decision.entries.iter().map(|item| item.seq).collect(),
        };
        let known = self.disposition(&decision.id).await?.map(|known| known.state);
        if known != Some(DispositionState::Executing) {
            self.about_disposition(Kind::DispositionDecided, &decision.id, "system", &decided).await?;
        }
        fault::point("disposition.decided");
        let (mut skipped, mut done, total) = (decision.skipped.clone(), 0, decision.calls.len() as u64);
        for chunk in decision.calls.chunks(CHUNK) {
            self.destroy_calls(&decision.id, chunk, &mut skipped).await?;
            done += chunk.len() as u64;
            progress(done, total);
        }
        self.erase(&decided.entries).await?;
        self.clean_up().await?;
        self.certify(decision, sha256, skipped).await
    }

    async fn certify(
        &self,
        decision: Decision,
        decision_sha256: String,
        skipped: Vec<Skipped>,
    ) -> Result<Executing, CustodyError> {
        let key = certificate_key(&decision.id);
        let bytes = match self.read_whole(&key).await? {
            Some(bytes) => bytes,
            None => {
                let not: BTreeSet<&str> = skipped.iter().filter_map(|skipped| skipped.call_id.as_deref()).collect();
                let calls: Vec<DestroyedRecord> =
                    decision.calls.into_iter().filter(|call| !not.contains(call.call_id.as_str())).collect();
                let now = self.clock.now();
                let certificate = Certificate {
                    format: CERTIFICATE.into(),
                    id: decision.id.clone(),
                    proposed_by: decision.proposed_by,
                    proposed_at: decision.proposed_at,
                    approved_by: decision.approved_by,
                    approved_at: decision.approved_at,
                    executed_at: now,
                    decision_sha256,
                    bytes: calls.iter().flat_map(|call| &call.recordings).map(|recording| recording.size_bytes).sum(),
                    calls,
                    entries: decision.entries,
                    skipped,
                };
                let bytes = Bytes::from(serde_json_canonicalizer::to_vec(&certificate)?);
                let until = self.kept_like_everything(now);
                self.store.put_new(&ObjectKey::Journaled(key.clone()), Content::Bytes(bytes.clone()), until).await?;
                bytes
            }
        };
        fault::point("disposition.certified");
        let certificate: Certificate = serde_json::from_slice(&bytes)?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let executed = Executed {
            id: certificate.id.clone(),
            key: key.clone(),
            sha256: sha256.clone(),
            destroyed: (certificate.calls.len() + certificate.entries.len()) as u64,
            skipped: certificate.skipped.len() as u64,
            bytes: certificate.bytes,
        };
        self.about_disposition(Kind::DispositionExecuted, &certificate.id, "system", &executed).await?;
        metrics::counter!("callvault_disposed_total").increment(executed.destroyed);
        self.catch_up().await?;
        Ok(Executing { certificate, sha256, key })
    }

    /// Destroys calls, together; what may not be destroyed any more is told in `skipped`.
    async fn destroy_calls(
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
        let mut entries = Vec::new();
        for facts in before.iter().filter(|facts| !facts.is_gone()) {
            let record = DestroyingRecord { call_id: facts.call_id.clone(), disposition: id.to_owned() };
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
                    let why = match facts.held_by().next() {
                        Some(hold) => format!("it is under the hold {hold}"),
                        None => "a legal hold is being placed".into(),
                    };
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
    async fn erase(&self, seqs: &[u64]) -> Result<(), CustodyError> {
        let mut tx = self.db.begin().await?;
        tx.write(vec![crate::journal::erased(seqs)]).await?;
        Ok(tx.commit().await?)
    }

    /// What databases keep of what is deleted.
    async fn clean_up(&self) -> Result<(), CustodyError> {
        self.catch_up().await?;
        Ok(self.db.forget_deleted().await?)
    }

    /// An object of our own as a whole; `None` if there is none.
    async fn read_whole(&self, key: &str) -> Result<Option<Bytes>, CustodyError> {
        if self.store.head(key, None).await?.is_none() {
            return Ok(None);
        }
        let chunks: Vec<Bytes> = self.store.get(key, None, None).await?.try_collect().await.map_err(StoreError::Io)?;
        Ok(Some(chunks.concat().into()))
    }

    /// The certificate of a disposition, as it lies in the store.
    ///
    /// # Errors
    /// The store; [`CustodyError::Unknown`] where there is none.
    pub async fn certificate(&self, id: &str) -> Result<Bytes, CustodyError> {
        let unknown = || CustodyError::Unknown(format!("certificate of a disposition {id}"));
        let sound = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        match sound {
            true => self.read_whole(&certificate_key(id)).await?.ok_or_else(unknown),
            false => Err(unknown()),
        }
    }
}

fn decision_key(id: &str) -> String {
    format!("{}{id}.json", ObjectKey::DISPOSITIONS)
}

fn certificate_key(id: &str) -> String {
    format!("{}{id}.certificate.json", ObjectKey::DISPOSITIONS)
}

fn personal(history: &[Record]) -> Vec<u64> {
    let kept = |record: &&Record| record.body.is_some() && is_personal(record.entry.kind);
    history.iter().filter(kept).map(|record| record.entry.seq).collect()
}

/// What a call leaves: dates and hashes, and nothing that says who spoke.
fn left_of(facts: &Facts, disposition: &str, (policy, policy_sha256): (String, String)) -> DestroyedRecord {
    let objects = facts.objects();
    let recording = |(source, recording): (&String, &crate::calls::RecordingFacts)| {
        let (.., receipt) = recording.receipt.as_ref()?;
        let own = objects.iter().filter(|object| object.key == receipt.object_key || object.key == receipt.vcon_key);
        let object = |object: &crate::calls::KeptObject| DestroyedObject {
            key: object.key.clone(),
            version: object.version.clone(),
            sha256: object.sha256.clone(),
        };
        Some(DestroyedRecording {
            source: source.clone(),
            received: from_micros(recording.received),
            retain_until: recording.retain_until()?,
            size_bytes: receipt.size_bytes,
            sha256: receipt.sha256.clone(),
            objects: own.map(object).collect(),
        })
    };
    DestroyedRecord {
        call_id: facts.call_id.clone(),
        disposition: disposition.to_owned(),
        policy,
        policy_sha256,
        first_received: from_micros(facts.first_received),
        started_at: facts.time(crate::calls::Field::StartedAt),
        ended_at: facts.time(crate::calls::Field::EndedAt),
        statuses: facts.statuses.iter().copied().collect(),
        recordings: facts.recordings.iter().filter_map(recording).collect(),
        erased: Vec::new(),
    }
}
