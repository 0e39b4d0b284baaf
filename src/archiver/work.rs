//! Who works on what: leases, attempts and pauses, in a table of their own. A row exists only while there is work.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::db::{Arg, Db, Result, Row};
use crate::fault;

/// A recording to be brought in.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) call_seq: i64,
    pub(super) source: String,
    pub(super) call_id: String,
    pub(super) url: String,
    /// Attempts before this one.
    pub(super) attempts: u64,
    /// Since when it is tried, microseconds; moved along by what was no trying.
    pub(super) first_attempt_at: i64,
    /// When it was claimed, microseconds.
    pub(super) claimed_at: i64,
}

/// What comes later than this after its pause was not waiting for the sender: nobody served, or a clock jumped.
const LATE: i64 = 3_600_000_000;

// A pause of more than seven hours was never asked for, and no lease ends after $3: a clock was ahead when it was
// written.
const PENDING: &str = "select r.call_seq, r.source, r.call_id, r.url, coalesce(w.attempts, 0) as attempts,
        coalesce(w.first_attempt_at, $1) as first_attempt_at, coalesce(w.next_attempt_at, 0) as next_attempt_at
    from recordings r left join recording_work w on w.call_seq = r.call_seq and w.source = r.source
    where r.state = 'pending' and (coalesce(w.leased_until, 0) <= $1 or w.leased_until > $3)
      and (coalesce(w.next_attempt_at, 0) <= $1 or w.next_attempt_at > $1 + 25200000000)
      and not exists (select 1 from recording_work o
          where o.call_seq = r.call_seq and o.leased_until > $1 and o.leased_until <= $3)
    order by coalesce(w.attempts, 0), r.call_seq limit $2";

const LEASE: &str = "insert into recording_work
        (call_seq, source, attempts, first_attempt_at, next_attempt_at, leased_until, lease_owner)
    values ($1, $2, 0, $3, $4, $5, $6)
    on conflict (call_seq, source) do update set leased_until = excluded.leased_until, lease_owner = excluded.lease_owner,
        first_attempt_at = excluded.first_attempt_at, next_attempt_at = excluded.next_attempt_at";

/// Leases up to `limit` recordings that are due; of one call only one at a time, so that two addresses of the same
/// bytes never run against each other.
pub(super) async fn claim(db: &Db, now: i64, lease: Duration, limit: usize, owner: &str) -> Result<Vec<Job>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let until = now.saturating_add(micros(lease));
    let longest = until.saturating_add(micros(lease));
    // Most looks find nothing; those don't take the write lock.
    if db.fetch_all(PENDING, &[Arg::Int(now), Arg::Int(1), Arg::Int(longest)]).await?.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = db.begin().await?;
    let rows = tx.fetch_all(PENDING, &[Arg::Int(now), Arg::Int(limit), Arg::Int(longest)]).await?;
    let (mut jobs, mut calls) = (Vec::new(), BTreeSet::new());
    for row in &rows {
        let job = job(row, now)?;
        if calls.insert(job.call_seq) {
            let (first, source) = (job.first_attempt_at, job.source.as_str());
            let lease = [job.call_seq.into(), source.into(), first.into(), now.into(), until.into(), owner.into()];
            tx.execute(LEASE, &lease).await?;
            jobs.push(job);
        }
    }
    tx.commit().await?;
    fault::point("archiver.claimed");
    Ok(jobs)
}

/// Since when a recording is tried, seen from its next attempt: time in which nobody served, or that a clock skipped or
/// had twice, is no time in which the sender failed.
fn tried_since(first_attempt_at: i64, next_attempt_at: i64, now: i64) -> i64 {
    let late = now.saturating_sub(next_attempt_at);
    if next_attempt_at > 0 && late.abs() > LATE { first_attempt_at.saturating_add(late) } else { first_attempt_at }
}

fn job(row: &Row, now: i64) -> Result<Job> {
    Ok(Job {
        call_seq: row.int("call_seq")?,
        source: row.text("source")?,
        call_id: row.text("call_id")?,
        url: row.text("url")?,
        attempts: row.int("attempts")?.cast_unsigned(),
        first_attempt_at: tried_since(row.int("first_attempt_at")?, row.int("next_attempt_at")?, now),
        claimed_at: now,
    })
}

/// Gives a lease back with the next attempt's time; `counted` where the attempt was the sender's fault. Otherwise the
/// time that it took does not count either.
pub(super) async fn release(db: &Db, job: &Job, next_attempt_at: i64, counted: bool, error: &str) -> Result<()> {
    let attempts = job.attempts + u64::from(counted);
    let spent = if counted { 0 } else { next_attempt_at.saturating_sub(job.claimed_at) };
    let sql = "update recording_work set attempts = $3, next_attempt_at = $4, leased_until = 0, lease_owner = null,
        last_error = $5, first_attempt_at = $6 where call_seq = $1 and source = $2";
    let params = [
        job.call_seq.into(),
        job.source.as_str().into(),
        attempts.cast_signed().into(),
        next_attempt_at.into(),
        error.into(),
        job.first_attempt_at.saturating_add(spent).into(),
    ];
    db.execute(sql, &params).await.map(drop)
}

/// Gives a lease back without a word: the process is about to stop.
pub(super) async fn hand_back(db: &Db, call_seq: i64, source: &str) -> Result<()> {
    let sql = "update recording_work set leased_until = 0, lease_owner = null where call_seq = $1 and source = $2";
    db.execute(sql, &[call_seq.into(), source.into()]).await.map(drop)
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

/// What a node holds leases on.
pub(super) async fn leased_by(db: &Db, owner: &str) -> Result<Vec<(i64, String)>> {
    let sql = "select call_seq, source from recording_work where lease_owner = $1";
    let rows = db.fetch_all(sql, &[owner.into()]).await?;
    rows.iter().map(|row| Ok((row.int("call_seq")?, row.text("source")?))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trying_counts_as_trying() {
        const HOUR: i64 = 3_600_000_000;
        const YEAR: i64 = 8766 * HOUR;
        let since = |next: i64, now: i64| tried_since(100 * YEAR, 100 * YEAR + next, 100 * YEAR + now) - 100 * YEAR;
        assert_eq!(since(HOUR, HOUR + 5), 0, "in time");
        assert_eq!(since(HOUR, 50 * HOUR), 49 * HOUR, "nobody served for two days");
        assert_eq!(since(HOUR, HOUR + YEAR), YEAR, "the clock jumped forth");
        assert_eq!(since(HOUR, HOUR - YEAR), -YEAR, "the clock jumped back");
        assert_eq!(tried_since(7, 0, YEAR), 7, "hurried by hand");
    }
}
