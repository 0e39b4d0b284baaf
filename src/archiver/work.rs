//! Who works on what: leases, attempts and pauses on the queue of awaited recordings (`calls::Lane`).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::calls::Lane;
use crate::db::{Arg, Db, Result, Row, Sql};
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

/// What is due in a lane, and after it what waits longer than anything can: each lane with an index of its own, and none
/// looked into when those before it gave enough.
// No lease ends after $2: a clock was ahead when it was written. Of a host that has its share, $3, nothing is taken.
fn due() -> String {
    let part = |lane: &str, from: &str, to: &str| {
        format!(
            "select * from (select w.call_seq, w.source, w.host, r.call_id, w.attempts, w.first_attempt_at, w.next_attempt_at
             from recording_work w join recordings r on r.call_seq = w.call_seq and r.source = w.source
             where w.lane = {lane} and w.next_attempt_at between {from} and {to}
               and (cast($3 as text) is null or w.host <> $3) and (w.holder is null or w.holder = $4 or w.held_until <= $1)
               and not exists (select 1 from recording_work o
                   where o.call_seq = w.call_seq and o.leased_until > $1 and o.leased_until <= $2)
             order by w.next_attempt_at limit $5) as due"
        )
    };
    let (now, jumped) = (["$6", "$7"], ["$8", "$9"]);
    let lanes = ["$10", "$11", "$12"].into_iter();
    let parts = lanes.flat_map(|lane| [now, jumped].map(|[from, to]| part(lane, from, to)));
    format!("{} limit $5", parts.collect::<Vec<_>>().join(" union all "))
}

// Several nodes choose at the same time: one has a call whose rows it could lock, all of them and none of them leased.
const LEASE: Sql = Sql::Split {
    sqlite: "update recording_work
        set first_attempt_at = $3, next_attempt_at = $4, leased_until = $5, lease_owner = $6
        where call_seq = $1 and source = $2 and not (leased_until > $7 and leased_until <= $8)",
    postgres: "update recording_work
        set first_attempt_at = $3, next_attempt_at = $4, leased_until = $5, lease_owner = $6
        where call_seq = $1 and source = $2
          and (select count(*) from recording_work where call_seq = $1)
            = (select count(*) filter (where not (leased_until > $7 and leased_until <= $8)) from
                (select leased_until from recording_work where call_seq = $1 for update skip locked) as locked)",
};

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
    // Leases go by the clock that all nodes share; pauses by this one's.
    let shared = db.shared_clock().await?.unwrap_or(now);
    let until = shared.saturating_add(micros(wanted.lease));
    let longest = until.saturating_add(micros(wanted.lease));
    // Choosing takes no lock: most looks find nothing.
    let (mut jobs, mut calls) = (Vec::new(), BTreeSet::new());
    let mut params = vec![shared.into(), longest.into(), wanted.busy.clone().into(), owner.into()];
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    params.extend([limit, i64::MIN, now, now.saturating_add(LONGEST_PAUSE), i64::MAX].map(Arg::Int));
    params.extend(wanted.lanes.map(|lane| Arg::Int(lane.number())));
    for row in &db.fetch_all(Sql::Owned(due()), &params).await? {
        let job = job(row, now)?;
        if calls.insert(job.call_seq) {
            jobs.push(job);
        }
    }
    if jobs.is_empty() {
        return Ok(jobs);
    }
    let (mut tx, mut claimed) = (db.begin().await?, Vec::with_capacity(jobs.len()));
    for job in jobs {
        let (first, source) = (job.first_attempt_at, job.source.as_str());
        let mut lease = vec![job.call_seq.into(), source.into(), first.into(), now.into(), until.into(), owner.into()];
        lease.extend([shared.into(), longest.into()]);
        if tx.execute(LEASE, &lease).await? > 0 {
            claimed.push(job);
        }
    }
    tx.commit().await?;
    fault::point("archiver.claimed");
    Ok(claimed)
}

/// Makes the leases of a node last for another while, where there are other nodes that would take what it holds.
pub(super) async fn renew(db: &Db, owner: &str, lease: Duration) -> Result<()> {
    let Some(now) = db.shared_clock().await? else { return Ok(()) };
    let until = [owner.into(), now.saturating_add(micros(lease)).into()];
    db.execute("update recording_work set leased_until = $2 where lease_owner = $1", &until).await?;
    db.execute("update recording_work set held_until = $2 where holder = $1", &until).await.map(drop)
}

/// Leaves a recording to the node that has its bytes in the spool: others could only ask the sender again, who may have
/// forgotten it.
pub(super) async fn hold(db: &Db, owner: &str, job: &Job, lease: Duration) -> Result<()> {
    let now = db.shared_clock().await?.unwrap_or(job.claimed_at);
    let sql = "update recording_work set holder = $3, held_until = $4 where call_seq = $1 and source = $2";
    let until = now.saturating_add(micros(lease));
    let params = [job.call_seq.into(), job.source.as_str().into(), owner.into(), until.into()];
    db.execute(sql, &params).await.map(drop)
}

/// What a node holds is due now.
pub(super) async fn hurry_held(db: &Db, owner: &str) -> Result<()> {
    let sql = "update recording_work set next_attempt_at = 0 where holder = $1";
    db.execute(sql, &[owner.into()]).await.map(drop)
}

/// Whether a claimed recording is still this node's: where it was out of reach for longer than its lease, another may have
/// taken it.
pub(super) async fn is_still_held(db: &Db, job: &Job, owner: &str) -> Result<bool> {
    if !db.is_shared() {
        return Ok(true);
    }
    let sql = "select lease_owner from recording_work where call_seq = $1 and source = $2";
    let row = db.fetch_optional(sql, &[job.call_seq.into(), job.source.as_str().into()]).await?;
    Ok(row.map(|row| row.opt_text("lease_owner")).transpose()?.flatten().as_deref() == Some(owner))
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
pub(super) async fn release(
    db: &Db,
    owner: &str,
    job: &Job,
    next_attempt_at: i64,
    counted: bool,
    error: &str,
) -> Result<()> {
    let attempts = job.attempts + u64::from(counted);
    let spent = if counted { 0 } else { next_attempt_at.saturating_sub(job.claimed_at) };
    let sql = "update recording_work set attempts = $3, next_attempt_at = $4, leased_until = 0, lease_owner = null,
        last_error = $5, first_attempt_at = $6, lane = case when lane = 0 then 1 else lane end
        where call_seq = $1 and source = $2 and (lease_owner = $7 or lease_owner is null)";
    let params = [
        job.call_seq.into(),
        job.source.as_str().into(),
        attempts.cast_signed().into(),
        next_attempt_at.into(),
        error.into(),
        job.first_attempt_at.saturating_add(spent).into(),
        owner.into(),
    ];
    db.execute(sql, &params).await.map(drop)
}

/// Gives a lease back without a word: the process is about to stop.
pub(super) async fn hand_back(db: &Db, owner: &str, call_seq: i64, source: &str) -> Result<()> {
    let sql = "update recording_work set leased_until = 0, lease_owner = null
        where call_seq = $1 and source = $2 and lease_owner = $3";
    db.execute(sql, &[call_seq.into(), source.into(), owner.into()]).await.map(drop)
}

/// Takes a row out of the queue whose recording is not awaited after all.
pub(super) async fn drop_stray(db: &Db, job: &Job) -> Result<()> {
    let sql =
        "delete from recording_work where call_seq = $1 and source = $2 and not exists (select 1 from recordings r
        where r.call_seq = $1 and r.source = $2 and r.state = 'pending')";
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
    let until = db.shared_clock().await?.unwrap_or(now).saturating_add(micros(lease));
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
