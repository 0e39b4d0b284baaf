//! Which documents of a segment an [`Expr`] holds for: a set, joined from the sets of its conditions.
//!
//! Sets, not tantivy's scorers: those go from match to match, which is too slow where a condition holds for millions and
//! the total is wanted. A set costs a bit for every document, whatever it holds, and so does each way of joining two.

use std::ops::RangeInclusive;
use std::sync::Arc;

use tantivy::error::DataCorruption;
use tantivy::postings::{BlockSegmentPostings, TermInfo};
use tantivy::query::{EnableScoring, PhraseQuery, Query};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocId, DocSet, Searcher, SegmentReader, TERMINATED, Term};

use super::bits::Bits;
use super::cache::Cache;
use super::expr::{Expr, Match, Phrase, Who};
use super::number::{self, Fragment, MIN_DIGITS};
use super::schema::{Fields, SORT_AT, flag_term};

/// A term of more than every so many documents is kept in the cache: reading it takes longer than joining it.
const DENSE: u32 = 32;
/// Reading one document of a term takes as long as joining so many words of sets.
const POSTING_COST: u32 = 8;

/// Evaluates in one segment. The sets hold deleted documents too.
pub(super) struct Sets<'a> {
    pub searcher: &'a Searcher,
    pub reader: &'a SegmentReader,
    pub fields: &'a Fields,
    pub cache: &'a Cache,
}

/// One way in which a condition is met, as the index knows it.
enum Part {
    Term(Term),
    /// Any word that begins so.
    Prefix(Field, String),
    /// Terms at these places of one value; at least two.
    Phrase(Vec<(usize, Term)>),
    /// A phrase, and a word somewhere in the same field that begins so.
    PhraseAndPrefix(Field, Vec<String>, String),
    Started(Option<i64>, Option<i64>),
    Duration(Option<u64>, Option<u64>),
}

impl Sets<'_> {
    /// The documents for which `expr` holds. The parser bounds the depth of `expr`, and so the number of sets at a time.
    pub(super) fn of(&self, expr: &Expr) -> tantivy::Result<Bits> {
        let end = self.reader.max_doc();
        match expr {
            Expr::All => Ok(Bits::all(end)),
            Expr::Not(inner) => {
                let mut bits = self.of(inner)?;
                bits.invert();
                Ok(bits)
            }
            Expr::Or(parts) => {
                let mut bits = Bits::none(end);
                for part in parts {
                    match part {
                        Expr::Is(condition) => self.add(condition, &mut bits, None)?,
                        part => bits.or(&self.of(part)?),
                    }
                }
                Ok(bits)
            }
            Expr::And(parts) => {
                let mut parts: Vec<&Expr> = parts.iter().collect();
                parts.sort_by_key(|part| self.cost(part));
                let mut bits = Bits::all(end);
                for part in parts {
                    if bits.is_empty() {
                        break;
                    }
                    self.keep(part, &mut bits)?;
                }
                Ok(bits)
            }
            Expr::Is(condition) => {
                let mut bits = Bits::none(end);
                self.add(condition, &mut bits, None)?;
                Ok(bits)
            }
        }
    }

    /// Takes out of `bits` the documents for which `expr` does not hold.
    fn keep(&self, expr: &Expr, bits: &mut Bits) -> tantivy::Result<()> {
        match expr {
            Expr::Not(inner) => bits.and_not(&self.of(inner)?),
            Expr::Is(condition) => {
                let mut found = Bits::none(self.reader.max_doc());
                self.add(condition, &mut found, Some(bits))?;
                bits.and(&found);
            }
            other => bits.and(&self.of(other)?),
        }
        Ok(())
    }

    /// What should be looked at first: the smaller, the fewer documents are left for the others.
    fn cost(&self, expr: &Expr) -> u32 {
        match expr {
            Expr::Is(Match::Started { .. }) => 0,
            Expr::Is(
                Match::Status(_)
                | Match::Direction(_)
                | Match::Channel(_)
                | Match::Recording(_)
                | Match::Flag { .. }
                | Match::OnHold(_)
                | Match::Waba(_),
            ) => 1,
            Expr::Is(Match::Duration { .. }) => 2,
            Expr::Is(condition) => 3 + u32::from(self.parts(condition).iter().any(Part::is_slow)),
            Expr::All | Expr::Not(_) | Expr::And(_) | Expr::Or(_) => 5,
        }
    }

    /// Adds the documents for which `condition` holds; where it is slow to tell, only those in `within`.
    fn add(&self, condition: &Match, bits: &mut Bits, within: Option<&Bits>) -> tantivy::Result<()> {
        self.parts(condition).iter().try_for_each(|part| self.add_part(part, bits, within))
    }

    fn add_part(&self, part: &Part, bits: &mut Bits, within: Option<&Bits>) -> tantivy::Result<()> {
        match part {
            Part::Term(term) => self.add_term(term, bits)?,
            Part::Prefix(field, prefix) => self.add_prefix(*field, prefix, bits)?,
            Part::Phrase(terms) => self.add_phrase(terms, bits, within)?,
            Part::PhraseAndPrefix(field, words, prefix) => {
                let mut both = Bits::none(self.reader.max_doc());
                self.add_prefix(*field, prefix, &mut both)?;
                within.iter().for_each(|within| both.and(within));
                let mut whole = Bits::none(self.reader.max_doc());
                self.add_part(&words_part(*field, words), &mut whole, Some(&both))?;
                both.and(&whole);
                bits.or(&both);
            }
            Part::Started(from, until) => bits.insert_range(self.started(*from, *until)?),
            Part::Duration(min, max) => self.add_duration(*min, *max, bits)?,
        }
        Ok(())
    }

    fn add_term(&self, term: &Term, bits: &mut Bits) -> tantivy::Result<()> {
        match self.postings(term)? {
            Postings::None => {}
            Postings::Few(postings) => each(*postings, |doc| bits.insert(doc)),
            Postings::Many(many) => bits.or(&many),
        }
        Ok(())
    }

    /// How many documents of `bits` hold `term`.
    pub(super) fn count_term(&self, term: &Term, bits: &Bits) -> tantivy::Result<u32> {
        let mut count = 0;
        match self.postings(term)? {
            Postings::None => {}
            Postings::Few(postings) => each(*postings, |doc| count += u32::from(bits.contains(doc))),
            Postings::Many(many) => count = bits.count_both(&many),
        }
        Ok(count)
    }

    /// About what [`Self::count_term`] costs for a term of so many documents, in words of a set.
    pub(super) fn cost_of_counting(&self, doc_freq: u32) -> u32 {
        if self.is_dense(doc_freq) { self.reader.max_doc() / u64::BITS } else { doc_freq.saturating_mul(POSTING_COST) }
    }

    fn is_dense(&self, doc_freq: u32) -> bool {
        doc_freq >= self.reader.max_doc() / DENSE
    }

    fn postings(&self, term: &Term) -> tantivy::Result<Postings> {
        let index = self.reader.inverted_index(term.field())?;
        let Some(info) = index.get_term_info(term)? else { return Ok(Postings::None) };
        let read = || index.read_block_postings_from_terminfo(&info, IndexRecordOption::Basic);
        if !self.is_dense(info.doc_freq) {
            return Ok(Postings::Few(Box::new(read()?)));
        }
        let key = (self.reader.segment_id(), term.clone());
        if let Some(known) = self.cache.set(&key) {
            return Ok(Postings::Many(known));
        }
        let mut bits = Bits::none(self.reader.max_doc());
        each(read()?, |doc| bits.insert(doc));
        let bits = Arc::new(bits);
        self.cache.keep_set(key, Arc::clone(&bits));
        Ok(Postings::Many(bits))
    }

    fn add_prefix(&self, field: Field, prefix: &str, bits: &mut Bits) -> tantivy::Result<()> {
        let index = self.reader.inverted_index(field)?;
        let mut terms = index.terms().range().ge(prefix).into_stream()?;
        while terms.advance() && terms.key().starts_with(prefix.as_bytes()) {
            let postings = index.read_block_postings_from_terminfo(terms.value(), IndexRecordOption::Basic)?;
            each(postings, |doc| bits.insert(doc));
        }
        Ok(())
    }

    fn add_phrase(&self, terms: &[(usize, Term)], bits: &mut Bits, within: Option<&Bits>) -> tantivy::Result<()> {
        let weight = PhraseQuery::new_with_offset(terms.to_vec())
            .weight(EnableScoring::disabled_from_searcher(self.searcher))?;
        let mut matches = weight.scorer(self.reader, 1.0)?;
        let mut doc = matches.doc();
        while doc != TERMINATED {
            // Positions are slow to compare: what is not asked for is stepped over.
            let wanted = within.map_or(Some(doc), |within| within.next(doc));
            doc = match wanted {
                None => break,
                Some(wanted) if wanted > doc => matches.seek(wanted),
                Some(_) => {
                    bits.insert(doc);
                    matches.advance()
                }
            };
        }
        Ok(())
    }

    /// Documents lie in the order of their time, so that a range of times is a range of documents.
    fn started(&self, from: Option<i64>, until: Option<i64>) -> tantivy::Result<std::ops::Range<DocId>> {
        let Some(times) = self.reader.fast_fields().column_opt::<i64>(SORT_AT)? else { return Ok(0..0) };
        let end = self.reader.max_doc();
        let first_older = |time: Option<i64>, none: DocId| match time {
            Some(time) => bisect(end, |doc| times.values.get_val(doc) >= time),
            None => none,
        };
        Ok(first_older(until, 0)..first_older(from, end))
    }

    fn add_duration(&self, min: Option<u64>, max: Option<u64>, bits: &mut Bits) -> tantivy::Result<()> {
        let asked = min.unwrap_or(0)..=max.unwrap_or(u64::MAX);
        let (mut inside, mut all) = (0, 0);
        self.durations(0..=u64::MAX, false, |seconds, info| {
            all += u64::from(info.doc_freq);
            inside += if asked.contains(&seconds) { u64::from(info.doc_freq) } else { 0 };
            Ok(true)
        })?;
        if inside <= all / 2 {
            return self.add_durations(asked, bits);
        }
        // Fewer are outside: those are taken off the calls that have a duration.
        let mut outside = Bits::none(self.reader.max_doc());
        if let Some(shorter) = asked.start().checked_sub(1) {
            self.add_durations(0..=shorter, &mut outside)?;
        }
        if let Some(longer) = asked.end().checked_add(1) {
            self.add_durations(longer..=u64::MAX, &mut outside)?;
        }
        let mut found = self.with_duration()?.as_ref().clone();
        found.and_not(&outside);
        bits.or(&found);
        Ok(())
    }

    fn add_durations(&self, range: RangeInclusive<u64>, bits: &mut Bits) -> tantivy::Result<()> {
        self.durations(range, false, |seconds, info| {
            if self.is_dense(info.doc_freq) {
                self.add_term(&Term::from_field_u64(self.fields.duration, seconds), bits)?;
            } else {
                each(self.of_duration(info)?, |doc| bits.insert(doc));
            }
            Ok(true)
        })
    }

    /// All documents that have a duration.
    fn with_duration(&self) -> tantivy::Result<Arc<Bits>> {
        // No duration is a text: the key is nothing else's.
        let key = (self.reader.segment_id(), Term::from_field_text(self.fields.duration, "any"));
        if let Some(known) = self.cache.set(&key) {
            return Ok(known);
        }
        let mut bits = Bits::none(self.reader.max_doc());
        self.add_durations(0..=u64::MAX, &mut bits)?;
        let bits = Arc::new(bits);
        self.cache.keep_set(key, Arc::clone(&bits));
        Ok(bits)
    }

    /// Shows each duration in a range, from the shortest or from the longest on, until `see` has enough.
    pub(super) fn durations(
        &self,
        range: RangeInclusive<u64>,
        longest_first: bool,
        mut see: impl FnMut(u64, &TermInfo) -> tantivy::Result<bool>,
    ) -> tantivy::Result<()> {
        let index = self.reader.inverted_index(self.fields.duration)?;
        let key = |seconds: u64| seconds.to_be_bytes();
        let terms = index.terms().range().ge(key(*range.start())).le(key(*range.end()));
        let mut terms = if longest_first { terms.backward() } else { terms }.into_stream()?;
        while terms.advance() {
            let damaged = |_| tantivy::TantivyError::DataCorruption(DataCorruption::comment_only("a duration is cut"));
            let seconds = u64::from_be_bytes(terms.key().try_into().map_err(damaged)?);
            if !see(seconds, terms.value())? {
                break;
            }
        }
        Ok(())
    }

    /// The documents of one of [`Self::durations`].
    pub(super) fn of_duration(&self, info: &TermInfo) -> tantivy::Result<BlockSegmentPostings> {
        let index = self.reader.inverted_index(self.fields.duration)?;
        Ok(index.read_block_postings_from_terminfo(info, IndexRecordOption::Basic)?)
    }

    fn parts(&self, condition: &Match) -> Vec<Part> {
        let fields = self.fields;
        let term = |field, value: &str| vec![Part::Term(Term::from_field_text(field, value))];
        match condition {
            Match::Anything(who) => person(
                who,
                &[fields.id, fields.call_id],
                &[fields.customer_name, fields.agent_name, fields.other_name],
                &[fields.customer_number, fields.line_number, fields.agent_number, fields.other_number],
            ),
            Match::Agent(who) => person(who, &[fields.agent], &[fields.agent_name], &[fields.agent_number]),
            Match::Customer(who) => {
                person(who, &[fields.customer_id], &[fields.customer_name], &[fields.customer_number])
            }
            Match::Number(fragment) => fragments(fragment, &[fields.customer_number, fields.line_number]).collect(),
            Match::Waba(forms) => forms.iter().flat_map(|form| term(fields.waba, form)).collect(),
            Match::Status(value) => term(fields.status, value),
            Match::Direction(value) => term(fields.direction, value),
            Match::Channel(value) => term(fields.channel, value),
            Match::Recording(value) => term(fields.recording, value),
            Match::Flag { rule, state } => term(fields.flag, &flag_term(rule.as_deref(), state.as_deref())),
            Match::OnHold(held) => vec![Part::Term(Term::from_field_bool(fields.on_hold, *held))],
            Match::Started { from, until } => vec![Part::Started(*from, *until)],
            Match::Duration { min, max } => vec![Part::Duration(*min, *max)],
        }
    }
}

impl Part {
    fn is_slow(&self) -> bool {
        matches!(self, Self::Phrase(_) | Self::PhraseAndPrefix(..))
    }
}

fn person(who: &Who, exact: &[Field], names: &[Field], numbers: &[Field]) -> Vec<Part> {
    let exact = exact.iter().map(|field| Part::Term(Term::from_field_text(*field, &who.exact)));
    let names = names.iter().flat_map(|field| who.name.iter().map(|name| phrase(*field, name)));
    let numbers = who.number.iter().flat_map(|fragment| fragments(fragment, numbers));
    exact.chain(names).chain(numbers).collect()
}

fn phrase(field: Field, Phrase { words, prefix }: &Phrase) -> Part {
    match words.as_slice() {
        [word] if *prefix => Part::Prefix(field, word.clone()),
        // That the last word follows directly is not asked for; what is shown may be a little more.
        [whole @ .., last] if *prefix => Part::PhraseAndPrefix(field, whole.to_vec(), last.clone()),
        words => words_part(field, words),
    }
}

/// Words that follow each other; at least one.
fn words_part(field: Field, words: &[String]) -> Part {
    let term = |word: &String| Term::from_field_text(field, word);
    match words {
        [word] => Part::Term(term(word)),
        words => Part::Phrase(words.iter().map(term).enumerate().collect()),
    }
}

fn fragments<'a>(fragment: &'a Fragment, fields: &'a [Field]) -> impl Iterator<Item = Part> + 'a {
    fields.iter().flat_map(|field| fragment.forms.iter().map(|form| digits(*field, form)))
}

fn digits(field: Field, digits: &str) -> Part {
    let groups = number::covering_groups(digits);
    let term = |group: &str| Term::from_field_text(field, group);
    match groups.as_slice() {
        // Fewer than a group has: any group that begins so.
        [(_, group)] if group.len() == MIN_DIGITS => Part::Prefix(field, (*group).to_owned()),
        [(_, group)] => Part::Term(term(group)),
        groups => Part::Phrase(groups.iter().map(|(at, group)| (*at, term(group))).collect()),
    }
}

/// The documents of a term.
enum Postings {
    None,
    Few(Box<BlockSegmentPostings>),
    Many(Arc<Bits>),
}

pub(super) fn each(mut postings: BlockSegmentPostings, mut see: impl FnMut(DocId)) {
    while !postings.docs().is_empty() {
        postings.docs().iter().for_each(|doc| see(*doc));
        postings.advance();
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
