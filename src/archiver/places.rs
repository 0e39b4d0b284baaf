//! What this process works on: the same recording never twice, and never one host in every place.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::spool::Spool;

/// A recording by its call's number and its source.
pub(super) type Key = (i64, String);

/// The recordings under way with their hosts.
pub(super) struct Places {
    under_way: Mutex<BTreeMap<Key, String>>,
    /// A place is free again.
    pub(super) freed: Notify,
    /// How many of one host may be under way.
    share: usize,
}

/// The place of one recording. It is given back also through a panic: one that stayed taken would keep the recording from
/// ever being fetched.
pub(super) struct Place {
    places: Arc<Places>,
    key: Key,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().remove(&self.key);
        self.places.freed.notify_one();
    }
}

impl Places {
    pub(super) fn new(share: usize) -> Arc<Self> {
        Arc::new(Self { under_way: Mutex::default(), freed: Notify::new(), share })
    }

    /// How many places there are: a few more than one host can have, so that where that one is slow, the others go on.
    pub(super) fn count(&self) -> usize {
        self.share + (self.share / 4).max(1)
    }

    /// Takes a place; `None` where the recording is under way already: a lease that ran out in the middle must not start
    /// the same work twice.
    pub(super) fn take(self: &Arc<Self>, key: Key, host: &str) -> Option<Place> {
        let mut under_way = self.lock();
        if under_way.contains_key(&key) {
            return None;
        }
        under_way.insert(key.clone(), host.to_owned());
        Some(Place { places: Arc::clone(self), key })
    }

    /// The host that has its share of the places, if one has, and how many more may be begun. Two can't have theirs
    /// while a place is free.
    pub(super) fn busiest(&self) -> (Option<String>, usize) {
        let mut hosts: BTreeMap<String, usize> = BTreeMap::new();
        for host in self.lock().values() {
            *hosts.entry(host.clone()).or_default() += 1;
        }
        match hosts.into_iter().max_by_key(|(_, places)| *places) {
            Some((host, places)) if places >= self.share => (Some(host), self.share),
            Some((_, places)) => (None, self.share - places),
            None => (None, self.share),
        }
    }

    /// Whether more than half of what one host may have is under way.
    fn is_busy(&self) -> bool {
        self.lock().len() > self.share / 2
    }

    pub(super) fn holds(&self, key: &Key) -> bool {
        self.lock().contains_key(key)
    }

    /// Whether a spool file is of a recording under way.
    pub(super) fn uses(&self, spool: &Spool, file: &PathBuf) -> bool {
        self.lock().keys().any(|(call_seq, source)| spool.files_of(*call_seq, source).contains(file))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, String>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much there is to bring in; cheap to clone.
#[derive(Clone)]
pub struct Rush(pub(super) Arc<Places>);

impl Rush {
    const LOOKED_EVERY: Duration = Duration::from_millis(50);
    /// Where it never ends, what waits for its end goes on all the same, slowly.
    const AT_MOST: Duration = Duration::from_secs(1);

    /// Waits until few recordings are brought in.
    pub(super) async fn pass(&self) {
        let begin = Instant::now();
        while self.0.is_busy() && begin.elapsed() < Self::AT_MOST {
            sleep(Self::LOOKED_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rush_is_waited_for_but_not_for_ever() {
        let places = Places::new(4);
        let rush = Rush(Arc::clone(&places));
        let take = |number: i64| places.take((number, "source".into()), "host").unwrap();
        let waited = async || {
            let begin = Instant::now();
            rush.pass().await;
            begin.elapsed()
        };
        let taken: Vec<Place> = (0..2).map(take).collect();
        assert_eq!(waited().await, Duration::ZERO, "half of them");
        let more = take(2);
        assert_eq!(waited().await, Rush::AT_MOST, "it never ends");
        drop((taken, more));
        assert_eq!(waited().await, Duration::ZERO, "it is over");
    }
}
