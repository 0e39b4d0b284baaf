//! Brings another set of policies into force, if it keeps nothing for less than the one before.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use jiff::Timestamp;
use serde::Serialize;

use super::keeper::Judge;
use super::kept::Judgeable;
use super::{Custody, CustodyError};
use crate::clock::from_micros;
use crate::journal::{Body, Kind, NewEntry};
use crate::retention::{Adoption, Kept, PolicySet, adopted_sets, client_events};

/// Rows that are compared in one step.
const STEP: u64 = 20_000;
/// Calls that are named at most.
pub const NAMED: usize = 1000;

/// A call that another set keeps until another date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// The call's key, or the entry of a body in quarantine.
    pub what: String,
    pub from: Timestamp,
    /// Absent where the new date waits for an event.
    pub to: Option<Timestamp>,
    pub policy: String,
}

/// What a set would change, call by call.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    pub from_sha256: String,
    pub to_sha256: String,
    /// Rows that were compared.
    pub compared: u64,
    pub longer: u64,
    /// Kept for less: then the set is refused.
    pub shorter: u64,
    /// By policy of the new set: recordings and calls that it keeps for longer.
    pub by_policy: BTreeMap<String, u64>,
    /// Days by which all together are kept longer; what waits for an event is not in it.
    pub days: f64,
    /// What that adds in storage: bytes times days.
    pub byte_days: f64,
    /// At most [`NAMED`] of those that are kept for longer.
    pub longer_named: Vec<Moved>,
    /// At most [`NAMED`] of those that would be kept for less.
    pub shorter_named: Vec<Moved>,
}

impl Difference {
    fn take(&mut self, row: &Judgeable, old: &Kept, new: &Kept) {
        self.compared += 1;
        let date = |kept: &Kept| if kept.open_ended { Timestamp::MAX } else { kept.until };
        let (from, to) = (date(old), date(new));
        if from == to {
            return;
        }
        let what = if row.subject.is_empty() { format!("journal entry {}", row.call_seq) } else { row.subject.clone() };
        let moved = Moved { what, from, to: (!new.open_ended).then_some(to), policy: new.policy.clone() };
        let (count, named) = match to > from {
            true => (&mut self.longer, &mut self.longer_named),
            false => (&mut self.shorter, &mut self.shorter_named),
        };
        *count += 1;
        if named.len() < NAMED {
            named.push(moved);
        }
        if to > from {
            *self.by_policy.entry(new.policy.clone()).or_default() += 1;
            // What is locked for longer already costs nothing more.
            let since = row.locked_until.map_or(from, |locked| from.max(from_micros(locked)));
            if !new.open_ended && !old.open_ended && to > since {
                let days = to.duration_since(since).as_secs_f64() / 86_400.0;
                self.days += days;
                self.byte_days += days * row.bytes as f64;
            }
        }
    }
}

impl Custody {
    /// What another set would change about everything that is kept.
    ///
    /// # Errors
    /// The database, or a row that does not read back.
    pub async fn difference(&self, new: &PolicySet) -> Result<Difference, CustodyError> {
        self.catch_up().await?;
        let old = self.policies.current();
        let mut found = Difference {
            from_sha256: old.sha256().to_owned(),
            to_sha256: new.sha256().to_owned(),
            ..Difference::default()
        };
        let (mut old_judge, mut new_judge) = (Judge::new(&old), Judge::new(new));
        let asks = old.waits_for_events() || new.waits_for_events();
        let mut after = (i64::MIN, String::new());
        loop {
            let sql = format!(
                "select {} from kept where (call_seq, source) > ($1, $2) and destroyed_at is null
                 order by call_seq, source limit {STEP}",
                Judgeable::COLUMNS
            );
            let rows = self.db.fetch_all(sql, &[after.0.into(), after.1.into()]).await?;
            for row in &rows {
                let row = Judgeable::from_row(row)?;
                let events = if asks { client_events(&self.db, &row.read()?.0).await? } else { BTreeMap::new() };
                let was = old_judge.kept(&row, events.clone())?;
                found.take(&row, &was, &new_judge.kept(&row, events)?);
            }
            let Some(last) = rows.last() else { return Ok(found) };
            after = (last.int("call_seq")?, last.text("source")?);
        }
    }

    /// Brings a set into force, unless it would keep anything for less.
    ///
    /// # Errors
    /// Database or journal; [`CustodyError::Shortens`] with what it would keep for less.
    pub async fn adopt(&self, new: PolicySet, actor: &str) -> Result<Difference, CustodyError> {
        let found = self.difference(&new).await?;
        if found.shorter > 0 {
            return Err(CustodyError::Shortens(Box::new(found)));
        }
        if found.from_sha256 != found.to_sha256 || adopted_sets(&self.db).await?.is_empty() {
            let body = Body::of_json(&Adoption::of(&new))?;
            self.journal.append(vec![NewEntry::new(Kind::PoliciesAdopted, actor, None, body)]).await?;
            self.policies.replace(new);
        }
        Ok(found)
    }

    /// Learns which set is in force, at the start. The configuration's is the first of a new archive; where it is another
    /// than the one in force, it is looked at in the background: nothing that comes in has to wait for that.
    ///
    /// # Errors
    /// Database or journal.
    pub async fn begin(&self) -> Result<(), CustodyError> {
        let configured = self.policies.current();
        match adopted_sets(&self.db).await?.last() {
            Some(last) if last.sha256 == configured.sha256() => {}
            Some(_) => {
                self.learn_policies().await?;
                *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(PolicySet::clone(&configured));
            }
            None => {
                let body = Body::of_json(&Adoption::of(&configured))?;
                self.journal.append(vec![NewEntry::new(Kind::PoliciesAdopted, "config", None, body)]).await?;
            }
        }
        Ok(())
    }

    /// Brings the set of the configuration into force. One that would keep anything for less is not taken, and the one
    /// before stays.
    pub(super) async fn adopt_wanted(&self) -> Result<(), CustodyError> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(wanted) = wanted else { return Ok(()) };
        match self.adopt(wanted, "config").await {
            Ok(found) => {
                tracing::info!(longer = found.longer, "the retention policies of the configuration are in force");
                self.health.clear("policies");
            }
            Err(CustodyError::Shortens(found)) => {
                tracing::error!(
                    shorter = found.shorter,
                    "the retention policies of the configuration would keep something for less; those before stay in force"
                );
                let why = format!("{} Those before stay in force.", CustodyError::Shortens(found));
                self.health.report("policies", why);
            }
            Err(error) => return Err(error),
        }
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}
