//! Seeds each week's samples while the week runs, and draws them once it is over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio_util::sync::CancellationToken;

use super::evaluator::entry;
use super::rules::{Finding, Rule};
use super::sample::{Drawn, History, Population, Seeded, Week, draw, subject};
use crate::calls::{Calls, Facts, Field, person_key};
use crate::clock::{Clock, from_micros};
use crate::config::{Review, SampleBy, SamplePlan};
use crate::db::Error as DbError;
use crate::health::Health;
use crate::intake::call_key;
use crate::journal::{AppendError, Body, Journal, Kind, NewEntry};
use crate::nodes::Node;
use crate::retention::Policies;

/// The clock is asked this often; the journal only when something may be due.
const TICK: Duration = Duration::from_millis(500);
/// Pause after an error.
const BACK_OFF: Duration = Duration::from_secs(2);
/// Whatever is known, the journal is asked this often: other nodes and moved clocks.
const ASK_AGAIN: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);
/// A call that ends in a week was first heard of within this before it.
const LONGEST: jiff::SignedDuration = jiff::SignedDuration::from_hours(31 * 24);
/// Calls that are read at once.
const STEP: u64 = 500;
/// Weeks that were drawn before this process began and whose flags it looks after.
const LOOKED_BACK: usize = 8;

/// Samples whose calls have their flags, as far as this process knows: name and week.
type Flagged = BTreeSet<(String, String)>;

/// Why a sample was not seeded or drawn; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum SamplerError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("a sample has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the operating system gives no random numbers: {0}")]
    Random(String),
}

/// Where samples are drawn from.
#[derive(Clone)]
pub struct Source {
    pub journal: Journal,
    pub calls: Calls,
    /// Their groups are those of the samples.
    pub policies: Policies,
}

/// Seeds and draws.
pub struct Sampler {
    pub source: Source,
    pub clock: Clock,
    pub zone: TimeZone,
    pub review: Review,
    pub health: Health,
    pub node: Node,
}

impl Sampler {
    /// Runs until cancelled; of several nodes one seeds and draws.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut turn = self.node.turn("samples");
        // Nothing is due before the second, as long as the clock shows nothing before the first.
        let mut flagged = Flagged::new();
        let mut quiet: Option<(Timestamp, Timestamp)> = None;
        while tokio::time::timeout(TICK, cancel.cancelled()).await.is_err() {
            let now = self.clock.now();
            if quiet.is_some_and(|(from, to)| (from..to).contains(&now)) {
                continue;
            }
            let looked =
                async { if turn.is_mine().await? { self.look(now, &mut flagged).await.map(Some) } else { Ok(None) } };
            match looked.await {
                Ok(until) => {
                    quiet = until.map(|until| (now, until));
                    self.tell_of_groups();
                }
                Err(error) => {
                    let error: SamplerError = error;
                    tracing::error!(%error, "a sample could not be seeded or drawn; trying again");
                    self.health.report("samples", "samples can't be drawn at the moment: see the log");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
        if let Err(error) = turn.let_go().await {
            tracing::warn!(%error, "the turn at the samples could not be given up; it ends by itself");
        }
    }

    /// Where groups are to be sampled and there are none, silence would look like an empty week.
    fn tell_of_groups(&self) {
        let by_group = self.review.samples.iter().find(|plan| plan.by == SampleBy::Group);
        match by_group.filter(|_| self.source.policies.current().agent_groups().is_empty()) {
            Some(plan) => {
                let why =
                    format!("the sample {} is by group, and groups.toml beside the policies names none", plan.name);
                self.health.report("samples", why);
            }
            None => self.health.clear("samples"),
        }
    }

    /// Does what is due, and tells until when nothing else is.
    async fn look(&self, now: Timestamp, flagged: &mut Flagged) -> Result<Timestamp, SamplerError> {
        let mut until = now.checked_add(ASK_AGAIN).unwrap_or(Timestamp::MAX);
        for plan in &self.review.samples {
            let records = self.source.journal.about(&subject(&plan.name), u64::MAX).await?;
            let history = History::of(&records);
            if let Some(week) = Week::of(now, &self.zone) {
                until = until.min(week.to);
                if history.0.get(&week.name).is_none_or(|known| known.seeded.is_none()) {
                    self.seed(plan, &week).await?;
                }
            }
            for known in history.0.values() {
                match (&known.seeded, &known.drawn) {
                    (Some((_, seeded)), None) if seeded.told_until > now => until = until.min(seeded.told_until),
                    (Some((seq, seeded)), None) => {
                        self.flag(&self.draw(*seq, seeded).await?, seeded, flagged, now).await?
                    }
                    _ => {}
                }
            }
            // What drew one of these may have ended before its calls had their flags.
            for known in history.0.values().rev().take(LOOKED_BACK) {
                if let (Some((_, seeded)), Some((_, drawn))) = (&known.seeded, &known.drawn) {
                    self.flag(drawn, seeded, flagged, now).await?;
                }
            }
        }
        Ok(until)
    }

    async fn seed(&self, plan: &SamplePlan, week: &Week) -> Result<(), SamplerError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| SamplerError::Random(error.to_string()))?;
        let after = jiff::SignedDuration::try_from(self.review.draw_after).unwrap_or(jiff::SignedDuration::MAX);
        let seeded = Seeded {
            plan: plan.clone(),
            week: week.name.clone(),
            from: week.from,
            to: week.to,
            told_until: week.to.checked_add(after).unwrap_or(Timestamp::MAX),
            seed: hex::encode(seed),
        };
        self.journal(Kind::SampleSeeded, plan, Body::of_json(&seeded)?).await?;
        tracing::info!(sample = plan.name, week = week.name, "sample seeded");
        Ok(())
    }

    async fn draw(&self, seq: u64, seeded: &Seeded) -> Result<Drawn, SamplerError> {
        let drawn = draw(seeded, seq, &self.source.population(seeded).await?);
        self.journal(Kind::SampleDrawn, &seeded.plan, Body::of_json(&drawn)?).await?;
        let (population, calls) = (drawn.population, drawn.drawn.len());
        tracing::info!(sample = drawn.name, week = drawn.week, population, calls, "sample drawn");
        Ok(drawn)
    }

    async fn journal(&self, kind: Kind, plan: &SamplePlan, body: Body) -> Result<(), SamplerError> {
        let entry = NewEntry::new(kind, "system", Some(subject(&plan.name)), body);
        self.source.journal.append(vec![entry]).await?;
        Ok(())
    }

    /// Flags the calls of a sample, so that somebody reviews them. A call that another sample drew has its flag already.
    async fn flag(
        &self,
        drawn: &Drawn,
        seeded: &Seeded,
        flagged: &mut Flagged,
        now: Timestamp,
    ) -> Result<(), SamplerError> {
        let which = (drawn.name.clone(), drawn.week.clone());
        if flagged.contains(&which) {
            return Ok(());
        }
        for keys in drawn.drawn.chunks(500) {
            let readable = self.source.calls.facts_of(keys).await?;
            let lacking = |facts: &&Arc<Facts>| !facts.is_gone() && !facts.flags.contains_key(Rule::Sample.as_str());
            let mut appended = Vec::new();
            for facts in readable.facts.iter().filter(lacking) {
                let reason = format!("drawn for the sample {} of {}", drawn.name, drawn.week);
                let finding = Finding { rule: Rule::Sample, reason, threshold: Some(seeded.plan.in_words()) };
                let about = (facts.call_id.as_str(), call_key(&facts.call_id));
                let entry = entry(Kind::FlagRaised, "system", about, finding, now)?;
                appended.push(self.source.journal.append(vec![entry]));
            }
            for outcome in futures_util::future::join_all(appended).await {
                match outcome {
                    // The call was destroyed meanwhile.
                    Ok(_) | Err(AppendError::Refused(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        flagged.insert(which);
        Ok(())
    }
}

impl Source {
    /// The calls that a week's sample is drawn from: those with a conversation that ended in the week, and of which that was
    /// told in time.
    ///
    /// # Errors
    /// The database.
    pub async fn population(&self, seeded: &Seeded) -> Result<Population, DbError> {
        let earliest = seeded.from.checked_sub(LONGEST).unwrap_or(Timestamp::MIN);
        let (mut after, mut population) = (self.first_entry_at(earliest).await?.cast_signed() - 1, Population::new());
        let policies = self.policies.current();
        loop {
            let stretch = self.calls.facts_after(after, STEP).await?;
            for facts in stretch.readable.facts.iter().filter(|facts| is_meant(facts, seeded)) {
                for part in parts(facts, seeded.plan.by, policies.agent_groups()) {
                    population.entry(part).or_default().insert(call_key(&facts.call_id));
                }
            }
            match stretch.last {
                Some(last) => after = last,
                None => return Ok(population),
            }
        }
    }

    /// The first entry that the journal took in at or after a time.
    async fn first_entry_at(&self, time: Timestamp) -> Result<u64, DbError> {
        let (mut low, mut high) = (0, self.journal.size().await?);
        while low < high {
            let middle = low + (high - low) / 2;
            // One that does not read back says nothing of its time: then from further back.
            let before =
                self.journal.entry(middle).await.is_ok_and(|found| found.is_some_and(|found| found.entry.at < time));
            if before { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }
}

fn is_meant(facts: &Facts, seeded: &Seeded) -> bool {
    let Some(told) = facts.final_received.map(from_micros) else { return false };
    let ended = facts.time(Field::EndedAt).unwrap_or(told);
    !facts.is_gone()
        && facts.had_conversation()
        && told <= seeded.told_until
        && (seeded.from..seeded.to).contains(&ended)
}

fn parts(facts: &Facts, by: SampleBy, groups: &std::collections::BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    let agent = facts.text(Field::Agent);
    match by {
        SampleBy::All => BTreeSet::from(["all".to_owned()]),
        SampleBy::Agent => BTreeSet::from([agent.map_or_else(String::new, |agent| person_key(&agent))]),
        SampleBy::Group => {
            let is_in = |members: &Vec<String>| {
                agent
                    .as_ref()
                    .is_some_and(|agent| members.iter().any(|member| crate::calls::is_same_person(member, agent)))
            };
            groups.iter().filter(|(_, members)| is_in(members)).map(|(name, _)| name.clone()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::Stated;

    fn seeded() -> Seeded {
        let time = |text: &str| text.parse().unwrap();
        Seeded {
            plan: SamplePlan { name: "x".into(), by: SampleBy::All, percent: None, number: Some(1) },
            week: "2026-W11".into(),
            from: time("2026-03-09T00:00:00Z"),
            to: time("2026-03-16T00:00:00Z"),
            told_until: time("2026-03-16T01:00:00Z"),
            seed: "00".into(),
        }
    }

    fn micros(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    /// A call that ended, and of which that was told, at these times.
    fn ended(end: Option<&str>, told: Option<&str>, agent: &str) -> Facts {
        let mut facts = Facts { final_received: told.map(micros), ..Facts::default() };
        facts.statuses.insert(crate::intake::Status::InProgress);
        let mut state = |field, value| facts.fields.entry(field).or_default().insert(Stated { rank: 1, value });
        state(Field::Agent, crate::calls::Value::Text(agent.into()));
        if let Some(end) = end {
            state(Field::EndedAt, crate::calls::Value::Number(micros(end)));
        }
        facts
    }

    #[test]
    fn the_population_is_what_ended_in_the_week_and_was_told_in_time() {
        let meant = |end, told| is_meant(&ended(end, told, "Leela"), &seeded());
        assert!(meant(Some("2026-03-09T00:00:00Z"), Some("2026-03-09T00:00:01Z")));
        assert!(!meant(Some("2026-03-08T23:59:59Z"), Some("2026-03-09T00:00:01Z")));
        assert!(meant(Some("2026-03-15T23:59:59Z"), Some("2026-03-16T01:00:00Z")));
        assert!(!meant(Some("2026-03-15T23:59:59Z"), Some("2026-03-16T01:00:01Z")), "told too late");
        assert!(!meant(Some("2026-03-16T00:00:00Z"), Some("2026-03-16T00:00:01Z")));
        assert!(meant(None, Some("2026-03-15T12:00:00Z")), "without a stated end its receipt counts");
        assert!(!meant(Some("2026-03-10T00:00:00Z"), None), "it is not over");
        let nobody = Facts { statuses: Default::default(), ..ended(None, Some("2026-03-10T00:00:00Z"), "Leela") };
        assert!(!is_meant(&nobody, &seeded()), "nobody spoke");
    }

    #[test]
    fn whose_calls_they_are() {
        let members = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let groups =
            [("desk".to_owned(), members(&["leela", "+91 98333 44556"])), ("all".to_owned(), members(&["Leela"]))];
        let of = |agent: &str, by| Vec::from_iter(parts(&ended(None, None, agent), by, &groups.clone().into()));
        assert_eq!(of("Leela", SampleBy::Group), ["all", "desk"]);
        assert_eq!(of("919833344556", SampleBy::Group), ["desk"]);
        assert_eq!(of("Meera", SampleBy::Group), [""; 0]);
        assert_eq!(
            (of("+91 98333 44556", SampleBy::Agent), of("Meera", SampleBy::All)),
            (vec!["919833344556".into()], vec!["all".into()])
        );
        assert_eq!(parts(&Facts::default(), SampleBy::Agent, &groups.into()), BTreeSet::from([String::new()]));
    }
}
