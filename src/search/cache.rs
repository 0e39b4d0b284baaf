//! Sets that are asked for again and again: the calls of a status, a direction, a busy agent.
//!
//! A segment never changes, and deleted documents are taken off later, so that a set stays true as long as its segment
//! lives. Memory is bounded; when it is full, everything is forgotten.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tantivy::Term;
use tantivy::index::SegmentId;

use super::bits::Bits;

/// Of all sets together, in bytes: all that people filter by, of ten million calls.
const MOST_BYTES: usize = 32 << 20;

/// By segment and term.
#[derive(Default)]
pub(super) struct Cache(Mutex<Known>);

#[derive(Default)]
struct Known {
    sets: HashMap<(SegmentId, Term), Arc<Bits>>,
    bytes: usize,
}

impl Cache {
    pub(super) fn get(&self, key: &(SegmentId, Term)) -> Option<Arc<Bits>> {
        self.known().sets.get(key).map(Arc::clone)
    }

    pub(super) fn put(&self, key: (SegmentId, Term), bits: Arc<Bits>) {
        let mut known = self.known();
        if known.bytes + bits.bytes() > MOST_BYTES {
            *known = Known::default();
        }
        let bytes = bits.bytes();
        if bytes <= MOST_BYTES && known.sets.insert(key, bits).is_none() {
            known.bytes += bytes;
        }
    }

    /// Forgets the sets of segments that are no more.
    pub(super) fn retain(&self, segments: &HashSet<SegmentId>) {
        let mut known = self.known();
        known.sets.retain(|(segment, _), _| segments.contains(segment));
        known.bytes = known.sets.values().map(|bits| bits.bytes()).sum();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tantivy::schema::Field;

    use super::*;

    fn key(segment: SegmentId, word: &str) -> (SegmentId, Term) {
        (segment, Term::from_field_text(Field::from_field_id(0), word))
    }

    #[test]
    fn memory_is_bounded_and_dead_segments_are_forgotten() {
        let cache = Cache::default();
        let (live, dead) = (SegmentId::generate_random(), SegmentId::generate_random());
        let big = Arc::new(Bits::none(8 * (MOST_BYTES as u32 / 3 - 64)));
        for word in ["a", "b", "a"] {
            cache.put(key(live, word), Arc::clone(&big));
        }
        cache.put(key(dead, "c"), Arc::clone(&big));
        let known = |segment, word| cache.get(&key(segment, word)).is_some();
        assert!(known(live, "a") && known(live, "b") && known(dead, "c"));
        cache.retain(&HashSet::from([live]));
        assert!(known(live, "a") && !known(dead, "c"));
        cache.put(key(live, "d"), Arc::clone(&big));
        assert!(known(live, "a") && known(live, "b") && known(live, "d"), "there was room again");
        cache.put(key(live, "e"), Arc::clone(&big));
        assert!(!known(live, "a") && known(live, "e"), "room was made");
        cache.put(key(live, "f"), Arc::new(Bits::none(8 * (MOST_BYTES as u32 + 64))));
        assert!(!known(live, "f"), "too big for any room");
    }
}
