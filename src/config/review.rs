//! Which calls somebody listens to though nothing is odd about them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Letters of a plan's name at most.
const MOST_NAME: usize = 40;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    pub samples: Vec<SamplePlan>,
    /// How long after the end of a week its sample is drawn: calls that ended in it are told of by then.
    #[serde(with = "super::humantime_text")]
    pub draw_after: Duration,
}

/// A sample of each week's calls.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SamplePlan {
    /// Small letters, digits and dashes.
    pub name: String,
    /// Of whose calls so many.
    pub by: SampleBy,
    /// This share of the calls, in percent to two places, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// So many calls, or all where there are fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
}

/// Whose calls are a population of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SampleBy {
    /// Each agent.
    Agent,
    /// Each agent group of the policies' groups.toml; agents in none are left out.
    Group,
    /// Everybody together.
    All,
}

impl SampleBy {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Group => "group",
            Self::All => "all",
        }
    }
}

impl SamplePlan {
    /// The share in hundredths of a percent.
    #[must_use]
    pub fn hundredths(&self) -> Option<u64> {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked: between 0.01 and 100")]
        self.percent.map(|percent| (percent * 100.0).round() as u64)
    }

    /// How many of so many calls.
    #[must_use]
    pub fn wanted(&self, population: u64) -> u64 {
        let share = self.hundredths().map(|share| population.saturating_mul(share).div_ceil(10_000));
        share.or(self.number).unwrap_or_default().min(population)
    }

    /// How many, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        match (self.percent, self.number) {
            (Some(percent), _) => format!("{percent} % a week by {}", self.by.as_str()),
            (None, number) => format!("{} a week by {}", number.unwrap_or_default(), self.by.as_str()),
        }
    }
}

impl Review {
    /// What types alone can't say, in words.
    pub(super) fn flaw(&self) -> Option<String> {
        let mut names = BTreeSet::new();
        self.samples.iter().find_map(|plan| {
            let name = &plan.name;
            let usable = (1..=MOST_NAME).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if !usable {
                return Some(format!("{name:?} is no name: give 1 to {MOST_NAME} small letters, digits and dashes"));
            }
            if !names.insert(name) {
                return Some(format!("two samples are named {name}: give each a name of its own"));
            }
            match (plan.percent, plan.number) {
                (Some(percent), None) if (0.01..=100.0).contains(&percent) => None,
                (None, Some(number)) if number > 0 => None,
                (Some(_), None) => Some(format!("{name}: give percent from 0.01 to 100")),
                (None, Some(_)) => Some(format!("{name}: give a number above 0, or leave the sample out")),
                _ => Some(format!("{name}: give either percent or number")),
            }
        })
    }
}
