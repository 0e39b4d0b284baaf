//! How far the samples are: what was drawn, and what was said of it.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::Serialize;

use super::rules::Rule;
use super::sample::{History, Week, subject};
use super::sampler::Source;
use crate::calls::FlagFilter;
use crate::config::SamplePlan;
use crate::db::Error as DbError;

/// Calls that are asked for at once.
const STEP: usize = 500;

/// One week of one sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SampleWeek {
    pub sample: String,
    /// Such as `2026-W11`.
    pub week: String,
    /// How many of whose calls, in words.
    pub plan: String,
    /// The entry with the seed; null for a week that ended without one: it has no sample.
    pub seeded_seq: Option<u64>,
    /// The entry with what was drawn; null before that.
    pub drawn_seq: Option<u64>,
    /// Calls that it was drawn from.
    pub population: u64,
    pub drawn: u64,
    /// How the flags of the drawn calls stand: numbers by state.
    pub flags: BTreeMap<String, u64>,
}

impl Source {
    /// The latest weeks of the samples, at most `most` of each, the latest first.
    ///
    /// # Errors
    /// The database.
    pub async fn weeks(
        &self,
        plans: &[SamplePlan],
        now: Timestamp,
        zone: &TimeZone,
        most: usize,
    ) -> Result<Vec<SampleWeek>, DbError> {
        let mut all = Vec::new();
        for plan in plans {
            let history = History::of(&self.journal.about(&subject(&plan.name), u64::MAX).await?);
            let names = names(&history, now, zone, most);
            for week in names {
                let known = history.0.get(&week).cloned().unwrap_or_default();
                let mut told = SampleWeek {
                    sample: plan.name.clone(),
                    week,
                    plan: known.seeded.as_ref().map_or_else(|| plan.in_words(), |(_, seeded)| seeded.plan.in_words()),
                    seeded_seq: known.seeded.map(|(seq, _)| seq),
                    drawn_seq: known.drawn.as_ref().map(|(seq, _)| *seq),
                    population: 0,
                    drawn: 0,
                    flags: BTreeMap::new(),
                };
                if let Some((_, drawn)) = known.drawn {
                    (told.population, told.drawn) = (drawn.population, drawn.drawn.len() as u64);
                    told.flags = self.states(&drawn.drawn).await?;
                }
                all.push(told);
            }
        }
        Ok(all)
    }

    async fn states(&self, keys: &[String]) -> Result<BTreeMap<String, u64>, DbError> {
        let mut states = BTreeMap::new();
        for keys in keys.chunks(STEP) {
            let rules = vec![Rule::Sample.as_str().to_owned()];
            let filter = FlagFilter { rules, subjects: Some(keys.to_vec()), ..FlagFilter::default() };
            for flag in self.calls.flags(&filter, STEP as u64).await? {
                *states.entry(flag.state).or_default() += 1;
            }
        }
        Ok(states)
    }
}

/// From this week back to the first that the journal knows, those without a seed too.
fn names(history: &History, now: Timestamp, zone: &TimeZone, most: usize) -> Vec<String> {
    let first = history.0.keys().next();
    let (mut names, mut at) = (Vec::new(), now);
    while let Some(week) =
        Week::of(at, zone).filter(|week| names.len() < most && first.is_some_and(|first| *first <= week.name))
    {
        // Noon of the Sunday before: no change of clocks leads past a week.
        at = week.from.checked_sub(12.hours()).unwrap_or(Timestamp::MIN);
        names.push(week.name);
    }
    names
}
