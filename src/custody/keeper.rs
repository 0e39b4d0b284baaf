//! Follows the journal and keeps the rows of `kept` in step with it: what a call's facts and the policies in force make of
//! it. Of several nodes one does it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::disposition::Decided;
use super::kept::{Judgeable, KeptRow};
use super::{Custody, CustodyError};
use crate::calls::{AS_STORED, Facts, Skipped};
use crate::clock::from_micros;
use crate::db::Arg;
use crate::journal::{Kind, Step};
use crate::nodes::{Node, Turn};
use crate::retention::{ClientEvent, Dates, Kept, Policy, PolicySet, adopted_sets, adopted_with, client_events};

/// How far the journal was taken in.
const CURSOR: &str = "retention";
/// Entries that are looked at in one step, and rows that are judged anew.
const STEP: u64 = 1000;
/// Entries are let gather for so long: nobody waits for these rows, and each look writes.
const GATHER: Duration = Duration::from_millis(300);
/// Without a sign of new entries the journal is looked at all the same: other processes append too.
const POLL: Duration = Duration::from_millis(500);
/// Pause after an error.
const BACK_OFF: Duration = Duration::from_secs(2);

/// How far a keeper got.
#[derive(Debug)]
pub struct Followed {
    /// Where this run left the cursor.
    next: Option<u64>,
    skipped: Skipped,
    /// Rows from here on may have been judged by other policies than those in force.
    judge_from: Option<i64>,
    /// Decisions in the store were looked for.
    resumed: bool,
}

impl Default for Followed {
    fn default() -> Self {
        Self { next: None, skipped: Skipped::default(), judge_from: Some(i64::MIN), resumed: false }
    }
}

impl Custody {
    /// Runs until cancelled.
    pub async fn run(self: Arc<Self>, node: Node, cancel: CancellationToken) {
        let (mut grown, mut followed) = (self.journal.watch(), Followed::default());
        let mut turn = node.turn("retention");
        while !cancel.is_cancelled() {
            match self.round(&mut turn, &mut followed).await {
                Ok(()) => self.health.clear("retention"),
                Err(error) => {
                    tracing::error!(%error, "what is kept until when could not be brought up to date; trying again");
                    self.health.report("retention", "retention does not follow the journal at the moment: see the log");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                () = async {
                    tokio::time::sleep(GATHER).await;
                    let _ = tokio::time::timeout(POLL, grown.changed()).await;
                } => {}
            }
        }
        if let Err(error) = turn.let_go().await {
            tracing::warn!(%error, "the turn at the retention could not be given up; it ends by itself");
        }
    }

    async fn round(&self, turn: &mut Turn, followed: &mut Followed) -> Result<(), CustodyError> {
        // Every node has to know the policies in force.
        self.learn_policies().await?;
        if turn.is_mine().await? {
            self.follow(followed).await?;
            if !followed.resumed {
                self.resume().await?;
                followed.resumed = true;
            }
            self.adopt_wanted().await?;
            self.judge_anew(followed).await?;
            while self.bring_store_in_step().await? && turn.is_mine().await? {}
        }
        Ok(())
    }

    /// Brings everything up to date once: for a command, beside a server or without one.
    ///
    /// # Errors
    /// Database, journal or store.
    pub async fn catch_up(&self) -> Result<(), CustodyError> {
        let mut followed = Followed::default();
        self.learn_policies().await?;
        self.follow(&mut followed).await?;
        self.judge_anew(&mut followed).await
    }

    /// Takes over the set that was adopted last, if it is another.
    pub(super) async fn learn_policies(&self) -> Result<(), CustodyError> {
        if let Some(last) = adopted_sets(&self.db).await?.pop()
            && last.sha256 != self.policies.current().sha256()
        {
            self.policies.replace(adopted_with(&self.journal, last.seq).await?);
            tracing::info!(sha256 = last.sha256, "other retention policies are in force");
        }
        Ok(())
    }

    /// Takes in every entry since the last time.
    async fn follow(&self, followed: &mut Followed) -> Result<(), CustodyError> {
        loop {
            let from = self.journal.cursor(CURSOR).await?;
            let in_step = followed.next == Some(from);
            let steps = match in_step {
                true => self.journal.next_steps(from, STEP).await?,
                false => self.journal.steps(from, STEP).await?,
            };
            let mut subjects = followed.skipped.due();
            if steps.is_empty() && subjects.is_empty() {
                return Ok(());
            }
            let told = self.calls.subjects(&steps).into_iter();
            subjects.extend(told.map(|(subject, seq)| (subject, if in_step { seq } else { AS_STORED })));
            let readable = self.calls.facts_with(&subjects).await?;
            self.catch(&readable.facts).await?;
            let mut rows = self.rows_of(&readable.facts).await?;
            rows.extend(self.quarantined(&steps).await?);
            let next = steps.last().map(|last| last.seq + 1);
            // Before the cursor goes on: a crash in between does it once more.
            self.take_note(&steps, followed).await?;
            self.write(rows, next).await?;
            followed.skipped.take(&readable);
            let Some(next) = next else { return Ok(()) };
            followed.next = Some(next);
        }
    }

    async fn rows_of(&self, all: &[Arc<Facts>]) -> Result<Vec<KeptRow>, CustodyError> {
        let policies = self.policies.current();
        let mut rows = Vec::with_capacity(all.len());
        for facts in all {
            let mut dates = Dates::of(facts, None);
            if policies.waits_for_events() {
                dates.events = client_events(&self.db, facts).await?;
            }
            rows.extend(KeptRow::all_of(facts, &policies, &dates)?);
        }
        Ok(rows)
    }

    async fn quarantined(&self, steps: &[Step]) -> Result<Vec<KeptRow>, CustodyError> {
        let (policies, mut rows) = (self.policies.current(), Vec::new());
        for step in steps.iter().filter(|step| step.kind == Some(Kind::WebhookQuarantined)) {
            if let Some(record) = self.journal.entry(step.seq).await? {
                rows.push(KeptRow::of_quarantine(&record.entry, &policies));
            }
        }
        Ok(rows)
    }

    /// Writes rows, and how far they go, in one transaction.
    async fn write(&self, rows: Vec<KeptRow>, next: Option<u64>) -> Result<(), CustodyError> {
        // A call that has a recording now has no row without one.
        let bare = rows.iter().filter(|row| !row.source.is_empty()).map(|row| row.call_seq).collect();
        let mut tx = self.db.begin().await?;
        tx.write(vec![KeptRow::no_bare_row(bare)]).await?;
        tx.write(vec![KeptRow::write(rows)]).await?;
        if let Some(next) = next {
            tx.write(vec![crate::journal::advanced(CURSOR, next)]).await?;
        }
        Ok(tx.commit().await?)
    }

    /// What is not about one call.
    async fn take_note(&self, steps: &[Step], followed: &mut Followed) -> Result<(), CustodyError> {
        for step in steps {
            match step.kind {
                Some(Kind::PoliciesAdopted) => {
                    self.learn_policies().await?;
                    followed.judge_from = Some(i64::MIN);
                }
                Some(Kind::ClientEvent) => {
                    self.forget_judgement(step.seq).await?;
                    followed.judge_from = Some(i64::MIN);
                }
                Some(Kind::HoldReleased) => self.let_go(step.seq).await?,
                Some(Kind::HoldPlaced) => self.catch_past(step.seq).await?,
                Some(Kind::DispositionExecuted) => self.mark_erased(step.seq).await?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Bodies in quarantine that a disposition erased.
    async fn mark_erased(&self, seq: u64) -> Result<(), CustodyError> {
        let Some(executed) = self.journal.entry(seq).await? else { return Ok(()) };
        let subject = executed.entry.subject.unwrap_or_default();
        let decided = self.journal.about(&subject, seq).await?.into_iter();
        let decided = decided.rev().find(|record| record.entry.kind == Kind::DispositionDecided);
        let Some(body) = decided.and_then(|record| record.body) else { return Ok(()) };
        let decided: Decided = serde_json::from_slice(&body.bytes)?;
        let sql = "update kept set destroyed_at = $2, disposition = $3 where call_seq = $1 and what = 'quarantine'";
        for entry in decided.entries {
            let at = executed.entry.at.as_microsecond();
            self.db.execute(sql, &[entry.cast_signed().into(), at.into(), decided.id.as_str().into()]).await?;
        }
        Ok(())
    }

    /// The calls of a customer are to be judged anew.
    async fn forget_judgement(&self, seq: u64) -> Result<(), CustodyError> {
        let Some(body) = self.journal.entry(seq).await?.and_then(|record| record.body) else { return Ok(()) };
        let event: ClientEvent = serde_json::from_slice(&body.bytes)?;
        let customer = serde_json::to_string(&event.customer)?;
        let sql = crate::db::Sql::Split {
            sqlite: "update kept set policy_sha256 = '' where destroyed_at is null and instr(traits, $1) > 0",
            postgres: "update kept set policy_sha256 = '' where destroyed_at is null and strpos(traits, $1) > 0",
        };
        self.db.execute(sql, &[customer.into()]).await?;
        Ok(())
    }

    /// Judges rows again that were judged by other policies. What is kept is never kept for less.
    async fn judge_anew(&self, followed: &mut Followed) -> Result<(), CustodyError> {
        while let Some(from) = followed.judge_from {
            let policies = self.policies.current();
            let sql = format!(
                "select {} from kept where call_seq > $1 and policy_sha256 <> $2 and destroyed_at is null
                 order by call_seq, source limit {STEP}",
                Judgeable::COLUMNS
            );
            let rows = self.db.fetch_all(sql, &[from.into(), policies.sha256().into()]).await?;
            let rows = rows.iter().map(Judgeable::from_row).collect::<Result<Vec<_>, _>>()?;
            // A call's rows may lie on both sides of the end of a page.
            let last = rows.last().map(|row| row.call_seq);
            let whole = rows.len() < STEP as usize || rows.first().map(|row| row.call_seq) == last;
            let judged: Vec<&Judgeable> = rows.iter().filter(|row| whole || Some(row.call_seq) != last).collect();
            let mut judge = Judge::new(&policies);
            let mut tx = self.db.begin().await?;
            for row in &judged {
                let events = if policies.waits_for_events() { self.events_of(row).await? } else { Default::default() };
                let kept = judge.kept(row, events)?;
                tx.execute(UPDATE, &verdict(row, &kept)).await?;
            }
            tx.commit().await?;
            followed.judge_from = (rows.len() as u64 == STEP).then(|| judged.last().map_or(from, |row| row.call_seq));
        }
        Ok(())
    }

    async fn events_of(&self, row: &Judgeable) -> Result<std::collections::BTreeMap<String, Timestamp>, CustodyError> {
        Ok(client_events(&self.db, &row.read()?.0).await?)
    }
}

const UPDATE: &str = "update kept set policy = $3, policy_sha256 = $4, due_at = $5, lock_wanted = $6
    where call_seq = $1 and source = $2";

fn verdict(row: &Judgeable, kept: &Kept) -> [Arg; 6] {
    let until = row.locked_until.map_or(kept.until, |locked| kept.until.max(from_micros(locked))).as_microsecond();
    [
        row.call_seq.into(),
        row.source.as_str().into(),
        kept.policy.as_str().into(),
        kept.policy_sha256.as_str().into(),
        (if kept.open_ended { i64::MAX } else { until }).into(),
        row.locked_until.map(|_| until).into(),
    ]
}

/// Asks policies about many rows: those with the same traits fall under the same ones.
pub(super) struct Judge<'a> {
    set: &'a PolicySet,
    known: HashMap<String, (Vec<&'a Policy>, Dates)>,
}

/// So many traits are remembered.
const KNOWN_TRAITS: usize = 10_000;

impl<'a> Judge<'a> {
    pub(super) fn new(set: &'a PolicySet) -> Self {
        Self { set, known: HashMap::new() }
    }

    /// What the set makes of a row.
    pub(super) fn kept(
        &mut self,
        row: &Judgeable,
        events: std::collections::BTreeMap<String, Timestamp>,
    ) -> Result<Kept, CustodyError> {
        if self.known.len() >= KNOWN_TRAITS {
            self.known.clear();
        }
        if !self.known.contains_key(&row.traits) {
            let (facts, dates) = row.read()?;
            let applying = match row.what.as_str() {
                "quarantine" => vec![self.set.policies().0],
                _ => self.set.applying(&facts).collect(),
            };
            self.known.insert(row.traits.clone(), (applying, dates));
        }
        let Some((applying, dates)) = self.known.get(&row.traits) else { return Err(CustodyError::Vanished) };
        let dates = Dates {
            ended: row.ended_at.map(from_micros),
            received: from_micros(row.received_at),
            events,
            ..dates.clone()
        };
        Ok(self.set.kept_by(applying, &dates))
    }
}
