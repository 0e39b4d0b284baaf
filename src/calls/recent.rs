//! The calls that were just touched, as this process folded them: who follows the journal closely need not read their rows
//! and parse them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::facts::Facts;

/// Calls that are kept at most, and bytes of their facts as JSON: more than followers leave to gather.
const KEPT: usize = 8192;
const KEPT_BYTES: usize = 8 << 20;
/// For how long: longer than followers let entries gather. What is older is read as it is stored, damage and all.
const FOR: Duration = Duration::from_secs(1);

/// Facts by the call's key; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RecentCalls(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// Folded, but not committed yet.
    staged: Vec<Folded>,
    facts: HashMap<String, Arc<Facts>>,
    /// By age, the oldest first; a call that was touched again stands in it again.
    order: VecDeque<(Instant, Folded)>,
    bytes: usize,
}

/// A call as a transaction leaves it.
#[derive(Clone, Debug)]
pub(super) struct Folded {
    pub(super) subject: String,
    pub(super) facts: Arc<Facts>,
    /// Of the facts as JSON.
    pub(super) bytes: usize,
}

impl RecentCalls {
    /// What a transaction gives; it replaces what one before it staged that was not committed.
    pub(super) fn stage(&self, folded: Vec<Folded>) {
        self.lock().staged = folded;
    }

    /// The transaction took effect.
    pub(super) fn committed(&self) {
        let now = Instant::now();
        let mut inner = self.lock();
        for folded in std::mem::take(&mut inner.staged) {
            inner.bytes += folded.bytes;
            inner.facts.insert(folded.subject.clone(), Arc::clone(&folded.facts));
            inner.order.push_back((now, folded));
        }
        inner.forget(now);
    }

    /// The facts of a call that take in entry `seq`; later entries, by other processes too, may be lacking in them.
    pub(super) fn get(&self, subject: &str, seq: u64) -> Option<Arc<Facts>> {
        let mut inner = self.lock();
        inner.forget(Instant::now());
        inner.facts.get(subject).filter(|facts| facts.last_seq >= seq).map(Arc::clone)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget(&mut self, now: Instant) {
        while let Some((at, ..)) = self.order.front()
            && (self.order.len() > KEPT || self.bytes > KEPT_BYTES || now.duration_since(*at) > FOR)
        {
            let Some((_, old)) = self.order.pop_front() else { return };
            self.bytes -= old.bytes;
            if self.facts.get(&old.subject).is_some_and(|facts| Arc::ptr_eq(facts, &old.facts)) {
                self.facts.remove(&old.subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(subject: &str, last_seq: u64, bytes: usize) -> Folded {
        let facts = Arc::new(Facts { last_seq, ..Facts::default() });
        Folded { subject: subject.into(), facts, bytes }
    }

    fn last_seq(recent: &RecentCalls, subject: &str, seq: u64) -> Option<u64> {
        recent.get(subject, seq).map(|facts| facts.last_seq)
    }

    #[test]
    fn only_what_was_committed_and_is_new_enough_is_told() {
        let recent = RecentCalls::default();
        recent.stage(vec![folded("a", 3, 10)]);
        assert_eq!(last_seq(&recent, "a", 3), None);
        // That transaction did not take effect; this one does.
        recent.stage(vec![folded("b", 3, 10)]);
        recent.committed();
        assert_eq!((last_seq(&recent, "a", 3), last_seq(&recent, "b", 3)), (None, Some(3)));
        assert_eq!(last_seq(&recent, "b", 4), None);
        recent.stage(vec![folded("b", 5, 10)]);
        recent.committed();
        assert_eq!(last_seq(&recent, "b", 4), Some(5));
    }

    #[test]
    fn it_stays_small_and_young() {
        let recent = RecentCalls::default();
        recent.stage(vec![folded("a", 1, 10), folded("b", 2, 10), folded("a", 3, KEPT_BYTES - 15)]);
        recent.committed();
        // The first row of "a" made room, its second is still there.
        assert_eq!((last_seq(&recent, "a", 0), last_seq(&recent, "b", 0)), (Some(3), Some(2)));
        recent.stage((0..=KEPT as u64).map(|seq| folded(&format!("call {seq}"), seq, 1)).collect());
        recent.committed();
        assert_eq!((last_seq(&recent, "a", 0), last_seq(&recent, "call 0", 0)), (None, None));
        assert_eq!(last_seq(&recent, "call 1", 0), Some(1));
        recent.lock().forget(Instant::now() + FOR + Duration::from_millis(1));
        let inner = recent.lock();
        assert_eq!((inner.facts.len(), inner.order.len(), inner.bytes), (0, 0, 0));
    }
}
