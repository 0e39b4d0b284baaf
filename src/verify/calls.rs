//! The tables of calls and recordings: every row folded again from the journal and compared.

use futures_util::{StreamExt, stream};

use super::{NAMED, Run, STEP, VerifyError, kept};
use crate::app::App;
use crate::calls::{Columns, Facts, FlagRow, FoldError, RecordingRow, StoredCall};
use crate::db::Error as DbError;
use crate::journal::Record;

/// Calls that are looked at at the same time.
const AT_ONCE: usize = 4;

impl Run<'_> {
    pub(super) async fn calls(&mut self) -> Result<(), VerifyError> {
        let (calls, ..) = self.app.calls.counts().await?;
        self.progress.begin("calls", calls);
        let followed = kept::followed(self.app).await?;
        self.app.custody().learn_policies().await.map_err(|error| DbError::Damaged(error.to_string()))?;
        self.quarantine_kept(followed).await?;
        let mut from = i64::MIN;
        loop {
            let rows = self.app.calls.stored(from, STEP).await?;
            // Several at once: each waits for the database most of the time.
            let (app, size) = (self.app, self.size);
            let (last, count) = (rows.last().map(|last| last.first_seq), rows.len() as u64);
            let mut checks = stream::iter(rows).map(|row| check(app, size, followed, row)).buffered(AT_ONCE);
            while let Some(flaws) = checks.next().await {
                self.report.calls += 1;
                for (what, why) in flaws? {
                    self.damage(what, why);
                }
            }
            self.progress.advance(count);
            let Some(next) = last.and_then(|last| last.checked_add(1)) else { break };
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
        for (call_seq, rule) in self.app.calls.flags_of_nobody(NAMED).await? {
            self.damage(format!("flags row of call number {call_seq}, {rule}"), "it belongs to no call");
        }
        Ok(())
    }
}

/// What is wrong with one call: what it is about, and why.
type Flaws = Vec<(String, String)>;

async fn check(app: &App, size: u64, followed: u64, row: StoredCall) -> Result<Flaws, VerifyError> {
    match row.columns {
        Ok(columns) => check_columns(app, size, followed, &columns).await,
        Err(why) => Ok(vec![(format!("call with first_seq {}", row.first_seq), why)]),
    }
}

/// `size` is that of the journal when the check began.
async fn check_columns(app: &App, size: u64, followed: u64, row: &Columns) -> Result<Flaws, VerifyError> {
    let (what, mut flaws) = (format!("call {}", row.call_id), Vec::new());
    // A row is written with the entries that it follows from: all that were there when the check began are in it.
    let stored = match app.calls.recording_rows(row.first_seq).await {
        Err(error) if error.is_damage() => {
            flaws.push((what.clone(), format!("its recordings can't be read: {error}")));
            None
        }
        other => Some(other?),
    };
    let flags = match app.calls.flags_of(row.first_seq).await {
        Err(error) if error.is_damage() => {
            flaws.push((what.clone(), format!("its flags can't be read: {error}")));
            None
        }
        other => Some(other?),
    };
    let last = row.last_seq.cast_unsigned().max(size.saturating_sub(1));
    let records = match app.journal.about(&row.subject, last).await {
        Ok(records) => records,
        Err(error) if error.is_damage() => {
            flaws.push((what, error.to_string()));
            return Ok(flaws);
        }
        Err(error) => return Err(error.into()),
    };
    let facts = match fold(&records) {
        Ok(Some(facts)) => facts,
        Ok(None) => {
            flaws.push((what, "the journal knows nothing of it".into()));
            return Ok(flaws);
        }
        Err(why) => {
            flaws.push((what, why));
            return Ok(flaws);
        }
    };
    // The row's own word for it may be what was changed.
    let what = format!("call {}", facts.call_id);
    let expected = Columns::of(&facts, &row.subject)?;
    if expected != *row {
        let why = format!("its row does not say what the journal says: {}", differing(row, &expected));
        flaws.push((what.clone(), why));
    }
    let others = [
        (stored.is_some_and(|stored| RecordingRow::all_of(&facts) != stored), "recordings"),
        (flags.is_some_and(|flags| FlagRow::all_of(&facts, &row.subject) != flags), "flags"),
    ];
    let differ: Vec<&str> = others.into_iter().filter(|(differ, _)| *differ).map(|(_, which)| which).collect();
    if !differ.is_empty() {
        // They were read after their call: what is journaled in between shows as a newer state.
        let now = app.calls.stored(row.first_seq, 1).await?;
        let now = now.first().and_then(|now| now.columns.as_ref().ok());
        if !now.is_some_and(|now| now.first_seq == row.first_seq && now.last_seq > row.last_seq) {
            let why = |which| format!("its {which} do not say what the journal says");
            flaws.extend(differ.into_iter().map(|which| (what.clone(), why(which))));
        }
    }
    flaws.extend(kept::flaw(app, &facts, followed).await?.map(|why| (what, why)));
    Ok(flaws)
}

fn fold(records: &[Record]) -> Result<Option<Facts>, String> {
    Facts::of_history(records.iter()).map_err(|(seq, error)| match error {
        FoldError::Missing(_) => error.to_string(),
        error => format!("journal entry {seq}: {error}"),
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
