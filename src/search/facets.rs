//! Counts of matching calls by the values of a field.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil::Date};
use tantivy::columnar::{Cardinality, Column, StrColumn};
use tantivy::schema::Field;
use tantivy::{DocId, SegmentReader, Term};

use super::bits::Bits;
use super::cache::Day;
use super::error::QueryError;
use super::plan::{Sets, bisect};
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
    Values(Values),
    Days(Days),
}

impl Counter {
    pub(super) fn new(facet: Facet, reader: &SegmentReader, tz: &TimeZone) -> tantivy::Result<Self> {
        let kind = match facet.column() {
            Some(name) => {
                let field = reader.schema().get_field(name)?;
                reader.fast_fields().str(name)?.map(|column| Kind::Values(Values::new(column, field)))
            }
            None => {
                let times = reader.fast_fields().column_opt::<i64>(SORT_AT)?;
                times.map(|times| Kind::Days(Days { times, tz: tz.clone(), counts: Vec::new() }))
            }
        };
        Ok(Self { facet, kind: kind.unwrap_or(Kind::Nothing) })
    }

    /// Counts the documents in `matches`.
    pub(super) fn count(&mut self, sets: &Sets<'_>, matches: &Bits) -> tantivy::Result<()> {
        match &mut self.kind {
            Kind::Nothing => {}
            Kind::Values(values) => values.count(sets, matches)?,
            Kind::Days(days) => days.count(sets, matches),
        }
        Ok(())
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
                for (day, count) in days.counts {
                    add(day.map_or_else(|| "unknown".to_owned(), |day| day.to_string()), i64::from(count));
                }
            }
        }
        Ok(())
    }
}

/// Of a column with more values it is quicker to look at the documents than at each value.
const MANY_VALUES: usize = 4096;
/// Looking at the value of one document takes as long as joining so many words of sets.
const LOOK_COST: u32 = 16;

/// Counts the values of a column.
struct Values {
    column: StrColumn,
    field: Field,
    /// By ordinal.
    counts: Vec<i64>,
    ords: Vec<u64>,
    rows: Vec<u32>,
    docs: Vec<DocId>,
}

impl Values {
    fn new(column: StrColumn, field: Field) -> Self {
        let counts = vec![0; column.num_terms()];
        Self { column, field, counts, ords: Vec::new(), rows: Vec::new(), docs: Vec::new() }
    }

    fn count(&mut self, sets: &Sets<'_>, matches: &Bits) -> tantivy::Result<()> {
        let count = matches.count();
        let others = sets.reader.max_doc() - count;
        let looking = count.min(others).saturating_mul(LOOK_COST);
        if self.cost_by_terms(sets, looking)? <= looking {
            self.count_terms(|term| sets.count_term(term, matches))?;
        } else if count <= others || self.counts.len() > MANY_VALUES {
            matches.blocks(|docs| self.look(docs, 1));
        } else {
            // The index knows in how many documents each value occurs; those that don't match are taken off.
            let index = sets.reader.inverted_index(self.field)?;
            self.count_terms(|term| Ok(index.doc_freq(term)?))?;
            let mut others = matches.clone();
            others.invert();
            others.blocks(|docs| self.look(docs, -1));
        }
        Ok(())
    }

    /// What it costs to count each value's documents; no more than `most` is looked into.
    fn cost_by_terms(&self, sets: &Sets<'_>, most: u32) -> tantivy::Result<u32> {
        if self.counts.len() > MANY_VALUES {
            return Ok(u32::MAX);
        }
        let index = sets.reader.inverted_index(self.field)?;
        let (mut terms, mut cost) = (index.terms().stream()?, 0_u32);
        while cost <= most && terms.advance() {
            cost = cost.saturating_add(sets.cost_of_counting(terms.value().doc_freq));
        }
        Ok(cost)
    }

    fn count_terms(&mut self, count: impl Fn(&Term) -> tantivy::Result<u32>) -> tantivy::Result<()> {
        let mut value = String::new();
        for ord in 0..self.column.num_terms() as u64 {
            if self.column.ord_to_str(ord, &mut value)? {
                let count = count(&Term::from_field_text(self.field, &value))?;
                bump(&mut self.counts, ord, i64::from(count));
            }
        }
        Ok(())
    }

    /// Counts documents, given in their order, by looking at each.
    fn look(&mut self, docs: &[DocId], step: i64) {
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
}

fn bump(counts: &mut [i64], ord: u64, step: i64) {
    // An ordinal beyond the dictionary would be damage, which the checksums find.
    if let Some(count) = usize::try_from(ord).ok().and_then(|ord| counts.get_mut(ord)) {
        *count += step;
    }
}

/// Counts days. Documents lie in the order of time, so that a day is a range of documents.
struct Days {
    times: Column<i64>,
    tz: TimeZone,
    counts: Vec<(Option<Date>, u32)>,
}

impl Days {
    fn count(&mut self, sets: &Sets<'_>, matches: &Bits) {
        let (segment, end) = (sets.reader.segment_id(), sets.reader.max_doc());
        let days = sets.cache.days(segment, &self.tz).unwrap_or_else(|| {
            let days: Arc<[Day]> = self.days(end).into();
            sets.cache.keep_days(segment, self.tz.clone(), Arc::clone(&days));
            days
        });
        let ends = days.iter().skip(1).map(|(_, start)| *start).chain([end]);
        self.counts.extend(days.iter().zip(ends).map(|((day, start), end)| (*day, matches.count_in(*start..end))));
    }

    /// All days with their first documents.
    fn days(&self, end: DocId) -> Vec<Day> {
        let (mut days, mut doc) = (Vec::new(), 0);
        while doc < end {
            let (day, start) = self.day(self.times.values.get_val(doc));
            days.push((day, doc));
            doc = bisect(end, |doc| self.times.values.get_val(doc) >= start).max(doc + 1);
        }
        days
    }

    /// The day of `time`, and when it began.
    fn day(&self, time: i64) -> (Option<Date>, i64) {
        let zoned = Timestamp::from_microsecond(time).map(|time| time.to_zoned(self.tz.clone()));
        let Ok(zoned) = zoned else { return (None, time) };
        // At the beginning of the calendar a day has no start, and is looked up for every call.
        let start = zoned.start_of_day().map_or(time, |start| start.timestamp().as_microsecond());
        (Some(zoned.date()), start)
    }
}
