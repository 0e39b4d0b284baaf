//! Counts of matching calls by the values of a field.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, civil::Date};
use tantivy::columnar::{Cardinality, Column, StrColumn};
use tantivy::{DocId, SegmentReader};

use super::error::QueryError;
use super::schema::SORT_AT;

/// What matching calls can be counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Facet {
    Agent,
    Direction,
    Status,
    /// Rules of open flags; a call counts once for each.
    Flag,
    Recording,
    /// The day of the sort time, `YYYY-MM-DD` in the configured time zone.
    Day,
}

impl Facet {
    const ALL: [Self; 6] = [Self::Agent, Self::Direction, Self::Status, Self::Flag, Self::Recording, Self::Day];

    /// The name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Direction => "direction",
            Self::Status => "status",
            Self::Flag => "flag",
            Self::Recording => "recording",
            Self::Day => "day",
        }
    }

    /// The column with its values; none for the day, which is computed.
    fn column(self) -> Option<&'static str> {
        match self {
            Self::Flag => Some("open_flag"),
            Self::Day => None,
            Self::Agent | Self::Direction | Self::Status | Self::Recording => Some(self.as_str()),
        }
    }
}

impl FromStr for Facet {
    type Err = QueryError;

    fn from_str(name: &str) -> Result<Self, QueryError> {
        Self::ALL.into_iter().find(|facet| facet.as_str() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            QueryError::new("facets", format!("there is no such facet; known are {known}"))
        })
    }
}

/// By facet, then by value.
pub type Counts = BTreeMap<String, BTreeMap<String, u64>>;

/// Adds the counts of one segment to those of the others.
pub(super) fn merge(into: &mut Counts, from: Counts) {
    for (facet, values) in from {
        let sums = into.entry(facet).or_default();
        for (value, count) in values {
            *sums.entry(value).or_default() += count;
        }
    }
}

/// Counts one facet in one segment.
pub(super) struct Counter {
    facet: Facet,
    kind: Kind,
}

enum Kind {
    /// The segment has no values.
    Nothing,
    Values {
        column: StrColumn,
        counts: Vec<u64>,
        buffer: Vec<Option<u64>>,
    },
    Days(Days),
}

impl Counter {
    pub(super) fn new(facet: Facet, reader: &SegmentReader, tz: &TimeZone) -> tantivy::Result<Self> {
        let kind = match facet.column() {
            Some(name) => reader.fast_fields().str(name)?.map(|column| Kind::Values {
                counts: vec![0; column.num_terms()],
                column,
                buffer: Vec::new(),
            }),
            None => reader
                .fast_fields()
                .column_opt::<i64>(SORT_AT)?
                .map(|times| Kind::Days(Days { times, tz: tz.clone(), counts: HashMap::new(), current: None })),
        };
        Ok(Self { facet, kind: kind.unwrap_or(Kind::Nothing) })
    }

    /// Counts matching documents that are not deleted.
    pub(super) fn count(&mut self, docs: &[DocId]) {
        match &mut self.kind {
            Kind::Nothing => {}
            Kind::Values { column, counts, buffer } => {
                let ords = column.ords();
                if ords.get_cardinality() == Cardinality::Multivalued {
                    for ord in docs.iter().flat_map(|doc| ords.values_for_doc(*doc)) {
                        bump(counts, ord);
                    }
                } else {
                    buffer.clear();
                    buffer.resize(docs.len(), None);
                    ords.first_vals(docs, buffer);
                    buffer.iter().flatten().for_each(|ord| bump(counts, *ord));
                }
            }
            Kind::Days(days) => docs.iter().for_each(|doc| days.count(*doc)),
        }
    }

    pub(super) fn finish(self, into: &mut Counts) -> tantivy::Result<()> {
        let sums = into.entry(self.facet.as_str().to_owned()).or_default();
        match self.kind {
            Kind::Nothing => {}
            Kind::Values { column, counts, .. } => {
                let mut value = String::new();
                for (ord, count) in (0..).zip(counts).filter(|(_, count)| *count > 0) {
                    if column.ord_to_str(ord, &mut value)? {
                        *sums.entry(value.clone()).or_default() += count;
                    }
                }
            }
            Kind::Days(days) => {
                for (day, count) in days.finish() {
                    *sums.entry(day.map_or_else(|| "unknown".to_owned(), |day| day.to_string())).or_default() += count;
                }
            }
        }
        Ok(())
    }
}

fn bump(counts: &mut [u64], ord: u64) {
    // An ordinal beyond the dictionary would be damage, which the checksums find.
    if let Some(count) = usize::try_from(ord).ok().and_then(|ord| counts.get_mut(ord)) {
        *count += 1;
    }
}

/// Counts days. Documents lie in the order of time, so that the day changes rarely and the
/// calendar is seldom asked.
struct Days {
    times: Column<i64>,
    tz: TimeZone,
    counts: HashMap<Option<Date>, u64>,
    current: Option<Day>,
}

struct Day {
    date: Option<Date>,
    /// In microseconds, the end excluded.
    span: std::ops::Range<i64>,
    count: u64,
}

impl Days {
    fn count(&mut self, doc: DocId) {
        let time = self.times.values.get_val(doc);
        match &mut self.current {
            Some(day) if day.span.contains(&time) => day.count += 1,
            _ => {
                self.close();
                let (date, span) = self.day(time);
                self.current = Some(Day { date, span, count: 1 });
            }
        }
    }

    fn close(&mut self) {
        if let Some(day) = self.current.take() {
            *self.counts.entry(day.date).or_default() += day.count;
        }
    }

    fn day(&self, time: i64) -> (Option<Date>, std::ops::Range<i64>) {
        let zoned = Timestamp::from_microsecond(time).map(|time| time.to_zoned(self.tz.clone()));
        let span = |date: Date| {
            let start = date.to_zoned(self.tz.clone())?.start_of_day()?;
            let end = date.checked_add(1.day())?.to_zoned(self.tz.clone())?.start_of_day()?;
            Ok::<_, jiff::Error>(start.timestamp().as_microsecond()..end.timestamp().as_microsecond())
        };
        // At the ends of the calendar: the date, looked up for each call, or none.
        let date = zoned.map(|zoned| zoned.date()).ok();
        (date, date.and_then(|date| span(date).ok()).unwrap_or(0..0))
    }

    fn finish(mut self) -> HashMap<Option<Date>, u64> {
        self.close();
        self.counts
    }
}
