//! Whether the store answers. While one on another machine is away, it is asked for every two seconds and for nothing else;
//! recordings are fetched all the same, since their links live for a short while, and wait in the spool.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Archive, ArchiveError};
use crate::objects::{ObjectKey, StoreError};

/// A store that is away is asked this often.
pub(super) const ASKED_EVERY: Duration = Duration::from_secs(2);

/// What is known of the store.
#[derive(Debug)]
pub struct Gate {
    /// A folder of this machine is as near as the spool: there is nothing to wait for elsewhere.
    remote: bool,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Open,
    /// Since it was asked last.
    Closed(Instant),
}

impl Gate {
    #[must_use]
    pub fn new(remote: bool) -> Self {
        metrics::gauge!("callvault_store_up").set(1.0);
        Self { remote, state: Mutex::new(State::Open) }
    }

    /// Whether the store may be asked now.
    fn lets_through(&self) -> bool {
        let mut state = self.lock();
        match *state {
            State::Open => true,
            State::Closed(asked) if asked.elapsed() < ASKED_EVERY => false,
            State::Closed(_) => {
                *state = State::Closed(Instant::now());
                true
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(*self.lock(), State::Open)
    }

    /// Closes it, or opens it; true where it was the other way round.
    fn set(&self, open: bool) -> bool {
        let mut state = self.lock();
        let was_open = matches!(*state, State::Open);
        *state = if open { State::Open } else { State::Closed(Instant::now()) };
        metrics::gauge!("callvault_store_up").set(f64::from(u8::from(open)));
        was_open != open
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Archive {
    /// Asks the store, unless it is known to be away.
    ///
    /// # Errors
    /// What the store says, or [`ArchiveError::StoreAway`].
    pub(super) async fn ask_store<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, ArchiveError> {
        if !self.gate.lets_through() {
            return Err(ArchiveError::StoreAway);
        }
        let outcome = work.await;
        if self.gate.remote {
            match &outcome {
                Err(error) if error.is_outage() => {
                    if self.gate.set(false) {
                        tracing::error!(%error, "the store is away; recordings are fetched and wait in the spool");
                    }
                }
                _ => {
                    if self.gate.set(true) {
                        tracing::info!("the store is back");
                    }
                }
            }
        }
        Ok(outcome?)
    }

    /// Asks a store that is away for something that need not be there.
    pub(super) async fn ask_for_nothing(&self) {
        let nothing = format!("{}nothing", ObjectKey::RECORDINGS);
        // What came of it shows in the gate.
        let _ = self.ask_store(self.store.head(&nothing, None)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_asks_while_it_is_closed() {
        let gate = Gate::new(true);
        assert!(gate.lets_through() && gate.lets_through());
        assert!(gate.set(false) && !gate.set(false), "the first notices");
        assert!(!gate.lets_through());
        *gate.lock() = State::Closed(Instant::now().checked_sub(ASKED_EVERY).unwrap());
        assert!(gate.lets_through(), "somebody asks");
        assert!(!gate.lets_through(), "and nobody beside");
        assert!(gate.set(true) && gate.lets_through() && gate.lets_through());
    }
}
