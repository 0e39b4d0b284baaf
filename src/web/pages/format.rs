//! How times, lengths, sizes and numbers are written for people. Pure.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::phone::e164_digits;

/// What may stand in one segment of a path as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A moment as a page shows it: in the configured time zone, with UTC beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Such as `9 Mar 2026`.
    pub(super) date: String,
    /// Such as `10:42:07`.
    pub(super) time: String,
    /// RFC 3339, for machines.
    pub(super) iso: String,
    /// Such as `2026-03-09 05:12:07 UTC`.
    pub(super) utc: String,
}

impl Stamp {
    pub(super) fn new(at: Timestamp, tz: &TimeZone) -> Self {
        let local = at.to_zoned(tz.clone());
        Self {
            date: local.strftime("%-d %b %Y").to_string(),
            time: local.strftime("%H:%M:%S").to_string(),
            iso: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            utc: at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        }
    }
}

/// Seconds as `m:ss`, from an hour on as `h:mm:ss`.
pub(super) fn length(seconds: u64) -> String {
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    match minutes / 60 {
        0 => format!("{minutes}:{seconds:02}"),
        hours => format!("{}:{:02}:{seconds:02}", grouped(hours), minutes % 60),
    }
}

/// Measured seconds, rounded to whole ones.
pub(super) fn measured(seconds: f64) -> String {
    length(seconds.round().max(0.0) as u64)
}

/// A size in decimal units, such as `1.7 MB`.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "kB", "MB", "GB"] {
        // Rounding must not show 1000.0 of one unit where 1.0 of the next is meant.
        if value < 999.5 {
            return match unit {
                "bytes" => format!("{bytes} bytes"),
                _ if value < 9.95 => format!("{value:.1} {unit}"),
                _ => format!("{value:.0} {unit}"),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// A whole number with commas between thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number in its international form where it is one; any other text, a name say, as it is.
pub(super) fn phone(raw: &str, region: &str) -> String {
    let Some(digits) = e164_digits(raw, region) else { return raw.to_owned() };
    match digits.strip_prefix("91") {
        // Mobile numbers of India are read in two groups of five.
        Some(rest) if rest.len() == 10 && rest.as_bytes()[0] >= b'6' => format!("+91 {} {}", &rest[..5], &rest[5..]),
        _ => format!("+{digits}"),
    }
}

/// At most `max` characters, with an ellipsis for what is left out.
pub(super) fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

/// Without the invisible characters that turn the direction of what stands behind them: a window's title has no
/// element that could isolate them.
pub(super) fn undirected(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().filter(|c| !turns(*c) && !c.is_control()).collect()
}

/// A text as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// A sentence's first letter as a capital.
pub(super) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// With a capital at its beginning and one full stop at its end.
pub(super) fn sentence(text: &str) -> String {
    format!("{}.", capitalised(text).trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_local_with_utc_beside() {
        let tz = TimeZone::get("Asia/Kolkata").unwrap();
        let stamp = Stamp::new("2026-03-08T23:12:07.5Z".parse().unwrap(), &tz);
        assert_eq!((stamp.date.as_str(), stamp.time.as_str()), ("9 Mar 2026", "04:42:07"));
        assert_eq!((stamp.iso.as_str(), stamp.utc.as_str()), ("2026-03-08T23:12:07Z", "2026-03-08 23:12:07 UTC"));
        for extreme in [Timestamp::MIN, Timestamp::MAX] {
            assert!(!Stamp::new(extreme, &tz).date.is_empty());
        }
    }

    #[test]
    fn lengths() {
        for (seconds, expected) in
            [(0, "0:00"), (9, "0:09"), (214, "3:34"), (3599, "59:59"), (3600, "1:00:00"), (36_000_000, "10,000:00:00")]
        {
            assert_eq!(length(seconds), expected);
        }
        assert_eq!(measured(214.6), "3:35");
        assert_eq!(measured(-1.0), "0:00");
        assert_eq!(measured(f64::NAN), "0:00");
        assert!(!length(u64::MAX).is_empty());
    }

    #[test]
    fn sizes() {
        for (bytes, expected) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1000, "1.0 kB"),
            (29_916, "30 kB"),
            (999_700, "1.0 MB"),
            (1_712_345, "1.7 MB"),
            (536_870_912, "537 MB"),
            (2_000_000_000_000, "2.0 TB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(phone("919820011223", "IN"), "+91 98200 11223");
        assert_eq!(phone("+912240009999", "IN"), "+912240009999");
        assert_eq!(phone("Farhan Siddiqui", "IN"), "Farhan Siddiqui");
    }

    #[test]
    fn texts_are_cut_at_characters() {
        assert_eq!(shortened("मीरा शर्मा", 4), "मीरा…");
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(undirected("a\u{202e}b\u{2066}c\n"), "abc");
        assert_eq!(segment("a/b?c d%é"), "a%2Fb%3Fc%20d%25%C3%A9");
        assert_eq!(capitalised("this"), "This");
        assert_eq!(capitalised(""), "");
    }
}
