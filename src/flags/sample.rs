//! Samples that anybody can draw again: weeks, seeds, and which calls they give. Pure.
//!
//! A seed of 32 random bytes is journaled while its week still runs. The order of the calls is that of
//! `SHA-256(seed in lower-case hex ‖ ":" ‖ call's key)`, and the first of it are the sample. `docs/ARCHITECTURE.md` says it in
//! full, and how to do it with `sha256sum`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{ISOWeekDate, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::SamplePlan;
use crate::journal::{Kind, Record};

/// A week of ISO 8601 in a time zone: from Monday's first moment up to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Week {
    /// Such as `2026-W11`.
    pub name: String,
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Week {
    /// The week that a moment lies in; `None` at the ends of the calendar.
    #[must_use]
    pub fn of(at: Timestamp, zone: &TimeZone) -> Option<Self> {
        let week = at.to_zoned(zone.clone()).date().iso_week_date();
        let monday = ISOWeekDate::new(week.year(), week.week(), Weekday::Monday).ok()?.date();
        let begin = |date: jiff::civil::Date| date.to_zoned(zone.clone()).ok()?.start_of_day().ok();
        let (from, to) = (begin(monday)?, begin(monday.checked_add(7.days()).ok()?)?);
        let name = format!("{:04}-W{:02}", week.year(), week.week());
        Some(Self { name, from: from.timestamp(), to: to.timestamp() })
    }
}

/// `sample.seeded`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seeded {
    pub plan: SamplePlan,
    /// Such as `2026-W11`.
    pub week: String,
    pub from: Timestamp,
    pub to: Timestamp,
    /// Calls of which the end was told of after this are not in the population.
    pub told_until: Timestamp,
    /// 32 bytes in lower-case hex.
    pub seed: String,
}

/// `sample.drawn`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drawn {
    pub name: String,
    pub week: String,
    /// The entry with the seed.
    pub seeded: u64,
    /// Calls in all parts, each once.
    pub population: u64,
    /// Of the keys of all, sorted, each with a newline.
    pub population_sha256: String,
    pub parts: Vec<Part>,
    /// The keys of all calls that were drawn, sorted, each once.
    pub drawn: Vec<String>,
}

/// A part of a population: an agent's calls, or a group's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// An agent's key, a group's name, or `all`.
    pub of: String,
    pub population: u64,
    pub population_sha256: String,
    /// The keys of the calls, in the order in which they were drawn.
    pub drawn: Vec<String>,
}

/// The keys of the calls of each part.
pub type Population = BTreeMap<String, BTreeSet<String>>;

/// Draws a sample.
#[must_use]
pub fn draw(seeded: &Seeded, seq: u64, population: &Population) -> Drawn {
    let part = |(of, keys): (&String, &BTreeSet<String>)| {
        let wanted = usize::try_from(seeded.plan.wanted(keys.len() as u64)).unwrap_or(usize::MAX);
        let mut order: Vec<([u8; 32], &String)> = keys.iter().map(|key| (rank(&seeded.seed, key), key)).collect();
        order.sort_unstable();
        Part {
            of: of.clone(),
            population: keys.len() as u64,
            population_sha256: digest(keys.iter()),
            drawn: order.into_iter().take(wanted).map(|(_, key)| key.clone()).collect(),
        }
    };
    let parts: Vec<Part> = population.iter().map(part).collect();
    let all: BTreeSet<&String> = population.values().flatten().collect();
    let drawn: BTreeSet<&String> = parts.iter().flat_map(|part| &part.drawn).collect();
    Drawn {
        name: seeded.plan.name.clone(),
        week: seeded.week.clone(),
        seeded: seq,
        population: all.len() as u64,
        population_sha256: digest(all.iter().copied()),
        drawn: drawn.into_iter().cloned().collect(),
        parts,
    }
}

fn rank(seed: &str, key: &str) -> [u8; 32] {
    Sha256::new().chain_update(seed).chain_update(":").chain_update(key).finalize().into()
}

/// As `sort | sha256sum` gives it, in bytewise order.
fn digest<'a>(keys: impl Iterator<Item = &'a String>) -> String {
    let hash = keys.fold(Sha256::new(), |hash, key| hash.chain_update(key).chain_update("\n"));
    hex::encode(hash.finalize())
}

/// The subject of a sample's entries.
#[must_use]
pub fn subject(name: &str) -> String {
    format!("sample:{name}")
}

/// What the journal says of a sample, by week.
#[derive(Clone, Debug, Default)]
pub struct History(pub BTreeMap<String, WeekOf>);

/// What the journal says of one week.
#[derive(Clone, Debug, Default)]
pub struct WeekOf {
    /// The first seed that came before the week's end; with its entry.
    pub seeded: Option<(u64, Seeded)>,
    /// The first drawing, with its entry.
    pub drawn: Option<(u64, Drawn)>,
}

impl History {
    /// Reads the entries of a sample's subject; what does not read back says nothing.
    #[must_use]
    pub fn of(records: &[Record]) -> Self {
        let mut weeks: BTreeMap<String, WeekOf> = BTreeMap::new();
        for Record { entry, body, .. } in records {
            let Some(body) = body else { continue };
            match entry.kind {
                Kind::SampleSeeded => {
                    let Ok(seeded) = serde_json::from_slice::<Seeded>(&body.bytes) else { continue };
                    let week = weeks.entry(seeded.week.clone()).or_default();
                    if entry.at < seeded.to && week.seeded.is_none() {
                        week.seeded = Some((entry.seq, seeded));
                    }
                }
                Kind::SampleDrawn => {
                    let Ok(drawn) = serde_json::from_slice::<Drawn>(&body.bytes) else { continue };
                    weeks.entry(drawn.week.clone()).or_default().drawn.get_or_insert((entry.seq, drawn));
                }
                _ => {}
            }
        }
        Self(weeks)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::SampleBy;

    fn week(at: &str, zone: &str) -> Week {
        Week::of(at.parse().unwrap(), &TimeZone::get(zone).unwrap()).unwrap()
    }

    #[test]
    fn weeks_are_those_of_the_calendar() {
        let monday = week("2026-03-08T18:30:00Z", "Asia/Kolkata");
        assert_eq!((monday.name.as_str(), monday.from.to_string().as_str()), ("2026-W11", "2026-03-08T18:30:00Z"));
        assert_eq!(week("2026-03-08T18:29:59Z", "Asia/Kolkata").name, "2026-W10");
        assert_eq!(week("2026-12-31T12:00:00Z", "UTC").name, "2026-W53");
        assert_eq!(week("2027-01-03T23:59:59Z", "UTC").name, "2026-W53");
        assert_eq!(week("2027-01-04T00:00:00Z", "UTC").name, "2027-W01");
        // A week in which clocks are set forward has an hour less.
        let short = week("2026-03-08T12:00:00Z", "America/New_York");
        assert_eq!(short.to.duration_since(short.from).as_hours(), 7 * 24 - 1);
        assert!(Week::of(Timestamp::MAX, &TimeZone::UTC).is_none());
    }

    fn seeded(percent: Option<f64>, number: Option<u64>, seed: &str) -> Seeded {
        let plan = SamplePlan { name: "x".into(), by: SampleBy::All, percent, number };
        let Week { name, from, to } = week("2026-03-09T12:00:00Z", "UTC");
        Seeded { plan, week: name, from, to, told_until: to, seed: seed.into() }
    }

    #[test]
    fn anybody_gets_the_same() {
        let keys: BTreeSet<String> = ["call_1", "call_2", "call_3", "call%204"].map(str::to_owned).into();
        let drawn = draw(&seeded(None, Some(2), "00ff"), 7, &Population::from([("all".into(), keys)]));
        // printf '%s\n' 'call%204' call_1 call_2 call_3 | LC_ALL=C sort | sha256sum
        assert_eq!(drawn.population_sha256, "b2b555928321c61f82bf07b50f1c7c34234d8e355fff91fd9d885d9fd10ae2c0");
        // for key in …; do printf '00ff:%s' $key | sha256sum; done | sort
        assert_eq!(drawn.parts[0].drawn, ["call%204", "call_1"]);
        assert_eq!((drawn.population, drawn.seeded), (4, 7));
    }

    proptest! {
        #[test]
        fn as_many_as_the_plan_says(sizes in proptest::collection::vec(0_usize..40, 1..5), hundredths in 1_u64..=10_000, number in 1_u64..50) {
            let population: Population = sizes.iter().enumerate()
                .map(|(part, size)| (format!("agent {part}"), (0..*size).map(|call| format!("call_{part}_{call}")).collect())).collect();
            let by_share = draw(&seeded(Some(hundredths as f64 / 100.0), None, "ab"), 0, &population);
            let by_number = draw(&seeded(None, Some(number), "ab"), 0, &population);
            for (place, size) in sizes.iter().enumerate() {
                let size = *size as u64;
                prop_assert_eq!(by_share.parts[place].drawn.len() as u64, (size * hundredths).div_ceil(10_000));
                prop_assert_eq!(by_number.parts[place].drawn.len() as u64, number.min(size));
            }
            prop_assert_eq!(by_share.population as usize, sizes.iter().sum::<usize>());
        }
    }
}
