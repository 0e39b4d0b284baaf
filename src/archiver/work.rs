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
    pub(super) url: String,
    /// Attempts before this one.
    pub(super) attempts: u64,
    /// When the first attempt began, microseconds.
    pub(super) first_attempt_at: i64,
}

// A pause of more than seven hours was never asked for: a clock was ahead when it was written.
// Of a host that has its share already nothing is taken: $3 is what its URLs are like, in lower case.
const PENDING: &str = "select r.call_seq, r.source, r.call_id, r.url, coalesce(w.attempts, 0) as attempts,
        coalesce(w.first_attempt_at, $1) as first_attempt_at
    from recordings r left join recording_work w on w.call_seq = r.call_seq and w.source = r.source
    where r.state = 'pending' and coalesce(w.leased_until, 0) <= $1
      and (coalesce(w.next_attempt_at, 0) <= $1 or w.next_attempt_at > $1 + 25200000000)
      and lower(r.url) not like $3 escape '\\'
      and not exists (select 1 from recording_work o where o.call_seq = r.call_seq and o.leased_until > $1)
    order by coalesce(w.attempts, 0), r.call_seq limit $2";

const LEASE: &str = "insert into recording_work
        (call_seq, source, attempts, first_attempt_at, next_attempt_at, leased_until, lease_owner)
    values ($1, $2, 0, $3, 0, $4, $5)
    on conflict (call_seq, source) do update set leased_until = excluded.leased_until, lease_owner = excluded.lease_owner,
        first_attempt_at = coalesce(recording_work.first_attempt_at, excluded.first_attempt_at)";

/// The host of a URL with its port, as two URLs of one host have it in common; empty where there is none.
pub(super) fn host_of(url: &str) -> String {
    let url = url.to_ascii_lowercase();
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#', '\\']).next().unwrap_or_default().to_owned()
}

/// What the URLs of a host are like.
fn like(host: &str) -> String {
    let escaped = host.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%://{escaped}/%")
}

/// Leases up to `limit` recordings that are due, none of them of the host `busy`; of one call only one at a time, so that two addresses of the same
/// bytes never run against each other.
pub(super) async fn claim(
    db: &Db,
    now: i64,
    lease: Duration,
    limit: usize,
    busy: Option<&str>,
    owner: &str,
) -> Result<Vec<Job>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // Most looks find nothing; those don't take the write lock.
    let busy = Arg::from(busy.map_or_else(String::new, like));
    if db.fetch_all(PENDING, &[Arg::Int(now), Arg::Int(1), busy.clone()]).await?.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = db.begin().await?;
    let rows = tx.fetch_all(PENDING, &[Arg::Int(now), Arg::Int(limit), busy]).await?;
    let until = now.saturating_add(micros(lease));
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
        url: row.text("url")?,
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
