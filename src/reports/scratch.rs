//! What was kept at a moment of the past: every call folded from the journal up to then, into the same table in a database
//! of its own, which is gone afterwards. Of who was called only the customers of dated events are written there. Memory does
//! not grow with the number of calls.

use tempfile::TempDir;

use super::ReportError;
use super::chronicle::{destroyed_bodies, policies_then};
use super::moment::{Moment, Source};
use super::retention::RetentionSource;
use crate::calls::Facts;
use crate::custody::KeptRow;
use crate::db::{ColumnType, Db, Rows};
use crate::journal::{Filter, Kind};
use crate::retention::{ClientEvent, Dates, PolicySet, client_events};

/// Rows that are written at once: each time waits for the disk.
const BATCH: usize = 5000;
/// Entries that are read at once.
const STEP: u64 = 500;

/// The table.
pub(super) struct Scratch {
    db: Db,
    _folder: TempDir,
}

impl Scratch {
    /// Folds all calls and the quarantine as they were.
    pub(super) async fn fold(from: &RetentionSource, moment: Moment) -> Result<Self, ReportError> {
        let folder = tempfile::tempdir()?;
        let db = Db::open_sqlite(&folder.path().join("then.db")).await?;
        db.migrate().await?;
        let scratch = Self { db, _folder: folder };
        scratch.take_client_events(&from.source, moment).await?;
        let policies = policies_then(&from.source, moment).await?;
        let policies = policies.as_ref().unwrap_or(&from.policies);
        let (mut rows, mut after) = (Vec::new(), Some(-1));
        while let Some(place) = after {
            let then = moment.calls(&from.source, place, moment.size).await?;
            for facts in &then.facts {
                rows.extend(scratch.rows_of(facts, policies).await?);
            }
            after = then.next;
            if rows.len() >= BATCH || after.is_none() {
                scratch.write(std::mem::take(&mut rows)).await?;
            }
        }
        scratch.take_quarantine(&from.source, moment, policies).await?;
        Ok(scratch)
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// Lets go of the file before it goes away.
    pub(super) async fn close(self) {
        self.db.close().await;
    }

    async fn rows_of(&self, facts: &Facts, policies: &PolicySet) -> Result<Vec<KeptRow>, ReportError> {
        let dates = Dates { events: client_events(&self.db, facts).await?, ..Dates::of(facts, None) };
        Ok(KeptRow::all_of(facts, policies, &dates)?)
    }

    async fn write(&self, mut rows: Vec<KeptRow>) -> Result<(), ReportError> {
        for row in &mut rows {
            (row.subject, row.traits) = (String::new(), "{}".into());
        }
        let mut tx = self.db.begin().await?;
        tx.write(vec![KeptRow::write(rows)]).await?;
        Ok(tx.commit().await?)
    }

    async fn take_quarantine(&self, source: &Source, moment: Moment, policies: &PolicySet) -> Result<(), ReportError> {
        let mut from = 0;
        loop {
            let page = source.journal.of_kind(Kind::WebhookQuarantined, from, moment.size, STEP * 10).await?;
            let Some(last) = page.last() else { break };
            from = last.seq + 1;
            self.write(page.iter().map(|entry| KeptRow::of_quarantine(entry, policies)).collect()).await?;
        }
        for (id, at, entries) in destroyed_bodies(source, moment).await? {
            for seq in entries {
                let sql =
                    "update kept set destroyed_at = $2, disposition = $3 where call_seq = $1 and what = 'quarantine'";
                let at = at.as_microsecond();
                self.db.execute(sql, &[seq.cast_signed().into(), at.into(), id.as_str().into()]).await?;
            }
        }
        Ok(())
    }

    /// The dated events with customers that had been told of.
    async fn take_client_events(&self, source: &Source, moment: Moment) -> Result<(), ReportError> {
        let (mut from, filter) = (0, Filter { kind: Some(Kind::ClientEvent), ..Filter::default() });
        while from < moment.size {
            let page = source.journal.read(from, STEP, &filter).await?;
            let Some(last) = page.last() else { break };
            from = last.entry.seq + 1;
            let mut rows = Vec::new();
            for record in page.iter().filter(|record| record.entry.seq < moment.size) {
                let Some(body) = &record.body else { continue };
                let told: ClientEvent = serde_json::from_slice(&body.bytes)?;
                let seq = record.entry.seq.cast_signed();
                rows.push(vec![told.customer.into(), told.event.into(), told.date.as_microsecond().into(), seq.into()]);
            }
            let mut tx = self.db.begin().await?;
            for row in rows {
                // One by one: the same event may be told of twice.
                tx.write(vec![Rows {
                    head: "insert into client_events (customer, event, date, seq)",
                    types: &[ColumnType::Text, ColumnType::Text, ColumnType::Int, ColumnType::Int],
                    rows: vec![row],
                    tail: "on conflict (customer, event) do update set date = excluded.date, seq = excluded.seq
                           where excluded.date > client_events.date",
                }])
                .await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }
}
