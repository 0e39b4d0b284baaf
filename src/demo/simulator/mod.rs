//! The DoubleTick of `callvault demo`: its agents and customers, a year of past calls, a live trickle, and the host
//! that serves the recordings with the troubles of real life.
//!
//! Two rules hold everything together. A call is written as one [`script::Script`], which the past replays at once and
//! the present plays in real time, so that both send the same shapes. And everything about a recording (its length, its
//! words, its troubles) follows from the call's id, so that a demo that is started again still serves what its last run
//! announced.
//!
//! Knows nothing of callvault: it posts to a URL and answers requests, as the real sender does. Generation reads no
//! clock and draws no randomness of its own; both are parameters.

pub mod cast;
pub mod doubletick;
pub mod events;
pub mod live;
pub mod past;
pub mod recording;
pub mod script;
pub mod sender;

pub use doubletick::router;
pub use live::{Stage, run};
pub use past::{PastCall, past_calls};
pub use recording::Recording;
pub use sender::{SendError, Sender, replay_past};

#[cfg(test)]
mod testing;
