//! The tables of calls and recordings: every row folded again from the journal and compared.

use super::{NAMED, Run, STEP, VerifyError};
use crate::calls::{Columns, Facts, RecordingRow};
use crate::journal::Record;

impl Run<'_> {
    pub(super) async fn calls(&mut self) -> Result<(), VerifyError> {
        let (calls, ..) = self.app.calls.counts().await?;
        self.progress.begin("calls", calls);
        let mut from = i64::MIN;
        loop {
            let rows = self.app.calls.stored(from, STEP).await?;
            for row in &rows {
                match &row.columns {
                    Ok(columns) => self.call(columns).await?,
                    Err(why) => self.damage(format!("call with first_seq {}", row.first_seq), why.as_str()),
                }
                self.report.calls += 1;
            }
            self.progress.advance(rows.len() as u64);
            let Some(next) = rows.last().and_then(|last| last.first_seq.checked_add(1)) else { break };
            from = next;
        }
        let journaled = self.app.journal.call_subjects(self.size).await?;
        let missing = self.app.journal.subjects_without_call(self.size, NAMED).await?;
        for subject in &missing {
            self.damage(format!("call with the key {subject}"), "journaled, but missing from the calls");
        }
        if missing.is_empty() && journaled > self.report.calls {
            self.damage("calls", format!("{journaled} are journaled, {} are there", self.report.calls));
        }
        for (call_seq, source) in self.app.calls.recordings_of_nobody(NAMED).await? {
            self.damage(format!("recordings row of call number {call_seq}, {source}"), "it belongs to no call");
        }
        Ok(())
    }

    async fn call(&mut self, row: &Columns) -> Result<(), VerifyError> {
        let what = format!("call {}", row.call_id);
        // A row is written with the entries that it follows from: all that were there when the check began are in it.
        let stored = match self.app.calls.recording_rows(row.first_seq).await {
            Err(error) if error.is_damage() => {
                self.damage(what.as_str(), format!("its recordings can't be read: {error}"));
                None
            }
            other => Some(other?),
        };
        let records =
            self.app.journal.about(&row.subject, row.last_seq.cast_unsigned().max(self.size.saturating_sub(1))).await;
        let records = match records {
            Ok(records) => records,
            Err(error) if error.is_damage() => {
                self.damage(what, error.to_string());
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        match fold(&records) {
            Ok(Some(facts)) => {
                // The row's own word for it may be what was changed.
                let what = format!("call {}", facts.call_id);
                let expected = Columns::of(&facts, &row.subject)?;
                if expected != *row {
                    self.damage(
                        what.as_str(),
                        format!("its row does not say what the journal says: {}", differing(row, &expected)),
                    );
                }
                // A row is read after its call: what is journaled in between shows as a newer state.
                let now = self.app.calls.stored(row.first_seq, 1).await?;
                let now = now.first().and_then(|now| now.columns.as_ref().ok());
                let newer = now.is_some_and(|now| now.first_seq == row.first_seq && now.last_seq > row.last_seq);
                if stored.is_some_and(|stored| RecordingRow::all_of(&facts) != stored) && !newer {
                    self.damage(what, "its recordings do not say what the journal says");
                }
            }
            Ok(None) => self.damage(what, "the journal knows nothing of it"),
            Err(why) => self.damage(what, why),
        }
        Ok(())
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
        ("subject", row.subject == expected.subject),
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
