//! The rules once more over the calls of the past, for other thresholds: first what they would change, then the change.
//!
//! What the record says stays: a flag that was raised under an earlier threshold is told and not taken back. Somebody reviews
//! it, or leaves it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::evaluator::{changes, entry, is_short};
use super::pattern::{ShortCall, completing, micros};
use super::rules::{Finding, Rule, Rules, evaluate};
use crate::calls::{Calls, Facts, Field, FlagFacts, person_key};
use crate::clock::Clock;
use crate::db::Error as DbError;
use crate::intake::call_key;
use crate::journal::{AppendError, Journal, Kind, NewEntry};
use crate::retention::Policies;

/// Calls that are read at once.
const STEP: u64 = 500;
/// Calls of one kind that are named.
const NAMED: usize = 20;

/// Why the past was not evaluated, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum AgainError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("a flag has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
}

/// The rules over the calls since a time.
pub struct Again<'a> {
    pub journal: &'a Journal,
    pub calls: &'a Calls,
    pub clock: &'a Clock,
    pub policies: &'a Policies,
    pub rules: Rules,
    /// Calls from here on, by what they are sorted by; without it all.
    pub since: Option<Timestamp>,
}

/// What the rules would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// That were looked at.
    pub calls: u64,
    /// That do not read back; `verify` tells more.
    pub unreadable: u64,
    pub rules: BTreeMap<Rule, Change>,
}

/// What one rule would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Flags that are not there, or would be raised anew.
    pub raise: Listed,
    /// Flags about something that was lacking and has come.
    pub resolve: Listed,
    /// Flags that nobody has reviewed to an end and that these thresholds would not raise. They stay.
    pub no_longer: Listed,
}

/// Calls, of which the first are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub total: u64,
    pub call_ids: Vec<String>,
}

impl Listed {
    fn add(&mut self, call_id: &str) {
        self.total += 1;
        if self.call_ids.len() < NAMED {
            self.call_ids.push(call_id.to_owned());
        }
    }
}

/// The short calls of every agent, with those that are flagged for a pattern and not reviewed to an end.
#[derive(Default)]
struct Agents {
    short: BTreeMap<String, Vec<ShortCall>>,
    unsettled: BTreeSet<i64>,
}

impl Again<'_> {
    /// What would be changed; changes nothing.
    ///
    /// # Errors
    /// The database.
    pub async fn preview(&self) -> Result<Preview, AgainError> {
        self.walk(None).await
    }

    /// Journals what is to be changed, and tells it.
    ///
    /// # Errors
    /// Database or journal; what was journaled until then stays, and is not raised again by the next run.
    pub async fn raise(&self, actor: &str) -> Result<Preview, AgainError> {
        self.walk(Some(actor)).await
    }

    async fn walk(&self, actor: Option<&str>) -> Result<Preview, AgainError> {
        let (now, policies) = (self.clock.now(), self.policies.current());
        let (mut preview, mut agents, mut after) = (Preview::default(), Agents::default(), -1);
        loop {
            let stretch = self.calls.facts_after(after, STEP).await?;
            preview.unreadable += stretch.readable.skipped.len() as u64;
            let mut entries = Vec::new();
            for facts in stretch.readable.facts.iter().filter(|facts| !facts.is_gone()) {
                let findings = evaluate(facts, &self.rules, &policies, now);
                agents.take(facts, &findings);
                if !self.is_meant(facts.sort_at().as_microsecond()) {
                    continue;
                }
                preview.calls += 1;
                preview.take_stale(facts, &findings);
                for (kind, finding) in changes(facts, &findings) {
                    preview.take(kind, finding.rule, &facts.call_id);
                    entries.extend(planned(actor, kind, (&facts.call_id, call_key(&facts.call_id)), finding, now)?);
                }
            }
            self.append(entries).await?;
            match stretch.last {
                Some(last) => after = last,
                None => break,
            }
        }
        self.patterns(agents, actor, now, &mut preview).await?;
        Ok(preview)
    }

    fn is_meant(&self, at: i64) -> bool {
        self.since.is_none_or(|since| at >= since.as_microsecond())
    }

    /// Over all short calls: one before the time that is asked for may begin a pattern that ends in it.
    async fn patterns(
        &self,
        agents: Agents,
        actor: Option<&str>,
        now: Timestamp,
        preview: &mut Preview,
    ) -> Result<(), AgainError> {
        let rule = &self.rules.thresholds.repeated_short_calls;
        let reach = self.since.map(|since| since.as_microsecond().saturating_sub(micros(rule.within)));
        for (_, mut short) in agents.short {
            short.sort();
            short.retain(|call| reach.is_none_or(|reach| call.at >= reach));
            let mut entries = Vec::new();
            for (call, finding) in completing(&short, rule) {
                if self.is_meant(call.at) {
                    preview.take(Kind::FlagRaised, Rule::RepeatedShortCalls, &call.call_id);
                    let about = (call.call_id.as_str(), call.subject.clone());
                    entries.extend(planned(actor, Kind::FlagRaised, about, finding, now)?);
                }
            }
            self.append(entries).await?;
            // As if none of them were flagged.
            let flagged: BTreeSet<i64> = short
                .iter()
                .filter(|call| call.flagged && agents.unsettled.contains(&call.call_seq))
                .map(|c| c.call_seq)
                .collect();
            short.iter_mut().for_each(|call| call.flagged = false);
            let afresh: BTreeSet<i64> = completing(&short, rule).iter().map(|(call, _)| call.call_seq).collect();
            for call in short.iter().filter(|call| flagged.contains(&call.call_seq) && !afresh.contains(&call.call_seq))
            {
                if self.is_meant(call.at) {
                    preview.rules.entry(Rule::RepeatedShortCalls).or_default().no_longer.add(&call.call_id);
                }
            }
        }
        Ok(())
    }

    async fn append(&self, entries: Vec<NewEntry>) -> Result<(), AgainError> {
        if !entries.is_empty() {
            self.journal.append(entries).await?;
        }
        Ok(())
    }
}

/// What is to be journaled, if anything is.
fn planned(
    actor: Option<&str>,
    kind: Kind,
    about: (&str, String),
    finding: Finding,
    now: Timestamp,
) -> Result<Option<NewEntry>, AgainError> {
    Ok(actor.map(|actor| entry(kind, actor, about, finding, now)).transpose()?)
}

impl Preview {
    fn take(&mut self, kind: Kind, rule: Rule, call_id: &str) {
        let change = self.rules.entry(rule).or_default();
        if kind == Kind::FlagRaised { change.raise.add(call_id) } else { change.resolve.add(call_id) }
    }

    fn take_stale(&mut self, facts: &Facts, findings: &[Finding]) {
        for rule in Rule::ALL.into_iter().filter(|rule| rule.is_about_one_call() && !rule.can_resolve()) {
            let flag = facts.flags.get(rule.as_str());
            let unsettled = flag.is_some_and(is_unsettled);
            if unsettled && !findings.iter().any(|finding| finding.rule == rule) {
                self.rules.entry(rule).or_default().no_longer.add(&facts.call_id);
            }
        }
    }
}

fn is_unsettled(flag: &FlagFacts) -> bool {
    matches!(flag.state(), "open" | "in_review")
}

impl Agents {
    /// A call counts as a short one by its flag, or where it would get one now.
    fn take(&mut self, facts: &Facts, findings: &[Finding]) {
        let pattern = facts.flags.get(Rule::RepeatedShortCalls.as_str());
        let short = is_short(facts) || findings.iter().any(|finding| finding.rule == Rule::ShortCall);
        let key = facts.text(Field::Agent).map(|agent| person_key(&agent)).filter(|key| !key.is_empty());
        let (Some(key), true) = (key, short || pattern.is_some()) else { return };
        let call_seq = facts.first_seq.cast_signed();
        if pattern.is_some_and(is_unsettled) {
            self.unsettled.insert(call_seq);
        }
        self.short.entry(key).or_default().push(ShortCall {
            at: facts.sort_at().as_microsecond(),
            call_seq,
            call_id: facts.call_id.clone(),
            subject: call_key(&facts.call_id),
            flagged: pattern.is_some(),
        });
    }
}
