//! The whole archive from outside: real server, real sender, real files, real process; nothing is mocked.
//!
//! `app` starts the server in this process, `process` starts the program itself; both check when they are done that
//! nothing was left half-way. `fake_doubletick` is the sender's recording host, and misbehaves on command.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on has failed")]

mod access;
mod app;
mod browser;
mod cli;
mod clock;
mod crash;
mod custody;
mod custody_model;
mod db;
mod db_doctor;
mod delivery;
mod disk_full;
mod disposition;
mod events;
mod export;
mod fake_doubletick;
mod fixity;
mod flags;
mod hostile;
mod http;
mod journal;
mod leftovers;
mod metrics;
mod nodes;
mod objects;
#[cfg(feature = "failpoints")]
mod operations;
mod outages;
mod pair;
#[cfg(feature = "failpoints")]
mod panics;
mod place;
#[cfg(feature = "failpoints")]
mod points;
mod process;
mod raw;
mod recording_failures;
mod recordings;
mod replica;
mod reports;
mod reviews;
mod rules;
mod samples;
mod samples_of_weeks;
#[cfg(feature = "failpoints")]
mod scenario;
mod schedule;
mod search;
mod search_index;
mod servers;
#[cfg(feature = "failpoints")]
mod soak;
mod tamper;
mod tidy;
mod vcon;
mod webhooks;
