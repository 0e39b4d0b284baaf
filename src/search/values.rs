//! The values that conditions take: known words, durations, dates. Pure.
//!
//! Messages are plain sentences without position; the caller knows where the value stood.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::expr::Match;

pub(super) const STATUSES: &[&str] = &["initiated", "in_progress", "ended", "rejected", "missed", "failed"];
pub(super) const RECORDINGS: &[&str] = &["none", "pending", "archived", "failed", "missing", "destroyed"];
pub(super) const DIRECTIONS: &[&str] = &["incoming", "outgoing"];
pub(super) const CHANNELS: &[&str] = &["whatsapp", "pstn"];
pub(super) const FLAG_STATES: &[&str] = &["open", "resolved", "in_review", "cleared", "escalated"];

/// Which end of a range a date stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    From,
    To,
}

/// `value` in lower case, if it is one of `known`.
pub(super) fn known(what: &str, value: &str, known: &[&str]) -> Result<String, String> {
    let value = value.trim().to_lowercase();
    if known.contains(&value.as_str()) {
        return Ok(value);
    }
    Err(format!("there is no {what} {}; known are {}", quoted(&value), known.join(", ")))
}

/// The officer's own words, shortened to what fits into a message.
pub(super) fn quoted(value: &str) -> String {
    const MAX: usize = 60;
    match value.char_indices().nth(MAX) {
        Some((end, _)) => format!("“{}…”", &value[..end]),
        None => format!("“{value}”"),
    }
}

/// Reads `>60`, `>=60`, `<60`, `<=60`, `10..20`, `10..`, `..20` or `60`, in seconds.
pub(super) fn durations(value: &str) -> Result<Match, String> {
    let seconds = |text: &str| {
        text.parse::<u64>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit())).ok_or_else(|| {
            format!("{} is no duration; write whole seconds, as in >60, <=20, 45 or 10..20", quoted(value))
        })
    };
    let optional = |text: &str| if text.is_empty() { Ok(None) } else { seconds(text).map(Some) };
    let (min, max) = if let Some((from, to)) = value.split_once("..") {
        if from.is_empty() && to.is_empty() {
            return Err("a range needs at least one end, as in 10.. or ..20".to_owned());
        }
        (optional(from)?, optional(to)?)
    } else if let Some(text) = value.strip_prefix(">=") {
        (Some(seconds(text)?), None)
    } else if let Some(text) = value.strip_prefix("<=") {
        (None, Some(seconds(text)?))
    } else if let Some(text) = value.strip_prefix('>') {
        (Some(seconds(text)?.saturating_add(1)), None)
    } else if let Some(text) = value.strip_prefix('<') {
        let Some(max) = seconds(text)?.checked_sub(1) else {
            return Err("no call is shorter than 0 seconds".to_owned());
        };
        (None, Some(max))
    } else {
        let exactly = seconds(value)?;
        (Some(exactly), Some(exactly))
    };
    duration_range(min, max)
}

/// A range of seconds, if it can hold anything.
pub(super) fn duration_range(min: Option<u64>, max: Option<u64>) -> Result<Match, String> {
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        return Err(format!("no duration is at least {min} and at most {max} seconds"));
    }
    Ok(Match::Duration { min, max })
}

/// Reads `FROM..TO`, `FROM..`, `..TO`, `>DATE`, `>=DATE`, `<DATE`, `<=DATE`, or one day or month.
pub(super) fn dates(value: &str, tz: &TimeZone) -> Result<Match, String> {
    let at = |text: &str, end| moment(text, end, tz);
    let optional = |text: &str, end| if text.is_empty() { Ok(None) } else { at(text, end).map(Some) };
    let (from, until) = if let Some((from, to)) = value.split_once("..") {
        if from.is_empty() && to.is_empty() {
            return Err("a range needs at least one end, as in 2026-03-01..".to_owned());
        }
        (optional(from, End::From)?, optional(to, End::To)?)
    } else if let Some(text) = value.strip_prefix(">=") {
        (Some(at(text, End::From)?), None)
    } else if let Some(text) = value.strip_prefix("<=") {
        (None, Some(at(text, End::To)?))
    } else if let Some(text) = value.strip_prefix('>') {
        (Some(at(text, End::To)?), None)
    } else if let Some(text) = value.strip_prefix('<') {
        (None, Some(at(text, End::From)?))
    } else {
        (Some(at(value, End::From)?), Some(at(value, End::To)?))
    };
    date_range(from, until)
}

/// A half-open range of microseconds, if it can hold anything.
pub(super) fn date_range(from: Option<i64>, until: Option<i64>) -> Result<Match, String> {
    if let (Some(from), Some(until)) = (from, until)
        && from >= until
    {
        return Err("this range of dates ends before it begins".to_owned());
    }
    Ok(Match::Started { from, until })
}

/// Microseconds UTC at which a date or a time begins, or, as the end of a range, after which it is over.
///
/// # Errors
/// What is wrong with it, in words.
pub fn point_in_time(text: &str, is_end: bool, tz: &TimeZone) -> Result<i64, String> {
    moment(text, if is_end { End::To } else { End::From }, tz)
}

/// Microseconds UTC at which `text` begins, or, for [`End::To`], after which it is over: a day or
/// a month includes all of itself, a point in time itself.
pub(super) fn moment(text: &str, end: End, tz: &TimeZone) -> Result<i64, String> {
    let failed = || {
        format!("{} is no date; write 2026-03-09, 2026-03, or a time such as 2026-03-09T10:42:07+05:30", quoted(text))
    };
    let text = text.trim();
    let whole = match text.len() {
        7 => format!("{text}-01").parse::<Date>().ok().map(|first| (first, 1.month())),
        10 => text.parse::<Date>().ok().map(|day| (day, 1.day())),
        _ => None,
    };
    if let Some((first, span)) = whole {
        let day = if end == End::From { Ok(first) } else { first.checked_add(span) };
        let midnight = day.and_then(|day| day.to_zoned(tz.clone())).and_then(|zoned| zoned.start_of_day());
        // Every date that can be written but those at the end of the calendar has a time: those mean "for ever".
        let last = if end == End::From { Timestamp::MAX.as_microsecond() } else { i64::MAX };
        return Ok(midnight.map_or(last, |zoned| zoned.timestamp().as_microsecond()));
    }
    let point = match text.parse::<Timestamp>() {
        Ok(point) => point,
        Err(_) if text.len() > 10 => {
            let local: DateTime = text.parse().map_err(|_| failed())?;
            local.to_zoned(tz.clone()).map_err(|_| failed())?.timestamp()
        }
        Err(_) => return Err(failed()),
    };
    Ok(point.as_microsecond() + i64::from(end == End::To))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tz() -> TimeZone {
        TimeZone::get("Asia/Kolkata").unwrap_or_else(|_| TimeZone::fixed(jiff::tz::offset(5)))
    }

    #[test]
    fn durations_are_read() {
        let read = |text| match durations(text) {
            Ok(Match::Duration { min, max }) => (min, max),
            other => panic!("{other:?}"),
        };
        assert_eq!(read(">60"), (Some(61), None));
        assert_eq!(read(">=60"), (Some(60), None));
        assert_eq!(read("<60"), (None, Some(59)));
        assert_eq!(read("<=60"), (None, Some(60)));
        assert_eq!(read("60"), (Some(60), Some(60)));
        assert_eq!(read("10..20"), (Some(10), Some(20)));
        assert_eq!(read("10.."), (Some(10), None));
        for wrong in ["", "x", ">", "20..10", "..", "<0", "1.5", "-3", "+3", "99999999999999999999999"] {
            assert!(durations(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn dates_are_local_and_whole() {
        let midnight = "2026-03-01T00:00:00+05:30".parse::<Timestamp>().unwrap().as_microsecond();
        let day = 86_400_000_000;
        assert_eq!(moment("2026-03-01", End::From, &tz()), Ok(midnight));
        assert_eq!(moment("2026-03-01", End::To, &tz()), Ok(midnight + day));
        assert_eq!(moment("2026-03", End::To, &tz()), Ok(midnight + 31 * day));
        assert_eq!(moment("2026-02-28T18:30:00Z", End::From, &tz()), Ok(midnight));
        assert_eq!(moment("2026-02-28T18:30:00Z", End::To, &tz()), Ok(midnight + 1));
        assert_eq!(moment("2026-03-01T00:00", End::From, &tz()), Ok(midnight));
        assert_eq!(
            dates("2026-03-01..2026-03-09", &tz()),
            Ok(Match::Started { from: Some(midnight), until: Some(midnight + 9 * day) })
        );
        assert_eq!(dates(">2026-03-01", &tz()), Ok(Match::Started { from: Some(midnight + day), until: None }));
        assert_eq!(
            dates("2026-03-01..9999-12-31", &tz()),
            Ok(Match::Started { from: Some(midnight), until: Some(i64::MAX) })
        );
        assert!(dates("9999-12-31", &tz()).is_ok());
        for wrong in ["", "..", "yesterday", "2026-13-01", "2026-02-30", "2026-03-09..2026-03-01"] {
            assert!(dates(wrong, &tz()).is_err(), "{wrong}");
        }
    }
}
