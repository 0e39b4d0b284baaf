//! What is asked for again and again: the sets of a status, a direction, a busy agent, and where days begin.
//!
//! A segment never changes, and deleted documents are taken off later, so that all of it stays true as long as its segment
//! lives. Memory is bounded; when it is full, everything is forgotten.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use tantivy::index::SegmentId;
use tantivy::{DocId, Term};

use super::bits::Bits;

/// Of everything together, in bytes: all that people filter by, of ten million calls.
const MOST_BYTES: usize = 32 << 20;

/// What an entry takes beside its content: its place, its key, and what the allocator adds.
const ENTRY_BYTES: usize = 256;

/// A day, and the first document of it; `None` is a time beyond the calendar.
pub(super) type Day = (Option<Date>, DocId);

#[derive(Default)]
pub(super) struct Cache(Mutex<Known>);

#[derive(Default)]
struct Known {
    sets: HashMap<(SegmentId, Term), Arc<Bits>>,
    days: HashMap<SegmentId, (TimeZone, Arc<[Day]>)>,
    bytes: usize,
}

impl Known {
    /// Makes room for so many bytes and takes them; `false` if there is none for so much.
    fn admit(&mut self, bytes: usize) -> bool {
        let bytes = bytes + ENTRY_BYTES;
        if self.bytes + bytes > MOST_BYTES {
            *self = Self::default();
        }
        let admitted = bytes <= MOST_BYTES;
        self.bytes += if admitted { bytes } else { 0 };
        admitted
    }
}

impl Cache {
    pub(super) fn set(&self, key: &(SegmentId, Term)) -> Option<Arc<Bits>> {
        self.known().sets.get(key).map(Arc::clone)
    }

    pub(super) fn keep_set(&self, key: (SegmentId, Term), bits: Arc<Bits>) {
        let mut known = self.known();
        if !known.sets.contains_key(&key) && known.admit(set_bytes(&key, &bits)) {
            known.sets.insert(key, bits);
        }
    }

    /// The days of a segment, the newest first.
    pub(super) fn days(&self, segment: SegmentId, tz: &TimeZone) -> Option<Arc<[Day]>> {
        let known = self.known();
        let (_, days) = known.days.get(&segment).filter(|(of, _)| of == tz)?;
        Some(Arc::clone(days))
    }

    /// The server has one time zone: the days of another one are forgotten.
    pub(super) fn keep_days(&self, segment: SegmentId, tz: TimeZone, days: Arc<[Day]>) {
        let mut known = self.known();
        if let Some((_, old)) = known.days.remove(&segment) {
            known.bytes -= size_of_val(&*old) + ENTRY_BYTES;
        }
        if known.admit(size_of_val(&*days)) {
            known.days.insert(segment, (tz, days));
        }
    }

    /// Forgets what is about segments that are no more.
    pub(super) fn retain(&self, segments: &HashSet<SegmentId>) {
        let mut known = self.known();
        known.sets.retain(|(segment, _), _| segments.contains(segment));
        known.days.retain(|segment, _| segments.contains(segment));
        let sets: usize = known.sets.iter().map(|(key, bits)| set_bytes(key, bits) + ENTRY_BYTES).sum();
        let days: usize = known.days.values().map(|(_, days)| size_of_val(&**days) + ENTRY_BYTES).sum();
        known.bytes = sets + days;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set_bytes((_, term): &(SegmentId, Term), bits: &Bits) -> usize {
    bits.bytes() + term.serialized_value_bytes().len()
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
        let big = Arc::new(Bits::none(8 * (MOST_BYTES as u32 / 3 - 512)));
        for word in ["a", "b", "a"] {
            cache.keep_set(key(live, word), Arc::clone(&big));
        }
        cache.keep_set(key(dead, "c"), Arc::clone(&big));
        let known = |segment, word| cache.set(&key(segment, word)).is_some();
        assert!(known(live, "a") && known(live, "b") && known(dead, "c"));
        cache.retain(&HashSet::from([live]));
        assert!(known(live, "a") && !known(dead, "c"));
        cache.keep_set(key(live, "d"), Arc::clone(&big));
        assert!(known(live, "a") && known(live, "b") && known(live, "d"), "there was room again");
        cache.keep_set(key(live, "e"), Arc::clone(&big));
        assert!(!known(live, "a") && known(live, "e"), "room was made");
        cache.keep_set(key(live, "f"), Arc::new(Bits::none(8 * (MOST_BYTES as u32 + 64))));
        assert!(!known(live, "f"), "too big for any room");
        let small = Arc::new(Bits::none(1));
        let most = MOST_BYTES / ENTRY_BYTES;
        (0..=most).for_each(|n| cache.keep_set(key(live, &n.to_string()), Arc::clone(&small)));
        assert!(cache.known().sets.len() < most, "small ones take room too");
    }

    #[test]
    fn days_are_of_a_time_zone_and_take_room_too() {
        let cache = Cache::default();
        let (segment, utc) = (SegmentId::generate_random(), TimeZone::UTC);
        let other = TimeZone::fixed(jiff::tz::offset(5));
        let days = |count: usize| Arc::from(vec![(None, 0); count]);
        cache.keep_days(segment, utc.clone(), days(3));
        assert_eq!(cache.days(segment, &utc).map(|days| days.len()), Some(3));
        assert!(cache.days(segment, &other).is_none());
        let much = (MOST_BYTES - ENTRY_BYTES) / size_of::<Day>();
        cache.keep_days(segment, other.clone(), days(much));
        assert!(cache.days(segment, &other).is_some() && cache.days(segment, &utc).is_none());
        cache.keep_set(key(segment, "a"), Arc::new(Bits::none(1024)));
        assert!(cache.days(segment, &other).is_none(), "room was made");
        cache.keep_days(segment, utc.clone(), days(3));
        cache.retain(&HashSet::new());
        assert!(cache.days(segment, &utc).is_none());
    }
}
