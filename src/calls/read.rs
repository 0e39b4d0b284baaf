//! Reading calls back.

use std::collections::HashMap;

use super::facts::Facts;
use super::project::{Columns, RecordingRow, parse};
use super::view::{Call, RecordingState, RecordingView};
use crate::db::{Arg, Db, Result, Row, Sql, text_safe};

/// A handle for reading calls; cheap to clone.
#[derive(Clone)]
pub struct Calls {
    db: Db,
}

/// What the archiver has on one recording that is under way.
#[derive(Clone, Debug)]
pub struct Work {
    pub attempts: u64,
    pub last_error: Option<String>,
}

impl Calls {
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// The facts of one call.
    ///
    /// # Errors
    /// The database, or a row that does not read back.
    pub async fn facts(&self, call_id: &str) -> Result<Option<Facts>> {
        let call_id = text_safe(call_id).into_owned();
        let row = self.db.fetch_optional("select facts from calls where call_id = $1", &[Arg::from(call_id)]).await?;
        row.as_ref().map(parse).transpose()
    }

    /// The facts of many calls by their keys, in no order.
    ///
    /// # Errors
    /// As [`Calls::facts`].
    pub async fn facts_of(&self, subjects: &[String]) -> Result<Vec<Facts>> {
        let keys: Vec<Arg> = subjects.iter().map(|subject| Arg::from(subject.as_str())).collect();
        self.db.fetch_in("select facts from calls where subject in", &keys).await?.iter().map(parse).collect()
    }

    /// One call with the attempts of its recordings.
    ///
    /// # Errors
    /// As [`Calls::facts`].
    pub async fn get(&self, call_id: &str) -> Result<Option<Call>> {
        Ok(self.get_many(&[text_safe(call_id).into_owned()]).await?.into_iter().next())
    }

    /// Many calls in the order of their ids; an id without a call is left out.
    ///
    /// # Errors
    /// As [`Calls::facts`].
    pub async fn get_many(&self, call_ids: &[String]) -> Result<Vec<Call>> {
        let keys: Vec<Arg> = call_ids.iter().map(|id| Arg::from(id.as_str())).collect();
        let rows = self.db.fetch_in("select facts from calls where call_id in", &keys).await?;
        let facts: Vec<Facts> = rows.iter().map(parse).collect::<Result<_>>()?;
        let mut calls: HashMap<String, Call> =
            self.with_work(&facts).await?.into_iter().map(|call| (call.call_id.clone(), call)).collect();
        Ok(call_ids.iter().filter_map(|id| calls.remove(id)).collect())
    }

    /// Calls in progress, oldest first, at most `limit`.
    ///
    /// # Errors
    /// As [`Calls::facts`].
    pub async fn in_progress(&self, limit: u64) -> Result<Vec<Call>> {
        let sql = "select facts from calls where status = 'in_progress' order by first_seq limit $1";
        let rows = self.db.fetch_all(sql, &[Arg::Int(limit.cast_signed())]).await?;
        Ok(rows.iter().map(parse).collect::<Result<Vec<Facts>>>()?.iter().map(Facts::call).collect())
    }

    /// Calls that are open since before `opened`, or whose recording is awaited since before `awaited` (microseconds),
    /// or either since a moment beyond `ahead`, which no clock can have shown; and that are not flagged for it yet. At
    /// most `limit` of each.
    ///
    /// # Errors
    /// As [`Calls::facts`].
    pub async fn overdue(&self, opened: i64, awaited: i64, ahead: i64, limit: u64) -> Result<Vec<Facts>> {
        let (limit, ahead) = (Arg::Int(limit.cast_signed()), Arg::Int(ahead));
        let open = "select facts from calls where open_since < $1 or open_since > $3 order by open_since limit $2";
        let mut rows = self.db.fetch_all(open, &[Arg::Int(opened), limit.clone(), ahead.clone()]).await?;
        let due = "select facts from calls where recording_due_since < $1 or recording_due_since > $3
                   order by recording_due_since limit $2";
        rows.extend(self.db.fetch_all(due, &[Arg::Int(awaited), limit, ahead]).await?);
        rows.iter().map(parse).collect()
    }

    /// Up to `limit` rows of `calls` after a sequence number, as they are stored.
    ///
    /// # Errors
    /// The database.
    pub async fn rows(&self, after: i64, limit: u64) -> Result<Vec<Columns>> {
        let sql = "select first_seq, call_id, subject, last_seq, facts, status, recording_state, open_since, recording_due_since
                   from calls where first_seq > $1 order by first_seq limit $2";
        let rows = self.db.fetch_all(sql, &[Arg::Int(after), Arg::Int(limit.cast_signed())]).await?;
        rows.iter().map(Columns::from_row).collect()
    }

    /// The rows of `recordings` of one call, in the order of their sources.
    ///
    /// # Errors
    /// The database.
    pub async fn recording_rows(&self, call_seq: i64) -> Result<Vec<RecordingRow>> {
        let sql = "select call_seq, source, call_id, url, state, sha256, object_key, vcon_key, analysed
                   from recordings where call_seq = $1 order by source";
        self.db.fetch_all(sql, &[Arg::Int(call_seq)]).await?.iter().map(RecordingRow::from_row).collect()
    }

    /// Numbers of rows: calls, recordings, recordings archived.
    ///
    /// # Errors
    /// The database.
    pub async fn counts(&self) -> Result<(u64, u64, u64)> {
        let sql = "select (select count(*) from calls) as calls, (select count(*) from recordings) as recordings,
                   (select count(*) from recordings where state = 'archived') as archived";
        let row = self.db.fetch_one(sql, &[]).await?;
        let number = |name: &str| row.int(name).map(i64::cast_unsigned);
        Ok((number("calls")?, number("recordings")?, number("archived")?))
    }

    async fn with_work(&self, facts: &[Facts]) -> Result<Vec<Call>> {
        let pending: Vec<Arg> = facts
            .iter()
            .filter(|f| f.recordings.values().any(|r| r.state() == RecordingState::Pending))
            .map(|f| Arg::Int(f.first_seq.cast_signed()))
            .collect();
        let sql = "select call_seq, source, attempts, last_error from recording_work where call_seq in";
        let rows = self.db.fetch_in(sql, &pending).await?;
        let work: HashMap<(i64, String), Work> = rows.iter().map(work).collect::<Result<_>>()?;
        Ok(facts
            .iter()
            .map(|facts| {
                let mut call = facts.call();
                let seq = facts.first_seq.cast_signed();
                for view in std::iter::once(&mut call.recording).chain(&mut call.recordings) {
                    add_work(view, seq, &work);
                }
                call
            })
            .collect())
    }

    /// How many recordings are in each state of work: pending, and archived but not analysed.
    ///
    /// # Errors
    /// The database.
    pub async fn backlog(&self) -> Result<(u64, u64)> {
        let sql = Sql::Split {
            sqlite: "select (select count(*) from recordings where state = 'pending') as pending,
                     (select count(*) from recordings where state = 'archived' and analysed = 0) as unanalysed",
            postgres: "select (select count(*) from recordings where state = 'pending') as pending,
                       (select count(*) from recordings where state = 'archived' and not analysed) as unanalysed",
        };
        let row = self.db.fetch_one(sql, &[]).await?;
        Ok((row.int("pending")?.cast_unsigned(), row.int("unanalysed")?.cast_unsigned()))
    }
}

fn work(row: &Row) -> Result<((i64, String), Work)> {
    let key = (row.int("call_seq")?, row.text("source")?);
    Ok((key, Work { attempts: row.int("attempts")?.cast_unsigned(), last_error: row.opt_text("last_error")? }))
}

fn add_work(view: &mut RecordingView, call_seq: i64, work: &HashMap<(i64, String), Work>) {
    if view.state == RecordingState::Pending
        && let Some(source) = &view.source
        && let Some(work) = work.get(&(call_seq, source.clone()))
    {
        view.attempts = work.attempts;
        view.last_error = work.last_error.clone();
    }
}
