//! How long a recording is kept, and says who.
//!
//! Policies are data, in `/retention`. Here they are read and turned into a retain-until date; the store enforces that
//! date. Nothing here removes anything.

mod applies;
mod dates;
mod policy;

use jiff::{Timestamp, ToSpan};

pub use dates::{Period, PeriodError};
pub use applies::{Conditions, Groups};
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
    pub policy: String,
    pub policy_sha256: String,
}

impl PolicySet {
    /// Until when the recordings of a call are kept. The longest policy wins.
    ///
    /// While the call is not over, its end may still come later than now; a day more is kept then, the most by which an
    /// end may lie after its receipt, so that the date never turns out to be too early.
    ///
    /// `journaled` is the journal's own time of what the receipt is taken from. It differs from the receipt only where
    /// the clock was behind the journal: then nobody knows which of them is right, and the later one counts.
    #[must_use]
    pub fn kept(&self, facts: &Facts, journaled: Option<Timestamp>) -> Kept {
        let basis = self.basis(facts);
        let stated = facts.time(Field::EndedAt);
        let counts = stated.is_some() && basis.contradiction.is_none();
        let basis = match journaled.filter(|_| !counts && !facts.imported) {
            // An end between the two is what both clocks allow.
            Some(latest) => basis.from.max(stated.map_or(latest, |end| end.min(latest))),
            None => basis.from,
        };
        let open = !facts.status().is_final() && facts.time(Field::EndedAt).is_none();
        let end = if open { basis.checked_add(24.hours()).unwrap_or(Timestamp::MAX) } else { basis };
        let received = from_micros(facts.final_received.unwrap_or(facts.first_received));
        let (until, policy) = self.longest(facts, end, received.max(journaled.unwrap_or(received)));
        Kept { until, policy: policy.id.clone(), policy_sha256: self.sha256().to_owned() }
    }

    /// The end of the call counts, or its receipt if the end is unknown. The sender chooses the end: one more than a
    /// day after its receipt, or so early that less than a year would remain to keep, does not count; imported calls
    /// are late by nature and excepted from the latter.
    #[must_use]
    pub fn basis(&self, facts: &Facts) -> Basis {
        let received = from_micros(facts.final_received.unwrap_or(facts.first_received));
        let Some(ended) = facts.time(Field::EndedAt) else {
            return Basis { from: received, contradiction: None };
        };
        let tomorrow = received.checked_add(24.hours()).unwrap_or(Timestamp::MAX);
        let contradiction = if ended > tomorrow && !facts.imported {
            Some("the call is said to end more than a day after it was reported")
        } else if !facts.imported && self.longest(facts, ended, ended).0 < Period::years(1).after(received) {
            Some("the call is said to have ended so long ago that less than a year would remain to keep it")
        } else {
            None
        };
        Basis { from: if contradiction.is_some() { received } else { ended }, contradiction }
    }

    /// Of the policies that apply to a call the one that keeps it longest, the first of equals.
    fn longest(&self, facts: &Facts, end: Timestamp, received: Timestamp) -> (Timestamp, &Policy) {
        let until = |policy: &Policy| {
            policy.period.after(match policy.start {
                Start::CallEnd => end,
                Start::Receipt => received,
            })
        };
        let (first, _) = self.policies();
        let start = (until(first), first);
        self.applying(facts)
            .map(|policy| (until(policy), policy))
            .fold(start, |best, next| if next.0 > best.0 { next } else { best })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::Stated;

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
        let set = PolicySet::built_in();
        let kept = set.kept(&facts("2026-03-09T05:15:41Z", "2026-03-09T05:15:42Z", false), None);
        assert_eq!((kept.until.to_string().as_str(), kept.policy.as_str()), ("2031-03-09T05:15:41Z", "default"));
    }

    #[test]
    fn an_end_that_is_still_to_come_is_never_too_late() {
        let set = PolicySet::built_in();
        let received = "2026-03-09T05:15:42Z".parse::<Timestamp>().unwrap().as_microsecond();
        let open = Facts { first_received: received, ..Facts::default() };
        assert_eq!(set.kept(&open, None).until.to_string(), "2031-03-10T05:15:42Z");
        let mut over = open.clone();
        over.statuses.insert(crate::intake::Status::Ended);
        assert_eq!(set.kept(&over, None).until.to_string(), "2031-03-09T05:15:42Z", "over, and its end never stated");
    }

    #[test]
    fn a_clock_that_is_behind_makes_no_date_too_early() {
        let set = PolicySet::built_in();
        let until = |ended: &str, received: &str, journaled: &str| {
            set.kept(&facts(ended, received, false), journaled.parse().ok()).until.to_string()
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
