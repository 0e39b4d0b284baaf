//! A set of documents of one segment, one bit each: joined, counted and walked 64 documents at a time.

use std::ops::Range;

use tantivy::fastfield::AliveBitSet;
use tantivy::{BitSet, DocId};

const WORD: u32 = u64::BITS;

/// A set of documents below a fixed end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bits {
    /// Bits at and beyond `end` are never set.
    words: Vec<u64>,
    end: DocId,
}

impl Bits {
    pub(super) fn none(end: DocId) -> Self {
        Self { words: vec![0; end.div_ceil(WORD) as usize], end }
    }

    pub(super) fn all(end: DocId) -> Self {
        let mut bits = Self { words: vec![u64::MAX; end.div_ceil(WORD) as usize], end };
        bits.cut();
        bits
    }

    /// Takes away what a last word holds beyond the end.
    fn cut(&mut self) {
        if !self.end.is_multiple_of(WORD)
            && let Some(last) = self.words.last_mut()
        {
            *last &= below(self.end % WORD);
        }
    }

    pub(super) fn insert(&mut self, doc: DocId) {
        debug_assert!(doc < self.end);
        self.words[(doc / WORD) as usize] |= 1 << (doc % WORD);
    }

    pub(super) fn insert_range(&mut self, docs: Range<DocId>) {
        let end = self.end;
        for (at, mask) in masks(docs.start..docs.end.min(end)) {
            self.words[at] |= mask;
        }
    }

    pub(super) fn contains(&self, doc: DocId) -> bool {
        self.words[(doc / WORD) as usize] >> (doc % WORD) & 1 == 1
    }

    pub(super) fn or(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    pub(super) fn and(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= other);
    }

    pub(super) fn and_not(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= !other);
    }

    /// Takes away the deleted documents.
    pub(super) fn and_alive(&mut self, alive: &AliveBitSet) {
        // The only way to read it other than bit by bit.
        let mut words = BitSet::with_max_value_and_full(self.end);
        words.intersect_update(alive.bitset());
        for (bucket, word) in (0..).zip(&mut self.words) {
            *word &= u64::from_le_bytes(words.tinyset(bucket).into_bytes());
        }
    }

    /// Makes it the set of all others.
    pub(super) fn invert(&mut self) {
        self.words.iter_mut().for_each(|word| *word = !*word);
        self.cut();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub(super) fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// How many documents are in both.
    pub(super) fn count_both(&self, other: &Self) -> u32 {
        self.words.iter().zip(&other.words).map(|(word, other)| (word & other).count_ones()).sum()
    }

    pub(super) fn count_in(&self, docs: Range<DocId>) -> u32 {
        masks(docs.start..docs.end.min(self.end)).map(|(at, mask)| (self.words[at] & mask).count_ones()).sum()
    }

    /// The first document from `doc` on.
    pub(super) fn next(&self, doc: DocId) -> Option<DocId> {
        let at = (doc / WORD) as usize;
        let first = self.words.get(at)? & !below(doc % WORD);
        let rest = || (at + 1..).zip(&self.words[at + 1..]).find(|(_, word)| **word != 0);
        let (at, word) = if first == 0 { rest().map(|(at, word)| (at, *word))? } else { (at, first) };
        Some(at as u32 * WORD + word.trailing_zeros())
    }

    /// The last document before `doc`.
    pub(super) fn previous(&self, doc: DocId) -> Option<DocId> {
        let doc = doc.min(self.end);
        let at = (doc / WORD) as usize;
        let last = self.words.get(at).map_or(0, |word| word & below(doc % WORD));
        let rest = || self.words[..at].iter().rposition(|word| *word != 0);
        let (at, word) = if last == 0 { rest().map(|at| (at, self.words[at]))? } else { (at, last) };
        Some(at as u32 * WORD + (WORD - 1 - word.leading_zeros()))
    }

    /// All documents in their order, in blocks of any size.
    pub(super) fn blocks(&self, mut see: impl FnMut(&[DocId])) {
        const WORDS: usize = 16;
        let mut docs = Vec::with_capacity(WORDS * WORD as usize);
        for (block, words) in (0..).zip(self.words.chunks(WORDS)) {
            for (at, word) in (0..).zip(words) {
                let (mut rest, first) = (*word, (block * WORDS as u32 + at) * WORD);
                while rest != 0 {
                    docs.push(first + rest.trailing_zeros());
                    rest &= rest - 1;
                }
            }
            if !docs.is_empty() {
                see(&docs);
                docs.clear();
            }
        }
    }

    /// How much memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.words.len() * size_of::<u64>()
    }
}

/// The lowest `count` bits, fewer than 64.
fn below(count: u32) -> u64 {
    (1 << count) - 1
}

/// The words that a range of documents touches, and which of their bits.
fn masks(docs: Range<DocId>) -> impl Iterator<Item = (usize, u64)> {
    let Range { start, end } = docs;
    let words = if start < end { start / WORD..end.div_ceil(WORD) } else { 0..0 };
    words.map(move |word| {
        let from = start.saturating_sub(word * WORD);
        let until = end - word * WORD;
        let mask = if until < WORD { below(until) } else { u64::MAX };
        (word as usize, mask & !below(from))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn made(end: u32, docs: &BTreeSet<u32>) -> Bits {
        let mut bits = Bits::none(end);
        docs.iter().for_each(|doc| bits.insert(*doc));
        bits
    }

    fn held(bits: &Bits) -> Vec<u32> {
        let mut docs = Vec::new();
        bits.blocks(|block| docs.extend_from_slice(block));
        docs
    }

    proptest! {
        #[test]
        fn is_a_set(
            end in prop::sample::select(vec![1u32, 63, 64, 65, 128, 200, 1100, 2048]),
            a in prop::collection::btree_set(0u32..2048, 0..80),
            b in prop::collection::btree_set(0u32..2048, 0..80),
            from in 0u32..2100,
            length in 0u32..300,
        ) {
            let [a, b] = [a, b].map(|set| set.into_iter().filter(|doc| *doc < end).collect::<BTreeSet<u32>>());
            let [one, two] = [&a, &b].map(|set| made(end, set));
            let changed = |change: &dyn Fn(&mut Bits)| {
                let mut bits = one.clone();
                change(&mut bits);
                held(&bits)
            };
            prop_assert_eq!(held(&one), Vec::from_iter(a.clone()));
            prop_assert_eq!(changed(&|bits| bits.or(&two)), Vec::from_iter(a.union(&b).copied()));
            prop_assert_eq!(changed(&|bits| bits.and(&two)), Vec::from_iter(a.intersection(&b).copied()));
            prop_assert_eq!(changed(&|bits| bits.and_not(&two)), Vec::from_iter(a.difference(&b).copied()));
            prop_assert_eq!(changed(&Bits::invert), Vec::from_iter((0..end).filter(|doc| !a.contains(doc))));
            prop_assert_eq!(held(&Bits::all(end)), Vec::from_iter(0..end));
            prop_assert_eq!((one.count() as usize, one.is_empty()), (a.len(), a.is_empty()));
            prop_assert_eq!(one.count_both(&two) as usize, a.intersection(&b).count());
            let range = from..from + length;
            prop_assert_eq!(one.count_in(range.clone()) as usize, a.iter().filter(|doc| range.contains(doc)).count());
            let added = a.iter().copied().chain(range.clone().filter(|doc| *doc < end)).collect::<BTreeSet<_>>();
            prop_assert_eq!(changed(&|bits| bits.insert_range(range.clone())), Vec::from_iter(added));
            prop_assert_eq!(one.next(from), a.range(from..).next().copied());
            prop_assert_eq!(one.previous(from), a.range(..from).next_back().copied());
            prop_assert!((0..end).all(|doc| one.contains(doc) == a.contains(&doc)));
        }
    }
}
