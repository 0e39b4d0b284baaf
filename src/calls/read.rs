//! Reading calls back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::damaged::{DamagedRow, DamagedRows};
use super::facts::Facts;
use super::project::{CallProjection, Columns, RecordingRow, parse};
use super::recent::RecentCalls;
use super::view::{Call, RecordingState, RecordingView};
use crate::db::{Arg, Db, Error, Result, Row, Sql, ascending, text_safe};
use crate::intake::{call_key, is_call_subject};
use crate::journal::{Kind, Step};

/// A handle for reading calls; cheap to clone.
#[derive(Clone)]
pub struct Calls {
    pub(super) db: Db,
    damaged: DamagedRows,
    recent: RecentCalls,
    /// In a handle that reads from a replica: for what that does not know yet.
    latest: Option<Arc<Calls>>,
}

/// Calls by their keys, each with the last entry that speaks of it; [`AS_STORED`] for one that has to be read back.
pub type Subjects = BTreeMap<String, u64>;

/// No entry has this number.
pub const AS_STORED: u64 = u64::MAX;

/// What could be read of what was asked for.
#[derive(Clone, Debug, Default)]
pub struct Readable {
    pub facts: Vec<Arc<Facts>>,
    /// The keys of the calls whose rows do not read back: to be asked for again later.
    pub skipped: Vec<String>,
}

/// Calls in the order of their numbers, as one server had them in one moment.
pub struct Stretch {
    /// The number of the last; `None` at the end.
    pub last: Option<i64>,
    pub readable: Readable,
    /// The journal's size in that moment: what lies before it is taken in.
    pub size: u64,
}

/// A row of `calls` as it is stored, unchecked: for verification.
pub struct StoredCall {
    pub first_seq: i64,
    /// What is wrong, in words, where a column can't be read.
    pub columns: std::result::Result<Columns, String>,
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
        Self { db, damaged: DamagedRows::default(), recent: RecentCalls::default(), latest: None }
    }

    /// The same calls, read from a replica, where there is one. They may be a moment older; none is missing.
    #[must_use]
    pub fn for_reading(&self) -> Self {
        let db = self.db.for_reading();
        let latest = db.may_be_behind().then(|| Arc::new(self.clone()));
        Self { db, latest, ..self.clone() }
    }

    /// What keeps the tables that are read here.
    #[must_use]
    pub fn projection(&self) -> CallProjection {
        CallProjection { recent: self.recent.clone() }
    }

    /// The damaged rows that were met in this process.
    #[must_use]
    pub fn damaged(&self) -> &DamagedRows {
        &self.damaged
    }

    /// The facts of one call.
    ///
    /// # Errors
    /// The database, or a row that does not read back.
    pub async fn facts(&self, call_id: &str) -> Result<Option<Facts>> {
        let key = [Arg::from(call_key(&text_safe(call_id)))];
        let row = self.db.fetch_optional("select facts from calls where subject = $1", &key).await?;
        row.as_ref().map(parse).transpose()
    }

    /// The facts of many calls by their keys, in no order; a row that does not read back is noted and left out.
    ///
    /// # Errors
    /// The database.
    pub async fn facts_of(&self, subjects: &[String]) -> Result<Readable> {
        let keys: Vec<Arg> = subjects.iter().map(|subject| Arg::from(subject.as_str())).collect();
        Ok(self.readable(&self.db.fetch_in("select subject, facts from calls where subject", &keys).await?))
    }

    /// The facts of calls, with what the entries say that stand beside their keys, which this process may have in memory;
    /// else as [`Calls::facts_of`].
    ///
    /// # Errors
    /// The database.
    pub async fn facts_with(&self, wanted: &Subjects) -> Result<Readable> {
        let (mut found, mut others) = (Vec::with_capacity(wanted.len()), Vec::new());
        for (subject, seq) in wanted {
            match self.recent.get(subject, *seq) {
                Some(facts) => {
                    // Its row was written from them.
                    self.damaged.mended(&DamagedRow::Call(subject.clone()));
                    found.push(facts);
                }
                None => others.push(subject.clone()),
            }
        }
        let mut readable = self.facts_of(&others).await?;
        if let Some(latest) = &self.latest {
            let key = |facts: &Arc<Facts>| call_key(&facts.call_id);
            readable.facts.retain(|facts| wanted.get(&key(facts)).is_some_and(|seq| facts.last_seq >= *seq));
            let known: HashSet<String> = readable.facts.iter().map(key).collect();
            others.retain(|subject| !known.contains(subject));
            let fresh = latest.facts_of(&others).await?;
            readable.facts.extend(fresh.facts);
            readable.skipped = fresh.skipped;
        }
        readable.facts.extend(found);
        Ok(readable)
    }

    /// The calls that these entries are about; an entry that does not read back is noted, and its row's word is taken for
    /// its subject.
    #[must_use]
    pub fn subjects(&self, steps: &[Step]) -> Subjects {
        let subject = |step: &Step| {
            if step.kind.is_none() {
                self.damaged.met(DamagedRow::Entry(step.seq));
            }
            let about_call = step.kind.is_none_or(Kind::concerns_call);
            let subject = step.subject.clone().filter(|subject| about_call && is_call_subject(subject));
            subject.map(|subject| (subject, step.seq))
        };
        steps.iter().filter_map(subject).collect()
    }

    /// What of these rows reads back.
    fn readable(&self, rows: &[Row]) -> Readable {
        let mut readable = Readable::default();
        for row in rows {
            // It was asked for by its key, so the key reads back.
            let subject = row.text("subject").unwrap_or_default();
            match parse(row) {
                Ok(facts) => {
                    self.damaged.mended(&DamagedRow::Call(subject));
                    readable.facts.push(Arc::new(facts));
                }
                Err(_) => {
                    self.damaged.met(DamagedRow::Call(subject.clone()));
                    readable.skipped.push(subject);
                }
            }
        }
        readable
    }

    /// One call with the attempts of its recordings.
    ///
    /// # Errors
    /// As [`Calls::facts`].
    pub async fn get(&self, call_id: &str) -> Result<Option<Call>> {
        Ok(self.get_many(&[call_id.to_owned()]).await?.into_iter().next())
    }

    /// Many calls in the order of their ids; an id without a call is left out.
    ///
    /// # Errors
    /// As [`Calls::facts`].
    pub async fn get_many(&self, call_ids: &[String]) -> Result<Vec<Call>> {
        let mut calls: HashMap<String, Call> = HashMap::with_capacity(call_ids.len());
        let mut others = call_ids.to_vec();
        for reader in std::iter::once(self).chain(self.latest.as_deref()) {
            if !others.is_empty() {
                calls.extend(reader.those_of(&others).await?.into_iter().map(|call| (call.call_id.clone(), call)));
                others.retain(|id| !calls.contains_key(id));
            }
        }
        Ok(call_ids.iter().filter_map(|id| calls.remove(id)).collect())
    }

    async fn those_of(&self, call_ids: &[String]) -> Result<Vec<Call>> {
        let keys: Vec<Arg> = call_ids.iter().map(|id| Arg::from(call_key(&text_safe(id)))).collect();
        let rows = self.db.fetch_in("select facts from calls where subject", &keys).await?;
        self.with_work(&rows.iter().map(parse).collect::<Result<Vec<_>>>()?).await
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
    /// As [`Calls::facts_of`].
    pub async fn overdue(&self, opened: i64, awaited: i64, ahead: i64, limit: u64) -> Result<Vec<Arc<Facts>>> {
        let (limit, ahead) = (Arg::Int(limit.cast_signed()), Arg::Int(ahead));
        let open = "select subject, facts from calls where open_since < $1 or open_since > $3
                    order by open_since limit $2";
        let mut rows = self.db.fetch_all(open, &[Arg::Int(opened), limit.clone(), ahead.clone()]).await?;
        let due = "select subject, facts from calls where recording_due_since < $1 or recording_due_since > $3
                   order by recording_due_since limit $2";
        rows.extend(self.db.fetch_all(due, &[Arg::Int(awaited), limit, ahead]).await?);
        Ok(self.readable(&rows).facts)
    }

    /// Up to `limit` calls after a sequence number, in order.
    ///
    /// # Errors
    /// As [`Calls::facts_of`].
    pub async fn facts_after(&self, after: i64, limit: u64) -> Result<Stretch> {
        // One statement, and so one moment; a row without a call where there are no more.
        let sql = "select h.size as size, c.first_seq as first_seq, c.subject as subject, c.facts as facts from journal_head h
            left join (select first_seq, subject, facts from calls where first_seq > $1 order by first_seq limit $2) c on 1 = 1
            where h.id = 1 order by c.first_seq";
        let mut rows = self.db.fetch_all(sql, &[Arg::Int(after), Arg::Int(limit.cast_signed())]).await?;
        let Some(last) = rows.last() else { return Err(Error::Damaged("the journal's head row is missing".into())) };
        let (last, size) = (last.opt_int("first_seq")?, last.int("size")?.cast_unsigned());
        if last.is_none() {
            rows.clear();
        }
        ascending(&rows, "first_seq", after.saturating_add(1))?;
        Ok(Stretch { last, readable: self.readable(&rows), size })
    }

    /// Up to `limit` rows of `calls` from a sequence number on, as they are stored.
    ///
    /// # Errors
    /// The database.
    pub async fn stored(&self, from: i64, limit: u64) -> Result<Vec<StoredCall>> {
        let sql = "select first_seq, call_id, subject, last_seq, facts, status, recording_state, open_since, recording_due_since
                   from calls where first_seq >= $1 order by first_seq limit $2";
        let rows = self.db.fetch_all(sql, &[Arg::Int(from), Arg::Int(limit.cast_signed())]).await?;
        ascending(&rows, "first_seq", from)?;
        let stored = |row: &Row| {
            let columns = Columns::from_row(row).map_err(|error| error.to_string());
            Ok(StoredCall { first_seq: row.int("first_seq")?, columns })
        };
        rows.iter().map(stored).collect()
    }

    /// Rows of `recordings` that belong to no call, by call number and source; at most `limit`.
    ///
    /// # Errors
    /// The database.
    pub async fn recordings_of_nobody(&self, limit: u64) -> Result<Vec<(i64, String)>> {
        let sql = "select r.call_seq, r.source from recordings r left join calls c on c.first_seq = r.call_seq
                   where c.first_seq is null limit $1";
        let rows = self.db.fetch_all(sql, &[Arg::Int(limit.cast_signed())]).await?;
        rows.iter().map(|row| Ok((row.int("call_seq")?, row.text("source").unwrap_or_default()))).collect()
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

    /// When the recording that is awaited longest became known, in microseconds; `None` where none is awaited. Of many
    /// that wait only those of the earliest calls are looked at.
    ///
    /// # Errors
    /// The database.
    pub async fn awaited_since(&self) -> Result<Option<i64>> {
        const EARLIEST: i64 = 200;
        let sql = "select c.subject, c.facts from recordings r join calls c on c.first_seq = r.call_seq
                   where r.state = 'pending' order by r.call_seq limit $1";
        let facts = self.readable(&self.db.fetch_all(sql, &[Arg::Int(EARLIEST)]).await?).facts;
        let recordings = facts.iter().flat_map(|facts| facts.recordings.values());
        Ok(recordings.filter(|r| r.state() == RecordingState::Pending).map(|r| r.received).min())
    }

    async fn with_work(&self, facts: &[Facts]) -> Result<Vec<Call>> {
        let pending: Vec<Arg> = facts
            .iter()
            .filter(|f| f.recordings.values().any(|r| r.state() == RecordingState::Pending))
            .map(|f| Arg::Int(f.first_seq.cast_signed()))
            .collect();
        let sql = "select call_seq, source, attempts, last_error from recording_work where call_seq";
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
