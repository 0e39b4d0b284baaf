//! Runs a query over all segments: the total, the next page and the facets.
//!
//! Memory depends on the page, on the facets' values, and by a few bits on the number of calls; never on the matches.

use std::collections::BinaryHeap;

use jiff::tz::TimeZone;
use tantivy::columnar::Column;
use tantivy::{DocAddress, DocId, Searcher, SegmentOrdinal, SegmentReader};

use super::bits::Bits;
use super::cache::Cache;
use super::cursor::{Key, Sort};
use super::expr::Expr;
use super::facets::{self, Counter, Counts, Facet};
use super::plan::{self, Sets};
use super::schema::{DURATION, FIRST_SEQ, Fields, SORT_AT};

/// What to gather.
pub(super) struct Plan<'a> {
    pub sort: Sort,
    /// At most so many hits.
    pub limit: usize,
    /// Only hits behind this place.
    pub after: Option<Key>,
    /// Whether the total is wanted.
    pub count: bool,
    pub facets: &'a [Facet],
    pub tz: &'a TimeZone,
    pub fields: &'a Fields,
    pub cache: &'a Cache,
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
pub(super) fn gather(searcher: &Searcher, expr: &Expr, plan: &Plan<'_>) -> tantivy::Result<Gathered> {
    let segments = (0..).zip(searcher.segment_readers());
    let one = |(ordinal, reader)| gather_segment(searcher, ordinal, reader, expr, plan);
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

fn gather_segment(
    searcher: &Searcher,
    ordinal: SegmentOrdinal,
    reader: &SegmentReader,
    expr: &Expr,
    plan: &Plan<'_>,
) -> tantivy::Result<Gathered> {
    let sets = Sets { searcher, reader, fields: plan.fields, cache: plan.cache };
    let mut matches = sets.of(expr)?;
    if let Some(alive) = reader.alive_bitset() {
        matches.and_alive(alive);
    }
    let mut counts = Counts::new();
    for facet in plan.facets {
        let mut counter = Counter::new(*facet, reader, plan.tz)?;
        counter.count(&sets, &matches)?;
        counter.finish(&mut counts)?;
    }
    let total = if plan.count { u64::from(matches.count()) } else { 0 };
    let hits = if plan.limit == 0 { Vec::new() } else { PageOf::new(plan, ordinal, reader)?.of(&sets, &matches)? };
    Ok(Gathered { total, hits, facets: counts })
}

/// Finds the page's calls in one segment.
struct PageOf<'a> {
    plan: &'a Plan<'a>,
    ordinal: SegmentOrdinal,
    end: DocId,
    times: Column<i64>,
    seqs: Column<u64>,
    durations: Column<u64>,
    /// The best so far; the worst of them on top.
    best: BinaryHeap<Hit>,
    /// The rank of the worst one, once there are enough.
    worst: u64,
}

impl<'a> PageOf<'a> {
    fn new(plan: &'a Plan<'a>, ordinal: SegmentOrdinal, reader: &SegmentReader) -> tantivy::Result<Self> {
        let (columns, end) = (reader.fast_fields(), reader.max_doc());
        let empty = || Column::build_empty_column(end);
        Ok(Self {
            plan,
            ordinal,
            end,
            times: columns.column_opt(SORT_AT)?.unwrap_or_else(|| Column::build_empty_column(end)),
            seqs: columns.column_opt(FIRST_SEQ)?.unwrap_or_else(empty),
            durations: columns.column_opt(DURATION)?.unwrap_or_else(empty),
            best: BinaryHeap::new(),
            worst: u64::MAX,
        })
    }

    fn of(mut self, sets: &Sets<'_>, matches: &Bits) -> tantivy::Result<Vec<Hit>> {
        match self.plan.sort {
            Sort::StartedAtDesc => self.newest_first(matches),
            Sort::StartedAt => self.oldest_first(matches),
            Sort::Duration | Sort::DurationDesc => self.by_duration(sets, matches)?,
        }
        Ok(self.best.into_vec())
    }

    /// Documents lie newest first: looks at matches until the page is full.
    fn newest_first(&mut self, matches: &Bits) {
        let start = self.plan.after.map_or(0, |after| plan::bisect(self.end, |doc| self.rank(doc) < after.rank));
        let mut next = matches.next(start);
        // Later documents are older; those of the same moment still compete.
        while let Some(doc) = next.filter(|doc| self.rank(*doc) <= self.worst) {
            self.offer(doc);
            next = matches.next(doc + 1);
        }
    }

    fn oldest_first(&mut self, matches: &Bits) {
        let end = self.plan.after.map_or(self.end, |after| plan::bisect(self.end, |doc| self.rank(doc) >= after.rank));
        let mut next = matches.previous(end);
        while let Some(doc) = next.filter(|doc| self.rank(*doc) <= self.worst) {
            self.offer(doc);
            next = matches.previous(doc);
        }
    }

    fn by_duration(&mut self, sets: &Sets<'_>, matches: &Bits) -> tantivy::Result<()> {
        if self.walk_durations(sets, matches)? {
            return Ok(());
        }
        self.best.clear();
        self.worst = u64::MAX;
        let mut seconds = Vec::new();
        matches.blocks(|docs| {
            seconds.clear();
            seconds.resize(docs.len(), None);
            self.durations.first_vals(docs, &mut seconds);
            for (doc, seconds) in docs.iter().zip(&seconds) {
                self.offer_ranked(*doc, self.plan.sort.rank_of_duration(*seconds));
            }
        });
        Ok(())
    }

    /// Walks through the durations in the order of the sort. Gives up, with `false`, when they end or took longer than to
    /// look at each match, before the page was full.
    fn walk_durations(&mut self, sets: &Sets<'_>, matches: &Bits) -> tantivy::Result<bool> {
        let sort = self.plan.sort;
        let longest_first = sort == Sort::DurationDesc;
        let range = match self.plan.after.map(|after| sort.duration_of_rank(after.rank)) {
            // Only those without a duration are left.
            Some(None) => return Ok(false),
            Some(Some(start)) if start < Sort::LONGEST && longest_first => 0..=start,
            Some(Some(start)) if start < Sort::LONGEST => start..=u64::MAX,
            // The longest durations share a rank.
            Some(Some(_)) if !longest_first => Sort::LONGEST..=u64::MAX,
            Some(Some(_)) | None => 0..=u64::MAX,
        };
        let mut patience = matches.count();
        let mut complete = true;
        sets.durations(range, longest_first, |seconds, info| {
            let rank = sort.rank_of_duration(Some(seconds));
            if rank > self.worst {
                return Ok(false);
            }
            let left = patience.checked_sub(info.doc_freq);
            complete = left.is_some();
            patience = left.unwrap_or_default();
            if complete {
                plan::each(sets.of_duration(info)?, |doc| {
                    if matches.contains(doc) {
                        self.offer_ranked(doc, rank)
                    }
                });
            }
            Ok(complete)
        })?;
        Ok(complete && self.best.len() == self.plan.limit)
    }

    /// Keeps `doc` if it belongs on the page as far as is known.
    fn offer(&mut self, doc: DocId) {
        self.offer_ranked(doc, self.rank(doc));
    }

    fn offer_ranked(&mut self, doc: DocId, rank: u64) {
        if rank > self.worst || self.plan.after.is_some_and(|after| rank < after.rank) {
            return;
        }
        let key = Key { rank, tie: self.plan.sort.tie(self.seqs.first(doc).unwrap_or_default()) };
        if self.plan.after.is_some_and(|after| key <= after) {
            return;
        }
        let hit = Hit { key, address: DocAddress::new(self.ordinal, doc) };
        if self.best.len() < self.plan.limit {
            self.best.push(hit);
        } else if let Some(mut worst) = self.best.peek_mut()
            && hit < *worst
        {
            *worst = hit;
        }
        if self.best.len() == self.plan.limit {
            self.worst = self.best.peek().map_or(u64::MAX, |hit| hit.key.rank);
        }
    }

    fn rank(&self, doc: DocId) -> u64 {
        self.plan.sort.rank_of_time(self.times.first(doc).unwrap_or_default())
    }
}
