//! What became of every call that was first heard of on some days: each in exactly one class, the numbers adding up, and
//! every call that does not fit by its id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::class::{Class, Standing, Verdict, classify};
use super::days::Days;
use super::document::Document;
use super::moment::{Moment, Source};
use super::{Report, ReportError};
use crate::calls::{Facts, Field};
use crate::clock::from_micros;
use crate::intake::is_call_subject;
use crate::journal::Kind;

/// Entries that are looked at in one step.
const STEP: u64 = 2000;
/// Quarantined webhooks that are listed; all are counted.
const LISTED: usize = 1000;

/// The report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Completeness {
    /// Always `completeness`.
    pub report: String,
    /// The first day.
    #[schema(value_type = String, format = Date)]
    pub from: Date,
    /// The last day, included.
    #[schema(value_type = String, format = Date)]
    pub to: Date,
    /// The time zone in which days begin and end.
    pub timezone: String,
    #[schema(value_type = String, format = DateTime)]
    pub as_of: Timestamp,
    /// How many entries of the journal it takes in.
    pub entries: u64,
    /// True where nothing is a gap, nothing in quarantine and everything could be read.
    pub complete: bool,
    /// Calls that were first heard of on these days.
    pub total: u64,
    /// Every class, those without calls too; they add up to the total.
    pub classes: Vec<ClassCount>,
    pub days: Vec<DayCount>,
    pub gaps: Vec<CallLine>,
    pub explained: Vec<CallLine>,
    pub under_way: Vec<CallLine>,
    /// Webhooks of these days that could not be understood: they may be about calls that nobody sees.
    pub quarantined: u64,
    /// The first 1,000 of them.
    pub quarantine: Vec<QuarantineLine>,
    /// Keys of calls whose rows do not read back, of whatever day; they are in no class.
    pub unreadable: Vec<String>,
}

/// How many calls are in a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClassCount {
    pub class: Class,
    pub standing: Standing,
    pub calls: u64,
}

/// The classes of one day; those without calls are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DayCount {
    #[schema(value_type = String, format = Date)]
    pub day: Date,
    pub calls: u64,
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    pub classes: BTreeMap<Class, u64>,
}

/// A call that does not simply fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallLine {
    pub call_id: String,
    /// As the sender names it.
    pub agent: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub first_seen_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    pub class: Class,
    /// What it would be without the explanation, where there is one.
    pub otherwise: Option<Class>,
    /// In words; of an explained call the explanation.
    pub why: String,
    /// Who explained it.
    pub explained_by: Option<String>,
}

/// A webhook in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuarantineLine {
    pub seq: u64,
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// A short code.
    pub reason: String,
}

impl Report for Completeness {
    fn document(&self) -> Document {
        self.page()
    }

    fn needs_attention(&self) -> bool {
        !self.complete
    }

    fn name(&self) -> (&'static str, Date, Date) {
        ("completeness", self.from, self.to)
    }
}

impl Completeness {
    /// Makes the report.
    ///
    /// # Errors
    /// The database, or entries that do not read back.
    pub async fn make(source: &Source, days: &Days, moment: Moment) -> Result<Self, ReportError> {
        let mut tally = Tally::new(days, moment);
        let before = days.begin().as_microsecond().saturating_sub(1);
        let first = source.journal.size_at(from_micros(before)).await?;
        let end = source.journal.size_at(from_micros(days.end().as_microsecond().saturating_sub(1))).await?;
        let mut after = Some(first.cast_signed() - 1);
        while let Some(from) = after {
            let then = moment.calls(source, from, end).await?;
            then.facts.iter().for_each(|facts| tally.take(facts));
            tally.unreadable.extend(then.unreadable);
            after = then.next;
        }
        tally.take_late(source, end).await?;
        tally.take_quarantine(source, first).await?;
        Ok(tally.report())
    }

    /// How many calls are in a class.
    #[must_use]
    pub fn calls_in(&self, class: Class) -> u64 {
        self.classes.iter().find(|count| count.class == class).map_or(0, |count| count.calls)
    }
}

/// Counts calls.
pub(super) struct Tally {
    days: Days,
    moment: Moment,
    counts: BTreeMap<Date, BTreeMap<Class, u64>>,
    lines: Vec<(Standing, CallLine)>,
    quarantined: u64,
    quarantine: Vec<QuarantineLine>,
    unreadable: BTreeSet<String>,
}

impl Tally {
    pub(super) fn new(days: &Days, moment: Moment) -> Self {
        let counts = days.iter().map(|day| (day, BTreeMap::new())).collect();
        let (lines, quarantine) = (Vec::new(), Vec::new());
        Self { days: days.clone(), moment, counts, lines, quarantined: 0, quarantine, unreadable: BTreeSet::new() }
    }

    /// Takes a call in, if it was first heard of on one of the days.
    pub(super) fn take(&mut self, facts: &Facts) {
        let first_seen_at = from_micros(facts.first_received);
        let Some(day) = self.days.day_of(first_seen_at) else { return };
        let Verdict { class, found, why } = classify(facts, self.moment.as_of);
        *self.counts.entry(day).or_default().entry(class).or_default() += 1;
        let standing = class.standing();
        if standing == Standing::Accounted && class != Class::Explained {
            return;
        }
        let explanation = facts.explained.as_ref().filter(|_| class == Class::Explained);
        let line = CallLine {
            call_id: facts.call_id.clone(),
            agent: facts.text(Field::Agent),
            first_seen_at,
            started_at: facts.time(Field::StartedAt),
            class,
            otherwise: explanation.map(|_| found),
            why,
            explained_by: explanation.map(|(_, explanation)| explanation.by.clone()),
        };
        self.lines.push((standing, line));
    }

    /// Calls that were journaled after the days, though something of them reached us before: it waited in a spool.
    async fn take_late(&mut self, source: &Source, end: u64) -> Result<(), ReportError> {
        let (mut from, mut seen) = (end, BTreeSet::new());
        while from < self.moment.size {
            let late = source.journal.late(from, STEP).await?;
            let Some((last, ..)) = late.last() else { break };
            from = last + 1;
            let of_these_days = late.into_iter().filter(|(seq, subject, received)| {
                *seq < self.moment.size && is_call_subject(subject) && self.days.day_of(*received).is_some()
            });
            let subjects: Vec<String> =
                of_these_days.map(|(_, subject, _)| subject).filter(|subject| seen.insert(subject.clone())).collect();
            let readable = source.calls.facts_of(&subjects).await?;
            self.unreadable.extend(readable.skipped);
            // The others were counted already.
            for facts in readable.facts.iter().filter(|facts| facts.first_seq >= end) {
                if let Some(then) = self.moment.then(&source.journal, facts).await? {
                    self.take(&Arc::unwrap_or_clone(then));
                }
            }
        }
        Ok(())
    }

    async fn take_quarantine(&mut self, source: &Source, first: u64) -> Result<(), ReportError> {
        let mut from = first;
        loop {
            let page = source.journal.of_kind(Kind::WebhookQuarantined, from, self.moment.size, STEP).await?;
            let Some(last) = page.last() else { return Ok(()) };
            from = last.seq + 1;
            for entry in page.iter().filter(|entry| self.days.day_of(entry.received()).is_some()) {
                self.quarantined += 1;
                if self.quarantine.len() < LISTED {
                    let reason = entry.reason.clone().unwrap_or_default();
                    let line = QuarantineLine { seq: entry.seq, received_at: entry.received(), reason };
                    self.quarantine.push(line);
                }
            }
        }
    }

    pub(super) fn report(mut self) -> Completeness {
        let all = |class: Class| self.counts.values().filter_map(|day| day.get(&class)).sum::<u64>();
        let count = |class: Class| ClassCount { class, standing: class.standing(), calls: all(class) };
        let classes: Vec<ClassCount> = Class::ALL.into_iter().map(count).collect();
        let gaps: u64 = classes.iter().filter(|count| count.standing == Standing::Gap).map(|count| count.calls).sum();
        self.lines.sort_by(|(_, one), (_, other)| {
            (one.first_seen_at, &one.call_id).cmp(&(other.first_seen_at, &other.call_id))
        });
        let of = |standing: Standing| {
            let lines = self.lines.iter().filter(move |(own, _)| *own == standing);
            lines.map(|(_, line)| line.clone()).collect::<Vec<_>>()
        };
        let day = |(day, classes): (&Date, &BTreeMap<Class, u64>)| DayCount {
            day: *day,
            calls: classes.values().sum(),
            classes: classes.clone(),
        };
        Completeness {
            report: "completeness".into(),
            from: self.days.from,
            to: self.days.to,
            timezone: self.days.tz().iana_name().unwrap_or("UTC").to_owned(),
            as_of: self.moment.as_of,
            entries: self.moment.size,
            complete: gaps == 0 && self.quarantined == 0 && self.unreadable.is_empty(),
            total: classes.iter().map(|count| count.calls).sum(),
            days: self.counts.iter().map(day).collect(),
            gaps: of(Standing::Gap),
            explained: of(Standing::Accounted),
            under_way: of(Standing::UnderWay),
            classes,
            quarantined: self.quarantined,
            quarantine: self.quarantine,
            unreadable: self.unreadable.into_iter().collect(),
        }
    }
}
