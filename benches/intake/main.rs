//! How fast webhooks are acknowledged durably, over HTTP, by the real program.
//!
//! `cargo bench --bench intake` offers 1,000 events a second for 30 seconds (open loop: an event is due when it is due,
//! whether or not the one before it was answered), then posts as fast as 64 connections can, in turn with a server of the
//! same make whose only endpoint reads and drops the same bodies. First without configuration, then on PostgreSQL and S3,
//! beside `pgbench`, with one node and with two; `-- embedded` and `-- pair` do one of the two.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise and prints its figures"
)]

#[path = "../common/mod.rs"]
mod common;
mod dropping;
mod load;
mod rows;
mod shared;

use std::cell::Cell;
use std::time::{Duration, Instant};

use common::{Server, figure, median};
use dropping::Dropping;
use load::{Outcome, load};

const RATE: u64 = 1000;
const OFFERED: Duration = Duration::from_secs(30);
const AS_FAST_AS_POSSIBLE: Duration = Duration::from_secs(10);
/// What is compared is measured in turn, so that a noisy minute hits all of it.
const ROUNDS: usize = 3;
const WEBHOOKS: &str = "/webhooks/doubletick";

/// Numbers of calls that nobody has used.
#[derive(Default)]
struct Numbers(Cell<u64>);

impl Numbers {
    fn next(&self) -> u64 {
        self.0.replace(self.0.get() + 1)
    }

    /// An event whenever somebody is free to post one, for a while.
    fn fast(&self, start: Instant) -> Option<(u64, Instant)> {
        (start.elapsed() < AS_FAST_AS_POSSIBLE).then(|| (self.next(), Instant::now()))
    }

    /// Events at a steady rate.
    fn offer(&self, server: &Server) -> Outcome {
        let (begin, total) = (self.0.get(), RATE * OFFERED.as_secs());
        load(&[server.address], WEBHOOKS, |start| {
            let number = self.next() - begin;
            (number < total).then(|| (begin + number, start + Duration::from_micros(number * 1_000_000 / RATE)))
        })
    }
}

/// Waits until all that was taken in can be found, so that the next load has the machine for itself; the seconds.
fn catch_up(server: &Server) -> f64 {
    let start = Instant::now();
    while server.metric("callvault_search_cursor", "") < server.metric("callvault_journal_entries", "") {
        std::thread::sleep(Duration::from_millis(100));
    }
    start.elapsed().as_secs_f64()
}

fn main() {
    match &common::arguments().iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["drop", address] => Dropping::serve(address),
        ["embedded"] => embedded(),
        ["pair"] => shared::measure(),
        _ => {
            embedded();
            shared::measure();
        }
    }
}

/// SQLite, as it is without configuration.
fn embedded() {
    let (server, dropping) = (Server::start(""), Dropping::start());
    std::thread::sleep(Duration::from_secs(2));
    figure("memory: idle, resident", format!("{} MiB", server.resident()), "below 60 MiB");

    let numbers = Numbers::default();
    figure("intake: 1,000 events a second for 30 s", numbers.offer(&server).in_words(), "p99 below 50 ms");
    figure("memory: after that, resident", format!("{} MiB", server.resident()), "flat");

    let (mut ours, mut theirs, mut bare, mut shares, mut lags) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let fast = |start| numbers.fast(start);
        bare.push(load(&[dropping.address], "/bare", fast).rate());
        let dropped = load(&[dropping.address], "/drop", fast);
        println!("dropped {}", dropped.in_words());
        let durable = load(&[server.address], WEBHOOKS, fast);
        println!("acknowledged {}", durable.in_words());
        ours.push(durable.rate());
        theirs.push(dropped.rate());
        shares.push(durable.rate() / dropped.rate() * 100.0);
        lags.push(catch_up(&server));
    }
    figure("intake: acknowledged, durable, 64 connections", format!("{:.0}/s", median(ours)), "");
    figure("intake: read and dropped by the same server", format!("{:.0}/s", median(theirs)), "");
    figure("intake: share of that", format!("{:.0} %", median(shares)), "at least 25 %");
    figure("search: takes in the rest of such a flood after", format!("{:.1} s", median(lags)), "");
    figure("intake: read and dropped without token, headers, limits, metrics", format!("{:.0}/s", median(bare)), "");
    figure("memory: after the fastest load, resident", format!("{} MiB", server.resident()), "flat");
}
