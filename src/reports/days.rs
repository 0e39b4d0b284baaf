//! Days in the configured time zone, and the moments at which they begin. Pure.

use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// Days in a row, the last one included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Days {
    pub from: Date,
    pub to: Date,
    tz: TimeZone,
}

/// Why days can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DaysError {
    #[error("{0:?} is no day: give one such as 2026-03-09, today or yesterday")]
    Unreadable(String),
    #[error("the days end before they begin: give --from first and --to later")]
    Backwards,
    #[error("a report spans at most 3,660 days: give a later --from")]
    TooMany,
    #[error("{0:?} is no moment: give one such as 2026-03-09T12:00:00Z, or a date for its end")]
    NoMoment(String),
    #[error("{0} is still to come: give a moment that is over with --as-of")]
    StillToCome(String),
}

/// Days in one report at most.
const MOST: i32 = 3660;

/// A day as people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Day {
    Date(Date),
    Today,
    Yesterday,
}

impl FromStr for Day {
    type Err = DaysError;

    fn from_str(text: &str) -> Result<Self, DaysError> {
        match text {
            "today" => Ok(Self::Today),
            "yesterday" => Ok(Self::Yesterday),
            // The parser takes a date with a time too, and cuts it off.
            _ if text.len() == 10 => text.parse().map(Self::Date).map_err(|_| DaysError::Unreadable(text.to_owned())),
            _ => Err(DaysError::Unreadable(text.to_owned())),
        }
    }
}

impl Day {
    fn on(&self, today: Date) -> Date {
        match self {
            Self::Date(date) => *date,
            Self::Today => today,
            Self::Yesterday => today.yesterday().unwrap_or(today),
        }
    }
}

impl Days {
    /// All days from one to another.
    ///
    /// # Errors
    /// There is none between them, or too many.
    pub fn new(from: Date, to: Date, tz: TimeZone) -> Result<Self, DaysError> {
        if to < from {
            return Err(DaysError::Backwards);
        }
        match from.until(to) {
            Ok(span) if span.get_days() < MOST => Ok(Self { from, to, tz }),
            _ => Err(DaysError::TooMany),
        }
    }

    /// The days that somebody asked for; without any word the last one that is over at `as_of`.
    ///
    /// # Errors
    /// There is none between them, or too many.
    pub fn asked(from: Option<&Day>, to: Option<&Day>, as_of: Timestamp, tz: &TimeZone) -> Result<Self, DaysError> {
        let today = day_of(as_of, tz);
        let (from, to) = (from.map(|day| day.on(today)), to.map(|day| day.on(today)));
        let (from, to) = match (from, to) {
            (None, None) => (Day::Yesterday.on(today), Day::Yesterday.on(today)),
            (Some(from), Some(to)) => (from, to),
            (Some(from), None) => (from, today.max(from)),
            (None, Some(to)) => (to, to),
        };
        Self::new(from, to, tz.clone())
    }

    /// The days that somebody asked for; without any word the twelve months up to `as_of`, the present one among them.
    ///
    /// # Errors
    /// There is none between them, or too many.
    pub fn year(from: Option<&Day>, to: Option<&Day>, as_of: Timestamp, tz: &TimeZone) -> Result<Self, DaysError> {
        let today = day_of(as_of, tz);
        let to = to.map_or(today, |day| day.on(today));
        let first = to.first_of_month();
        let from = from.map_or_else(|| first.checked_sub(11.months()).unwrap_or(first), |day| day.on(today));
        Self::new(from, to, tz.clone())
    }

    /// The day of a moment, if it is one of them.
    #[must_use]
    pub fn day_of(&self, at: Timestamp) -> Option<Date> {
        let day = day_of(at, &self.tz);
        (self.from <= day && day <= self.to).then_some(day)
    }

    /// When the first begins.
    #[must_use]
    pub fn begin(&self) -> Timestamp {
        begin(self.from, &self.tz)
    }

    /// When the last is over.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.to.tomorrow().map_or(Timestamp::MAX, |next| begin(next, &self.tz))
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Date> {
        self.from.series(1.day()).take_while(|day| *day <= self.to)
    }

    #[must_use]
    pub fn tz(&self) -> &TimeZone {
        &self.tz
    }
}

/// The day of a moment.
#[must_use]
pub fn day_of(at: Timestamp, tz: &TimeZone) -> Date {
    at.to_zoned(tz.clone()).date()
}

/// When a day begins: not always at midnight.
#[must_use]
pub fn begin(day: Date, tz: &TimeZone) -> Timestamp {
    day.to_zoned(tz.clone()).map_or(Timestamp::MAX, |zoned| zoned.timestamp())
}

/// A moment of the past: RFC 3339, or a date for its last instant (or `now`, where that is earlier).
///
/// # Errors
/// The text is neither, or names what is still to come.
pub fn moment(text: &str, now: Timestamp, tz: &TimeZone) -> Result<Timestamp, DaysError> {
    if let Ok(Day::Date(date)) = text.parse::<Day>() {
        if begin(date, tz) > now {
            return Err(DaysError::StillToCome(text.to_owned()));
        }
        let next = date.tomorrow().map_or(Timestamp::MAX, |next| begin(next, tz));
        return Ok(next.checked_sub(1.microsecond()).unwrap_or(next).min(now));
    }
    let at: Timestamp = text.parse().map_err(|_| DaysError::NoMoment(text.to_owned()))?;
    if at > now { Err(DaysError::StillToCome(text.to_owned())) } else { Ok(crate::clock::whole_micros(at)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    #[test]
    fn days_begin_where_the_time_zone_says() {
        let day = "2026-03-29".parse().unwrap();
        let days = Days::new(day, day, zone("Europe/Berlin")).unwrap();
        assert_eq!(days.begin().to_string(), "2026-03-28T23:00:00Z");
        assert_eq!(days.end().to_string(), "2026-03-29T22:00:00Z", "a day of 23 hours");
        assert_eq!(days.day_of("2026-03-28T23:00:00Z".parse().unwrap()), Some(day));
        assert_eq!(days.day_of("2026-03-29T22:00:00Z".parse().unwrap()), None);
        // In Santiago the clock goes from 23:59:59 to 01:00:00.
        assert_eq!(begin("2026-09-06".parse().unwrap(), &zone("America/Santiago")).to_string(), "2026-09-06T04:00:00Z");
    }

    #[test]
    fn days_are_asked_for_in_words_and_dates() {
        let (now, tz) = ("2026-03-09T20:00:00Z".parse().unwrap(), zone("Asia/Kolkata"));
        let asked = |from: Option<&str>, to: Option<&str>| {
            let read = |text: Option<&str>| text.map(|text| text.parse::<Day>().unwrap());
            let days = Days::asked(read(from).as_ref(), read(to).as_ref(), now, &tz)?;
            Ok(format!("{} {}", days.from, days.to))
        };
        assert_eq!(asked(None, None), Ok("2026-03-09 2026-03-09".into()), "it is the 10th there");
        assert_eq!(asked(Some("today"), None), Ok("2026-03-10 2026-03-10".into()));
        assert_eq!(asked(Some("2026-03-01"), None), Ok("2026-03-01 2026-03-10".into()));
        assert_eq!(asked(Some("2026-02-27"), Some("2026-03-01")), Ok("2026-02-27 2026-03-01".into()));
        assert_eq!(asked(Some("2026-03-02"), Some("2026-03-01")), Err(DaysError::Backwards));
        assert_eq!(asked(Some("1990-01-01"), Some("2026-03-01")), Err(DaysError::TooMany));
        for wrong in ["", "2026-02-30", "9 March", "2026-03-09T10:00:00", "tomorrow"] {
            assert!(wrong.parse::<Day>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn moments_are_of_the_past() {
        let (now, tz) = ("2026-03-09T20:00:00Z".parse().unwrap(), zone("Asia/Kolkata"));
        let read = |text: &str| moment(text, now, &tz).map(|at| at.to_string());
        assert_eq!(read("2026-03-08"), Ok("2026-03-08T18:29:59.999999Z".into()));
        assert_eq!(read("2026-03-10"), Ok("2026-03-09T20:00:00Z".into()), "today, up to now");
        assert_eq!(read("2026-03-08T12:00:00+05:30"), Ok("2026-03-08T06:30:00Z".into()));
        assert!(matches!(read("2026-03-11"), Err(DaysError::StillToCome(_))));
        assert!(matches!(read("2026-03-09T20:00:01Z"), Err(DaysError::StillToCome(_))));
        assert!(matches!(read("last month"), Err(DaysError::NoMoment(_))));
    }
}
