//! Waits for what is due and has it done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::ledger::{self, Ended, Outcome, State};
use super::{Entry, Plan};
use crate::app::App;
use crate::clock::{AHEAD, from_micros};
use crate::db::Result;
use crate::delivery::Courier;
use crate::health::caught;
use crate::jobs::{self, Context};
use crate::nodes::{Node, Taken};

/// One node at a time keeps the schedule.
const JOB: &str = "schedule";
/// How often the clock is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often it is told how the runs are.
const TELL_EVERY: Duration = Duration::from_secs(5);
const BACK_OFF: Duration = Duration::from_secs(5);
/// The parts of the archive's health that are this work's: the schedule itself, and what its jobs came to.
const PART: &str = "schedule";
const JOBS: &str = "scheduled jobs";

/// Keeps the schedule of the configuration.
pub struct Scheduler {
    app: Arc<App>,
    plan: Plan,
    node: Node,
    /// Two runs of one job are done one after the other.
    places: BTreeMap<&'static str, Mutex<()>>,
}

impl Scheduler {
    #[must_use]
    pub fn new(app: Arc<App>, plan: Plan, node: Node) -> Self {
        let places = jobs::ALL.iter().map(|job| (job.name(), Mutex::default())).collect();
        Self { app, plan, node, places }
    }

    /// Runs until cancelled; of several nodes one runs what is due.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        if self.plan.entries.is_empty() {
            return cancel.cancelled().await;
        }
        for entry in &self.plan.entries {
            for of in Outcome::ALL.map(Outcome::as_str) {
                let name = entry.name.clone();
                metrics::counter!("callvault_schedule_runs_total", "schedule" => name, "outcome" => of).increment(0);
            }
        }
        tokio::join!(self.tell(&cancel), async {
            while !cancel.is_cancelled() {
                match self.keep(&cancel).await {
                    Ok(()) => self.app.health.clear(PART),
                    Err(error) => {
                        tracing::warn!(%error, "the schedule can't be kept at the moment; trying again");
                        self.app.health.report(PART, "what is due can't be run at the moment: see the log");
                    }
                }
                let _ = tokio::time::timeout(BACK_OFF, cancel.cancelled()).await;
            }
        });
    }

    /// Has everything run that comes to be due, as long as it is this node's turn.
    async fn keep(&self, cancel: &CancellationToken) -> Result<()> {
        let Taken::Here(lock) = self.node.job(JOB).await? else { return Ok(()) };
        let stop = cancel.child_token();
        let kept = async {
            let states = ledger::states(&self.app.db).await?;
            let runs =
                self.plan.entries.iter().map(|entry| self.follow(entry, states.get(&entry.name).cloned(), &stop));
            let ended = join_all(runs).await;
            ended.into_iter().collect::<Result<()>>()
        };
        tokio::pin!(kept);
        let outcome = tokio::select! {
            outcome = &mut kept => outcome,
            () = lock.lost().cancelled() => {
                stop.cancel();
                kept.await
            }
        };
        lock.release().await?;
        outcome
    }

    /// Follows one entry of the schedule until it is stopped. After an error all of them are stopped, and read again.
    async fn follow(&self, entry: &Entry, state: Option<State>, stop: &CancellationToken) -> Result<()> {
        let followed = self.follow_on(entry, state, stop).await;
        if followed.is_err() {
            stop.cancel();
        }
        followed
    }

    async fn follow_on(&self, entry: &Entry, state: Option<State>, stop: &CancellationToken) -> Result<()> {
        let mut done_until = match state {
            Some(state) if state.cron == entry.cron => from_micros(state.done_until),
            // What was due before it stood in the configuration was not missed.
            _ => self.begin(entry).await?,
        };
        let mut next = entry.times.after(done_until);
        while tokio::time::timeout(TICK, stop.cancelled()).await.is_err() {
            let now = self.app.clock.now();
            if done_until.duration_since(now) > AHEAD {
                // A clock was ahead.
                done_until = self.begin(entry).await?;
                next = entry.times.after(done_until);
            }
            if next.is_none_or(|due| due > now) {
                continue;
            }
            let Some(noted) = self.run_once(entry, now, stop).await? else { return Ok(()) };
            done_until = noted;
            next = entry.times.after(done_until);
        }
        Ok(())
    }

    async fn begin(&self, entry: &Entry) -> Result<Timestamp> {
        let now = self.app.clock.now();
        ledger::begin(&self.app.db, &entry.name, &entry.cron, now.as_microsecond()).await?;
        Ok(now)
    }

    /// Does a run that is due, and gives until when everything is done then; `None` where it was stopped, so that it is due
    /// again.
    async fn run_once(&self, entry: &Entry, began: Timestamp, stop: &CancellationToken) -> Result<Option<Timestamp>> {
        let _place = match self.places.get(entry.job.name()) {
            Some(place) => Some(place.lock().await),
            None => None,
        };
        if stop.is_cancelled() {
            return Ok(None);
        }
        tracing::info!(schedule = entry.name, job = entry.job.name(), "a scheduled run begins");
        ledger::began(&self.app.db, &entry.name, began.as_microsecond()).await?;
        let work = caught(self.work(entry, stop));
        let (outcome, why) = work.await.unwrap_or((Outcome::Failed, Some("it panicked: see the log for where".into())));
        if stop.is_cancelled() && outcome == Outcome::Failed {
            return Ok(None);
        }
        let ended = self.app.clock.now();
        match &why {
            None => tracing::info!(schedule = entry.name, outcome = outcome.as_str(), "a scheduled run ended"),
            Some(why) => {
                tracing::warn!(schedule = entry.name, outcome = outcome.as_str(), why, "a scheduled run ended")
            }
        }
        let run = Ended { began_at: began.as_microsecond(), ended_at: ended.as_microsecond(), outcome, why };
        ledger::ended(&self.app.db, &entry.name, &run).await?;
        let (name, outcome) = (entry.name.clone(), outcome.as_str());
        metrics::counter!("callvault_schedule_runs_total", "schedule" => name, "outcome" => outcome).increment(1);
        self.say_how_they_are(&ledger::states(&self.app.db).await?);
        Ok(Some(from_micros(run.began_at)))
    }

    /// The job and the delivery of its report: what came of it, and what is to be known of it.
    async fn work(&self, entry: &Entry, stop: &CancellationToken) -> (Outcome, Option<String>) {
        let context = Context { app: &self.app, args: &entry.args, stop };
        let outcome = match jobs::run_alone(entry.job, context).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(by)) => return (Outcome::Left, Some(format!("it was being done already, by {by}"))),
            Err(error) => return (Outcome::Failed, Some(error.to_string())),
        };
        if let Some(parcel) = outcome.report.as_ref().filter(|_| !entry.targets.is_nowhere()) {
            let courier = Courier {
                journal: &self.app.journal,
                store: self.app.store.as_ref(),
                clock: &self.app.clock,
                settings: &self.app.config.delivery,
            };
            let delivered = tokio::select! {
                delivered = courier.deliver(parcel, Some(&entry.name), &entry.targets) => delivered,
                () = stop.cancelled() => return (Outcome::Failed, None),
            };
            if let Err(error) = delivered {
                return (Outcome::Failed, Some(error.to_string()));
            }
        }
        match outcome.attention {
            Some(why) => (Outcome::Attention, Some(why)),
            None => (Outcome::Fine, None),
        }
    }

    /// Tells from time to time how the runs are, whichever node does them.
    async fn tell(&self, cancel: &CancellationToken) {
        while !cancel.is_cancelled() {
            if let Ok(states) = ledger::states(&self.app.db).await {
                self.say_how_they_are(&states);
            }
            let _ = tokio::time::timeout(TELL_EVERY, cancel.cancelled()).await;
        }
    }

    fn say_how_they_are(&self, states: &BTreeMap<String, State>) {
        let (now, mut unwell) = (self.app.clock.now(), Vec::new());
        for entry in &self.plan.entries {
            let Some(state) = states.get(&entry.name).filter(|state| state.cron == entry.cron) else { continue };
            let fails = matches!(state.outcome, Some(Outcome::Attention | Outcome::Failed));
            if fails {
                unwell.push(format!("{}: {}", entry.name, state.why.as_deref().unwrap_or("see the log")));
            }
            let began = state.began_at.map_or(Timestamp::MIN, from_micros);
            let due = entry.times.after(from_micros(state.done_until)).filter(|due| began < *due);
            let late = due.map_or(0.0, |due| now.duration_since(due).as_secs_f64().max(0.0));
            let took = match (state.began_at, state.ended_at) {
                (Some(began), Some(ended)) => ended.saturating_sub(began).max(0) as f64 / 1e6,
                _ => 0.0,
            };
            let name = || entry.name.clone();
            metrics::gauge!("callvault_schedule_failing", "schedule" => name()).set(f64::from(u8::from(fails)));
            metrics::gauge!("callvault_schedule_late_seconds", "schedule" => name()).set(late);
            metrics::gauge!("callvault_schedule_took_seconds", "schedule" => name()).set(took);
        }
        if unwell.is_empty() { self.app.health.clear(JOBS) } else { self.app.health.report(JOBS, unwell.join("; ")) }
    }
}
