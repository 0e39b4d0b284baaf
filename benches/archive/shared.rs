//! Archiving on PostgreSQL and S3, beside `rclone` bringing the same files into the same server.
//!
//! Each run has an S3 server of its own with an empty bucket: what is in it already makes it slower.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::common::pair::{BUCKET, PAIR, Postgres, S3, node};
use super::common::recordings::{Sender, announce, await_archived};
use super::common::{figure, median, processor_time};
use super::{BYTES, ROUNDS};

/// The server keeps them in memory.
const RECORDINGS: u64 = 1000;
/// As many as `recordings.concurrency` has by default.
const AT_ONCE: usize = 8;

/// The seconds that a run took, and milliseconds of processor time for each recording: of the program that brought them in,
/// of PostgreSQL, of the S3 server.
struct Run {
    seconds: f64,
    cost: [f64; 3],
}

fn archive(sender: &Sender, postgres: &Postgres, round: usize) -> Run {
    let s3 = S3::start();
    let node = node(&postgres.database(&format!("archive{round}")), &s3, &sender.config());
    let used = || [processor_time(node.pid()), postgres.processor_time(), s3.processor_time()];
    let (before, begin) = (used(), Instant::now());
    announce(&node, sender, 0..RECORDINGS);
    await_archived(&node, RECORDINGS, Duration::from_secs(600));
    let (seconds, after) = (begin.elapsed().as_secs_f64(), used());
    Run { seconds, cost: [0, 1, 2].map(|place| each(after[place] - before[place])) }
}

/// Seconds for all in milliseconds for each.
fn each(seconds: f64) -> f64 {
    seconds / RECORDINGS as f64 * 1000.0
}

/// Where `rclone` has the files from.
#[derive(Clone, Copy)]
enum From<'a> {
    /// One of them after the other, as a shell brings them: `curl` into a file, `rclone copyto` from there; several at once.
    Each(&'a Sender),
    /// The folder as the sender shows it, all by one `rclone`.
    Sender(&'a Sender),
    /// The same where they lie on the disk already.
    Disk(&'a Path),
}

/// `rclone copyto` into an empty bucket: what it took, of the S3 server's processor time only.
fn rclone(from: From<'_>) -> Run {
    let (s3, folder) = (S3::start(), tempfile::tempdir().expect("a temporary folder"));
    let rclone = format!(
        "rclone copyto --config /dev/null --transfers {AT_ONCE} --s3-provider Ceph --s3-env-auth --s3-endpoint {}",
        s3.endpoint()
    );
    let (to, last) = (format!(":s3:{BUCKET}/copies"), RECORDINGS - 1);
    let all = match from {
        From::Each(Sender { address, .. }) => {
            let one = format!("curl -sf -o {{}} http://{address}/{{}}.mp3 && {rclone} {{}} {to}/{{}}.mp3");
            format!("seq 0 {last} | xargs -P {AT_ONCE} -I{{}} sh -c '{one}'")
        }
        From::Sender(Sender { address, .. }) => {
            format!("{rclone} --http-url http://{address}/{RECORDINGS}/ :http: {to}")
        }
        From::Disk(folder) => format!("{rclone} {} {to}", folder.display()),
    };
    let (before, begin) = (s3.processor_time(), Instant::now());
    let output = Command::new("sh")
        .args(["-c", &all])
        .current_dir(folder.path())
        .envs(s3.environment.iter().map(|(name, value)| (name, value)))
        // With a certificate authority of the machine's own it does not start.
        .env_remove("AWS_CA_BUNDLE")
        .output()
        .expect("a shell");
    assert!(output.status.success(), "curl, rclone and xargs are needed: {output:?}");
    Run { seconds: begin.elapsed().as_secs_f64(), cost: [0.0, 0.0, each(s3.processor_time() - before)] }
}

/// Puts the files into a folder, so that they need not be fetched.
fn fetch(sender: &Sender, folder: &Path) {
    let one = format!("curl -sf -o {{}}.mp3 http://{}/{{}}.mp3", sender.address);
    let all = format!("seq 0 {} | xargs -P {AT_ONCE} -I{{}} {one}", RECORDINGS - 1);
    let done = Command::new("sh").args(["-c", &all]).current_dir(folder).status().expect("a shell");
    assert!(done.success(), "curl and xargs are needed");
}

pub fn measure() {
    let (sender, postgres) = (Sender::start(BYTES), Postgres::start());
    let folder = tempfile::tempdir().expect("a temporary folder");
    fetch(&sender, folder.path());
    let (mut ours, mut single, mut whole, mut uploads) = (vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        ours.push(archive(&sender, &postgres, round));
        whole.push(rclone(From::Sender(&sender)));
        uploads.push(rclone(From::Disk(folder.path())));
        single.push(rclone(From::Each(&sender)));
        let seconds = [&ours, &single, &whole, &uploads].map(|runs| format!("{:.1} s", runs[round].seconds));
        println!("archive, rclone for each, for all, without the download: {}", seconds.join(", "));
    }
    let row = |what: &str, measured: String, demanded| figure(&format!("archive, {PAIR}: {what}"), measured, demanded);
    let seconds = |runs: &[Run]| median(runs.iter().map(|run| run.seconds).collect());
    let cost = |runs: &[Run], place: usize| median(runs.iter().map(|run| run.cost[place]).collect());
    let rate = (RECORDINGS * sender.bytes) as f64 / 1e6 / seconds(&ours);
    row("1,000 recordings of 1 MB", format!("{:.1} s, {rate:.0} MB/s", seconds(&ours)), "");
    for (what, theirs, demanded) in [
        ("`curl` and `rclone copyto` for each, 8 at once", &single, "at most 100 %"),
        ("one `rclone copyto --transfers 8` of the sender's folder", &whole, "at most 100 %"),
        ("one `rclone copyto --transfers 8` of files on the disk, nothing fetched", &uploads, "reported"),
    ] {
        row(what, format!("{:.1} s", seconds(theirs)), "");
        let shares = ours.iter().zip(theirs).map(|(ours, theirs)| ours.seconds / theirs.seconds * 100.0).collect();
        row("time as a share of that", format!("{:.0} %", median(shares)), demanded);
    }
    let [node, database, s3] = [0, 1, 2].map(|place| format!("{:.1} ms", cost(&ours, place)));
    row("processor time a recording: callvault, PostgreSQL, S3 server", format!("{node}, {database}, {s3}"), "");
    row("processor time of the S3 server for a file of one `rclone`", format!("{:.1} ms", cost(&whole, 2)), "");
}
