//! The queue of recordings that are awaited: a row from the transaction that announces a recording to the one that settles
//! it. Whoever works on it (`archiver`) adds leases, attempts and pauses.

use super::facts::Facts;
use super::project::RecordingRow;
use super::view::RecordingState;
use crate::db::ColumnType::{Int, Text};
use crate::db::{Arg, Db, Result, Row, Rows};

/// Which recordings are taken first. A link lives for a short while only, so what was never tried comes before what
/// failed once, and both before the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Fresh = 0,
    Again = 1,
    /// Brought in by an import.
    Backlog = 2,
}

impl Lane {
    pub const ALL: [Self; 3] = [Self::Fresh, Self::Again, Self::Backlog];

    /// As it is stored.
    #[must_use]
    pub fn number(self) -> i64 {
        self as i64
    }
}

/// One recording of a call that a batch touched.
pub(super) struct Touched {
    pub(super) row: RecordingRow,
    pub(super) imported: bool,
    /// When it became known, microseconds.
    pub(super) received: i64,
}

/// What puts what is awaited into the queue, and what takes out what is settled.
pub(super) fn rows(touched: &[Touched]) -> [Rows; 2] {
    let (awaited, settled): (Vec<&Touched>, Vec<&Touched>) =
        touched.iter().partition(|recording| recording.row.state == RecordingState::Pending.as_str());
    [
        into_queue(awaited.into_iter().map(Touched::queued).collect()),
        Rows {
            head: "delete from recording_work where (call_seq, source) in (",
            types: &[Int, Text],
            rows: settled.into_iter().map(Touched::key).collect(),
            tail: ")",
        },
    ]
}

impl Touched {
    pub(super) fn all_of(facts: &Facts) -> impl Iterator<Item = Self> {
        let received = facts.recordings.values().map(|recording| recording.received);
        let touched = |(row, received)| Self { row, imported: facts.imported, received };
        RecordingRow::all_of(facts).into_iter().zip(received).map(touched)
    }

    fn key(&self) -> Vec<Arg> {
        vec![self.row.call_seq.into(), self.row.source.as_str().into()]
    }

    fn queued(&self) -> Vec<Arg> {
        let lane = if self.imported { Lane::Backlog } else { Lane::Fresh };
        queued(self.row.call_seq, &self.row.source, &self.row.url, lane, self.received)
    }
}

fn into_queue(rows: Vec<Vec<Arg>>) -> Rows {
    Rows {
        head: "insert into recording_work (call_seq, source, host, lane, next_attempt_at, leased_until, attempts)",
        types: &[Int, Text, Text, Int, Int, Int, Int],
        rows,
        tail: "on conflict (call_seq, source) do nothing",
    }
}

fn queued(call_seq: i64, source: &str, url: &str, lane: Lane, due_at: i64) -> Vec<Arg> {
    vec![call_seq.into(), source.into(), host_of(url).into(), lane.number().into(), due_at.into(), 0.into(), 0.into()]
}

/// The host of a URL with its port, as two URLs of one host have it in common; empty where there is none.
#[must_use]
pub fn host_of(url: &str) -> String {
    let url = url.to_ascii_lowercase();
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#', '\\']).next().unwrap_or_default().to_owned()
}

/// Brings the queue in step with the recordings, whatever happened to it: a row that is lacking would be a recording that
/// is never fetched. Returns how many rows were put in or taken out.
///
/// # Errors
/// The database.
pub async fn mend_queue(db: &Db) -> Result<u64> {
    let lacking = "select r.call_seq, r.source, r.url from recordings r where r.state = 'pending'
          and not exists (select 1 from recording_work w where w.call_seq = r.call_seq and w.source = r.source)";
    let settled = "delete from recording_work where not exists (select 1 from recordings r
        where r.call_seq = recording_work.call_seq and r.source = recording_work.source and r.state = 'pending')";
    let mut tx = db.begin().await?;
    let again = |row: &Row| {
        let (source, url) = (row.text("source")?, row.text("url")?);
        Ok(queued(row.int("call_seq")?, &source, &url, Lane::Again, 0))
    };
    let rows = tx.fetch_all(lacking, &[]).await?.iter().map(again).collect::<Result<Vec<_>>>()?;
    let mended = tx.write(vec![into_queue(rows)]).await? + tx.execute(settled, &[]).await?;
    tx.commit().await?;
    Ok(mended)
}
