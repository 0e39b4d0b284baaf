//! The journal against itself: numbering, canonical form, times, commitments, leaves, and the tree's frontier.

use jiff::Timestamp;

use super::{Run, VerifyError};
use crate::evidence::Frontier;
use crate::journal::damage_in_row;

/// Rows that are read at once; each may hold a body of 256 KiB.
const ROWS: u64 = 200;

impl Run<'_> {
    pub(super) async fn journal(&mut self) -> Result<(), VerifyError> {
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
        self.head(&frontier).await
    }

    /// The head row, unless the journal grew while it was read: then its frontier is of a later tree.
    async fn head(&mut self, folded: &Frontier) -> Result<(), VerifyError> {
        match self.app.journal.frontier().await {
            Ok(head) if head.size() == self.size && head.root() != folded.root() => {
                self.damage("journal head", "its tree is not the tree of the entries");
            }
            Ok(head) if head.size() == self.size && self.app.journal.has_rows_beyond(self.size).await? => {
                self.damage("journal head", "rows lie beyond the journal's end");
            }
            Ok(head) if head.size() < self.size => self.damage("journal head", "it shrank while it was read"),
            Ok(_) => {}
            Err(crate::db::Error::Damaged(why)) => self.damage("journal head", why),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn gap(from: u64, to: u64) -> String {
    if to == from + 1 { format!("journal entry {from}") } else { format!("journal entries {from} to {}", to - 1) }
}
