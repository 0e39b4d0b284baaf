//! Who works on what: leases, attempts and pauses on the queue of awaited recordings (`calls::Lane`).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::calls::Lane;
use crate::db::{Arg, Db, Result, Row};
use crate::fault;

/// A recording to be brought in.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) call_seq: i64,
    pub(super) source: String,
    /// From where it is fetched.
    pub(super) host: String,
    pub(super) call_id: String,
    /// Attempts before this one.
    pub(super) attempts: u64,
    /// Since when it is tried, microseconds; moved along by what was no trying.
    pub(super) first_attempt_at: i64,
    /// When it was claimed, microseconds.
    pub(super) claimed_at: i64,
    /// The same moment, by a clock that nobody sets.
    pub(super) claimed: Instant,
}

impl Job {
    /// The same, as if it had been claimed by the clock as it goes now: a jump of it in the middle of an attempt is no time
    /// in which the sender failed.
    pub(super) fn by_the_clock(&self, now: i64) -> Self {
        let skipped = now.saturating_sub(self.claimed_at).saturating_sub(micros(self.claimed.elapsed()));
        let skipped = if skipped.abs() > LATE { skipped } else { 0 };
        Self {
            first_attempt_at: self.first_attempt_at.saturating_add(skipped),
            claimed_at: self.claimed_at.saturating_add(skipped),
            ..self.clone()
        }
    }
}

/// What comes later than this after its pause was not waiting for the sender: nobody served, or a clock jumped.
const LATE: i64 = 3_600_000_000;
/// A pause longer than this was never asked for: a clock was ahead when it was written, or somebody else wrote it.
/// Microseconds.
const LONGEST_PAUSE: i64 = 7 * 3_600_000_000;

// No lease ends after $5: a clock was ahead when it was written. Of a host that has its share, $7, nothing is taken.
const DUE: &str = "select w.call_seq, w.source, w.host, r.call_id, w.attempts, w.first_attempt_at, w.next_attempt_at
    from recording_work w join recordings r on r.call_seq = w.call_seq and r.source = w.source
    where w.lane = $2 and w.next_attempt_at between $3 and $4 and ($7 is null or w.host <> $7)
      and not exists (select 1 from recording_work o
          where o.call_seq = w.call_seq and o.leased_until > $1 and o.leased_until <= $5)
    order by w.next_attempt_at limit $6";

const LEASE: &str = "update recording_work
    set first_attempt_at = $3, next_attempt_at = $4, leased_until = $5, lease_owner = $6
    where call_seq = $1 and source = $2";

/// What may be claimed.
pub(super) struct Claim<'a> {
    /// Microseconds.
    pub(super) now: i64,
    pub(super) lease: Duration,
    pub(super) limit: usize,
    /// What is looked at first.
    pub(super) lanes: [Lane; 3],
    /// The host of which no more may be taken.
    pub(super) busy: Option<String>,
    pub(super) owner: &'a str,
}

/// Leases what is due; of one call only one at a time, so that two addresses of the same bytes never run against each
/// other.
pub(super) async fn claim(db: &Db, wanted: Claim<'_>) -> Result<Vec<Job>> {
    let Claim { now, limit, owner, .. } = wanted;
    let until = now.saturating_add(micros(wanted.lease));
    let longest = until.saturating_add(micros(wanted.lease));
    // Choosing needs no lock: only this process leases, and most looks find nothing.
    let (mut jobs, mut calls) = (Vec::new(), BTreeSet::new());
    for lane in wanted.lanes {
        for (from, to) in [(i64::MIN, now), (now.saturating_add(LONGEST_PAUSE), i64::MAX)] {
            let left = i64::try_from(limit.saturating_sub(jobs.len())).unwrap_or(i64::MAX);
            if left == 0 {
                break;
            }
            let mut params = [now, lane.number(), from, to, longest, left].map(Arg::Int).to_vec();
            params.push(wanted.busy.clone().into());
            for row in &db.fetch_all(DUE, &params).await? {
                let job = job(row, now)?;
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
    for job in &jobs {
        let (first, source) = (job.first_attempt_at, job.source.as_str());
        let lease = [job.call_seq.into(), source.into(), first.into(), now.into(), until.into(), owner.into()];
        tx.execute(LEASE, &lease).await?;
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
        host: row.text("host")?,
        call_id: row.text("call_id")?,
        attempts: row.int("attempts")?.cast_unsigned(),
        first_attempt_at: match row.opt_int("first_attempt_at")? {
            Some(first) => tried_since(first, row.int("next_attempt_at")?, now),
            None => now,
        },
        claimed_at: now,
        claimed: Instant::now(),
    })
}

/// Gives a lease back with the next attempt's time; `counted` where the attempt was the sender's fault. Otherwise the
/// time that it took does not count either.
pub(super) async fn release(db: &Db, job: &Job, next_attempt_at: i64, counted: bool, error: &str) -> Result<()> {
    let attempts = job.attempts + u64::from(counted);
    let spent = if counted { 0 } else { next_attempt_at.saturating_sub(job.claimed_at) };
    let sql = "update recording_work set attempts = $3, next_attempt_at = $4, leased_until = 0, lease_owner = null,
        last_error = $5, first_attempt_at = $6, lane = case when lane = 0 then 1 else lane end
        where call_seq = $1 and source = $2";
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

/// What a node holds leases on.
pub(super) async fn leased_by(db: &Db, owner: &str) -> Result<Vec<(i64, String)>> {
    let sql = "select call_seq, source from recording_work where lease_owner = $1";
    let rows = db.fetch_all(sql, &[owner.into()]).await?;
    rows.iter().map(|row| Ok((row.int("call_seq")?, row.text("source")?))).collect()
}

/// Whether the row of a recording still asks for it.
pub(super) async fn is_pending(db: &Db, call_seq: i64, source: &str) -> Result<bool> {
    let sql = "select call_id from recordings where call_seq = $1 and source = $2 and state = 'pending'";
    Ok(db.fetch_optional(sql, &[call_seq.into(), source.into()]).await?.is_some())
}

/// Rows that no run of ours can have written, by call number and source, for verification: a lease that ends after
/// `lease` from now, a pause longer than any, fewer attempts than none, a lane that nobody serves.
///
/// # Errors
/// The database.
pub async fn impossible_work(db: &Db, now: i64, lease: Duration) -> Result<Vec<(i64, String)>> {
    let sql = "select call_seq, source from recording_work where leased_until > $1 or next_attempt_at > $2
               or attempts < 0 or first_attempt_at > $2 or lane not between 0 and 2 limit 100";
    let until = now.saturating_add(micros(lease));
    let rows = db.fetch_all(sql, &[until.into(), now.saturating_add(LONGEST_PAUSE).into()]).await?;
    rows.iter().map(|row| Ok((row.int("call_seq")?, row.text("source").unwrap_or_default()))).collect()
}

/// Recordings that are awaited and not queued, or queued and not awaited, by call number and source, for verification.
/// The two are written in one transaction.
///
/// # Errors
/// The database.
pub async fn queue_flaws(db: &Db) -> Result<Vec<(i64, String, &'static str)>> {
    let sql = "select r.call_seq, r.source, 1 as awaited from recordings r where r.state = 'pending'
          and not exists (select 1 from recording_work w where w.call_seq = r.call_seq and w.source = r.source)
        union all select w.call_seq, w.source, 0 from recording_work w
          where not exists (select 1 from recordings r
              where r.call_seq = w.call_seq and r.source = w.source and r.state = 'pending')
        limit 100";
    let rows = db.fetch_all(sql, &[]).await?;
    let flaw = |row: &Row| {
        let why = if row.int("awaited")? == 1 { "it is awaited and not queued" } else { "nobody awaits it" };
        Ok((row.int("call_seq")?, row.text("source").unwrap_or_default(), why))
    };
    rows.iter().map(flaw).collect()
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
    fn a_jump_in_the_middle_of_an_attempt_is_no_attempt() {
        const YEAR: i64 = 8766 * 3_600_000_000;
        let job = Job {
            call_seq: 0,
            source: String::new(),
            host: String::new(),
            call_id: String::new(),
            attempts: 1,
            first_attempt_at: 50 * YEAR,
            claimed_at: 50 * YEAR + 7,
            claimed: Instant::now(),
        };
        for now in [60 * YEAR, 50 * YEAR + 8, 40 * YEAR] {
            let job = job.by_the_clock(now);
            assert_eq!(job.claimed_at - job.first_attempt_at, 7);
            assert!((now - job.claimed_at).abs() < 60_000_000, "claimed a moment ago: {}", now - job.claimed_at);
        }
    }

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
