//! The tables `calls` and `recordings`: nothing but what follows from entries, kept in the appending transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;

use super::due::{self, Touched};
use super::facts::{Facts, FoldError};
use super::flag_rows;
use super::recent::{Folded, RecentCalls};
use super::records::{ArchiveReceipt, ReviewRecord};
use super::view::RecordingState;
use crate::db::ColumnType::{self, Bool, Int, Text};
use crate::db::{Arg, Ask, Error, Result, Row, Rows, Tx};
use crate::intake::is_call_subject;
use crate::journal::{Appended, Kind, NewEntry, Projection, ProjectionError, about_in};

const INTO_CALLS: &str = "insert into calls (first_seq, call_id, subject, last_seq, facts, status, recording_state,
    open_since, recording_due_since)";
const CALLS: &[ColumnType] = &[Int, Text, Text, Int, Text, Text, Text, Int, Int];
const UPSERT_CALLS: &str = "on conflict (first_seq) do update set last_seq = excluded.last_seq, facts = excluded.facts,
    status = excluded.status, recording_state = excluded.recording_state, open_since = excluded.open_since,
    recording_due_since = excluded.recording_due_since";
const INTO_RECORDINGS: &str =
    "insert into recordings (call_seq, source, call_id, url, state, sha256, object_key, vcon_key, analysed)";
const RECORDINGS: &[ColumnType] = &[Int, Text, Text, Text, Text, Text, Text, Text, Bool];
const UPSERT_RECORDINGS: &str = "on conflict (call_seq, source) do update set state = excluded.state, url = excluded.url,
    sha256 = excluded.sha256, object_key = excluded.object_key, vcon_key = excluded.vcon_key, analysed = excluded.analysed";

/// Keeps the projection of calls.
pub struct CallProjection {
    pub(super) recent: RecentCalls,
}

#[async_trait]
impl Projection for CallProjection {
    fn ask(&self, entries: &[NewEntry]) -> Option<Ask> {
        let of_call = |entry: &&NewEntry| concerns_call(entry.kind, entry.subject.as_deref());
        let subjects: BTreeSet<&String> = entries.iter().filter(of_call).filter_map(|e| e.subject.as_ref()).collect();
        let keys = subjects.into_iter().map(|subject| Arg::from(subject.as_str())).collect();
        Some(Ask::ByKeys { head: "select subject, facts, recording_state from calls where subject", keys })
    }

    /// Of a recording the first receipt stands. Where a node was out of reach for so long that another took its work over,
    /// both may come with one.
    fn said_before(&self, known: &[Row], entries: &[NewEntry]) -> HashMap<usize, u64> {
        let mut receipts =
            entries.iter().enumerate().filter(|(_, entry)| entry.kind == Kind::RecordingArchived).peekable();
        if receipts.peek().is_none() {
            return HashMap::new();
        }
        let subject = |row| Row::text(row, "subject").ok().map(|subject| (subject, row));
        let calls: HashMap<String, &Row> = known.iter().filter_map(subject).collect();
        let first = |(place, entry): (usize, &NewEntry)| {
            let facts = parse(calls.get(entry.subject.as_ref()?)?).ok()?;
            let receipt: ArchiveReceipt = serde_json::from_slice(&entry.body.bytes).ok()?;
            let (seq, ..) = facts.recordings.get(&receipt.source)?.receipt.as_ref()?;
            Some((place, *seq))
        };
        receipts.filter_map(first).collect()
    }

    /// Nothing more is kept of a call that was destroyed.
    fn not_kept(&self, known: &[Row], entries: &[NewEntry]) -> HashSet<usize> {
        let gone = |row: &Row| {
            let destroyed = row.text("recording_state").ok()? == RecordingState::Destroyed.as_str();
            destroyed.then(|| row.text("subject").ok())?
        };
        let gone: HashSet<String> = known.iter().filter_map(gone).collect();
        let webhook = |kind| matches!(kind, Kind::WebhookReceived | Kind::WebhookImported);
        let about = |entry: &NewEntry| webhook(entry.kind) && entry.subject.as_ref().is_some_and(|s| gone.contains(s));
        entries.iter().enumerate().filter(|(_, entry)| about(entry)).map(|(place, _)| place).collect()
    }

    async fn apply(&self, tx: &mut Tx, known: Vec<Row>, batch: &[Appended]) -> Result<Vec<Rows>, ProjectionError> {
        let mut touched: BTreeMap<&str, Vec<&Appended>> = BTreeMap::new();
        for appended in batch {
            if let Some(subject) = &appended.entry.subject
                && concerns_call(appended.entry.kind, Some(subject))
            {
                touched.entry(subject).or_default().push(appended);
            }
        }
        let first = batch.first().map_or(0, |appended| appended.entry.seq);
        let mut known = read(tx, &known, first).await?;
        let (mut calls, mut recordings, mut all_folded) = (Vec::new(), Vec::new(), Vec::new());
        for (subject, entries) in touched {
            let mut facts = known.remove(subject);
            for appended in entries {
                may_follow(facts.as_ref(), appended)?;
                let folded = match appended.understood.as_ref().and_then(|known| known.downcast_ref()) {
                    Some(event) => Facts::fold_event(facts, &appended.entry, Some(event)),
                    None => Facts::fold(facts, &appended.entry, &appended.body),
                };
                facts = Some(folded.map_err(|error| ProjectionError::Entry(error.to_string()))?);
            }
            if let Some(facts) = facts {
                let columns = Columns::of(&facts, subject)?;
                recordings.extend(Touched::all_of(&facts));
                let (subject, bytes) = (subject.to_owned(), columns.facts.len());
                all_folded.push(Folded { subject, facts: Arc::new(facts), bytes });
                calls.push(columns.into_args());
            }
        }
        let flags = flag_rows::rows(all_folded.iter().map(|folded| (&*folded.facts, folded.subject.as_str())));
        self.recent.stage(all_folded);
        let rows = recordings.iter().map(|touched| touched.row.args()).collect();
        let ([awaited, settled], [flags, flags_gone]) = (due::rows(&recordings), flags);
        Ok(vec![
            Rows { head: INTO_CALLS, types: CALLS, rows: calls, tail: UPSERT_CALLS },
            Rows { head: INTO_RECORDINGS, types: RECORDINGS, rows, tail: UPSERT_RECORDINGS },
            awaited,
            settled,
            flags,
            flags_gone,
        ])
    }

    fn committed(&self) {
        self.recent.committed();
    }
}

fn concerns_call(kind: Kind, subject: Option<&str>) -> bool {
    kind.concerns_call() && subject.is_some_and(is_call_subject)
}

/// Which comes first, a hold or the destruction, a review or another, the journal decides: what comes second is refused.
/// Webhooks are never refused.
fn may_follow(facts: Option<&Facts>, appended: &Appended) -> Result<(), ProjectionError> {
    let refused = |why: &str| Err(ProjectionError::Refused(why.to_owned()));
    let Some(facts) = facts else { return Ok(()) };
    match appended.entry.kind {
        Kind::WebhookReceived | Kind::WebhookImported => Ok(()),
        Kind::CallDestroying if facts.held_by().next().is_some() => refused("the call is under a legal hold"),
        Kind::CallDestroying if facts.recordings.values().any(|r| r.retain_until() > Some(appended.entry.at)) => {
            refused("a recording of the call is kept for longer")
        }
        Kind::CallDestroying if facts.is_gone() => refused("the call is being destroyed already"),
        Kind::CallDestroyed if facts.destroyed.is_some() => refused("the call is destroyed already"),
        Kind::CallDestroyed if facts.destroying.is_none() => refused("nobody decided to destroy the call"),
        Kind::CallDestroying | Kind::CallDestroyed => Ok(()),
        _ if facts.is_gone() => refused("the call is destroyed"),
        Kind::FlagReviewed => {
            let said: ReviewRecord = serde_json::from_slice(&appended.body)
                .map_err(|error| ProjectionError::Entry(format!("the body of a review can't be read: {error}")))?;
            facts.not_reviewable(&said.rule).map_or(Ok(()), refused)
        }
        _ => Ok(()),
    }
}

/// What is known of calls before entry `first`. A row that does not read back is folded again from the journal, which is
/// what it followed from; the entry that comes now replaces it.
async fn read(tx: &mut Tx, rows: &[Row], first: u64) -> Result<BTreeMap<String, Facts>> {
    let mut known = BTreeMap::new();
    for row in rows {
        let subject = row.text("subject")?;
        let facts = match parse(row) {
            Ok(facts) => facts,
            Err(_) => {
                tracing::error!(subject, "the row of a call is damaged; folding the call again from the journal");
                fold_again(tx, &subject, first).await?
            }
        };
        known.insert(subject, facts);
    }
    Ok(known)
}

async fn fold_again(tx: &mut Tx, subject: &str, first: u64) -> Result<Facts> {
    let records = about_in(tx, subject, first).await?;
    let damaged = |(seq, why): (u64, FoldError)| Error::Damaged(format!("journal entry {seq}: {why}"));
    Facts::of_history(records.iter())
        .map_err(damaged)?
        .ok_or_else(|| Error::Damaged(format!("the journal knows nothing of the call with the key {subject}")))
}

/// The facts in a row.
pub(super) fn parse(row: &Row) -> Result<Facts> {
    serde_json::from_str(&row.text("facts")?)
        .map_err(|_| Error::Damaged("a call's facts do not read back: run callvault verify".into()))
}

/// A row of `calls`: all of it follows from the facts.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    pub first_seq: i64,
    pub call_id: String,
    pub subject: String,
    pub last_seq: i64,
    pub facts: String,
    pub status: String,
    pub recording_state: String,
    /// Since when the call is open, microseconds; NULL once it ended or was flagged for not ending.
    pub open_since: Option<i64>,
    /// Since when a recording is awaited, microseconds; NULL once it came or was flagged for not coming.
    pub recording_due_since: Option<i64>,
}

impl Columns {
    /// The row that these facts give.
    ///
    /// # Errors
    /// The facts have no JSON form.
    pub fn of(facts: &Facts, subject: &str) -> Result<Self> {
        let flagged = |rule: &str| facts.flags.get(rule).is_some_and(super::facts::FlagFacts::is_open);
        let awaited =
            facts.recordings.values().filter(|r| r.state() == RecordingState::Pending).map(|r| r.received).min();
        Ok(Self {
            first_seq: facts.first_seq.cast_signed(),
            call_id: facts.call_id.clone(),
            subject: subject.to_owned(),
            last_seq: facts.last_seq.cast_signed(),
            facts: serde_json::to_string(facts).map_err(|error| Error::Damaged(error.to_string()))?,
            status: facts.status().as_str().to_owned(),
            recording_state: facts.recording_state().as_str().to_owned(),
            open_since: facts.open_since().filter(|_| !flagged("call_overdue")),
            recording_due_since: awaited.filter(|_| !flagged("recording_overdue")),
        })
    }

    /// The row as it is stored.
    ///
    /// # Errors
    /// A column is absent or of another type.
    pub fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            first_seq: row.int("first_seq")?,
            call_id: row.text("call_id")?,
            subject: row.text("subject")?,
            last_seq: row.int("last_seq")?,
            facts: row.text("facts")?,
            status: row.text("status")?,
            recording_state: row.text("recording_state")?,
            open_since: row.opt_int("open_since")?,
            recording_due_since: row.opt_int("recording_due_since")?,
        })
    }

    fn into_args(self) -> Vec<Arg> {
        vec![
            self.first_seq.into(),
            self.call_id.into(),
            self.subject.into(),
            self.last_seq.into(),
            self.facts.into(),
            self.status.into(),
            self.recording_state.into(),
            self.open_since.into(),
            self.recording_due_since.into(),
        ]
    }
}

/// A row of `recordings`: one URL of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingRow {
    pub call_seq: i64,
    pub source: String,
    pub call_id: String,
    pub url: String,
    pub state: String,
    pub sha256: Option<String>,
    pub object_key: Option<String>,
    pub vcon_key: Option<String>,
    pub analysed: bool,
}

impl RecordingRow {
    /// The rows that these facts give, in the order of their sources.
    #[must_use]
    pub fn all_of(facts: &Facts) -> Vec<Self> {
        let row = |(source, recording): (&String, &super::facts::RecordingFacts)| {
            let receipt = recording.receipt.as_ref().map(|(.., receipt)| receipt);
            Self {
                call_seq: facts.first_seq.cast_signed(),
                source: source.clone(),
                call_id: facts.call_id.clone(),
                url: recording.url.clone(),
                state: recording.state().as_str().to_owned(),
                sha256: receipt.map(|r| r.sha256.clone()),
                object_key: receipt.map(|r| r.object_key.clone()),
                vcon_key: receipt.map(|r| r.vcon_key.clone()),
                analysed: recording.analysis.is_some(),
            }
        };
        facts.recordings.iter().map(row).collect()
    }

    /// The row as it is stored.
    ///
    /// # Errors
    /// A column is absent or of another type.
    pub fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            call_seq: row.int("call_seq")?,
            source: row.text("source")?,
            call_id: row.text("call_id")?,
            url: row.text("url")?,
            state: row.text("state")?,
            sha256: row.opt_text("sha256")?,
            object_key: row.opt_text("object_key")?,
            vcon_key: row.opt_text("vcon_key")?,
            analysed: row.bool("analysed")?,
        })
    }

    fn args(&self) -> Vec<Arg> {
        vec![
            self.call_seq.into(),
            self.source.as_str().into(),
            self.call_id.as_str().into(),
            self.url.as_str().into(),
            self.state.as_str().into(),
            self.sha256.clone().into(),
            self.object_key.clone().into(),
            self.vcon_key.clone().into(),
            self.analysed.into(),
        ]
    }
}
