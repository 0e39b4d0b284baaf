//! From a staged recording to its receipt: intent, recording, call record, receipt.
//!
//! Every step can be run again: a crash between any two is repaired by running the same steps once more.

use bytes::Bytes;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use super::fetch::Staged;
use super::work::Job;
use super::{Archive, ArchiveError, vcon};
use crate::calls::Facts;
use crate::calls::records::{ArchiveReceipt, AudioRecord, Intent};
use crate::fault;
use crate::intake::call_key;
use crate::journal::{Body, Kind, NewEntry};
use crate::objects::{Content, ObjectInfo, ObjectKey, StoreError};
use crate::retention::{Dates, client_events};

/// So many keys of a recording may be taken before it is given up: whoever goes on so far does it on purpose.
const PLACES: usize = 8;

impl Archive {
    /// Brings a recording from the spool or from an interrupted run to its receipt.
    pub(super) async fn finish(&self, job: &Job, facts: &Facts, staged: Staged) -> Result<(), ArchiveError> {
        let sha256 = hex::encode(staged.sha256);
        fault::point("archiver.hashed");
        if self.finish_as_twin(job, facts, &sha256).await? {
            return Ok(());
        }
        let resumed = facts.recordings.get(&job.source).is_some_and(|recording| recording.intent.is_some());
        let intents = facts.recordings.values().filter_map(|recording| recording.intent.as_ref());
        let mut known = intents.map(|(_, intent)| intent).filter(|intent| intent.sha256 == sha256);
        let intent = match known.clone().find(|intent| intent.source == job.source).or_else(|| known.next()) {
            Some(intent) if intent.source == job.source => intent.clone(),
            // Another address led to the same bytes and was interrupted: what it wrote already must stay right.
            Some(intent) => {
                let own = Intent { source: job.source.clone(), ..intent.clone() };
                self.journal_json(Kind::RecordingIntended, &job.call_id, &own).await?;
                own
            }
            None => self.intend(job, facts, &staged).await?,
        };
        fault::point("archiver.intended");
        self.keep(job, intent, &staged, resumed).await
    }

    /// Stores what is staged. Where somebody put other bytes at its key before us, it is kept beside them.
    async fn keep(&self, job: &Job, intent: Intent, staged: &Staged, resumed: bool) -> Result<(), ArchiveError> {
        let mut intent = intent;
        for _ in 0..PLACES {
            let content = Content::File { path: staged.path.clone(), size: staged.size, sha256: staged.sha256 };
            let key = ObjectKey::Journaled(intent.object_key.clone());
            match self.ask_store(self.store.put_new(&key, content, intent.retain_until)).await {
                Err(ArchiveError::Store(StoreError::Conflict(taken))) => {
                    intent = self.intend_beside(job, intent, &taken).await?;
                }
                stored => {
                    fault::point("archiver.stored");
                    return self.seal(job, intent, stored?, resumed).await;
                }
            }
        }
        Err(StoreError::Conflict(intent.object_key).into())
    }

    /// Intends another key for what can't be stored at the one that is taken.
    async fn intend_beside(&self, job: &Job, intent: Intent, taken: &str) -> Result<Intent, ArchiveError> {
        metrics::counter!("callvault_store_foreign_total", "found" => "before").increment(1);
        tracing::error!(
            key = taken,
            "somebody put other bytes at a key of ours; what belongs there is kept beside them"
        );
        let next = |key: &String| if key == taken { ObjectKey::beside(key) } else { key.clone() };
        let (object_key, vcon_key) = (next(&intent.object_key), next(&intent.vcon_key));
        let beside = Intent { object_key, vcon_key, ..intent };
        self.journal_json(Kind::RecordingIntended, &job.call_id, &beside).await?;
        Ok(beside)
    }

    /// Where another address led to the same bytes, they are kept already, with their call record: only the receipt is
    /// missing. `false` where there is no such recording.
    pub(super) async fn finish_as_twin(&self, job: &Job, facts: &Facts, sha256: &str) -> Result<bool, ArchiveError> {
        let Some(twin) = twin(facts, sha256) else { return Ok(false) };
        let receipt =
            ArchiveReceipt { source: job.source.clone(), attempts: job.attempts + 1, resumed: false, ..twin.clone() };
        self.journal_json(Kind::RecordingArchived, &job.call_id, &receipt).await?;
        Ok(true)
    }

    /// The last two steps: the call record beside the recording, and the receipt. `resumed` where an earlier attempt may have
    /// got as far as the store.
    pub(super) async fn seal(
        &self,
        job: &Job,
        intent: Intent,
        stored: ObjectInfo,
        resumed: bool,
    ) -> Result<(), ArchiveError> {
        let events = self.journal.about(&call_key(&intent.call_id), intent.last_seq).await?;
        let record = Bytes::from(vcon::build(&intent, &events)?);
        let vcon_sha256 = hex::encode(Sha256::digest(&record));
        let (record, intent) = self.keep_record(job, intent, record).await?;
        fault::point("archiver.record_stored");
        let receipt = ArchiveReceipt {
            call_id: intent.call_id.clone(),
            source: intent.source.clone(),
            object_key: intent.object_key.clone(),
            version: stored.version,
            sha256: intent.sha256.clone(),
            size_bytes: intent.size_bytes,
            audio: intent.audio.clone(),
            retain_until: intent.retain_until,
            policy: intent.policy.clone(),
            policy_sha256: intent.policy_sha256.clone(),
            vcon_key: intent.vcon_key.clone(),
            vcon_version: record.version,
            vcon_sha256,
            attempts: job.attempts + 1,
            resumed: self.store.is_remote() && (resumed || stored.others + record.others > 0),
        };
        self.journal_json(Kind::RecordingArchived, &intent.call_id, &receipt).await?;
        // Where it can't be seen now, the second look does it.
        if receipt.resumed
            && let Err(error) = self.look_for_others(&receipt).await
        {
            tracing::warn!(%error, call_id = intent.call_id, "second versions could not be looked for yet");
        }
        Ok(())
    }

    /// Stores the call record as [`keep`](Self::keep) does the recording; what it says does not depend on its key.
    async fn keep_record(
        &self,
        job: &Job,
        intent: Intent,
        record: Bytes,
    ) -> Result<(ObjectInfo, Intent), ArchiveError> {
        let mut intent = intent;
        for _ in 0..PLACES {
            let key = ObjectKey::Journaled(intent.vcon_key.clone());
            let content = Content::Bytes(record.clone());
            match self.ask_store(self.store.put_new(&key, content, intent.retain_until)).await {
                Err(ArchiveError::Store(StoreError::Conflict(taken))) => {
                    intent = self.intend_beside(job, intent, &taken).await?;
                }
                stored => return Ok((stored?, intent)),
            }
        }
        Err(StoreError::Conflict(intent.vcon_key).into())
    }

    async fn intend(&self, job: &Job, facts: &Facts, staged: &Staged) -> Result<Intent, ArchiveError> {
        let policies = self.policies.current();
        let kept = policies.kept(facts, &self.dates(facts).await?);
        let (sha256, now) = (hex::encode(staged.sha256), self.clock.now());
        // The day of the call's end, else of its receipt, as the retention sees it.
        let day = policies.basis(facts).from.to_zoned(TimeZone::UTC).date();
        let call_key = call_key(&job.call_id);
        let key = ObjectKey::Recording {
            day,
            call_key: call_key.clone(),
            sha256: sha256.clone(),
            extension: staged.audio.extension.to_string(),
        };
        let intent = Intent {
            call_id: job.call_id.clone(),
            source: job.source.clone(),
            object_key: key.path(),
            vcon_key: ObjectKey::CallRecord { day, call_key, sha256: sha256.clone() }.path(),
            sha256,
            sha512: hex::encode(staged.sha512),
            size_bytes: staged.size,
            audio: AudioRecord {
                media_type: staged.audio.media_type.to_string(),
                seconds: staged.audio.seconds,
                bit_rate: staged.audio.bit_rate,
                channels: staged.audio.channels,
                sample_rate: staged.audio.sample_rate,
                complete: staged.audio.complete,
            },
            retain_until: kept.until,
            policy: kept.policy,
            policy_sha256: kept.policy_sha256,
            vcon_uuid: vcon::uuid_v8(),
            vcon_created_at: now,
            url: vcon::recording_url(&self.public_url, &job.call_id),
            last_seq: facts.last_seq,
        };
        self.journal_json(Kind::RecordingIntended, &job.call_id, &intent).await?;
        Ok(intent)
    }

    async fn dates(&self, facts: &Facts) -> Result<Dates, ArchiveError> {
        let entries = self.journal.about(&call_key(&facts.call_id), facts.last_seq).await?;
        let events = client_events(&self.db, facts).await?;
        Ok(Dates { events, ..Dates::of(facts, facts.journaled(&entries)) })
    }

    pub(super) async fn journal_json(
        &self,
        kind: Kind,
        call_id: &str,
        record: &impl serde::Serialize,
    ) -> Result<(), ArchiveError> {
        let entry = NewEntry::new(kind, "system", Some(call_key(call_id)), Body::of_json(record)?);
        self.journal.append(vec![entry]).await?;
        Ok(())
    }
}

fn twin<'a>(facts: &'a Facts, sha256: &str) -> Option<&'a ArchiveReceipt> {
    let receipts = facts.recordings.values().filter_map(|recording| recording.receipt.as_ref());
    receipts.map(|(.., receipt)| receipt).find(|receipt| receipt.sha256 == sha256)
}
