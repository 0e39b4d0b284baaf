//! Small tables that follow from the journal: holds, policies, events with customers and dispositions, built once more in a
//! database of their own and compared.

use std::collections::BTreeMap;

use super::{NAMED, Run, STEP, VerifyError};
use crate::app::App;
use crate::custody::{DispositionProjection, HoldProjection};
use crate::db::{Db, Row};
use crate::journal::{Appended, Filter, Kind, NewEntry, Projection, ProjectionError, Record};
use crate::retention::{EventProjection, PolicyProjection};

/// The kinds that these tables follow from.
const KINDS: [Kind; 11] = [
    Kind::PoliciesAdopted,
    Kind::ClientEvent,
    Kind::HoldPlaced,
    Kind::HoldClosed,
    Kind::HoldReleaseRequested,
    Kind::HoldReleased,
    Kind::DispositionProposed,
    Kind::DispositionApproved,
    Kind::DispositionCancelled,
    Kind::DispositionDecided,
    Kind::DispositionExecuted,
];

/// Each table with what of it follows from the journal, as one text for each row.
const TABLES: [(&str, &str); 4] = [
    ("policy_sets", "select cast(adopted_seq as text) as name, at || ' ' || sha256 as said from policy_sets"),
    ("client_events", "select customer || ' ' || event as name, date || ' ' || seq as said from client_events"),
    (
        "holds",
        "select name, placed_seq || ' ' || state || ' ' || coalesce(requested_by, '') as said from holds",
    ),
    (
        "dispositions",
        "select id as name, proposed_seq || ' ' || proposed_by || ' ' || state || ' ' || coalesce(approved_by, '') || ' '
             || coalesce(cast(approved_at as text), '') as said from dispositions",
    ),
];

impl Run<'_> {
    pub(super) async fn derived(&mut self) -> Result<(), VerifyError> {
        let folder = tempfile::tempdir()?;
        let scratch = Db::open_sqlite(&folder.path().join("scratch.db")).await?;
        scratch.migrate().await?;
        for record in of_these_kinds(self.app, self.size).await? {
            if let Err(why) = replay(&scratch, &record).await? {
                self.damage(format!("journal entry {}", record.entry.seq), why);
            }
        }
        for (table, sql) in TABLES {
            let (expected, mut found) = (rows(&scratch, sql).await?, rows(&self.app.db, sql).await?);
            // What came while this ran is left to the next check.
            let newer = self.app.journal.size().await? > self.size;
            for (name, said) in expected {
                match found.remove(&name) {
                    Some(now) if now == said || newer => {}
                    Some(_) => self.damage(format!("{table} {name}"), "its row does not say what the journal says"),
                    None => self.damage(format!("{table} {name}"), "journaled, but missing from the table"),
                }
            }
            for name in found.keys().filter(|_| !newer) {
                self.damage(format!("{table} {name}"), "the journal knows nothing of it");
            }
        }
        let sql = format!(
            "select call_seq from kept k where what <> 'quarantine'
             and not exists (select 1 from calls c where c.first_seq = k.call_seq) limit {NAMED}"
        );
        for row in self.app.db.fetch_all(sql, &[]).await? {
            self.damage(format!("kept row of call number {}", row.int("call_seq")?), "it belongs to no call");
        }
        scratch.close().await;
        Ok(())
    }
}

/// Those entries, in their order.
async fn of_these_kinds(app: &App, size: u64) -> Result<Vec<Record>, VerifyError> {
    let mut records = Vec::new();
    for kind in KINDS {
        let (mut from, filter) = (0, Filter { kind: Some(kind), ..Filter::default() });
        loop {
            let page = match app.journal.read(from, STEP, &filter).await {
                Ok(page) => page,
                // Said already when the journal was read.
                Err(error) if error.is_damage() => break,
                Err(error) => return Err(error.into()),
            };
            let Some(last) = page.last() else { break };
            from = last.entry.seq + 1;
            records.extend(page.into_iter().filter(|record| record.entry.seq < size));
        }
    }
    records.sort_by_key(|record| record.entry.seq);
    Ok(records)
}

/// Takes an entry in as it was taken in when it was appended.
async fn replay(scratch: &Db, record: &Record) -> Result<Result<(), String>, VerifyError> {
    let Some(body) = &record.body else { return Ok(Ok(())) };
    let entry = &record.entry;
    let new = NewEntry::new(entry.kind, entry.actor.clone(), entry.subject.clone(), body.clone());
    let appended = Appended { entry: entry.clone(), body: body.bytes.clone(), understood: None };
    let projections: [&dyn Projection; 4] =
        [&HoldProjection, &DispositionProjection, &PolicyProjection, &EventProjection];
    let mut tx = scratch.begin().await?;
    for projection in projections {
        let known = tx.ask(projection.ask(std::slice::from_ref(&new))).await?.pop().unwrap_or_default();
        match projection.apply(&mut tx, known, std::slice::from_ref(&appended)).await {
            Ok(rows) => _ = tx.write(rows).await?,
            Err(ProjectionError::Db(error)) => return Err(error.into()),
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
    tx.commit().await?;
    Ok(Ok(()))
}

async fn rows(db: &Db, sql: &'static str) -> Result<BTreeMap<String, String>, VerifyError> {
    let rows = db.fetch_all(sql, &[]).await?;
    let pair = |row: &Row| Ok::<_, crate::db::Error>((row.text("name")?, row.text("said")?));
    Ok(rows.iter().map(pair).collect::<Result<_, _>>()?)
}
