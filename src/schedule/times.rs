//! When a cron expression is due, in a time zone with all its changes. Pure.

use std::str::FromStr;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// A cron expression of five fields, in a time zone.
#[derive(Clone, Debug)]
pub struct Times {
    cron: Cron,
    zone: TimeZone,
}

/// Why a text is no cron expression that can ever be due.
#[derive(Debug, thiserror::Error)]
pub enum TimesError {
    #[error("{text:?} is no cron expression of five fields such as 0 6 * * *: {why}")]
    Unreadable { text: String, why: String },
    #[error("{0:?} is never due: there is no such day")]
    Never(String),
}

impl Times {
    /// Reads minute, hour, day of the month, month and day of the week, with names and `L`, `#`, `W` as croner has them.
    ///
    /// # Errors
    /// It can't be read, or names no day that there is.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, TimesError> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let unreadable = |why: String| TimesError::Unreadable { text: text.to_owned(), why };
        if text.split_whitespace().count() != 5 {
            return Err(unreadable("it has another number of fields".into()));
        }
        let cron = parser.parse(text).map_err(|error| unreadable(error.to_string()))?;
        let times = Self { cron, zone };
        times.after(Timestamp::UNIX_EPOCH).ok_or_else(|| TimesError::Never(text.to_owned()))?;
        Ok(times)
    }

    /// The first time after a moment. On a day on which clocks are put forward, what stands in the missing hour is due at
    /// the change; on one on which they are put back, what stands in the repeated hour is due in the first of the two.
    #[must_use]
    pub fn after(&self, moment: Timestamp) -> Option<Timestamp> {
        let mut civil = self.zone.to_datetime(moment);
        loop {
            civil = self.cron.find_next_occurrence(&civil, false).ok()?;
            let due = self.moment_of(civil)?;
            // In the second of two equal hours the clock shows what was due in the first.
            if due > moment {
                return Some(due);
            }
        }
    }

    fn moment_of(&self, civil: DateTime) -> Option<Timestamp> {
        let shown = self.zone.to_ambiguous_timestamp(civil);
        if let AmbiguousOffset::Gap { .. } = shown.offset() {
            // Read by the clock before the change it lies after it: the change is the last before it.
            let later = shown.later().ok()?;
            return Some(self.zone.preceding(later + SignedDuration::from_nanos(1)).next()?.timestamp());
        }
        shown.earlier().ok()
    }
}

impl FromStr for Times {
    type Err = TimesError;

    /// In UTC.
    fn from_str(text: &str) -> Result<Self, TimesError> {
        Self::parse(text, TimeZone::UTC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(cron: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
        let zone = TimeZone::get(zone).unwrap();
        let times = Times::parse(cron, zone.clone()).unwrap();
        let (mut at, until): (Timestamp, Timestamp) = (from.parse().unwrap(), until.parse().unwrap());
        let mut found = Vec::new();
        while let Some(next) = times.after(at).filter(|next| *next < until) {
            found.push(next.to_zoned(zone.clone()).strftime("%m-%d %H:%M %Z").to_string());
            at = next;
        }
        found
    }

    #[test]
    fn an_hour_that_is_missing_runs_once() {
        // In Berlin the clock goes from 2:00 to 3:00 on 29 March 2026.
        let night = ["2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z"];
        assert_eq!(due("30 2 * * *", "Europe/Berlin", night[0], night[1]), ["03-29 03:00 CEST", "03-30 02:30 CEST"]);
        assert_eq!(due("0 2,3 29 3 *", "Europe/Berlin", night[0], night[1]), ["03-29 03:00 CEST"]);
        // Who asks between the change and the time on the clock is not told again.
        assert_eq!(due("30 2 * * *", "Europe/Berlin", "2026-03-29T01:10:00Z", night[1]), ["03-30 02:30 CEST"]);
    }

    #[test]
    fn an_hour_that_comes_twice_runs_once() {
        // There it goes from 3:00 back to 2:00 on 25 October 2026.
        let night = ["2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"];
        assert_eq!(due("30 2 * * *", "Europe/Berlin", night[0], night[1]), ["10-25 02:30 CEST", "10-26 02:30 CET"]);
        let hourly = due("0 * 25 10 *", "Europe/Berlin", night[0], night[1]);
        assert_eq!(hourly.len(), 24, "one for each hour on the clock: {hourly:?}");
        // In the second of the two hours: what stands in them was due before.
        let second = "2026-10-25T01:10:00Z";
        assert_eq!(due("15,45 2 * * *", "Europe/Berlin", second, "2026-10-25T12:00:00Z"), [""; 0]);
        assert_eq!(due("0 3 * * *", "Europe/Berlin", second, "2026-10-25T12:00:00Z"), ["10-25 03:00 CET"]);
    }

    #[test]
    fn a_day_that_a_country_left_out() {
        // Samoa had no 30 December 2011.
        let due = due("0 6 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", "2012-01-01T00:00:00Z");
        assert_eq!(due.len(), 4, "{due:?}");
        assert!(due.iter().any(|at| at.starts_with("12-31 00:00")), "{due:?}");
    }

    #[test]
    fn what_is_no_expression_is_told() {
        for text in ["", "* * * *", "* * * * * *", "61 * * * *", "0 6 * * mo", "nonsense", "@daily"] {
            let error = text.parse::<Times>().unwrap_err().to_string();
            assert!(error.contains("five fields"), "{text}: {error}");
        }
        assert!("0 0 30 2 *".parse::<Times>().unwrap_err().to_string().contains("never due"));
        for text in ["0 6 * * *", "*/15 * * * MON-FRI", "0 0 L * *", "30 2 * * 0"] {
            text.parse::<Times>().unwrap();
        }
    }

    proptest::proptest! {
        #[test]
        fn times_only_go_forward(from in 0i64..4_000_000_000, minute in 0u8..60, hour in 0u8..24, zone in 0usize..4) {
            let zone = ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"][zone];
            let times = Times::parse(&format!("{minute} {hour} * * *"), TimeZone::get(zone).unwrap()).unwrap();
            let from = Timestamp::from_second(from).unwrap();
            let first = times.after(from).unwrap();
            proptest::prop_assert!(first > from);
            let second = times.after(first).unwrap();
            // Once a day, however long that is.
            let apart = second.duration_since(first).as_mins();
            proptest::prop_assert!((22 * 60..=26 * 60).contains(&apart), "{apart} minutes");
        }
    }
}
