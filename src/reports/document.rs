//! What a report looks like, whatever it is about: figures, and sections with a table and at times a plot. Every format but
//! JSON is made of it.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A report, ready to be written in any format.
#[derive(Clone, Debug)]
pub struct Document {
    /// Such as `Completeness`.
    pub title: &'static str,
    /// What it is about, such as `9 March 2026`.
    pub subtitle: String,
    /// Whether all is well, in a sentence.
    pub verdict: (Tone, String),
    /// What it rests on, each with its name.
    pub basis: Vec<(&'static str, Cell)>,
    /// The few numbers that matter most.
    pub figures: Vec<Figure>,
    pub sections: Vec<Section>,
    /// In which times are shown.
    pub tz: TimeZone,
}

/// How something is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    /// Somebody should know.
    Warn,
    /// Somebody has to look.
    Bad,
}

/// A number that stands out.
#[derive(Clone, Debug)]
pub struct Figure {
    pub label: &'static str,
    pub value: Cell,
    /// A few words below it.
    pub note: String,
    pub tone: Tone,
}

/// A part with a heading.
#[derive(Clone, Debug)]
pub struct Section {
    /// In CSV and as an anchor: lower case and `_`.
    pub name: &'static str,
    /// At most 31 characters, none of `[]:*?/\`: a sheet is named so.
    pub title: &'static str,
    /// What the numbers mean, in a sentence or two.
    pub note: String,
    pub plot: Option<Plot>,
    pub table: Table,
    /// What is said where the table has no rows.
    pub nothing: &'static str,
}

/// Rows under columns.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Line>,
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub title: &'static str,
    pub width: Width,
}

/// How wide a column is where it has a width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Numbers and dates; numbers stand right.
    Narrow,
    /// Ids and names.
    Middle,
    /// Sentences.
    Wide,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Line {
    pub cells: Vec<Cell>,
    pub tone: Tone,
    /// The sum of those above.
    pub total: bool,
}

/// What stands in a cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Nothing,
    Text(String),
    Count(u64),
    Bytes(u64),
    Day(Date),
    Time(Timestamp),
    /// Of one.
    Share(f64),
}

/// What is drawn.
#[derive(Clone, Debug)]
pub enum Plot {
    /// Stacked bars, one for each label.
    Bars { unit: Unit, labels: Vec<String>, series: Vec<Series> },
    /// Lines over the same labels.
    Lines { unit: Unit, labels: Vec<String>, series: Vec<Series> },
}

/// Of what a plot shows how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Calls,
    Bytes,
}

/// Values with a name; as many as there are labels.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub shade: Shade,
    pub values: Vec<Option<u64>>,
}

/// How a series is drawn; each is told apart without colour too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shade {
    First,
    Second,
    Third,
    Fourth,
    /// What is expected, and not there.
    Forecast,
    Good,
    Warn,
    Bad,
}

impl Column {
    #[must_use]
    pub fn narrow(title: &'static str) -> Self {
        Self { title, width: Width::Narrow }
    }

    #[must_use]
    pub fn middle(title: &'static str) -> Self {
        Self { title, width: Width::Middle }
    }

    #[must_use]
    pub fn wide(title: &'static str) -> Self {
        Self { title, width: Width::Wide }
    }
}

impl Line {
    #[must_use]
    pub fn new(cells: Vec<Cell>) -> Self {
        Self { cells, tone: Tone::Plain, total: false }
    }

    #[must_use]
    pub fn toned(cells: Vec<Cell>, tone: Tone) -> Self {
        Self { tone, ..Self::new(cells) }
    }

    #[must_use]
    pub fn total(cells: Vec<Cell>) -> Self {
        Self { total: true, ..Self::new(cells) }
    }
}

impl Cell {
    /// A text, or nothing.
    #[must_use]
    pub fn opt(text: Option<&str>) -> Self {
        text.map_or(Self::Nothing, Self::from)
    }

    /// A part of a whole; nothing where there is no whole.
    #[must_use]
    pub fn share(part: u64, whole: u64) -> Self {
        if whole == 0 { Self::Nothing } else { Self::Share(part as f64 / whole as f64) }
    }

    /// As people read it, times in a time zone and to the minute.
    #[must_use]
    pub fn shown(&self, tz: &TimeZone) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Text(text) => text.clone(),
            Self::Count(count) => grouped(*count),
            Self::Bytes(bytes) => size(*bytes),
            Self::Day(day) => day.to_string(),
            Self::Time(at) => at.to_zoned(tz.clone()).strftime("%Y-%m-%d %H:%M").to_string(),
            Self::Share(share) => percent(*share),
        }
    }

    /// The same, times to the second.
    #[must_use]
    pub fn exact(&self, tz: &TimeZone) -> String {
        match self {
            Self::Time(at) => at.to_zoned(tz.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
            _ => self.shown(tz),
        }
    }

    /// As programs read it: plain numbers, RFC 3339 in UTC.
    #[must_use]
    pub fn plain(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Text(text) => text.clone(),
            Self::Count(number) | Self::Bytes(number) => number.to_string(),
            Self::Day(day) => day.to_string(),
            Self::Time(at) => at.to_string(),
            Self::Share(share) => format!("{share:.4}"),
        }
    }

    /// True for what stands right in its column.
    #[must_use]
    pub fn is_number(&self) -> bool {
        matches!(self, Self::Count(_) | Self::Bytes(_) | Self::Share(_))
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// A number with commas between thousands.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of something: `1 call`, `2 calls`.
#[must_use]
pub fn counted(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {many}", grouped(number)) }
}

/// A size in decimal units, such as `1.7 MB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "kB", "MB", "GB", "TB", "PB"] {
        // Rounding must not show 1000.0 of one unit where 1.0 of the next is meant.
        if value < 999.5 || unit == "PB" {
            return match unit {
                "bytes" => format!("{bytes} bytes"),
                _ if value < 9.95 => format!("{value:.1} {unit}"),
                _ => format!("{value:.0} {unit}"),
            };
        }
        value /= 1000.0;
    }
    format!("{bytes} bytes")
}

/// A part of one; never 0 % or 100 % where it is not.
fn percent(share: f64) -> String {
    match share * 100.0 {
        all if all >= 100.0 => "100 %".into(),
        none if none <= 0.0 => "0 %".into(),
        nearly if nearly > 99.9 => "> 99.9 %".into(),
        hardly if hardly < 0.1 => "< 0.1 %".into(),
        some => format!("{some:.1} %"),
    }
}

/// A day as people write it, such as `9 March 2026`.
#[must_use]
pub fn long_day(day: Date) -> String {
    day.strftime("%-d %B %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 999, 1000, 999_499, 999_500].map(size), ["0 bytes", "999 bytes", "1.0 kB", "999 kB", "1.0 MB"]);
        assert_eq!([u64::MAX, 2_000_000_000_000].map(size), ["18447 PB", "2.0 TB"]);
        assert_eq!([0.0, 0.0001, 0.5, 0.99999, 1.0].map(percent), ["0 %", "< 0.1 %", "50.0 %", "> 99.9 %", "100 %"]);
    }
}
