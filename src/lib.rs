//! callvault: the compliance archive for recorded calls.
//!
//! The modules stand in the order of dependence: each uses only modules that stand before it. That is also the way of
//! the data, from the journal to the pages. `docs/ARCHITECTURE.md` tells the life of a recording through them.

pub mod clock;
pub mod fault;
pub mod config;
pub mod telemetry;
pub mod health;

pub mod db;
pub mod nodes;
pub mod evidence;
pub mod journal;
pub mod intake;
pub mod calls;
pub mod phone;
pub mod retention;
pub mod flags;

pub mod objects;
pub mod audio;
pub mod archiver;

pub mod search;
pub mod custody;
pub mod fixity;
pub mod delivery;
pub mod export;
pub mod reports;

pub mod access;
pub mod app;
pub mod web;

pub mod lock;
pub mod verify;
pub mod jobs;
pub mod schedule;
pub mod serve;
pub mod demo;
pub mod cli;
