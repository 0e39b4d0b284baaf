//! Follows the journal and the clock, and journals what the rules find.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::rules::{Finding, Rule, evaluate};
use crate::calls::records::FlagRecord;
use crate::calls::{AS_STORED, Calls, DamagedRow, Facts, Skipped, Subjects};
use crate::clock::{AHEAD, Clock};
use crate::config::FlagThresholds;
use crate::db::{Db, Error as DbError};
use crate::fault;
use crate::health::Health;
use crate::intake::call_key;
use crate::journal::{AppendError, Body, Journal, Kind, NewEntry};
use crate::nodes::{Node, Turn};
use crate::retention::Policies;

/// How far the journal was judged.
const CURSOR: &str = "flags";
/// Entries that are looked at in one step.
const STEP: u64 = 2000;
/// Entries are let gather for so long: each look ends with a write that the intake waits for.
const GATHER: Duration = Duration::from_millis(200);
/// Without a sign of new entries the journal is looked at all the same: other processes append too.
const POLL: Duration = Duration::from_millis(500);
/// Damaged entries are looked at again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
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

/// How far an evaluator got.
#[derive(Debug, Default)]
pub struct Followed {
    /// Where this run left the cursor.
    next: Option<u64>,
    skipped: Skipped,
}

/// What it is time for.
#[derive(Clone, Copy)]
enum Due {
    Clock,
    Damage,
    Entries,
}

/// Raises and resolves flags.
pub struct Evaluator {
    pub db: Db,
    pub journal: Journal,
    pub calls: Calls,
    pub clock: Clock,
    pub thresholds: FlagThresholds,
    pub policies: Policies,
    pub health: Health,
    pub node: Node,
}

impl Evaluator {
    /// Runs until cancelled; of several nodes one evaluates.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let (mut grown, mut followed) = (self.journal.watch(), Followed::default());
        let mut turn = self.node.turn("flags");
        let shortest = self.thresholds.call_overdue.min(self.thresholds.recording_overdue);
        let mut tick = tokio::time::interval((shortest / 4).clamp(Duration::from_millis(250), Duration::from_secs(30)));
        let mut again = tokio::time::interval(LOOK_AGAIN);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let due = tokio::select! {
                () = cancel.cancelled() => break,
                _ = tick.tick() => Due::Clock,
                _ = again.tick() => Due::Damage,
                _ = grown.changed() => {
                    tokio::time::sleep(GATHER).await;
                    Due::Entries
                }
                () = tokio::time::sleep(POLL) => Due::Entries,
            };
            let outcome = self.look(due, &mut turn, &mut followed).await;
            match outcome {
                Ok(()) => self.health.clear("flags"),
                Err(error) => {
                    tracing::error!(%error, "flags could not be evaluated; trying again");
                    self.health.report("flags", "flags can't be evaluated at the moment: see the log");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
        if let Err(error) = turn.let_go().await {
            tracing::warn!(%error, "the turn at the flags could not be given up; it ends by itself");
        }
    }

    async fn look(&self, due: Due, turn: &mut Turn, followed: &mut Followed) -> Result<(), EvaluatorError> {
        // What this process met is for it alone to look at again.
        if let Due::Damage = due {
            return self.look_at_damage().await;
        }
        if !turn.is_mine().await? {
            return Ok(());
        }
        match due {
            Due::Clock => self.look_at_the_clock().await,
            Due::Damage | Due::Entries => self.follow(followed).await,
        }
    }

    /// Evaluates every call that entries since the last time speak of, and those that could not be read before.
    ///
    /// # Errors
    /// Database or journal; nothing is skipped then.
    pub async fn follow(&self, followed: &mut Followed) -> Result<(), EvaluatorError> {
        loop {
            let from = self.journal.cursor(CURSOR).await?;
            // Where somebody moved the cursor, or it is from a run before this one, everything is read as it is stored.
            let in_step = followed.next == Some(from);
            let steps = match in_step {
                true => self.journal.next_steps(from, STEP).await?,
                false => self.journal.steps(from, STEP).await?,
            };
            let skipped = &mut followed.skipped;
            let mut subjects = skipped.due();
            let Some(last) = steps.last() else {
                if !subjects.is_empty() {
                    self.judge_these(subjects, skipped).await?;
                }
                return Ok(());
            };
            let next = last.seq + 1;
            let told = self.calls.subjects(&steps).into_iter();
            subjects.extend(told.map(|(subject, seq)| (subject, if in_step { seq } else { AS_STORED })));
            self.judge_these(subjects, skipped).await?;
            fault::point("flags.judged");
            self.journal.set_cursor(CURSOR, next).await?;
            followed.next = Some(next);
        }
    }

    async fn judge_these(&self, subjects: Subjects, skipped: &mut Skipped) -> Result<(), EvaluatorError> {
        let readable = self.calls.facts_with(&subjects).await?;
        self.judge(&readable.facts).await?;
        skipped.take(&readable);
        Ok(())
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

    /// Journal entries that did not read back are looked at again; calls and recordings come back to whoever needs them.
    async fn look_at_damage(&self) -> Result<(), EvaluatorError> {
        for row in self.calls.damaged().list() {
            let DamagedRow::Entry(seq) = row else { continue };
            let step = self.journal.steps(seq, 1).await?.pop();
            if step.is_some_and(|step| step.seq == seq && step.kind.is_some()) {
                self.calls.damaged().mended(&row);
            }
        }
        Ok(())
    }

    async fn judge(&self, all: &[Arc<Facts>]) -> Result<(), EvaluatorError> {
        let now = self.clock.now();
        let (mut entries, policies) = (Vec::new(), self.policies.current());
        // Of what is destroyed nothing can be said any more.
        for facts in all.iter().filter(|facts| !facts.is_gone()) {
            let findings = evaluate(facts, &self.thresholds, &policies, now);
            for (kind, finding) in changes(facts, &findings) {
                let record = FlagRecord {
                    call_id: facts.call_id.clone(),
                    rule: finding.rule.as_str().to_owned(),
                    reason: finding.reason,
                    threshold: finding.threshold,
                    evaluated_at: now,
                };
                let (subject, body) = (Some(call_key(&facts.call_id)), Body::of_json(&record)?);
                entries.push(NewEntry::new(kind, "system", subject, body));
            }
        }
        if !entries.is_empty() {
            match self.journal.append(entries).await {
                // A call was destroyed meanwhile; the flags of the others are appended.
                Ok(_) | Err(AppendError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
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
