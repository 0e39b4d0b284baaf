//! The tables of calls and recordings: every row folded again from the journal and compared.

use super::{Run, STEP, VerifyError};
use crate::calls::{Columns, Facts, RecordingRow};
use crate::journal::Record;

impl Run<'_> {
    pub(super) async fn calls(&mut self) -> Result<(), VerifyError> {
        let (calls, recordings, _) = self.app.calls.counts().await?;
        self.progress.begin("calls", calls);
        let (mut after, mut seen_recordings) = (i64::MIN, 0);
        loop {
            let rows = self.app.calls.rows(after, STEP).await?;
            let Some(last) = rows.last() else { break };
            after = last.first_seq;
            for row in &rows {
                seen_recordings += self.call(row).await?;
                self.report.calls += 1;
            }
            self.progress.advance(rows.len() as u64);
        }
        let journaled = self.app.journal.call_subjects(self.size).await?;
        let missing = self.app.journal.subjects_without_call(self.size, 100).await?;
        for subject in &missing {
            self.damage(format!("call with the key {subject}"), "journaled, but missing from the calls");
        }
        if missing.is_empty() && journaled > self.report.calls {
            self.damage("calls", format!("{journaled} are journaled, {} are there", self.report.calls));
        }
        // Rows of recordings that belong to no call; those that came meanwhile belong to calls that came meanwhile.
        if recordings > seen_recordings {
            self.damage("recordings", format!("{} rows belong to no call", recordings - seen_recordings));
        }
        Ok(())
    }

    /// Returns the number of recording rows that belong to the call.
    async fn call(&mut self, row: &Columns) -> Result<u64, VerifyError> {
        let what = format!("call {}", row.call_id);
        // A row is written with the entries that it follows from: all that were there when the check began are in it.
        let stored = self.app.calls.recording_rows(row.first_seq).await?;
        let records =
            self.app.journal.about(&row.subject, row.last_seq.cast_unsigned().max(self.size.saturating_sub(1))).await;
        let records = match records {
            Ok(records) => records,
            Err(crate::db::Error::Damaged(why)) => {
                self.damage(what, why);
                return Ok(stored.len() as u64);
            }
            Err(error) => return Err(error.into()),
        };
        match fold(&records) {
            Ok(Some(facts)) => {
                let expected = Columns::of(&facts, &row.subject)?;
                if expected != *row {
                    self.damage(
                        what.as_str(),
                        format!("its row does not say what the journal says: {}", differing(row, &expected)),
                    );
                }
                // A row is read after its call: what is journaled in between shows as a newer state.
                let newer = self
                    .app
                    .calls
                    .rows(row.first_seq - 1, 1)
                    .await?
                    .first()
                    .is_some_and(|now| now.last_seq > row.last_seq);
                if RecordingRow::all_of(&facts) != stored && !newer {
                    self.damage(what, "its recordings do not say what the journal says");
                }
            }
            Ok(None) => self.damage(what, "the journal knows nothing of it"),
            Err(why) => self.damage(what, why),
        }
        Ok(stored.len() as u64)
    }
}

fn fold(records: &[Record]) -> Result<Option<Facts>, String> {
    records.iter().filter(|record| record.entry.kind.concerns_call()).try_fold(None, |facts, record| {
        let body =
            record.body.as_ref().ok_or_else(|| format!("the body of journal entry {} is missing", record.entry.seq))?;
        let folded = Facts::fold(facts, &record.entry, &body.bytes);
        folded.map(Some).map_err(|error| format!("journal entry {}: {error}", record.entry.seq))
    })
}

/// Names of the columns that differ; their content may be personal.
fn differing(row: &Columns, expected: &Columns) -> String {
    let columns = [
        ("first_seq", row.first_seq == expected.first_seq),
        ("call_id", row.call_id == expected.call_id),
        ("last_seq", row.last_seq == expected.last_seq),
        ("facts", row.facts == expected.facts),
        ("status", row.status == expected.status),
        ("recording_state", row.recording_state == expected.recording_state),
        ("open_since", row.open_since == expected.open_since),
        ("recording_due_since", row.recording_due_since == expected.recording_due_since),
    ];
    columns.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect::<Vec<_>>().join(", ")
}
