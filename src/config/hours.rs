//! Business hours as people write them: for each day of the week ranges of local time.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// When the firm does business; none are given where all days are empty.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct BusinessHours {
    written: Written,
    zone: Option<TimeZone>,
    /// From Monday on.
    days: [Vec<Range>; 7],
}

/// From a minute of the day up to another; one beyond 24 hours lies on the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub from: u16,
    pub to: u16,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    timezone: String,
    monday: String,
    tuesday: String,
    wednesday: String,
    thursday: String,
    friday: String,
    saturday: String,
    sunday: String,
}

impl Written {
    fn days(&self) -> [(&'static str, &str); 7] {
        [
            ("monday", &self.monday),
            ("tuesday", &self.tuesday),
            ("wednesday", &self.wednesday),
            ("thursday", &self.thursday),
            ("friday", &self.friday),
            ("saturday", &self.saturday),
            ("sunday", &self.sunday),
        ]
    }
}

impl TryFrom<Written> for BusinessHours {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let zone = match written.timezone.trim() {
            "" => None,
            name => Some(
                TimeZone::get(name)
                    .map_err(|_| format!("timezone: {name:?} is no IANA time zone such as Asia/Kolkata"))?,
            ),
        };
        let mut days: [Vec<Range>; 7] = Default::default();
        for ((day, text), ranges) in written.days().into_iter().zip(&mut days) {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            let unreadable = |part: &str| format!("{day}: {part:?} is no range such as 09:00-18:00 or 22:00-06:00");
            *ranges =
                parts.map(|part| range(part).ok_or_else(|| unreadable(part))).collect::<Result<Vec<_>, String>>()?;
        }
        Ok(Self { written, zone, days })
    }
}

impl From<BusinessHours> for Written {
    fn from(hours: BusinessHours) -> Self {
        hours.written
    }
}

impl BusinessHours {
    /// False where no day has any: then nothing is outside of them.
    #[must_use]
    pub fn are_given(&self) -> bool {
        self.days.iter().any(|ranges| !ranges.is_empty())
    }

    /// Their own time zone.
    #[must_use]
    pub fn zone(&self) -> Option<&TimeZone> {
        self.zone.as_ref()
    }

    /// The hours that begin on a day of the week.
    #[must_use]
    pub fn on(&self, day: Weekday) -> &[Range] {
        let place = usize::try_from(day.to_monday_zero_offset()).unwrap_or_default();
        self.days.get(place).map_or(&[], Vec::as_slice)
    }

    /// The same as they are written.
    #[must_use]
    pub fn written_on(&self, day: Weekday) -> &str {
        let place = usize::try_from(day.to_monday_zero_offset()).unwrap_or_default();
        self.written.days().get(place).map_or("", |(_, text)| text)
    }
}

impl std::fmt::Display for BusinessHours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let given = self.written.days().into_iter().filter(|(_, text)| !text.trim().is_empty());
        let days: Vec<String> = given.map(|(day, text)| format!("{day} {}", text.trim())).collect();
        f.write_str(&days.join("; "))
    }
}

fn range(text: &str) -> Option<Range> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (minute(from.trim())?, minute(to.trim())?);
    if from >= DAY || from == to {
        return None;
    }
    Some(Range { from, to: if to < from { to + DAY } else { to } })
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number =
        |text: &str| text.parse::<u16>().ok().filter(|_| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()));
    let (hour, minute) = (number(hour)?, number(minute)?);
    let at = hour * 60 + minute;
    (minute < 60 && at <= DAY).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn monday(text: &str) -> Result<Vec<Range>, String> {
        let written = Written { monday: text.into(), ..Written::default() };
        BusinessHours::try_from(written).map(|hours| hours.on(Weekday::Monday).to_vec())
    }

    #[test]
    fn ranges_are_read() {
        let range = |from: u16, to: u16| Range { from, to };
        assert_eq!(monday("09:00-18:00").unwrap(), [range(540, 1080)]);
        assert_eq!(monday(" 09:00 - 13:00 , 14:00-18:30 ").unwrap(), [range(540, 780), range(840, 1110)]);
        assert_eq!(monday("22:00-06:00").unwrap(), [range(1320, 1800)]);
        assert_eq!(monday("00:00-24:00").unwrap(), [range(0, 1440)]);
        assert!(!BusinessHours::default().are_given());
        for wrong in
            ["9-18", "09:00", "09:00-09:00", "24:00-25:00", "09:60-10:00", "9:00-10:00", "09:00–18:00", "+9:00-10:00"]
        {
            let error = monday(wrong).unwrap_err();
            assert!(error.starts_with("monday: "), "{wrong}: {error}");
        }
        let nowhere = Written { timezone: "Asia/Nowhere".into(), ..Written::default() };
        assert!(BusinessHours::try_from(nowhere).unwrap_err().contains("Asia/Nowhere"));
    }
}
