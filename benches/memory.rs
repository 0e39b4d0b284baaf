//! How much memory the program needs for what is large: a recording of 2 GB, and the export of a million calls.
//!
//! `cargo bench --bench memory`; idle and under load it is measured by the bench `intake`.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise and prints its figures"
)]

mod common;

use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use common::recordings::{Sender, announce, await_archived};
use common::{Server, await_that, figure};

const LARGE: u64 = 2_000_000_000;
const CALLS: u64 = 1_000_000;

/// The highest resident memory while recordings of this size are brought in, in MiB.
fn recording(bytes: u64, count: u64) -> u64 {
    let sender = Sender::start(bytes);
    let server = Server::start(&sender.config());
    std::thread::sleep(Duration::from_secs(2));
    server.forget_peak();
    announce(&server, &sender, 0..count);
    await_archived(&server, count, Duration::from_secs(900));
    // Its waveform is part of it.
    await_that("every recording is analysed", Duration::from_secs(900), || {
        server.metric("callvault_recordings_unanalysed", "") == 0.0
    });
    server.peak()
}

/// Past calls, one body a line.
fn write_past(server: &Server) -> std::path::PathBuf {
    let path = server.folder().join("past.jsonl");
    let mut file = BufWriter::new(std::fs::File::create(&path).expect("a file"));
    for number in 0..CALLS {
        let (day, minute) = (number % 28 + 1, number % 60);
        writeln!(
            file,
            r#"{{"event":"CALL_ENDED","callId":"call_past{number:09}","callStatus":"END","callDirection":"OUTGOING","durationInSeconds":{},"customerName":"Ananya Kulkarni","customerNumber":"9198{number:08}","pickedBy":"9198{:08}","callEndedAt":"2026-02-{day:02}T09:{minute:02}:00Z"}}"#,
            number % 900,
            number % 200,
        )
        .expect("room on the disk");
    }
    file.flush().expect("room on the disk");
    path
}

fn export() {
    let server = Server::start("");
    let past = write_past(&server);
    let begin = Instant::now();
    let imported = server.command(&["import", past.to_str().expect("a path")]).status().expect("the command runs");
    assert!(imported.success(), "the past is imported");
    figure("import: a million past events", format!("{:.0}/s", CALLS as f64 / begin.elapsed().as_secs_f64()), "");
    let total = || {
        let answer: serde_json::Value = serde_json::from_slice(&server.get("/api/v1/calls?limit=1")).expect("JSON");
        answer["total"].as_u64().expect("a number")
    };
    await_that("every call can be found", Duration::from_secs(900), || total() == CALLS);
    for form in ["csv", "jsonl"] {
        // Other work has settled, so that the export alone is seen.
        std::thread::sleep(Duration::from_secs(5));
        let before = server.resident();
        server.forget_peak();
        let (begin, mut lines) = (Instant::now(), 0);
        server.read(&format!("/api/v1/calls.{form}"), |part| {
            lines += part.iter().filter(|b| **b == b'\n').count() as u64
        });
        assert!(lines >= CALLS, "every call is exported");
        let rate = CALLS as f64 / begin.elapsed().as_secs_f64();
        let figures = format!("{before} MiB before, {} MiB at most, {rate:.0} rows/s", server.peak());
        figure(&format!("memory: export of a million calls as {form}"), figures, "flat");
    }
}

fn main() {
    figure("memory: 8 recordings of 1 MB, at most", format!("{} MiB", recording(1_000_000, 8)), "");
    figure("memory: a recording of 2 GB, at most", format!("{} MiB", recording(LARGE, 1)), "flat");
    export();
}
