//! How fast the check of everything reads, beside `openssl dgst -sha256` over the same files on as many cores.
//!
//! `cargo bench --bench verify` needs `openssl` and `xargs`. Both read from the page cache: this measures hashing, not the disk.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise and prints its figures"
)]

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::recordings::{Sender, announce, await_archived};
use common::{Server, figure, median};

const RECORDINGS: u64 = 400;
const BYTES: u64 = 8_000_000;
/// The two are measured in turn, so that a noisy minute hits both.
const ROUNDS: usize = 5;

fn seconds(command: &mut Command) -> f64 {
    let begin = Instant::now();
    let done = command.stdout(Stdio::piped()).output().expect("the command runs");
    assert!(done.status.success(), "{command:?}: {done:?}");
    begin.elapsed().as_secs_f64()
}

fn main() {
    let sender = Sender::start(BYTES);
    let server = Server::start(&sender.config());
    announce(&server, &sender, 0..RECORDINGS);
    await_archived(&server, RECORDINGS, Duration::from_secs(600));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let openssl = |at_once: usize| {
        let all = format!("find . -name '*.mp3' -print0 | xargs -0 -P {at_once} -n 20 openssl dgst -sha256");
        seconds(Command::new("sh").args(["-c", &all]).current_dir(server.objects()))
    };
    openssl(cores);
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (verify, openssl) = (seconds(&mut server.command(&["verify"])), openssl(cores));
        println!("verify {verify:.2} s, openssl {openssl:.2} s");
        ours.push(verify);
        theirs.push(openssl);
        ratios.push(openssl / verify * 100.0);
    }
    let rate = |seconds: f64| format!("{:.0} MB/s", (RECORDINGS * sender.bytes) as f64 / 1e6 / seconds);
    figure(&format!("verify: everything, {RECORDINGS} recordings of 8 MB"), rate(median(ours)), "");
    figure(&format!("verify: `openssl dgst -sha256`, {cores} at once"), rate(median(theirs)), "");
    figure("verify: share of openssl's rate, all cores", format!("{:.0} %", median(ratios)), "at least 90 %");
}
