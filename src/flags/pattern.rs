//! Short calls of one agent that come close together. Pure.

use std::time::Duration;

use super::rules::{Finding, Rule};
use crate::config::RepeatedShortCalls;

/// Calls that a reason names; the others are counted.
const NAMED: usize = 5;

/// A short call of one agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShortCall {
    /// When it was, microseconds.
    pub(super) at: i64,
    pub(super) call_seq: i64,
    pub(super) call_id: String,
    /// The call's key.
    pub(super) subject: String,
    /// It completed a pattern before: counting begins anew behind it.
    pub(super) flagged: bool,
}

/// The calls that complete a pattern and are not flagged for it, of one agent's in their order: so many within the time since
/// the last that did.
pub(super) fn completing<'a>(short: &'a [ShortCall], rule: &RepeatedShortCalls) -> Vec<(&'a ShortCall, Finding)> {
    let (within, count) = (micros(rule.within), usize::try_from(rule.count).unwrap_or(usize::MAX));
    let (mut found, mut begin) = (Vec::new(), 0);
    if count == 0 {
        return found;
    }
    for (place, call) in short.iter().enumerate() {
        begin += short.iter().take(place).skip(begin).take_while(|one| call.at.saturating_sub(one.at) > within).count();
        let together = short.get(begin..=place).unwrap_or_default();
        if call.flagged {
            begin = place + 1;
        } else if together.len() >= count {
            found.push((call, finding(together, rule)));
            begin = place + 1;
        }
    }
    found
}

/// A duration as times are kept.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn finding(together: &[ShortCall], rule: &RepeatedShortCalls) -> Finding {
    let within = humantime::format_duration(rule.within);
    // Keys, not ids as sent: those may hold anything.
    let named: Vec<&str> = together.iter().rev().skip(1).take(NAMED).map(|call| call.subject.as_str()).collect();
    let others = together.len() - 1 - named.len();
    let more = if others == 0 { String::new() } else { format!(" and {others} more") };
    let after = if named.is_empty() { String::new() } else { format!(", after {}{more}", named.join(", ")) };
    Finding {
        rule: Rule::RepeatedShortCalls,
        reason: format!("{} short calls of this agent within {within}{after}", together.len()),
        threshold: Some(format!("{} within {within}", rule.count)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn calls(at: &[(i64, bool)]) -> Vec<ShortCall> {
        let call = |(seq, (minute, flagged)): (usize, &(i64, bool))| ShortCall {
            at: minute * 60_000_000,
            call_seq: seq as i64,
            call_id: format!("call {seq}"),
            subject: format!("call%20{seq}"),
            flagged: *flagged,
        };
        at.iter().enumerate().map(call).collect()
    }

    fn rule(count: u64, minutes: u64) -> RepeatedShortCalls {
        RepeatedShortCalls { count, within: Duration::from_secs(minutes * 60) }
    }

    fn minutes(at: &[(i64, bool)], rule: &RepeatedShortCalls) -> Vec<i64> {
        completing(&calls(at), rule).iter().map(|(call, _)| call.at / 60_000_000).collect()
    }

    #[test]
    fn the_call_that_completes_it() {
        let at = |minutes: &[i64]| minutes.iter().map(|minute| (*minute, false)).collect::<Vec<_>>();
        assert_eq!(minutes(&at(&[0, 30, 60]), &rule(3, 60)), [60], "the time's end is within it");
        assert_eq!(minutes(&at(&[0, 30, 61]), &rule(3, 60)), [0; 0]);
        assert_eq!(minutes(&at(&[0, 1, 2, 3, 4, 5, 6]), &rule(3, 60)), [2, 5], "counting begins anew");
        assert_eq!(minutes(&[(0, false), (1, false), (2, true), (3, false), (4, false)], &rule(3, 60)), [0; 0]);
        assert_eq!(
            minutes(&[(0, false), (1, false), (2, true), (3, false), (4, false), (5, false)], &rule(3, 60)),
            [5]
        );
        assert_eq!(minutes(&at(&[0, 1, 2]), &rule(0, 60)), [0; 0], "0 switches it off");
        assert_eq!(minutes(&at(&[0, 0, 0]), &rule(2, 0)), [0]);
        let calls = calls(&at(&[0, 1, 2]));
        let (_, finding) = &completing(&calls, &rule(3, 60))[0];
        assert_eq!(finding.reason, "3 short calls of this agent within 1h, after call%201, call%200");
        assert_eq!(finding.threshold.as_deref(), Some("3 within 1h"));
    }

    proptest! {
        #[test]
        fn as_counted_one_by_one(mut at in proptest::collection::vec((0_i64..200, any::<bool>()), 0..40), count in 1_u64..6, within in 0_u64..60) {
            at.sort_unstable();
            let mut expected = Vec::new();
            let mut after = None;
            for (place, (minute, flagged)) in at.iter().enumerate() {
                let counted = (0..=place).filter(|other| after.is_none_or(|after| *other > after))
                    .filter(|other| minute - at[*other].0 <= within as i64).count() as u64;
                if *flagged {
                    after = Some(place);
                } else if counted >= count {
                    expected.push(*minute);
                    after = Some(place);
                }
            }
            prop_assert_eq!(minutes(&at, &rule(count, within)), expected);
        }
    }
}
