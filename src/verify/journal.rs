//! The journal against itself: numbering, canonical form, times, commitments, leaves, and the tree's frontier.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{NAMED, Run, VerifyError};
use crate::calls::records::DestroyedRecord;
use crate::custody::Decided;
use crate::db::Error as DbError;
use crate::evidence::Frontier;
use crate::journal::{Entry, Filter, Head, Kind, damage_in_row};

/// Rows that are read at once; each may hold a body of 256 KiB.
const ROWS: u64 = 200;

impl Run<'_> {
    pub(super) async fn journal(&mut self) -> Result<(), VerifyError> {
        self.begin().await?;
        self.progress.begin("journal", self.size);
        let (mut expected, mut last_at) = (0, Timestamp::MIN);
        let mut frontier = Frontier::default();
        while expected < self.size {
            let rows = self.app.journal.stored(expected, ROWS).await?;
            if rows.is_empty() {
                break;
            }
            let size = self.size;
            for stored in rows.iter().take_while(|row| row.seq < size) {
                if stored.seq > expected {
                    self.damage(gap(expected, stored.seq), "missing from the journal");
                }
                expected = stored.seq + 1;
                match damage_in_row(stored) {
                    Ok(record) => {
                        if record.entry.at < last_at {
                            self.damage(
                                format!("journal entry {}", stored.seq),
                                "its time is before the entry before it",
                            );
                        }
                        last_at = record.entry.at;
                        frontier.push(record.leaf);
                        if record.body.is_none() && !self.is_erased(&record.entry).await? {
                            self.damage(format!("journal entry {}", stored.seq), "the body is missing");
                        }
                    }
                    Err(why) => self.damage(format!("journal entry {}", stored.seq), why),
                }
                self.report.entries += 1;
            }
            self.progress.advance(rows.len() as u64);
            if rows.last().is_some_and(|row| row.seq >= self.size) {
                break;
            }
        }
        if expected < self.size {
            self.damage(gap(expected, self.size), "missing from the journal's end");
        }
        self.head(&frontier, last_at).await?;
        for (seq, table) in self.app.journal.rows_outside(NAMED).await? {
            self.damage(format!("{table} row {seq}"), "it lies outside the journal");
        }
        Ok(())
    }

    /// Whether a body is missing because an executed disposition says so.
    async fn is_erased(&mut self, entry: &Entry) -> Result<bool, VerifyError> {
        if entry.is_ignored() {
            return Ok(true);
        }
        if let (true, Some(subject)) = (entry.kind.concerns_call(), &entry.subject) {
            let records = self.app.journal.about(subject, u64::MAX).await.unwrap_or_default();
            let end = records.into_iter().find(|record| record.entry.kind == Kind::CallDestroyed);
            let end = end.and_then(|record| serde_json::from_slice::<DestroyedRecord>(&record.body?.bytes).ok());
            return Ok(end.is_some_and(|end| end.erased.contains(&entry.seq)));
        }
        if self.erased.is_none() {
            let (mut erased, mut from) = (BTreeSet::new(), 0);
            let filter = Filter { kind: Some(Kind::DispositionDecided), ..Filter::default() };
            loop {
                let page = self.app.journal.read(from, ROWS, &filter).await?;
                let Some(last) = page.last() else { break };
                from = last.entry.seq + 1;
                let bodies = page.iter().filter_map(|record| record.body.as_ref());
                let decided = bodies.filter_map(|body| serde_json::from_slice::<Decided>(&body.bytes).ok());
                erased.extend(decided.flat_map(|decided| decided.entries));
            }
            self.erased = Some(erased);
        }
        Ok(self.erased.as_ref().is_some_and(|erased| erased.contains(&entry.seq)))
    }

    /// How far the journal goes: as its head row says, or where that makes no sense, as its rows do.
    async fn begin(&mut self) -> Result<(), VerifyError> {
        let rows = self.app.journal.end_of_rows().await?;
        let head = self.app.journal.stored_head().await.map_or_else(unreadable, Ok)?;
        if head.is_none() {
            self.damage("journal head", "its row is missing or makes no sense");
        }
        self.size = head.and_then(|head| head.frontier).map_or(rows, |frontier| frontier.size());
        Ok(())
    }

    /// The head row, unless the journal grew while it was read: then its frontier is of a later tree.
    async fn head(&mut self, folded: &Frontier, last_at: Timestamp) -> Result<(), VerifyError> {
        let Some(head) = self.app.journal.stored_head().await.map_or_else(unreadable, Ok)? else { return Ok(()) };
        let Some(tree) = head.frontier else {
            self.damage("journal head", "its tree does not fit its size");
            return Ok(());
        };
        if tree.size() < self.size {
            self.damage("journal head", "it shrank while it was read");
        } else if tree.size() == self.size {
            if tree != *folded {
                self.damage("journal head", "its tree is not the tree of the entries");
            }
            if self.size > 0 && head.at != last_at.as_microsecond() {
                self.damage("journal head", "its time is not that of the last entry");
            }
        }
        Ok(())
    }
}

/// A head row that can't be decoded is as good as none.
fn unreadable(error: DbError) -> Result<Option<Head>, DbError> {
    if error.is_damage() { Ok(None) } else { Err(error) }
}

fn gap(from: u64, to: u64) -> String {
    if to == from + 1 { format!("journal entry {from}") } else { format!("journal entries {from} to {}", to - 1) }
}
