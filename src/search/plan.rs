//! Turns an [`Expr`] into a tantivy query. Nothing is scored.

use std::ops::Bound;

use tantivy::query::{
    AllQuery, AllScorer, BooleanQuery, EmptyQuery, EmptyScorer, EnableScoring, Explanation, Occur, PhraseQuery, Query,
    RangeQuery, Scorer, TermQuery, Weight,
};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocId, DocSet, Score, SegmentReader, TERMINATED, TantivyError, Term};

use super::exclude::LeftOut;
use super::expr::{Expr, Match, Phrase, Who};
use super::number::{self, Fragment};
use super::schema::{Fields, SORT_AT, flag_term};

/// How many matches can be counted without looking at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Countable {
    /// All documents match.
    All,
    /// One term decides: its frequency is known where nothing was deleted.
    Term,
    No,
}

pub(super) fn countable(expr: &Expr) -> Countable {
    match expr {
        Expr::All => Countable::All,
        Expr::Is(
            Match::Status(_)
            | Match::Direction(_)
            | Match::Channel(_)
            | Match::Recording(_)
            | Match::Flag { .. }
            | Match::OnHold(_),
        ) => Countable::Term,
        Expr::Is(_) | Expr::And(_) | Expr::Or(_) | Expr::Not(_) => Countable::No,
    }
}

/// The query for `expr`. The depth of `expr` is bounded by the parser.
pub(super) fn query(expr: &Expr, fields: &Fields) -> Box<dyn Query> {
    match expr {
        Expr::All => Box::new(AllQuery),
        Expr::And(parts) => {
            // A condition that excludes needs no detour over all documents if another one includes.
            let clause = |part: &Expr| match part {
                Expr::Not(inner) => (Occur::MustNot, left_out(inner, fields)),
                part => (Occur::Must, query(part, fields)),
            };
            let mut clauses: Vec<_> = parts.iter().map(clause).collect();
            if clauses.iter().all(|(occur, _)| *occur == Occur::MustNot) {
                clauses.push((Occur::Must, Box::new(AllQuery)));
            }
            Box::new(BooleanQuery::new(clauses))
        }
        Expr::Or(parts) => union(parts.iter().map(|part| query(part, fields)).collect()),
        Expr::Not(inner) => Box::new(BooleanQuery::new(vec![
            (Occur::Must, Box::new(AllQuery)),
            (Occur::MustNot, left_out(inner, fields)),
        ])),
        Expr::Is(condition) => leaf(condition, fields),
    }
}

fn left_out(expr: &Expr, fields: &Fields) -> Box<dyn Query> {
    Box::new(LeftOut(query(expr, fields)))
}

fn leaf(condition: &Match, fields: &Fields) -> Box<dyn Query> {
    match condition {
        Match::Anything(who) => person(
            who,
            &[fields.id],
            &[fields.customer_name, fields.agent_name, fields.other_name],
            &[fields.customer_number, fields.line_number, fields.agent_number, fields.other_number],
        ),
        Match::Agent(who) => person(who, &[fields.agent], &[fields.agent_name], &[fields.agent_number]),
        Match::Customer(who) => person(who, &[fields.customer_id], &[fields.customer_name], &[fields.customer_number]),
        Match::Number(fragment) => union(fragments(fragment, &[fields.customer_number, fields.line_number]).collect()),
        Match::Waba(forms) => union(forms.iter().map(|form| term(fields.waba, form)).collect()),
        Match::Status(value) => term(fields.status, value),
        Match::Direction(value) => term(fields.direction, value),
        Match::Channel(value) => term(fields.channel, value),
        Match::Recording(value) => term(fields.recording, value),
        Match::Flag { rule, state } => term(fields.flag, &flag_term(rule.as_deref(), state.as_deref())),
        Match::OnHold(held) => of_term(Term::from_field_bool(fields.on_hold, *held)),
        Match::Started { from, until } => Box::new(SortedRange { from: *from, until: *until }),
        Match::Duration { min, max } => {
            let bound = |end: &Option<u64>| match end {
                Some(end) => Bound::Included(Term::from_field_u64(fields.duration, *end)),
                None => Bound::Unbounded,
            };
            match (min, max) {
                // Unbounded on both sides would match calls without duration as well.
                (None, None) => leaf(&Match::Duration { min: Some(0), max: None }, fields),
                _ => Box::new(RangeQuery::new(bound(min), bound(max))),
            }
        }
    }
}

fn person(who: &Who, exact: &[Field], names: &[Field], numbers: &[Field]) -> Box<dyn Query> {
    let exact = exact.iter().map(|field| term(*field, &who.exact));
    let names = names.iter().flat_map(|field| who.name.iter().map(|name| phrase(*field, name)));
    let numbers = who.number.iter().flat_map(|fragment| fragments(fragment, numbers));
    union(exact.chain(names).chain(numbers).collect())
}

fn phrase(field: Field, Phrase { words, prefix }: &Phrase) -> Box<dyn Query> {
    let terms = || words.iter().map(|word| Term::from_field_text(field, word)).collect::<Vec<_>>();
    match words.as_slice() {
        [] => Box::new(EmptyQuery),
        [word] if *prefix => starting_with(field, word),
        [word] => term(field, word),
        // Not tantivy's phrase-prefix query: it reserves room for as many words as it may expand to, and hides calls
        // beyond. That the last word follows directly is not asked for; what is shown may be a little more.
        [whole @ .., last] if *prefix => {
            let whole = Phrase { words: whole.to_vec(), prefix: false };
            let both = [phrase(field, &whole), starting_with(field, last)];
            Box::new(BooleanQuery::new(both.into_iter().map(|query| (Occur::Must, query)).collect()))
        }
        _ => Box::new(PhraseQuery::new(terms())),
    }
}

/// Every word that starts with `prefix`, however many there are.
fn starting_with(field: Field, prefix: &str) -> Box<dyn Query> {
    let lower = Bound::Included(Term::from_field_text(field, prefix));
    // The next text after all that start with the prefix: its last character one further up.
    let mut end: Vec<char> = prefix.chars().collect();
    let next = |c: char| (u32::from(c) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
    let upper = loop {
        match end.pop() {
            None => break Bound::Unbounded,
            Some(last) => {
                if let Some(next) = next(last) {
                    end.push(next);
                    let end: String = end.into_iter().collect();
                    break Bound::Excluded(Term::from_field_text(field, &end));
                }
            }
        }
    };
    Box::new(RangeQuery::new(lower, upper))
}

fn fragments(fragment: &Fragment, fields: &[Field]) -> impl Iterator<Item = Box<dyn Query>> {
    let fields = fields.to_vec();
    fields.into_iter().flat_map(|field| fragment.forms.iter().map(move |form| groups(field, form)))
}

fn groups(field: Field, digits: &str) -> Box<dyn Query> {
    let groups = number::covering_groups(digits);
    let terms = groups.iter().map(|(at, group)| (*at, Term::from_field_text(field, group)));
    match groups.as_slice() {
        [] => Box::new(EmptyQuery),
        // A phrase of one term panics.
        [(_, group)] => term(field, group),
        _ => Box::new(PhraseQuery::new_with_offset(terms.collect())),
    }
}

fn term(field: Field, value: &str) -> Box<dyn Query> {
    of_term(Term::from_field_text(field, value))
}

fn of_term(term: Term) -> Box<dyn Query> {
    Box::new(TermQuery::new(term, IndexRecordOption::Basic))
}

fn union(mut queries: Vec<Box<dyn Query>>) -> Box<dyn Query> {
    match queries.len() {
        0 => Box::new(EmptyQuery),
        1 => queries.swap_remove(0),
        _ => Box::new(BooleanQuery::union(queries)),
    }
}

/// Calls by sort time. Documents lie in its order, so that a range of times is a range of
/// documents, found by bisection.
#[derive(Debug, Clone)]
struct SortedRange {
    from: Option<i64>,
    until: Option<i64>,
}

impl Query for SortedRange {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for SortedRange {
    fn scorer(&self, reader: &SegmentReader, _boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let Some(times) = reader.fast_fields().column_opt::<i64>(SORT_AT)? else {
            return Ok(Box::new(EmptyScorer));
        };
        let first_older = |time: Option<i64>, none: DocId| match time {
            Some(time) => bisect(reader.max_doc(), |doc| times.values.get_val(doc) >= time),
            None => none,
        };
        let doc = first_older(self.until, 0);
        let end = first_older(self.from, reader.max_doc());
        Ok(match doc < end {
            true if doc == 0 && end == reader.max_doc() => Box::new(AllScorer::new(end)),
            true => Box::new(DocRange { doc, end }),
            false => Box::new(EmptyScorer),
        })
    }

    fn explain(&self, _: &SegmentReader, _: DocId) -> tantivy::Result<Explanation> {
        Err(TantivyError::InvalidArgument("nothing is scored here".to_owned()))
    }
}

/// The first document, up to `end`, for which `before` no longer holds.
pub(super) fn bisect(end: DocId, before: impl Fn(DocId) -> bool) -> DocId {
    let (mut low, mut high) = (0, end);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// All documents from `doc` to before `end`.
struct DocRange {
    doc: DocId,
    end: DocId,
}

impl DocSet for DocRange {
    fn advance(&mut self) -> DocId {
        self.seek(self.doc.saturating_add(1))
    }

    fn seek(&mut self, target: DocId) -> DocId {
        let target = target.max(self.doc);
        self.doc = if target < self.end { target } else { TERMINATED };
        self.doc
    }

    fn doc(&self) -> DocId {
        self.doc
    }

    fn size_hint(&self) -> u32 {
        self.end.saturating_sub(self.doc)
    }

    fn count_including_deleted(&mut self) -> u32 {
        let rest = self.end.saturating_sub(self.doc);
        self.doc = TERMINATED;
        rest
    }
}

impl Scorer for DocRange {
    fn score(&mut self) -> Score {
        1.0
    }
}
