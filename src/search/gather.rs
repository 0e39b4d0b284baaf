//! Runs a query over all segments: the total, the next page and the facets in one pass.
//!
//! Memory depends on the page and the facets' values, never on the number of matches.

use std::collections::BinaryHeap;

use jiff::tz::TimeZone;
use tantivy::columnar::Column;
use tantivy::fastfield::AliveBitSet;
use tantivy::query::{EnableScoring, Query, Scorer, Weight};
use tantivy::{COLLECT_BLOCK_BUFFER_LEN, DocAddress, DocId, DocSet, Searcher, SegmentOrdinal, SegmentReader};

use super::cursor::{Key, Sort};
use super::facets::{self, Counter, Counts, Facet};
use super::plan::{self, Countable};
use super::schema::{DURATION, FIRST_SEQ, SORT_AT};

/// What to gather.
pub(super) struct Plan<'a> {
    pub sort: Sort,
    /// At most so many hits.
    pub limit: usize,
    /// Only hits behind this place.
    pub after: Option<Key>,
    /// Whether the total is wanted; it costs a walk over all matches.
    pub count: bool,
    pub countable: Countable,
    pub facets: &'a [Facet],
    pub tz: &'a TimeZone,
}

/// One call on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hit {
    pub key: Key,
    pub address: DocAddress,
}

/// What was found, in one segment or in all.
#[derive(Default)]
pub(super) struct Gathered {
    /// Matches on all pages; 0 if it was not wanted.
    pub total: u64,
    /// In the order of the sort.
    pub hits: Vec<Hit>,
    pub facets: Counts,
}

/// Gathers over all segments of `searcher`, in parallel as far as its executor allows.
pub(super) fn gather(searcher: &Searcher, query: &dyn Query, plan: &Plan<'_>) -> tantivy::Result<Gathered> {
    let weight = query.weight(EnableScoring::disabled_from_searcher(searcher))?;
    let segments = (0..).zip(searcher.segment_readers());
    let one = |(ordinal, reader)| Segment::new(plan, ordinal, reader)?.gather(weight.as_ref());
    let mut all = Gathered::default();
    // Asked for and without values is an answer too.
    all.facets.extend(plan.facets.iter().map(|facet| (facet.as_str().to_owned(), Default::default())));
    for part in searcher.index().search_executor().map(one, segments)? {
        all.total += part.total;
        all.hits.extend(part.hits);
        facets::merge(&mut all.facets, part.facets);
    }
    all.hits.sort_unstable();
    all.hits.truncate(plan.limit);
    Ok(all)
}

struct Segment<'a> {
    plan: &'a Plan<'a>,
    ordinal: SegmentOrdinal,
    reader: &'a SegmentReader,
    times: Column<i64>,
    seqs: Column<u64>,
    durations: Column<u64>,
    /// The best so far; the worst of them on top.
    best: BinaryHeap<Hit>,
    /// The rank of the worst one, once there are enough.
    worst: u64,
    total: u64,
}

impl<'a> Segment<'a> {
    fn new(plan: &'a Plan<'a>, ordinal: SegmentOrdinal, reader: &'a SegmentReader) -> tantivy::Result<Self> {
        let columns = reader.fast_fields();
        let empty = || Column::build_empty_column(reader.max_doc());
        Ok(Self {
            plan,
            ordinal,
            reader,
            times: columns.column_opt(SORT_AT)?.unwrap_or_else(|| Column::build_empty_column(reader.max_doc())),
            seqs: columns.column_opt(FIRST_SEQ)?.unwrap_or_else(empty),
            durations: columns.column_opt(DURATION)?.unwrap_or_else(empty),
            best: BinaryHeap::new(),
            worst: u64::MAX,
            total: 0,
        })
    }

    fn gather(mut self, weight: &dyn Weight) -> tantivy::Result<Gathered> {
        let plan = self.plan;
        let counters = plan.facets.iter().map(|facet| Counter::new(*facet, self.reader, plan.tz));
        let mut counters = counters.collect::<tantivy::Result<Vec<_>>>()?;
        let known = plan.countable == Countable::All;
        if known {
            self.count_all(&mut counters)?;
        }
        let counted = known || counters.is_empty();
        if counted && (plan.sort == Sort::StartedAtDesc || plan.limit == 0) {
            self.newest_first(weight)?;
        } else {
            let none = &mut [][..];
            self.everything(weight, if counted { none } else { &mut counters })?;
        }
        let mut facets = Counts::new();
        for counter in counters {
            counter.finish(&mut facets)?;
        }
        Ok(Gathered { total: self.total, hits: self.best.into_vec(), facets })
    }

    /// The facets of all documents: those of the whole segment, less the deleted ones.
    fn count_all(&self, counters: &mut [Counter]) -> tantivy::Result<()> {
        for counter in counters.iter_mut() {
            counter.count_all(self.reader)?;
        }
        let Some(alive) = self.reader.alive_bitset().filter(|_| !counters.is_empty()) else { return Ok(()) };
        let mut block = Vec::with_capacity(COLLECT_BLOCK_BUFFER_LEN);
        for doc in 0..=self.reader.max_doc() {
            let last = doc == self.reader.max_doc();
            if !last && alive.is_deleted(doc) {
                block.push(doc);
            }
            if last || block.len() == COLLECT_BLOCK_BUFFER_LEN {
                counters.iter_mut().for_each(|counter| counter.count(&block));
                block.clear();
            }
        }
        Ok(())
    }

    /// Looks at every match.
    fn everything(&mut self, weight: &dyn Weight, counters: &mut [Counter]) -> tantivy::Result<()> {
        let mut alive = Vec::with_capacity(COLLECT_BLOCK_BUFFER_LEN);
        let mut oldest = Oldest::default();
        let reader = self.reader;
        weight.for_each_no_score(reader, &mut |docs| {
            let docs = match reader.alive_bitset() {
                None => docs,
                Some(bits) => {
                    alive.clear();
                    alive.extend(docs.iter().copied().filter(|doc| bits.is_alive(*doc)));
                    &alive
                }
            };
            self.total += docs.len() as u64;
            counters.iter_mut().for_each(|counter| counter.count(docs));
            match self.plan.sort {
                // Each is better than all before, which no heap likes.
                Sort::StartedAt => oldest.add(docs, self),
                // Each is worse: once a block begins behind the page, nothing more is to come.
                Sort::StartedAtDesc if docs.first().is_none_or(|doc| self.rank(*doc) > self.worst) => {}
                Sort::StartedAtDesc | Sort::Duration | Sort::DurationDesc => self.offer(docs),
            }
        })?;
        self.offer(&oldest.docs);
        Ok(())
    }

    /// Documents lie newest first: looks at matches until the page is full, then only counts.
    fn newest_first(&mut self, weight: &dyn Weight) -> tantivy::Result<()> {
        let start = self.first_after();
        let known = self.known_total(weight)?;
        let mut scorer = weight.scorer(self.reader, 1.0)?;
        if known.is_some() && scorer.doc() < start {
            scorer.seek(start);
        }
        let mut full = self.plan.limit == 0;
        let mut block = [0; COLLECT_BLOCK_BUFFER_LEN];
        let mut alive = Vec::with_capacity(COLLECT_BLOCK_BUFFER_LEN);
        while !full {
            let filled = scorer.fill_buffer(&mut block);
            let bits = self.reader.alive_bitset();
            alive.clear();
            alive.extend(block[..filled].iter().filter(|doc| bits.is_none_or(|bits| bits.is_alive(**doc))));
            self.total += alive.len() as u64;
            self.offer(&alive[alive.partition_point(|doc| *doc < start)..]);
            if filled < block.len() {
                break;
            }
            // Later documents are older; those of the same moment still compete.
            full = alive.last().is_some_and(|doc| *doc >= start && self.rank(*doc) > self.worst);
        }
        match known {
            Some(known) => self.total = known,
            None if full => self.total += count_rest(scorer.as_mut(), self.reader.alive_bitset()),
            None => {}
        }
        Ok(())
    }

    /// The first document that can lie behind the cursor.
    fn first_after(&self) -> DocId {
        match self.plan.after {
            Some(after) if self.plan.sort == Sort::StartedAtDesc => {
                plan::bisect(self.reader.max_doc(), |doc| self.rank(doc) < after.rank)
            }
            _ => 0,
        }
    }

    /// The total, if it need not be counted.
    fn known_total(&self, weight: &dyn Weight) -> tantivy::Result<Option<u64>> {
        Ok(match self.plan.countable {
            _ if !self.plan.count => Some(0),
            Countable::All => Some(u64::from(self.reader.num_docs())),
            Countable::Term if !self.reader.has_deletes() => Some(u64::from(weight.count(self.reader)?)),
            Countable::Term | Countable::No => None,
        })
    }

    /// Keeps those of `docs` that belong on the page as far as is known.
    fn offer(&mut self, docs: &[DocId]) {
        let limit = self.plan.limit;
        if limit == 0 {
            return;
        }
        for doc in docs {
            let rank = self.rank(*doc);
            if rank > self.worst || self.plan.after.is_some_and(|after| rank < after.rank) {
                continue;
            }
            let key = self.key(*doc);
            if self.plan.after.is_some_and(|after| key <= after) {
                continue;
            }
            let hit = Hit { key, address: DocAddress::new(self.ordinal, *doc) };
            if self.best.len() < limit {
                self.best.push(hit);
            } else if let Some(mut worst) = self.best.peek_mut()
                && hit < *worst
            {
                *worst = hit;
            }
            if self.best.len() == limit {
                self.worst = self.best.peek().map_or(u64::MAX, |hit| hit.key.rank);
            }
        }
    }

    fn key(&self, doc: DocId) -> Key {
        let seq = self.seqs.first(doc).unwrap_or_default();
        Key { rank: self.rank(doc), tie: self.plan.sort.tie(seq) }
    }

    fn rank(&self, doc: DocId) -> u64 {
        if self.plan.sort.by_time() {
            self.plan.sort.rank_of_time(self.times.first(doc).unwrap_or_default())
        } else {
            self.plan.sort.rank_of_duration(self.durations.first(doc))
        }
    }
}

/// The last documents seen, enough for a page of the oldest calls.
#[derive(Default)]
struct Oldest {
    docs: Vec<DocId>,
    /// From here on nothing lies behind the cursor; set with the first documents.
    end: Option<DocId>,
    /// How many documents to hold before the surplus is thrown away again.
    full: usize,
}

impl Oldest {
    /// How many documents more than a page are let in before the surplus is thrown away.
    const SLACK: usize = if cfg!(test) { 4 } else { 4096 };

    fn add(&mut self, docs: &[DocId], segment: &Segment<'_>) {
        let Segment { plan, reader, .. } = segment;
        if plan.limit == 0 {
            return;
        }
        let Some(after) = plan.after else { return self.keep(docs, segment) };
        let end = *self.end.get_or_insert_with(|| plan::bisect(reader.max_doc(), |doc| segment.rank(doc) > after.rank));
        // Those of the cursor's own moment are compared one by one, so that what was on the page
        // before takes nobody's place.
        let (before, rest) = docs.split_at(docs.partition_point(|doc| *doc < end));
        self.keep(before, segment);
        let same = rest.iter().take_while(|doc| segment.rank(**doc) == after.rank);
        self.keep(&same.copied().filter(|doc| segment.key(*doc) > after).collect::<Vec<_>>(), segment);
    }

    fn keep(&mut self, docs: &[DocId], segment: &Segment<'_>) {
        self.docs.extend_from_slice(docs);
        let limit = segment.plan.limit;
        if self.docs.len() < self.full.max(limit + Self::SLACK) {
            return;
        }
        // Those of the same moment still compete. There may be many, so room is made for as many
        // again before the next try.
        let rank = segment.rank(self.docs[self.docs.len() - limit]);
        let cut = self.docs.partition_point(|doc| segment.rank(*doc) > rank);
        self.docs.drain(..cut);
        self.full = 2 * self.docs.len();
    }
}

fn count_rest(scorer: &mut dyn Scorer, alive: Option<&AliveBitSet>) -> u64 {
    let Some(alive) = alive else { return u64::from(scorer.count_including_deleted()) };
    let mut block = [0; COLLECT_BLOCK_BUFFER_LEN];
    let mut count = 0;
    loop {
        let filled = scorer.fill_buffer(&mut block);
        count += block[..filled].iter().filter(|doc| alive.is_alive(**doc)).count() as u64;
        if filled < block.len() {
            return count;
        }
    }
}
