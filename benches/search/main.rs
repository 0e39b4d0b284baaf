//! How fast calls are found: builds an index of generated calls and asks it what compliance officers ask.
//!
//! `cargo bench --bench search` does it with one million and with ten million calls; `-- 1000000` with as many as that.
//! `-- --keep FOLDER` leaves the index there and takes it from there the next time. The same questions go to plain tantivy
//! on the same index and to SQLite's FTS5 on the same rows; `-- --alone` leaves those out, and `-- --only WORDS` all
//! questions but those whose name has these words.
//!
//! Each figure is a row of the table in `docs/PERFORMANCE.md`.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a bench stops at the first surprise and says what it does"
)]

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod queries;
mod rivals;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use callvault::calls::Facts;
use callvault::search::{CallDoc, FILLING_BYTES, Index, Opened, Page, QueryContext, Searcher, compile};

use calls::Dice;
use common::figure;
use queries::{Asked, BY_START, Kind, MORE};
use rivals::{Fts5, RawTantivy};

const SIZES: [u64; 2] = [1_000_000, 10_000_000];
const DEMANDED: [(u64, &str); 2] = [(SIZES[0], "< 10 ms"), (SIZES[1], "< 25 ms")];
const CHUNK: u64 = 2000;
const THREADS: usize = 2;
const RUNS: usize = 500;
/// The rivals get so much time for each kind of question: some of them take a second for one.
const RIVAL_TIME: Duration = Duration::from_secs(4);

struct Bench {
    calls: u64,
    /// Where the index lies, and everything else that is made.
    folder: PathBuf,
    alone: bool,
    only: String,
}

fn main() {
    let (mut sizes, mut keep, mut alone, mut only) = (Vec::new(), None, false, String::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What cargo adds.
            "--bench" => {}
            "--alone" => alone = true,
            "--keep" => keep = arguments.next().map(PathBuf::from),
            "--only" => only = arguments.next().unwrap_or_default(),
            size => sizes.push(size.parse().expect("a number of calls, --alone, --keep FOLDER or --only WORDS")),
        }
    }
    if sizes.is_empty() {
        sizes = SIZES.to_vec();
    }
    for calls in sizes {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let folder = keep.as_deref().unwrap_or(scratch.path()).join(calls.to_string());
        std::fs::create_dir_all(&folder).expect("a folder for the index");
        Bench { calls, folder, alone, only: only.clone() }.run();
    }
}

impl Bench {
    fn run(&self) {
        self.build();
        let begin = Instant::now();
        let (index, _) = Index::open_or_rebuild(&self.folder, "IN").expect("the index that was just built");
        let searcher = Searcher::beside(&index, &self.folder, THREADS).expect("a searcher");
        let opened = format!("{:.1} s, every file copied and checked", begin.elapsed().as_secs_f64());
        self.figure("opening the index as the server does", &opened, "");
        assert_eq!(searcher.num_calls(), self.calls, "every call is in the index");
        let asked = |kinds: &[Kind]| -> Vec<(Kind, Times)> {
            let kinds = kinds.iter().filter(|kind| kind.name().contains(&self.only));
            let measured = |kind: &Kind| {
                let own = times(*kind, RUNS, Duration::MAX, |asked| found(&searcher, asked));
                eprintln!("{}: {own} ms", kind.name());
                (*kind, own)
            };
            kinds.map(measured).collect()
        };
        let (by_start, more) = (asked(&BY_START), asked(&MORE));
        self.figure("memory after all questions, without mapped files", &format!("{} MiB", resident()), "");
        let mut rivals = (!self.alone).then(|| self.rivals());
        by_start.iter().for_each(|(kind, own)| self.row(*kind, own, rivals.as_mut()));
        if let Some((kind, own)) = by_start.iter().max_by(|(_, a), (_, b)| a.at(0.99).total_cmp(&b.at(0.99))) {
            let demanded = DEMANDED.iter().find(|(calls, _)| *calls == self.calls).map_or("", |(_, demanded)| demanded);
            self.figure("the worst p99 of these", &format!("{:.1} ms ({})", own.at(0.99), kind.name()), demanded);
        }
        more.iter().for_each(|(kind, own)| self.row(*kind, own, rivals.as_mut()));
    }

    /// Builds the index as the product does when there is none, from the facts of the calls.
    fn build(&self) {
        let begin = Instant::now();
        let (mut index, opened) = Index::open_or_rebuild(&self.folder, "IN").expect("an index");
        if let Opened::Ready { cursor } = opened {
            assert_eq!(cursor, self.calls, "the kept index is of as many calls");
            return eprintln!("the index of {} calls was there", self.calls);
        }
        index.set_memory(FILLING_BYTES).expect("a writer");
        for chunk in self.chunks() {
            index.apply_new(&chunk).expect("calls go in");
        }
        index.commit(self.calls).expect("the index is written");
        let rate = self.calls as f64 / begin.elapsed().as_secs_f64();
        index.close().expect("merges end");
        let merged = begin.elapsed().as_secs_f64();
        self.figure("building the index", &format!("{rate:.0} calls/s, {merged:.0} s with all merges"), "");
        let folder = self.folder.join("live");
        self.figure("size of the index", &self.size(files(&folder)), "");
        self.figure("memory after building, without mapped files", &format!("{} MiB", resident()), "");
    }

    fn size(&self, bytes: u64) -> String {
        format!("{} MiB, {} bytes a call", bytes >> 20, bytes / self.calls)
    }

    /// All calls, as they go into the index.
    fn chunks(&self) -> impl Iterator<Item = Vec<CallDoc>> + use<'_> {
        let call = |number| {
            let facts: Facts = serde_json::from_str(&calls::facts(number, self.calls)).expect("facts");
            CallDoc::from(&facts)
        };
        let starts = (0..self.calls).step_by(CHUNK as usize);
        starts.map(move |start| (start..self.calls.min(start + CHUNK)).map(call).collect())
    }

    fn rivals(&self) -> (RawTantivy, Fts5) {
        let fts5 = self.fts5();
        (RawTantivy::open(&self.folder.join("live"), THREADS), fts5)
    }

    fn fts5(&self) -> Fts5 {
        let begin = Instant::now();
        let file = self.folder.join("fts5.db");
        if let Some(fts5) = Fts5::open(&file) {
            return fts5;
        }
        let mut fts5 = Fts5::create(&file);
        let mut first = 0;
        for chunk in self.chunks() {
            fts5.insert(first, &chunk);
            first += chunk.len();
        }
        fts5.finish();
        let rate = self.calls as f64 / begin.elapsed().as_secs_f64();
        let size = self.size(std::fs::metadata(&file).map_or(0, |file| file.len()));
        self.figure("the same in SQLite with FTS5", &format!("{rate:.0} calls/s, {size}"), "");
        fts5
    }

    /// The row of one kind of question, of which the product was asked already.
    fn row(&self, kind: Kind, own: &Times, rivals: Option<&mut (RawTantivy, Fts5)>) {
        let name = kind.name();
        let mut line = format!("{own} ms");
        if let Some((tantivy, fts5)) = rivals.filter(|_| !kind.has_facets()) {
            let raw = times(kind, RUNS, RIVAL_TIME, |asked| tantivy.ask(asked));
            assert_eq!(own.totals[..raw.totals.len()], raw.totals, "{name}: both find the same");
            let sql = times(kind, RUNS, RIVAL_TIME, |asked| fts5.ask(asked));
            line += &format!("; tantivy {raw}; FTS5 {sql}");
        }
        self.figure(&format!("{name}, p50 / p99 ({:.0} found)", own.found), &line, "");
    }

    fn figure(&self, what: &str, measured: &str, demanded: &str) {
        figure(&format!("search in {} M calls: {what}", self.calls as f64 / 1e6), measured, demanded);
    }
}

/// What it took to answer one kind of question.
struct Times {
    sorted: Vec<Duration>,
    /// Of each question in turn.
    totals: Vec<u64>,
    /// Calls on average.
    found: f64,
}

impl Times {
    /// In ms.
    fn at(&self, share: f64) -> f64 {
        let place = (self.sorted.len() as f64 * share) as usize;
        self.sorted[place.min(self.sorted.len() - 1)].as_secs_f64() * 1000.0
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p99] = [0.5, 0.99].map(|share| self.at(share));
        // Three digits say enough.
        let digits = |ms: f64| if ms < 10.0 { 2 } else { usize::from(ms < 100.0) };
        write!(f, "{p50:.*} / {p99:.*}", digits(p50), digits(p99))
    }
}

/// Asks up to `runs` questions, but stops after `most`.
fn times(kind: Kind, runs: usize, most: Duration, mut ask: impl FnMut(&Asked) -> u64) -> Times {
    // The first answers come from a cold cache of the system; everybody gets a few for free.
    let mut warm = Dice::new(77);
    (0..5).for_each(|_| _ = ask(&kind.ask(&mut warm)));
    let mut dice = Dice::new(kind as u64 + 1);
    let (begin, mut sorted, mut totals) = (Instant::now(), Vec::new(), Vec::new());
    while sorted.len() < runs && (begin.elapsed() < most || sorted.len() < 5) {
        let asked = kind.ask(&mut dice);
        let from = Instant::now();
        totals.push(ask(&asked));
        sorted.push(from.elapsed());
    }
    sorted.sort_unstable();
    let found = totals.iter().sum::<u64>() as f64 / totals.len() as f64;
    Times { sorted, totals, found }
}

/// One question to the product: reading it, the total, and the first page.
fn found(searcher: &Searcher, asked: &Asked) -> u64 {
    let context = QueryContext { tz: jiff::tz::TimeZone::UTC, region: "IN".to_owned() };
    let expr = compile(&asked.filters, &context).expect("a query");
    let page = Page { sort: asked.sort, facets: asked.facets.clone(), ..Page::default() };
    let found = searcher.search(&expr, &page, &context).expect("an answer");
    std::hint::black_box(&found);
    found.total.expect("a total")
}

/// Bytes of all files in a folder.
fn files(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |file| file.len())).sum()
}

/// Resident memory of this process in MiB, without the pages of mapped files.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
}
