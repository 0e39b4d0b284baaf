//! Brings the store in step with `kept`: moves locks to later dates, and sets and lifts legal holds. What is to be done
//! stands in the rows, so that it goes on where it was after any crash.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt, stream};
use jiff::{Timestamp, ToSpan};

use super::{Custody, CustodyError};
use crate::calls::Facts;
use crate::calls::records::ExtensionRecord;
use crate::clock::from_micros;
use crate::db::{Row, Sql};
use crate::fault;
use crate::intake::call_key;
use crate::journal::{Body, Kind, NewEntry};
use crate::objects::StoreError;

/// Rows in one round.
const ROUND: u64 = 200;
/// Recordings at the same time.
const AT_ONCE: usize = 8;
/// What the store refuses is tried again after this long.
const REFUSED_PAUSE: Duration = Duration::from_secs(15 * 60);

/// Rows that the store refused lately.
pub(super) type Refused = HashMap<(i64, String), Instant>;

/// A row whose object is not kept as it should be.
struct Behind {
    call_seq: i64,
    source: String,
    subject: String,
    policy: String,
    policy_sha256: String,
    lock_wanted: i64,
    locked_until: i64,
    held: bool,
    held_in_store: bool,
}

impl Behind {
    fn from_row(row: &Row) -> crate::db::Result<Self> {
        Ok(Self {
            call_seq: row.int("call_seq")?,
            source: row.text("source")?,
            subject: row.text("subject")?,
            policy: row.text("policy")?,
            policy_sha256: row.text("policy_sha256")?,
            lock_wanted: row.int("lock_wanted")?,
            locked_until: row.int("locked_until")?,
            held: row.bool("held")?,
            held_in_store: row.bool("held_in_store")?,
        })
    }
}

impl Custody {
    /// One round; `true` where there is more to do.
    pub(super) async fn bring_store_in_step(&self) -> Result<bool, CustodyError> {
        self.roll_on().await?;
        let sql = format!(
            "select call_seq, source, subject, policy, policy_sha256, lock_wanted, locked_until, held, held_in_store
             from kept where destroyed_at is null and (lock_wanted > locked_until or held <> held_in_store)
             and disposition is null and lock_wanted is not null order by call_seq, source limit {}",
            ROUND + self.refused().len() as u64
        );
        let rows = self.db.fetch_all(sql, &[]).await?;
        let mut behind = rows.iter().map(Behind::from_row).collect::<Result<Vec<_>, _>>()?;
        {
            let mut refused = self.refused();
            refused.retain(|_, since| since.elapsed() < REFUSED_PAUSE);
            behind.retain(|row| !refused.contains_key(&(row.call_seq, row.source.clone())));
        }
        let more = behind.len() as u64 >= ROUND;
        let mut work = stream::iter(behind).map(|row| self.bring_in_step(row).boxed()).buffer_unordered(AT_ONCE);
        while let Some(outcome) = work.next().await {
            outcome?;
        }
        drop(work);
        let refused = self.refused().len();
        metrics::gauge!("callvault_retention_refused").set(refused as f64);
        match refused {
            0 => self.health.clear("locks"),
            many => self.health.report(
                "locks",
                format!("the store refuses to keep {many} recordings as long as they must be: see the log"),
            ),
        }
        Ok(more)
    }

    /// While a date is open, the lock goes on before it ends.
    async fn roll_on(&self) -> Result<(), CustodyError> {
        let year = |from: Timestamp, years: i64| from.checked_add((years * 366 * 24).hours()).unwrap_or(Timestamp::MAX);
        let now = self.clock.now();
        let sql = "update kept set lock_wanted = $1 where due_at = $2 and destroyed_at is null and locked_until < $3";
        let params = [year(now, 2).as_microsecond().into(), i64::MAX.into(), year(now, 1).as_microsecond().into()];
        self.db.execute(Sql::from(sql), &params).await?;
        Ok(())
    }

    async fn bring_in_step(&self, row: Behind) -> Result<(), CustodyError> {
        let found = self.calls.facts_of(std::slice::from_ref(&row.subject)).await?;
        let Some(facts) = found.facts.into_iter().next() else { return Ok(()) };
        let done = match self.hold_in_store(&row, &facts).await {
            Ok(()) => self.extend_in_store(&row, &facts).await,
            refused => refused,
        };
        match done {
            Err(CustodyError::Store(error)) if !error.is_outage() => {
                tracing::error!(%error, call_id = facts.call_id, "a recording can't be kept as it must be");
                self.refused().insert((row.call_seq, row.source), Instant::now());
                Ok(())
            }
            done => done,
        }
    }

    async fn hold_in_store(&self, row: &Behind, facts: &Facts) -> Result<(), CustodyError> {
        if row.held == row.held_in_store {
            return Ok(());
        }
        if self.store.locks() {
            for object in facts.objects() {
                self.store.set_legal_hold(&object.key, object.version.as_deref(), row.held).await?;
            }
        }
        fault::point("custody.held");
        let sql = "update kept set held_in_store = $3 where call_seq = $1 and source = $2";
        self.db.execute(sql, &[row.call_seq.into(), row.source.as_str().into(), row.held.into()]).await?;
        Ok(())
    }

    async fn extend_in_store(&self, row: &Behind, facts: &Facts) -> Result<(), CustodyError> {
        if row.lock_wanted <= row.locked_until {
            return Ok(());
        }
        let until = from_micros(row.lock_wanted);
        if self.store.locks() {
            for object in facts.objects() {
                match self.store.extend_retention(&object.key, object.version.as_deref(), until).await {
                    // Another recording of the call asked for more already.
                    Err(StoreError::Shortened { until: known, .. }) if known >= until => {}
                    other => other?,
                }
            }
        }
        fault::point("custody.extended");
        let record = ExtensionRecord {
            call_id: facts.call_id.clone(),
            source: row.source.clone(),
            retain_until: until,
            policy: row.policy.clone(),
            policy_sha256: row.policy_sha256.clone(),
        };
        let subject = Some(call_key(&facts.call_id));
        let entry = NewEntry::new(Kind::RetentionExtended, "system", subject, Body::of_json(&record)?);
        self.journal.append(vec![entry]).await?;
        // The journal says so; the rows that follow it will say the same.
        let sql = "update kept set locked_until = $3 where call_seq = $1 and source = $2 and locked_until < $3";
        self.db.execute(sql, &[row.call_seq.into(), row.source.as_str().into(), row.lock_wanted.into()]).await?;
        metrics::counter!("callvault_retention_extended_total").increment(1);
        Ok(())
    }

    /// How many recordings the store does not keep yet as they must be.
    ///
    /// # Errors
    /// The database.
    pub async fn behind(&self) -> crate::db::Result<u64> {
        let sql = "select count(*) as n from kept where destroyed_at is null
            and (lock_wanted > locked_until or held <> held_in_store) and lock_wanted is not null";
        Ok(self.db.fetch_one(sql, &[]).await?.int("n")?.cast_unsigned())
    }
}
