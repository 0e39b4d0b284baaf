//! Calendar periods, never a day short. Pure.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};

/// A retention period in calendar years, months and days (ISO 8601, such as `P5Y`); always longer than nothing.
#[derive(Clone, Debug)]
pub struct Period(Span);

/// Why a text is no retention period.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    #[error("{0:?} is no ISO 8601 period such as P5Y")]
    Unreadable(String),
    #[error("{0:?} is not longer than nothing")]
    NotPositive(String),
    #[error("{0:?} has hours or smaller parts: give years, months and days")]
    TooFine(String),
    #[error("{0:?} is longer than 200 years")]
    TooLong(String),
}

/// As ISO 8601 writes it.
impl std::fmt::Display for Period {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Period {
    #[must_use]
    pub fn years(years: i16) -> Self {
        Self(Span::new().years(years))
    }

    /// Reads `P5Y`, `P18M`, `P1Y6M`, `P90D`.
    ///
    /// # Errors
    /// Anything that is not a positive calendar period.
    pub fn parse(text: &str) -> Result<Self, PeriodError> {
        let owned = || text.to_owned();
        // The friendly format ("5 years") is read by the same parser, but is not what a policy should say.
        let span = if text.starts_with('P') { text.parse::<Span>().ok() } else { None };
        let span = span.ok_or_else(|| PeriodError::Unreadable(owned()))?;
        if span.is_negative() || span.is_zero() {
            return Err(PeriodError::NotPositive(owned()));
        }
        let calendar =
            0.years().years(span.get_years()).months(span.get_months()).weeks(span.get_weeks()).days(span.get_days());
        if span.fieldwise() != calendar.fieldwise() {
            return Err(PeriodError::TooFine(owned()));
        }
        let months = i64::from(span.get_years()) * 12 + i64::from(span.get_months());
        let days = i64::from(span.get_weeks()) * 7 + i64::from(span.get_days());
        if months + days / 28 > 200 * 12 {
            return Err(PeriodError::TooLong(owned()));
        }
        Ok(Self(span))
    }

    /// The moment when the period that starts at `from` is over, in UTC. 29 February plus a year is 1 March: where a
    /// day does not exist, the next one counts, never an earlier one.
    #[must_use]
    pub fn after(&self, from: Timestamp) -> Timestamp {
        let start = from.to_zoned(TimeZone::UTC).datetime();
        let end = start.checked_add(self.0).unwrap_or(DateTime::MAX);
        let months_only = Span::new().years(self.0.get_years()).months(self.0.get_months());
        let clipped = start.checked_add(months_only).is_ok_and(|middle| middle.day() != start.day());
        let end = if clipped { end.checked_add(1.day()).unwrap_or(DateTime::MAX) } else { end };
        end.to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |zoned| zoned.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(period: &str, from: &str) -> String {
        Period::parse(period).unwrap().after(from.parse().unwrap()).to_string()
    }

    #[test]
    fn calendar_years_and_never_shorter() {
        assert_eq!(after("P5Y", "2026-03-09T05:15:41Z"), "2031-03-09T05:15:41Z");
        assert_eq!(after("P5Y", "2024-02-29T23:59:59.5Z"), "2029-03-01T23:59:59.5Z");
        assert_eq!(after("P4Y", "2024-02-29T00:00:00Z"), "2028-02-29T00:00:00Z");
        assert_eq!(after("P1M", "2026-01-31T10:00:00Z"), "2026-03-01T10:00:00Z");
        assert_eq!(after("P1M", "2026-03-31T10:00:00Z"), "2026-05-01T10:00:00Z");
        assert_eq!(after("P90D", "2026-01-31T10:00:00Z"), "2026-05-01T10:00:00Z");
    }

    #[test]
    fn what_is_no_period() {
        for text in ["P5", "5 years", "P0Y", "-P5Y", "P-5Y", "PT5H", "P1YT1S", "", "P5Y ", "P300Y"] {
            assert!(Period::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        assert!(Period::years(5).after(Timestamp::MAX) <= Timestamp::MAX);
    }
}
