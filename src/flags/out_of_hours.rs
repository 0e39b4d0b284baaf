//! Conversations outside of business hours. Pure.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::rules::{Finding, Rule};
use crate::calls::{Facts, Field};
use crate::clock::from_micros;
use crate::config::BusinessHours;

/// Whoever has no pause in so many days never closes.
const LOOKED_AT: SignedDuration = SignedDuration::from_hours(8 * 24);
const DAY: u16 = 24 * 60;

/// Any part of the conversation counts. `zone` is the configured one, for hours without their own.
pub(super) fn out_of_hours(facts: &Facts, hours: &BusinessHours, zone: &TimeZone) -> Option<Finding> {
    if !hours.are_given() || !facts.had_conversation() {
        return None;
    }
    let zone = hours.zone().unwrap_or(zone);
    let (start, end) = conversation(facts);
    if is_within(hours, zone, start, end) {
        return None;
    }
    let (from, to) = (start.to_zoned(zone.clone()), end.to_zoned(zone.clone()));
    let last = if from.date() == to.date() { to.strftime("%H:%M") } else { to.strftime("%Y-%m-%d %H:%M") };
    let name = zone.iana_name().unwrap_or("the configured time zone");
    let on_that_day = match hours.written_on(from.weekday()).trim() {
        "" => "none on that day".to_owned(),
        written => format!("{written} on that day"),
    };
    let reason =
        format!("from {} to {last} in {name}; business hours are {on_that_day}", from.strftime("%A %Y-%m-%d %H:%M"));
    Some(Finding { rule: Rule::OutOfHours, reason, threshold: Some(format!("{hours} ({name})")) })
}

/// When they spoke, as well as is known: as the sender says it, else when it was heard of.
fn conversation(facts: &Facts) -> (Timestamp, Timestamp) {
    let length = facts.number(Field::Duration).map(|seconds| SignedDuration::from_secs(seconds.max(0)));
    let (started, ended) = (facts.time(Field::StartedAt), facts.time(Field::EndedAt));
    let before = |end: Timestamp| length.and_then(|length| end.checked_sub(length).ok()).unwrap_or(end);
    let heard = || from_micros(facts.accepted_received.or(facts.final_received).unwrap_or(facts.first_received));
    let start = started.or_else(|| ended.map(before)).unwrap_or_else(heard);
    let after = || length.and_then(|length| start.checked_add(length).ok());
    (start, ended.or_else(after).unwrap_or(start).max(start))
}

fn is_within(hours: &BusinessHours, zone: &TimeZone, start: Timestamp, end: Timestamp) -> bool {
    let end = end.min(start.checked_add(LOOKED_AT).unwrap_or(Timestamp::MAX));
    let (first, last) = (start.to_zoned(zone.clone()).date(), end.to_zoned(zone.clone()).date());
    // Hours that began the day before may reach into the first one.
    let mut open: Vec<(Timestamp, Timestamp)> = Vec::new();
    let mut day = first.checked_sub(1.day()).ok();
    while let Some(date) = day.filter(|date| *date <= last) {
        open.extend(hours.on(date.weekday()).iter().filter_map(|range| {
            // Where clocks are set back a time comes twice: opening is the first, closing the second.
            let opens = zone.to_ambiguous_timestamp(civil(date, range.from)?).compatible().ok()?;
            let closes = zone.to_ambiguous_timestamp(civil(date, range.to)?).later().ok()?;
            Some((opens, closes))
        }));
        day = date.checked_add(1.day()).ok();
    }
    open.sort_unstable();
    let mut reached = None;
    for (opens, closes) in open {
        let from = reached.unwrap_or(start);
        if opens <= from && closes >= from {
            reached = Some(closes);
        }
    }
    reached.is_some_and(|until| until >= end)
}

fn civil(date: Date, minute: u16) -> Option<jiff::civil::DateTime> {
    let date = date.checked_add(i64::from(minute / DAY).days()).ok()?;
    let minute = minute % DAY;
    Some(date.at(i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?, 0, 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn hours(days: &[(&str, &str)]) -> BusinessHours {
        let mut written = json!({"timezone": "", "monday": "", "tuesday": "", "wednesday": "", "thursday": "",
            "friday": "", "saturday": "", "sunday": ""});
        for (day, text) in days {
            written[*day] = (*text).into();
        }
        serde_json::from_value(written).unwrap()
    }

    fn within(hours: &BusinessHours, zone: &str, start: &str, end: &str) -> bool {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        is_within(hours, &TimeZone::get(zone).unwrap(), at(start), at(end))
    }

    #[test]
    fn any_part_counts() {
        // 9 March 2026 is a Monday.
        let hours = hours(&[("monday", "09:00-13:00, 14:00-18:00"), ("tuesday", "09:00-18:00")]);
        for (start, end, expected) in [
            ("2026-03-09T09:00+05:30", "2026-03-09T13:00+05:30", true),
            ("2026-03-09T08:59:59+05:30", "2026-03-09T09:10+05:30", false),
            ("2026-03-09T12:59+05:30", "2026-03-09T14:01+05:30", false),
            ("2026-03-09T17:58+05:30", "2026-03-09T18:00:01+05:30", false),
            ("2026-03-10T13:30+05:30", "2026-03-10T13:40+05:30", true),
            ("2026-03-08T10:00+05:30", "2026-03-08T10:01+05:30", false),
            ("2026-03-09T23:50+05:30", "2026-03-10T10:00+05:30", false),
        ] {
            assert_eq!(within(&hours, "Asia/Kolkata", start, end), expected, "{start} to {end}");
        }
    }

    #[test]
    fn across_midnight() {
        let night = hours(&[("monday", "22:00-06:00"), ("wednesday", "20:00-24:00"), ("thursday", "00:00-02:00")]);
        for (start, end, expected) in [
            ("2026-03-09T23:50Z", "2026-03-10T00:10Z", true),
            ("2026-03-10T05:00Z", "2026-03-10T06:00Z", true),
            ("2026-03-10T05:00Z", "2026-03-10T06:01Z", false),
            // Tuesday's own night is nobody's.
            ("2026-03-10T22:30Z", "2026-03-10T22:31Z", false),
            // Hours that meet at midnight are one.
            ("2026-03-11T23:00Z", "2026-03-12T01:00Z", true),
            ("2026-03-11T23:00Z", "2026-03-12T02:01Z", false),
        ] {
            assert_eq!(within(&night, "UTC", start, end), expected, "{start} to {end}");
        }
        // From Sunday into Monday: the week has no seam.
        let sunday = hours(&[("sunday", "22:00-04:00")]);
        assert!(within(&sunday, "UTC", "2026-03-08T23:00Z", "2026-03-09T03:00Z"));
        assert!(!within(&sunday, "UTC", "2026-03-09T04:30Z", "2026-03-09T04:31Z"));
    }

    #[test]
    fn when_clocks_are_set() {
        let sunday = hours(&[("sunday", "01:00-03:00"), ("monday", "09:00-17:00")]);
        let new_york = |start, end| within(&sunday, "America/New_York", start, end);
        // 8 March 2026: after 01:59 comes 03:00, so that the hours last one hour.
        assert!(new_york("2026-03-08T06:00Z", "2026-03-08T07:00Z"));
        assert!(!new_york("2026-03-08T06:30Z", "2026-03-08T07:01Z"));
        // 1 November 2026: 01:00 to 01:59 comes twice, so that they last three.
        assert!(new_york("2026-11-01T05:00Z", "2026-11-01T08:00Z"));
        assert!(!new_york("2026-11-01T04:59Z", "2026-11-01T05:01Z"));
        assert!(!new_york("2026-11-01T07:59Z", "2026-11-01T08:01Z"));
        // The same local hours on both sides of the change.
        assert!(
            new_york("2026-03-02T14:00Z", "2026-03-02T22:00Z") && !new_york("2026-03-02T13:30Z", "2026-03-02T13:31Z")
        );
        assert!(
            new_york("2026-03-09T13:00Z", "2026-03-09T21:00Z") && !new_york("2026-03-09T21:30Z", "2026-03-09T21:31Z")
        );
    }

    proptest! {
        /// Against minutes that are looked at one by one.
        #[test]
        fn as_minute_by_minute(
            from in 0_u16..1440, length in 1_u16..1440, days in proptest::collection::vec(any::<bool>(), 7),
            begin in 0_i64..14 * 1440, minutes in 0_i64..1800, zone in 0_usize..3,
        ) {
            let zone = ["UTC", "America/New_York", "Australia/Lord_Howe"][zone];
            let tz = TimeZone::get(zone).unwrap();
            let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
            let to = (from + length) % 1440;
            prop_assume!(to != from);
            let names = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
            let range = format!("{}-{}", clock(from), clock(to));
            let given: Vec<(&str, &str)> =
                names.into_iter().zip(&days).filter(|(_, open)| **open).map(|(day, _)| (day, range.as_str())).collect();
            let hours = hours(&given);
            // Over the changes of both zones in March and April 2026.
            let start = "2026-03-02T00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(begin);
            let is_open = |at: Timestamp| {
                let local = at.to_zoned(tz.clone());
                let minute = u16::try_from(local.hour()).unwrap() * 60 + u16::try_from(local.minute()).unwrap();
                let open = |back: i64| days[usize::try_from((i64::from(local.weekday().to_monday_zero_offset()) + 7 - back) % 7).unwrap()];
                if to > from { open(0) && minute >= from && minute < to }
                else { (open(0) && minute >= from) || (open(1) && minute < to) }
            };
            // Opening and closing where clocks are set is a matter of its own, see above.
            let set = |at: Timestamp| tz.to_offset(at) != tz.to_offset(at - SignedDuration::from_hours(26))
                || tz.to_offset(at) != tz.to_offset(at + SignedDuration::from_hours(26));
            prop_assume!((0..=minutes).all(|minute| !set(start + SignedDuration::from_mins(minute))));
            let expected = (0..minutes.max(1)).all(|minute| is_open(start + SignedDuration::from_mins(minute)));
            prop_assume!(minutes > 0);
            prop_assert_eq!(is_within(&hours, &tz, start, start + SignedDuration::from_mins(minutes)), expected);
        }
    }
}
