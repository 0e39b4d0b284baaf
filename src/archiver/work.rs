//! Who works on what: leases, attempts and pauses, in a table of their own. A row exists only while there is work.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::db::{Arg, Db, Result, Row};

/// A recording to be brought in.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) call_seq: i64,
    pub(super) source: String,
    pub(super) call_id: String,
    /// Attempts before this one.
    pub(super) attempts: u64,
    /// When the first attempt began, microseconds.
    pub(super) first_attempt_at: i64,
}

// A pause of more than seven hours was never asked for, nor was a lease that ends after $2: a clock was ahead when it
// was written, or somebody else wrote it.
const PENDING: &str = "select r.call_seq, r.source, r.call_id, coalesce(w.attempts, 0) as attempts,
        coalesce(w.first_attempt_at, $1) as first_attempt_at
    from recordings r left join recording_work w on w.call_seq = r.call_seq and w.source = r.source
    where r.state = 'pending' and (coalesce(w.leased_until, 0) <= $1 or w.leased_until > $2)
      and (coalesce(w.next_attempt_at, 0) <= $1 or w.next_attempt_at > $1 + 25200000000)
      and not exists (select 1 from recording_work o where o.call_seq = r.call_seq
                      and o.leased_until > $1 and o.leased_until <= $2)
    order by coalesce(w.attempts, 0), r.call_seq limit $3";

/// The same seven hours, in microseconds.
const LONGEST_PAUSE: i64 = 25_200_000_000;

const LEASE: &str = "insert into recording_work
        (call_seq, source, attempts, first_attempt_at, next_attempt_at, leased_until, lease_owner)
    values ($1, $2, 0, $3, 0, $4, $5)
    on conflict (call_seq, source) do update set leased_until = excluded.leased_until, lease_owner = excluded.lease_owner,
        first_attempt_at = coalesce(recording_work.first_attempt_at, excluded.first_attempt_at)";

/// Leases up to `limit` recordings that are due; of one call only one at a time, so that two addresses of the same
/// bytes never run against each other.
pub(super) async fn claim(db: &Db, now: i64, lease: Duration, limit: usize, owner: &str) -> Result<Vec<Job>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let until = now.saturating_add(micros(lease));
    // Most looks find nothing; those don't take the write lock.
    if db.fetch_all(PENDING, &[now.into(), until.into(), Arg::Int(1)]).await?.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = db.begin().await?;
    let rows = tx.fetch_all(PENDING, &[now.into(), until.into(), limit.into()]).await?;
    let (mut jobs, mut calls) = (Vec::new(), BTreeSet::new());
    for row in &rows {
        let job = job(row)?;
        if calls.insert(job.call_seq) {
            let params = [job.call_seq.into(), job.source.as_str().into(), now.into(), until.into(), owner.into()];
            tx.execute(LEASE, &params).await?;
            jobs.push(job);
        }
    }
    tx.commit().await?;
    Ok(jobs)
}

fn job(row: &Row) -> Result<Job> {
    Ok(Job {
        call_seq: row.int("call_seq")?,
        source: row.text("source")?,
        call_id: row.text("call_id")?,
        attempts: row.int("attempts")?.cast_unsigned(),
        first_attempt_at: row.int("first_attempt_at")?,
    })
}

/// Gives a lease back with the next attempt's time; `counted` where the attempt was the sender's fault.
pub(super) async fn release(db: &Db, job: &Job, next_attempt_at: i64, counted: bool, error: &str) -> Result<()> {
    let attempts = job.attempts + u64::from(counted);
    let sql = "update recording_work set attempts = $3, next_attempt_at = $4, leased_until = 0, lease_owner = null,
        last_error = $5 where call_seq = $1 and source = $2";
    let params = [
        job.call_seq.into(),
        job.source.as_str().into(),
        attempts.cast_signed().into(),
        next_attempt_at.into(),
        error.into(),
    ];
    db.execute(sql, &params).await.map(drop)
}

/// Gives a lease back without a word: the process is about to stop.
pub(super) async fn hand_back(db: &Db, job: &Job) -> Result<()> {
    let sql = "update recording_work set leased_until = 0, lease_owner = null where call_seq = $1 and source = $2";
    db.execute(sql, &[job.call_seq.into(), job.source.as_str().into()]).await.map(drop)
}

/// Nothing is left to do.
pub(super) async fn done(db: &Db, call_seq: i64, source: &str) -> Result<()> {
    let sql = "delete from recording_work where call_seq = $1 and source = $2";
    db.execute(sql, &[call_seq.into(), source.into()]).await.map(drop)
}

/// The next attempt is due now.
pub(super) async fn hurry(db: &Db, call_seq: i64, source: &str) -> Result<()> {
    let sql = "update recording_work set next_attempt_at = 0 where call_seq = $1 and source = $2";
    db.execute(sql, &[call_seq.into(), source.into()]).await.map(drop)
}

/// Whether the row of a recording still asks for it.
pub(super) async fn is_pending(db: &Db, call_seq: i64, source: &str) -> Result<bool> {
    let sql = "select call_id from recordings where call_seq = $1 and source = $2 and state = 'pending'";
    Ok(db.fetch_optional(sql, &[call_seq.into(), source.into()]).await?.is_some())
}

/// Rows that no run of ours can have written, by call number and source, for verification: a lease that ends after
/// `lease` from now, a pause longer than any, fewer attempts than none.
///
/// # Errors
/// The database.
pub async fn impossible_work(db: &Db, now: i64, lease: Duration) -> Result<Vec<(i64, String)>> {
    let sql = "select call_seq, source from recording_work where leased_until > $1 or next_attempt_at > $2
               or attempts < 0 or first_attempt_at > $2 limit 100";
    let until = now.saturating_add(micros(lease));
    let rows = db.fetch_all(sql, &[until.into(), now.saturating_add(LONGEST_PAUSE).into()]).await?;
    rows.iter().map(|row| Ok((row.int("call_seq")?, row.text("source").unwrap_or_default()))).collect()
}

/// Frees leases that a stopped process of this node held. Only for the process that holds the data directory.
pub(super) async fn free_leases_of(db: &Db, owner: &str) -> Result<u64> {
    db.execute("update recording_work set leased_until = 0, lease_owner = null where lease_owner = $1", &[owner.into()])
        .await
}

/// Removes rows whose recording is settled: a process that stops between the last entry and [`done`] leaves them, and
/// a later try by hand would inherit their attempts.
pub(super) async fn forget_settled(db: &Db) -> Result<u64> {
    let sql = "delete from recording_work where not exists (select 1 from recordings r
        where r.call_seq = recording_work.call_seq and r.source = recording_work.source and r.state = 'pending')";
    db.execute(sql, &[]).await
}

/// The spool files that unfinished work may come back to.
pub(super) async fn sources_under_way(db: &Db) -> Result<BTreeSet<(i64, String)>> {
    let rows = db.fetch_all("select call_seq, source from recordings where state = 'pending'", &[]).await?;
    rows.iter().map(|row| Ok((row.int("call_seq")?, row.text("source")?))).collect()
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
