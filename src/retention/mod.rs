//! How long a recording is kept, and says who.
//!
//! Policies are data, in `/retention`. Here they are read and turned into a retain-until date; the store enforces that
//! date. Nothing here removes anything.

mod adopted;
mod applies;
mod dates;
mod events;
mod policy;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::{Timestamp, ToSpan};

pub use adopted::{Adopted, Adoption, PolicyProjection, adopted_sets, adopted_with};
pub use applies::{Conditions, Groups};
pub use dates::{Period, PeriodError};
pub use events::{ClientEvent, EventProjection, client_events};
pub use policy::{Policy, PolicyError, PolicySet, Start};

use crate::calls::{Facts, Field};
use crate::clock::from_micros;

/// The date from which a period runs, and what is odd about the end that the sender states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis {
    pub from: Timestamp,
    /// Why the receipt counts instead of the stated end, in words.
    pub contradiction: Option<&'static str>,
}

/// How long a recording is kept, by which policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub until: Timestamp,
    /// The date waits for an event that nobody has told of: until then there is no end, and `until` is the earliest one.
    pub open_ended: bool,
    pub policy: String,
    pub policy_sha256: String,
}

/// The dates of a call from which periods may run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dates {
    /// As the sender states it.
    pub ended: Option<Timestamp>,
    pub received: Timestamp,
    /// The journal's own time of what the receipt is taken from.
    pub journaled: Option<Timestamp>,
    pub imported: bool,
    /// The call is not over, and its end is not stated.
    pub open: bool,
    /// Events with the call's customer, by name.
    pub events: BTreeMap<String, Timestamp>,
}

impl Dates {
    /// Those of a call; events are told elsewhere.
    #[must_use]
    pub fn of(facts: &Facts, journaled: Option<Timestamp>) -> Self {
        let ended = facts.time(Field::EndedAt);
        Self {
            ended,
            received: from_micros(facts.final_received.unwrap_or(facts.first_received)),
            journaled,
            imported: facts.imported,
            open: !facts.status().is_final() && ended.is_none(),
            events: BTreeMap::new(),
        }
    }
}

impl PolicySet {
    /// Until when the recordings of a call are kept. The longest policy wins.
    ///
    /// While the call is not over, its end may still come later than now; a day more is kept then, the most by which an
    /// end may lie after its receipt, so that the date never turns out to be too early.
    ///
    /// The journal's own time differs from the receipt only where the clock was behind the journal: then nobody knows
    /// which of them is right, and the later one counts.
    #[must_use]
    pub fn kept(&self, facts: &Facts, dates: &Dates) -> Kept {
        self.kept_by(&self.applying(facts).collect::<Vec<_>>(), dates)
    }

    /// [`PolicySet::kept`], where it is known which policies apply.
    #[must_use]
    pub fn kept_by(&self, applying: &[&Policy], dates: &Dates) -> Kept {
        let basis = basis(applying, dates);
        let counts = dates.ended.is_some() && basis.contradiction.is_none();
        let from = match dates.journaled.filter(|_| !counts && !dates.imported) {
            // An end between the two is what both clocks allow.
            Some(latest) => basis.from.max(dates.ended.map_or(latest, |end| end.min(latest))),
            None => basis.from,
        };
        let end = if dates.open { from.checked_add(24.hours()).unwrap_or(Timestamp::MAX) } else { from };
        let received = dates.received.max(dates.journaled.unwrap_or(dates.received));
        let (until, policy) = longest(applying, end, received, &dates.events);
        let waits = |policy: &&Policy| matches!(&policy.start, Start::Event(name) if !dates.events.contains_key(name));
        Kept {
            until,
            open_ended: applying.iter().any(waits),
            policy: policy.map_or_else(String::new, |policy| policy.id.clone()),
            policy_sha256: self.sha256().to_owned(),
        }
    }

    /// The end of the call counts, or its receipt if the end is unknown. The sender chooses the end: one more than a
    /// day after its receipt, or so early that less than a year would remain to keep, does not count; imported calls
    /// are late by nature and excepted from the latter.
    #[must_use]
    pub fn basis(&self, facts: &Facts) -> Basis {
        basis(&self.applying(facts).collect::<Vec<_>>(), &Dates::of(facts, None))
    }
}

fn basis(applying: &[&Policy], dates: &Dates) -> Basis {
    let received = dates.received;
    let Some(ended) = dates.ended else {
        return Basis { from: received, contradiction: None };
    };
    let tomorrow = received.checked_add(24.hours()).unwrap_or(Timestamp::MAX);
    let contradiction = if ended > tomorrow && !dates.imported {
        Some("the call is said to end more than a day after it was reported")
    } else if !dates.imported && longest(applying, ended, ended, &dates.events).0 < Period::years(1).after(received) {
        Some("the call is said to have ended so long ago that less than a year would remain to keep it")
    } else {
        None
    };
    Basis { from: if contradiction.is_some() { received } else { ended }, contradiction }
}

/// The latest date that any policy asks for. One that waits for an event keeps at least as if it had come with the call.
fn longest<'a>(
    applying: &[&'a Policy],
    end: Timestamp,
    received: Timestamp,
    events: &BTreeMap<String, Timestamp>,
) -> (Timestamp, Option<&'a Policy>) {
    let until = |policy: &Policy| {
        policy.period.after(match &policy.start {
            Start::CallEnd => end,
            Start::Receipt => received,
            Start::Event(name) => events.get(name).map_or(end, |event| end.max(*event)),
        })
    };
    let longer = |best: (Timestamp, Option<&'a Policy>), policy: &&'a Policy| {
        let until = until(policy);
        if best.1.is_none() || until > best.0 { (until, Some(*policy)) } else { best }
    };
    applying.iter().fold((end, None), longer)
}

/// The set in force, which may change while everything runs; cheap to clone.
#[derive(Clone, Debug)]
pub struct Policies(Arc<RwLock<Arc<PolicySet>>>);

impl Policies {
    #[must_use]
    pub fn new(set: PolicySet) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(set))))
    }

    /// As it is now.
    #[must_use]
    pub fn current(&self) -> Arc<PolicySet> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another set is in force from now on.
    pub fn replace(&self, set: PolicySet) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::Stated;

    fn kept(facts: &Facts, journaled: Option<Timestamp>) -> Kept {
        PolicySet::built_in().kept(facts, &Dates::of(facts, journaled))
    }

    fn facts(ended: &str, received: &str, imported: bool) -> Facts {
        let received = received.parse::<Timestamp>().unwrap().as_microsecond();
        let ended = ended.parse::<Timestamp>().unwrap().as_microsecond();
        let mut facts =
            Facts { first_received: received, final_received: Some(received), imported, ..Facts::default() };
        facts.fields.entry(Field::EndedAt).or_default().insert(Stated::number(4, ended));
        facts
    }

    #[test]
    fn five_years_from_the_end() {
        let kept = kept(&facts("2026-03-09T05:15:41Z", "2026-03-09T05:15:42Z", false), None);
        assert_eq!((kept.until.to_string().as_str(), kept.policy.as_str()), ("2031-03-09T05:15:41Z", "default"));
    }

    #[test]
    fn an_end_that_is_still_to_come_is_never_too_late() {
        let received = "2026-03-09T05:15:42Z".parse::<Timestamp>().unwrap().as_microsecond();
        let open = Facts { first_received: received, ..Facts::default() };
        assert_eq!(kept(&open, None).until.to_string(), "2031-03-10T05:15:42Z");
        let mut over = open.clone();
        over.statuses.insert(crate::intake::Status::Ended);
        assert_eq!(kept(&over, None).until.to_string(), "2031-03-09T05:15:42Z", "over, and its end never stated");
    }

    #[test]
    fn a_clock_that_is_behind_makes_no_date_too_early() {
        let until = |ended: &str, received: &str, journaled: &str| {
            kept(&facts(ended, received, false), journaled.parse().ok()).until.to_string()
        };
        let (end, journaled) = ("2026-03-09T05:15:41Z", "2026-03-09T05:15:50Z");
        assert_eq!(until(end, "2016-03-09T05:15:42Z", journaled), "2031-03-09T05:15:41Z", "ten years behind");
        assert_eq!(until(end, journaled, journaled), "2031-03-09T05:15:41Z", "a clock that is right");
        assert_eq!(until("9999-01-01T00:00:00Z", "2016-03-09T05:15:42Z", journaled), "2031-03-09T05:15:50Z");
        assert_eq!(until("9999-01-01T00:00:00Z", journaled, journaled), "2031-03-09T05:15:50Z", "as ever");
        assert_eq!(until("1999-01-01T00:00:00Z", journaled, journaled), "2031-03-09T05:15:50Z", "as ever");
    }

    #[test]
    fn an_end_that_can_not_be_true_does_not_count() {
        let set = PolicySet::built_in();
        for (ended, imported, counts) in [
            ("2026-03-10T05:00:00Z", false, true),
            ("2026-03-10T06:00:00Z", false, false),
            ("9999-01-01T00:00:00Z", false, false),
            ("2022-04-01T00:00:00Z", false, true),
            ("2022-02-01T00:00:00Z", false, false),
            ("0001-01-01T00:00:00Z", false, false),
            ("2019-02-01T00:00:00Z", true, true),
        ] {
            let basis = set.basis(&facts(ended, "2026-03-09T05:15:42Z", imported));
            assert_eq!(basis.contradiction.is_none(), counts, "{ended}");
            let expected = if counts { ended } else { "2026-03-09T05:15:42Z" };
            assert_eq!(basis.from, expected.parse().unwrap());
        }
    }
}
