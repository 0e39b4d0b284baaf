//! How fast recordings are brought in: the real program, beside a shell that fetches, keeps and hashes the same files.
//!
//! `cargo bench --bench archive` needs `curl`, `openssl` and `xargs`. The archive's time begins before the first webhook and
//! ends with the last receipt; what the shell does is neither synced, nor locked, nor journaled. First without
//! configuration, then on PostgreSQL and S3, beside `rclone`; `-- embedded` and `-- pair` do one of the two.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise and prints its figures"
)]

#[path = "../common/mod.rs"]
mod common;
mod shared;

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use common::recordings::{Sender, announce, await_archived};
use common::{Server, figure, median};

const RECORDINGS: u64 = 2000;
const BYTES: u64 = 1_000_000;
/// What is compared is measured in turn, so that a noisy minute hits all of it.
const ROUNDS: usize = 3;
/// Analysed in one go, in seconds of sound.
const ANALYSED_SECONDS: f64 = 1800.0;

fn archive(sender: &Sender) -> f64 {
    let server = Server::start(&sender.config());
    let begin = Instant::now();
    announce(&server, sender, 0..RECORDINGS);
    await_archived(&server, RECORDINGS, Duration::from_secs(600));
    begin.elapsed().as_secs_f64()
}

fn shell(sender: &Sender) -> f64 {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let each = format!("curl -s http://{}/{{}}.mp3 | tee {{}} | openssl dgst -sha256 > {{}}.sha256", sender.address);
    let all = format!("seq 0 {} | xargs -P 8 -I{{}} sh -c '{each}'", RECORDINGS - 1);
    let begin = Instant::now();
    let done = Command::new("sh").args(["-c", &all]).current_dir(dir.path()).status().expect("a shell");
    assert!(done.success(), "curl, openssl and xargs are needed");
    let last = dir.path().join(format!("{}", RECORDINGS - 1));
    assert_eq!(last.metadata().expect("the last recording").len(), sender.bytes);
    begin.elapsed().as_secs_f64()
}

/// The disk's sequential write rate, synced at the end, in MB a second.
fn disk() -> f64 {
    let mut file = tempfile::tempfile().expect("a temporary file");
    let block = vec![0x5a; 1_000_000];
    let begin = Instant::now();
    for _ in 0..RECORDINGS {
        file.write_all(&block).expect("room on the disk");
    }
    file.sync_all().expect("a synced file");
    RECORDINGS as f64 / begin.elapsed().as_secs_f64()
}

/// Seconds of sound analysed in a second on one core.
fn analysis() -> f64 {
    let speech = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo/assets/01-sip-review.mp3");
    let speech = std::fs::read(speech).expect("the speech");
    let measure = |bytes: Vec<u8>| {
        let begin = Instant::now();
        let source = std::io::Cursor::new(bytes);
        let analysis = callvault::audio::analyse(Box::new(source), "mp3", &AtomicBool::new(false)).expect("it decodes");
        (analysis.seconds, begin.elapsed().as_secs_f64())
    };
    let (seconds, _) = measure(speech.clone());
    let (seconds, elapsed) = measure(speech.repeat((ANALYSED_SECONDS / seconds) as usize));
    seconds / elapsed
}

fn main() {
    match &common::arguments().iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["embedded"] => embedded(),
        ["pair"] => shared::measure(),
        _ => {
            embedded();
            shared::measure();
        }
    }
}

/// SQLite and files, as it is without configuration.
fn embedded() {
    let sender = Sender::start(BYTES);
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (archive, shell) = (archive(&sender), shell(&sender));
        println!("archive {archive:.1} s, shell {shell:.1} s");
        ours.push(archive);
        theirs.push(shell);
        ratios.push(archive / shell);
    }
    let megabytes = (RECORDINGS * sender.bytes) as f64 / 1e6;
    let (ours, theirs, disk) = (median(ours), median(theirs), disk());
    figure("archive: 2,000 recordings of 1 MB", format!("{ours:.1} s, {:.0} MB/s", megabytes / ours), "");
    figure("archive: the same by `curl \\| tee \\| openssl`, 8 at once", format!("{theirs:.1} s"), "");
    figure("archive: time as a share of the shell's", format!("{:.0} %", median(ratios) * 100.0), "at most 100 %");
    let share = megabytes / ours / disk * 100.0;
    figure("archive: share of the disk's sequential write rate", format!("{share:.0} % of {disk:.0} MB/s"), "reported");
    figure("analysis: speech, times real time on one core", format!("{:.0}", analysis()), "at least 300");
}
