//! Looks again for what attempts that were cut off left in a store that keeps versions.
//!
//! A node or a gateway that dies while it puts an object leaves it open whether the object came to be; it may do so even
//! after another attempt looked, found nothing and put the same bytes itself. Such a second version is no harm, but it is
//! there, and nobody may wonder about it: it gets the lock of the first, and an entry in the journal. Receipts say where
//! there was such an attempt, so that all others cost nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::{Archive, ArchiveError};
use crate::calls::records::{ArchiveReceipt, DuplicateRecord};
use crate::fault;
use crate::journal::{Filter, Kind};
use crate::nodes::{Node, Turn};
use crate::objects::{Listed, StoreError};

/// The cursors of the looks, and how long after a receipt each is. Most of what is late is late by less than a second;
/// what comes after the last is named by verification.
const LOOKS: [(&str, Duration); 2] = [("second look", Duration::from_secs(3)), ("last look", Duration::from_secs(90))];
const POLL: Duration = Duration::from_secs(1);
const BACK_OFF: Duration = Duration::from_secs(5);
/// Receipts that are read at once.
const STEP: u64 = 100;
/// The part of the archive's health that is this work's.
const PART: &str = "versions in the store";

/// Follows the receipts at a distance.
pub struct SecondLook {
    archive: Arc<Archive>,
    node: Node,
}

impl SecondLook {
    #[must_use]
    pub fn new(archive: Arc<Archive>, node: Node) -> Self {
        Self { archive, node }
    }

    /// Runs until cancelled.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut turn = self.node.turn("second looks");
        while !cancel.is_cancelled() {
            let pause = match self.round(&mut turn).await {
                Ok(()) => {
                    self.archive.health.clear(PART);
                    POLL
                }
                Err(error) => {
                    tracing::warn!(%error, "second versions could not be looked for; trying again");
                    self.archive.health.report(PART, "it can't be seen whether there are second versions: see the log");
                    BACK_OFF
                }
            };
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        if let Err(error) = turn.let_go().await {
            tracing::warn!(%error, "the turn at the second looks could not be given up; it ends by itself");
        }
    }

    async fn round(&self, turn: &mut Turn) -> Result<(), ArchiveError> {
        for (cursor, delay) in LOOKS {
            while turn.is_mine().await? && self.step(cursor, delay).await? {}
        }
        Ok(())
    }

    /// Looks at the next receipts whose time has come; `true` where there may be more of them.
    async fn step(&self, cursor: &'static str, delay: Duration) -> Result<bool, ArchiveError> {
        let (journal, from) = (&self.archive.journal, self.archive.journal.cursor(cursor).await?);
        let filter = Filter { kind: Some(Kind::RecordingArchived), ..Filter::default() };
        let records = journal.read(from, STEP, &filter).await?;
        let (full, now) = (records.len() as u64 == STEP, self.archive.clock.now());
        let mut next = from;
        for record in &records {
            // Of a clock that was set back nobody waits for more than the delay.
            let age = now.duration_since(record.entry.at).abs();
            if age < jiff::SignedDuration::try_from(delay).unwrap_or_default() {
                break;
            }
            let receipt = record.body.as_ref().and_then(|body| serde_json::from_slice(&body.bytes).ok());
            if let Some(receipt) = receipt.filter(|receipt: &ArchiveReceipt| receipt.resumed) {
                self.archive.look_for_others(&receipt).await?;
            }
            next = record.entry.seq + 1;
        }
        if next != from {
            journal.set_cursor(cursor, next).await?;
        }
        Ok(full && records.last().is_some_and(|last| last.entry.seq < next))
    }
}

impl Archive {
    /// Looks for other versions of what a receipt names. Those with the same bytes are locked as long as the first and
    /// journaled; those with others are somebody else's, and told loudly.
    pub(super) async fn look_for_others(&self, receipt: &ArchiveReceipt) -> Result<(), ArchiveError> {
        let Some(mut facts) = self.calls.facts(&receipt.call_id).await? else { return Ok(()) };
        // Where two nodes came with a receipt, the other's may be the one that stands.
        let standing = facts.recordings.remove(&receipt.source).and_then(|recording| recording.receipt);
        let Some((.., receipt)) = &standing else { return Ok(()) };
        let known = facts.duplicates;
        for (key, version, sha256) in [
            (&receipt.object_key, &receipt.version, &receipt.sha256),
            (&receipt.vcon_key, &receipt.vcon_version, &receipt.vcon_sha256),
        ] {
            let mut listed = self.ask_store(self.store.list(key)).await?;
            while let Some(found) = listed.next().await {
                match found {
                    Ok(Listed { key: name, version: Some(other), .. })
                        if name == *key && Some(&other) != version.as_ref() =>
                    {
                        if !known.contains(&(name, other.clone())) {
                            self.take_note(receipt, key, other, sha256).await?;
                        }
                    }
                    // Somebody's delete marker is for verification to name.
                    Ok(_) | Err(StoreError::Stray { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    async fn take_note(
        &self,
        receipt: &ArchiveReceipt,
        key: &str,
        version: String,
        sha256: &str,
    ) -> Result<(), ArchiveError> {
        let Some(examined) = self.ask_store(self.store.examine(key, Some(&version))).await? else { return Ok(()) };
        if examined.sha256 != sha256 {
            metrics::counter!("callvault_store_foreign_total", "found" => "after").increment(1);
            tracing::error!(key, version, "somebody put other bytes over a kept object: run callvault verify");
            return Ok(());
        }
        if self.store.locks() && examined.info.retain_until.is_none_or(|until| until < receipt.retain_until) {
            self.ask_store(self.store.extend_retention(key, Some(&version), receipt.retain_until)).await?;
        }
        fault::point("archiver.duplicate_locked");
        let record = DuplicateRecord {
            call_id: receipt.call_id.clone(),
            object_key: key.to_owned(),
            version,
            sha256: sha256.to_owned(),
            retain_until: receipt.retain_until,
        };
        self.journal_json(Kind::RecordingDuplicated, &receipt.call_id, &record).await?;
        tracing::info!(call_id = receipt.call_id, key, "a second version, with the same bytes, is kept like the first");
        Ok(())
    }
}
