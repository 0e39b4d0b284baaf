//! Who works on what: leases, attempts and pauses on the queue of awaited recordings (`calls::Lane`).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::calls::Lane;
use crate::db::{Arg, Db, Result, Row};

/// A recording to be brought in.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) call_seq: i64,
    pub(super) source: String,
    pub(super) call_id: String,
    pub(super) url: String,
    /// Attempts before this one.
    pub(super) attempts: u64,
    /// When the first attempt began, microseconds.
    pub(super) first_attempt_at: i64,
}

/// A pause or a lease that ends later than this was never asked for: a clock was ahead when it was written. Microseconds.
const LONGEST_WAIT: i64 = 7 * 3600 * 1_000_000;

const DUE: &str = "select w.call_seq, w.source, r.call_id, r.url, w.attempts, coalesce(w.first_attempt_at, $1) as first_attempt_at
    from recording_work w join recordings r on r.call_seq = w.call_seq and r.source = w.source
    where w.lane = $2 and w.next_attempt_at between $3 and $4 and ($7 is null or w.host <> $7)
      and not exists (select 1 from recording_work o where o.call_seq = w.call_seq and o.leased_until between $1 + 1 and $1 + $5)
    order by w.next_attempt_at limit $6";

const LEASE: &str = "update recording_work set leased_until = $4, next_attempt_at = $4, lease_owner = $5,
        first_attempt_at = coalesce(first_attempt_at, $3)
    where call_seq = $1 and source = $2";

/// Leases up to `limit` recordings that are due, none of them of the host `busy`; of one call only one at a time, so that
/// two addresses of the same bytes never run against each other. `lanes` says what is looked at first.
pub(super) async fn claim(
    db: &Db,
    now: i64,
    lease: Duration,
    limit: usize,
    lanes: [Lane; 3],
    busy: Option<&str>,
    owner: &str,
) -> Result<Vec<Job>> {
    let int = |number: i64| Arg::Int(number);
    let busy = Arg::from(busy.map(str::to_owned));
    // Choosing needs no lock: only this process leases, and most looks find nothing.
    let (mut jobs, mut calls) = (Vec::new(), BTreeSet::new());
    for lane in lanes {
        for (from, to) in [(i64::MIN, now), (now.saturating_add(LONGEST_WAIT), i64::MAX)] {
            let left = limit - jobs.len();
            if left == 0 {
                break;
            }
            let left = i64::try_from(left).unwrap_or(i64::MAX);
            let params = [int(now), int(lane.number()), int(from), int(to), int(LONGEST_WAIT), int(left), busy.clone()];
            for row in &db.fetch_all(DUE, &params).await? {
                let job = job(row)?;
                if calls.insert(job.call_seq) {
                    jobs.push(job);
                }
            }
        }
    }
    if jobs.is_empty() {
        return Ok(jobs);
    }
    let mut tx = db.begin().await?;
    let until = now.saturating_add(micros(lease));
    for job in &jobs {
        let params = [job.call_seq.into(), job.source.as_str().into(), now.into(), until.into(), owner.into()];
        tx.execute(LEASE, &params).await?;
    }
    tx.commit().await?;
    Ok(jobs)
}

fn job(row: &Row) -> Result<Job> {
    Ok(Job {
        call_seq: row.int("call_seq")?,
        source: row.text("source")?,
        call_id: row.text("call_id")?,
        url: row.text("url")?,
        attempts: row.int("attempts")?.cast_unsigned(),
        first_attempt_at: row.int("first_attempt_at")?,
    })
}

/// Gives a lease back with the next attempt's time; `counted` where the attempt was the sender's fault.
pub(super) async fn release(db: &Db, job: &Job, next_attempt_at: i64, counted: bool, error: &str) -> Result<()> {
    let attempts = job.attempts + u64::from(counted);
    let sql = "update recording_work set attempts = $3, next_attempt_at = $4, leased_until = 0, lease_owner = null,
        last_error = $5, lane = case when lane = 0 then 1 else lane end where call_seq = $1 and source = $2";
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
    let sql = "update recording_work set leased_until = 0, next_attempt_at = 0, lease_owner = null
        where call_seq = $1 and source = $2";
    db.execute(sql, &[job.call_seq.into(), job.source.as_str().into()]).await.map(drop)
}

/// Takes a row out of the queue whose recording is not awaited after all.
pub(super) async fn drop_stray(db: &Db, job: &Job) -> Result<()> {
    let sql = "delete from recording_work where call_seq = $1 and source = $2";
    db.execute(sql, &[job.call_seq.into(), job.source.as_str().into()]).await.map(drop)
}

/// The next attempt is due now.
pub(super) async fn hurry(db: &Db, call_seq: i64, source: &str) -> Result<()> {
    let sql = "update recording_work set next_attempt_at = 0 where call_seq = $1 and source = $2";
    db.execute(sql, &[call_seq.into(), source.into()]).await.map(drop)
}

/// Frees leases that a stopped process of this node held. Only for the process that holds the data directory.
pub(super) async fn free_leases_of(db: &Db, owner: &str) -> Result<u64> {
    let sql =
        "update recording_work set leased_until = 0, next_attempt_at = 0, lease_owner = null where lease_owner = $1";
    db.execute(sql, &[owner.into()]).await
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
    fn hosts_and_what_their_urls_are_like() {
        assert_eq!(host_of("https://A.Example:8443/x?y"), "a.example:8443");
        assert_eq!(host_of("http://[::1]:9?x=/"), "[::1]:9");
        assert_eq!(host_of("no url"), "");
        assert_eq!(like("a_b%.example"), "%://a\\_b\\%.example/%");
    }
}
