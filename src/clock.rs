//! Where the time comes from: one handle that everything asks, so that a test can stand at any moment.
//!
//! Times are UTC, truncated to the microsecond, which is what the journal and both databases keep.
//! It does not order anything: the journal's `seq` does that.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp, Unit};

/// What lies further ahead than this was written while a clock was ahead.
pub const AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// A source of the current time; cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The machine's clock.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the one place where the machine is asked")]
    pub fn system() -> Self {
        Self(Arc::new(Timestamp::now))
    }

    /// A clock that answers what `now` answers.
    #[must_use]
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The current time, whole microseconds.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        whole_micros((self.0)())
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

/// Cuts a time down to the microsecond, the resolution of everything that is stored.
#[must_use]
pub fn whole_micros(time: Timestamp) -> Timestamp {
    time.round(jiff::TimestampRound::new().smallest(Unit::Microsecond).mode(jiff::RoundMode::Trunc)).unwrap_or(time)
}

/// A stored time: microseconds since 1970 UTC. Out-of-range values come out as the nearest end of the range.
#[must_use]
pub fn from_micros(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 { Timestamp::MIN } else { Timestamp::MAX })
}
