//! Follows the journal and the clock, and journals what the rules find.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::rules::{Finding, Rule, evaluate};
use crate::calls::records::FlagRecord;
use crate::calls::{Calls, Facts};
use crate::clock::{AHEAD, Clock};
use crate::config::FlagThresholds;
use crate::db::{Arg, Db, Error as DbError};
use crate::fault;
use crate::health::Health;
use crate::intake::{call_key, is_call_subject};
use crate::journal::{AppendError, Body, Journal, Kind, NewEntry};
use crate::retention::PolicySet;

/// Entries that are looked at in one step.
const STEP: u64 = 500;
/// Without a sign of new entries the journal is looked at all the same: other processes append too.
const POLL: Duration = Duration::from_millis(500);
/// Pause after an error.
const BACK_OFF: Duration = Duration::from_secs(2);
/// Overdue calls that are flagged in one round.
const ROUND: u64 = 1000;

/// Why a round could not be finished; the next one takes up where it was.
#[derive(Debug, thiserror::Error)]
pub enum EvaluatorError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("a flag has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
}

/// Raises and resolves flags.
pub struct Evaluator {
    pub db: Db,
    pub journal: Journal,
    pub calls: Calls,
    pub clock: Clock,
    pub thresholds: FlagThresholds,
    pub policies: PolicySet,
    pub health: Health,
}

impl Evaluator {
    /// Runs until cancelled.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut grown = self.journal.watch();
        let shortest = self.thresholds.call_overdue.min(self.thresholds.recording_overdue);
        let mut tick = tokio::time::interval((shortest / 4).clamp(Duration::from_millis(250), Duration::from_secs(30)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let outcome = tokio::select! {
                () = cancel.cancelled() => return,
                _ = tick.tick() => self.look_at_the_clock().await,
                _ = grown.changed() => self.follow().await,
                () = tokio::time::sleep(POLL) => self.follow().await,
            };
            match outcome {
                Ok(()) => self.health.clear("flags"),
                Err(error) => {
                    tracing::error!(%error, "flags could not be evaluated; trying again");
                    self.health.report("flags", "flags can't be evaluated at the moment: see the log");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }

    /// Evaluates every call that entries since the last time speak of.
    ///
    /// # Errors
    /// Database or journal; nothing is skipped then.
    pub async fn follow(&self) -> Result<(), EvaluatorError> {
        loop {
            let from = self.cursor().await?;
            let entries = self.journal.entries(from, STEP).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            let next = last.seq + 1;
            let subjects: BTreeSet<String> = entries
                .into_iter()
                .filter(|entry| entry.kind.concerns_call())
                .filter_map(|entry| entry.subject)
                .filter(|subject| is_call_subject(subject))
                .collect();
            let facts = self.calls.facts_of(&Vec::from_iter(subjects)).await?;
            self.judge(&facts).await?;
            fault::point("flags.judged");
            self.db
                .execute(
                    "insert into cursors (name, next_seq) values ('flags', $1) on conflict (name) do update set next_seq = excluded.next_seq",
                    &[Arg::Int(next.cast_signed())],
                )
                .await?;
        }
    }

    /// Flags what should have happened by now.
    ///
    /// # Errors
    /// Database or journal.
    pub async fn look_at_the_clock(&self) -> Result<(), EvaluatorError> {
        let now = self.clock.now().as_microsecond();
        let before = |limit: Duration| now.saturating_sub(i64::try_from(limit.as_micros()).unwrap_or(i64::MAX));
        let (opened, awaited) = (before(self.thresholds.call_overdue), before(self.thresholds.recording_overdue));
        let ahead = now.saturating_add(i64::try_from(AHEAD.as_micros()).unwrap_or(i64::MAX));
        let facts = self.calls.overdue(opened, awaited, ahead, ROUND).await?;
        self.judge(&facts).await
    }

    async fn judge(&self, all: &[Facts]) -> Result<(), EvaluatorError> {
        let now = self.clock.now();
        let mut entries = Vec::new();
        for facts in all {
            let findings = evaluate(facts, &self.thresholds, &self.policies, now);
            for (kind, finding) in changes(facts, &findings) {
                let record = FlagRecord {
                    call_id: facts.call_id.clone(),
                    rule: finding.rule.as_str().to_owned(),
                    reason: finding.reason,
                    threshold: finding.threshold,
                    evaluated_at: now,
                };
                entries.push(NewEntry {
                    kind,
                    actor: "system".into(),
                    subject: Some(call_key(&facts.call_id)),
                    body: Body::of_json(&record)?,
                    received_at: None,
                    reason: None,
                });
            }
        }
        if !entries.is_empty() {
            self.journal.append(entries).await?;
        }
        Ok(())
    }

    async fn cursor(&self) -> Result<u64, DbError> {
        let row = self.db.fetch_optional("select next_seq from cursors where name = 'flags'", &[]).await?;
        row.map_or(Ok(0), |row| row.int("next_seq").map(i64::cast_unsigned))
    }
}

/// What has to be journaled so that the flags say what was found.
fn changes(facts: &Facts, findings: &[Finding]) -> Vec<(Kind, Finding)> {
    let mut changes = Vec::new();
    for rule in Rule::ALL {
        let known = facts.flags.get(rule.as_str());
        let open = known.is_some_and(crate::calls::FlagFacts::is_open);
        match findings.iter().find(|finding| finding.rule == rule) {
            // A contradiction may grow by another reason; then the flag is raised again with all of them.
            Some(finding)
                if !open || (rule == Rule::Contradiction && known.is_some_and(|k| k.reason() != finding.reason)) =>
            {
                changes.push((Kind::FlagRaised, finding.clone()));
            }
            None if open && rule.can_resolve() => {
                let reason = resolution(rule).to_owned();
                changes.push((Kind::FlagResolved, Finding { rule, reason, threshold: None }));
            }
            _ => {}
        }
    }
    changes
}

fn resolution(rule: Rule) -> &'static str {
    match rule {
        Rule::CallOverdue => "the call ended after all",
        Rule::RecordingFailed => "another try was asked for, or the recording came after all",
        _ => "the recording came after all",
    }
}
