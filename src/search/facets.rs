//! Counts of matching calls by the values of a field.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, civil::Date};
use tantivy::columnar::{Cardinality, Column, StrColumn};
use tantivy::{DocId, SegmentReader, Term};

use super::error::QueryError;
use super::plan::bisect;
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
    /// What one more document adds: 1, or -1 where deleted ones are taken off again.
    step: i64,
}

enum Kind {
    /// The segment has no values.
    Nothing,
    Values(Values),
    Days(Days),
}

impl Counter {
    pub(super) fn new(facet: Facet, reader: &SegmentReader, tz: &TimeZone) -> tantivy::Result<Self> {
        let kind = match facet.column() {
            Some(name) => reader.fast_fields().str(name)?.map(|column| Kind::Values(Values::new(column))),
            None => {
                let times = reader.fast_fields().column_opt::<i64>(SORT_AT)?;
                times.map(|times| Kind::Days(Days { times, tz: tz.clone(), counts: HashMap::new(), current: None }))
            }
        };
        Ok(Self { facet, kind: kind.unwrap_or(Kind::Nothing), step: 1 })
    }

    /// Counts every document of the segment, deleted ones too, without looking at them. From then
    /// on [`Self::count`] takes off.
    pub(super) fn count_all(&mut self, reader: &SegmentReader) -> tantivy::Result<()> {
        self.step = -1;
        match (&mut self.kind, self.facet.column()) {
            (Kind::Values(values), Some(name)) => values.count_all(reader, name)?,
            (Kind::Days(days), _) => days.count_all(reader.max_doc()),
            (Kind::Nothing | Kind::Values(_), _) => {}
        }
        Ok(())
    }

    /// Counts documents, given in their order.
    pub(super) fn count(&mut self, docs: &[DocId]) {
        match &mut self.kind {
            Kind::Nothing => {}
            Kind::Values(values) => values.count(docs, self.step),
            Kind::Days(days) => days.count(docs, self.step),
        }
    }

    pub(super) fn finish(self, into: &mut Counts) -> tantivy::Result<()> {
        let sums = into.entry(self.facet.as_str().to_owned()).or_default();
        let mut add = |value: String, count: i64| match u64::try_from(count) {
            Ok(count) if count > 0 => *sums.entry(value).or_default() += count,
            _ => {}
        };
        match self.kind {
            Kind::Nothing => {}
            Kind::Values(values) => {
                let mut value = String::new();
                for (ord, count) in (0..).zip(values.counts).filter(|(_, count)| *count > 0) {
                    if values.column.ord_to_str(ord, &mut value)? {
                        add(value.clone(), count);
                    }
                }
            }
            Kind::Days(days) => {
                for (day, count) in days.finish() {
                    add(day.map_or_else(|| "unknown".to_owned(), |day| day.to_string()), count);
                }
            }
        }
        Ok(())
    }
}

/// Counts the values of a column.
struct Values {
    column: StrColumn,
    /// By ordinal.
    counts: Vec<i64>,
    ords: Vec<u64>,
    rows: Vec<u32>,
    docs: Vec<DocId>,
}

impl Values {
    fn new(column: StrColumn) -> Self {
        let counts = vec![0; column.num_terms()];
        Self { column, counts, ords: Vec::new(), rows: Vec::new(), docs: Vec::new() }
    }

    fn count(&mut self, docs: &[DocId], step: i64) {
        let column = self.column.ords();
        let rows = if column.get_cardinality() == Cardinality::Full {
            docs
        } else {
            self.rows.clear();
            self.docs.clear();
            column.row_ids_for_docs(docs, &mut self.docs, &mut self.rows);
            &self.rows
        };
        self.ords.resize(rows.len(), 0);
        column.values.get_vals(rows, &mut self.ords);
        for ord in &self.ords {
            bump(&mut self.counts, *ord, step);
        }
    }

    /// The index knows in how many documents each value occurs.
    fn count_all(&mut self, reader: &SegmentReader, name: &str) -> tantivy::Result<()> {
        let field = reader.schema().get_field(name)?;
        let index = reader.inverted_index(field)?;
        let mut value = String::new();
        for ord in 0..self.column.num_terms() as u64 {
            if self.column.ord_to_str(ord, &mut value)? {
                let count = index.doc_freq(&Term::from_field_text(field, &value))?;
                bump(&mut self.counts, ord, i64::from(count));
            }
        }
        Ok(())
    }
}

fn bump(counts: &mut [i64], ord: u64, step: i64) {
    // An ordinal beyond the dictionary would be damage, which the checksums find.
    if let Some(count) = usize::try_from(ord).ok().and_then(|ord| counts.get_mut(ord)) {
        *count += step;
    }
}

/// Counts days. Documents lie in the order of time, so that the day changes rarely and the
/// calendar is seldom asked.
struct Days {
    times: Column<i64>,
    tz: TimeZone,
    counts: HashMap<Option<Date>, i64>,
    current: Option<Day>,
}

struct Day {
    date: Option<Date>,
    /// In microseconds, the end excluded.
    span: std::ops::Range<i64>,
    count: i64,
}

impl Days {
    fn count(&mut self, docs: &[DocId], step: i64) {
        let ([first, .., last] | [first @ last]) = docs else { return };
        let ends = [self.times.values.get_val(*first), self.times.values.get_val(*last)];
        if let Some(day) = &mut self.current
            && ends.iter().all(|time| day.span.contains(time))
        {
            // What lies between two calls of a day is of that day.
            day.count += step * docs.len() as i64;
            return;
        }
        for doc in docs {
            let time = self.times.values.get_val(*doc);
            self.enter(time).count += step;
        }
    }

    fn count_all(&mut self, max_doc: DocId) {
        let mut doc = 0;
        while doc < max_doc {
            let start = self.enter(self.times.values.get_val(doc)).span.start;
            let next = bisect(max_doc, |doc| self.times.values.get_val(doc) >= start).max(doc + 1);
            if let Some(day) = &mut self.current {
                day.count += i64::from(next - doc);
            }
            doc = next;
        }
    }

    /// The day of `time`, which becomes the current one.
    fn enter(&mut self, time: i64) -> &mut Day {
        let same = self.current.take().and_then(|day| match day.span.contains(&time) {
            true => Some(day),
            false => {
                *self.counts.entry(day.date).or_default() += day.count;
                None
            }
        });
        let day = same.unwrap_or_else(|| self.day(time));
        self.current.insert(day)
    }

    fn day(&self, time: i64) -> Day {
        let zoned = Timestamp::from_microsecond(time).map(|time| time.to_zoned(self.tz.clone()));
        let span = |date: Date| {
            let start = date.to_zoned(self.tz.clone())?.start_of_day()?;
            let end = date.checked_add(1.day())?.to_zoned(self.tz.clone())?.start_of_day()?;
            Ok::<_, jiff::Error>(start.timestamp().as_microsecond()..end.timestamp().as_microsecond())
        };
        let date = zoned.map(|zoned| zoned.date()).ok();
        // At the ends of the calendar a day has no span, and is looked up for every call.
        let span = date.and_then(|date| span(date).ok()).unwrap_or(time..time);
        Day { date, span, count: 0 }
    }

    fn finish(mut self) -> HashMap<Option<Date>, i64> {
        if let Some(day) = self.current.take() {
            *self.counts.entry(day.date).or_default() += day.count;
        }
        self.counts
    }
}
