//! The whole archive from outside: real server, real sender, real files, real process; nothing is mocked.
//!
//! `app` starts the server in this process, `process` starts the program itself; both check when they are done that
//! nothing was left half-way. `fake_doubletick` is the sender's recording host, and misbehaves on command.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on has failed")]

mod access;
mod app;
mod browser;
mod cli;
mod crash;
mod db;
mod events;
mod export;
mod fake_doubletick;
mod flags;
mod http;
mod journal;
mod leftovers;
mod objects;
mod process;
mod recording_failures;
mod recordings;
mod samples;
mod search;
mod search_index;
mod tamper;
mod tidy;
mod vcon;
mod webhooks;
