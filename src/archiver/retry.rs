//! Another try, asked for by somebody.

use super::work;
use crate::calls::records::RetryRecord;
use crate::calls::{Calls, RecordingState};
use crate::db::{Arg, Db};
use crate::intake::call_key;
use crate::journal::{Body, Journal, Kind, NewEntry};

use super::ArchiveError;

/// What asking for another try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOutcome {
    /// So many recordings of the call will be fetched again.
    Asked(usize),
    /// It is on its way already; the next attempt is due now.
    Hurried,
    /// Nothing failed: the state says what there is instead.
    Nothing(RecordingState),
    NoSuchCall,
}

/// Has the failed recordings of a call fetched again.
///
/// # Errors
/// Database or journal.
pub async fn retry(
    db: &Db,
    journal: &Journal,
    calls: &Calls,
    call_id: &str,
    actor: &str,
) -> Result<RetryOutcome, ArchiveError> {
    let Some(facts) = calls.facts(call_id).await? else { return Ok(RetryOutcome::NoSuchCall) };
    let (mut entries, mut hurried) = (Vec::new(), false);
    for (source, recording) in &facts.recordings {
        match recording.state() {
            RecordingState::Failed => {
                let record = RetryRecord { call_id: call_id.to_owned(), source: source.clone() };
                let (subject, body) = (Some(call_key(call_id)), Body::of_json(&record)?);
                entries.push(NewEntry::new(Kind::RecordingRetried, actor, subject, body));
            }
            RecordingState::Pending => {
                work::hurry(db, facts.first_seq.cast_signed(), source).await?;
                hurried = true;
            }
            _ => {}
        }
    }
    if !entries.is_empty() {
        let asked = entries.len();
        journal.append(entries).await?;
        return Ok(RetryOutcome::Asked(asked));
    }
    Ok(if hurried { RetryOutcome::Hurried } else { RetryOutcome::Nothing(facts.recording_state()) })
}

/// Has every failed recording fetched again; returns the number of calls.
///
/// # Errors
/// Database or journal; those before it are asked for already.
pub async fn retry_all_failed(db: &Db, journal: &Journal, calls: &Calls, actor: &str) -> Result<u64, ArchiveError> {
    let (mut after, mut asked) = (-1, 0);
    loop {
        let sql = "select distinct call_seq, call_id from recordings where state = 'failed' and call_seq > $1
                   order by call_seq limit 500";
        let rows = db.fetch_all(sql, &[Arg::Int(after)]).await?;
        let Some(last) = rows.last() else { return Ok(asked) };
        after = last.int("call_seq")?;
        for row in &rows {
            if matches!(retry(db, journal, calls, &row.text("call_id")?, actor).await?, RetryOutcome::Asked(_)) {
                asked += 1;
            }
        }
    }
}
