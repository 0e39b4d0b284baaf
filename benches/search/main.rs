//! How fast calls are found: builds an index of generated calls and asks it what compliance officers ask.
//!
//! `cargo bench --bench search` does it with one million and with ten million calls; `-- 1000000` with as many as that.
//! `-- --keep FOLDER` leaves the index there and takes it from there the next time. The same questions go to plain tantivy
//! on the same index and to SQLite's FTS5 on the same rows; `-- --alone` leaves those out.
//!
//! Every figure is printed once more as a line `figure NAME VALUE UNIT`, for programs.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise and prints its figures"
)]

mod calls;
mod queries;
mod rivals;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use callvault::calls::Facts;
use callvault::search::{CallDoc, FILLING_BYTES, Index, Opened, Page, QueryContext, Searcher, compile};

use calls::Dice;
use queries::{Asked, Kind, TYPICAL, WITH_FACETS};
use rivals::{Fts5, RawTantivy};

const SIZES: [u64; 2] = [1_000_000, 10_000_000];
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
}

fn main() {
    let (mut sizes, mut keep, mut alone) = (Vec::new(), None, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What cargo adds.
            "--bench" => {}
            "--alone" => alone = true,
            "--keep" => keep = arguments.next().map(PathBuf::from),
            size => sizes.push(size.parse().expect("a number of calls, --alone, or --keep FOLDER")),
        }
    }
    if sizes.is_empty() {
        sizes = SIZES.to_vec();
    }
    for calls in sizes {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let folder = keep.as_deref().unwrap_or(scratch.path()).join(calls.to_string());
        std::fs::create_dir_all(&folder).expect("a folder for the index");
        Bench { calls, folder, alone }.run();
    }
}

impl Bench {
    fn run(&self) {
        println!("\n{} calls", self.calls);
        self.build();
        let searcher = Searcher::open(&self.folder, THREADS).expect("the index that was just built");
        assert_eq!(searcher.num_calls(), self.calls, "every call is in the index");
        let live = self.folder.join("live");
        let tantivy = (!self.alone).then(|| RawTantivy::open(&live, THREADS));
        let mut fts5 = (!self.alone).then(|| self.fts5());
        println!("{:26}{:>12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}", "", "found", "p50", "p99", "tantivy", "p99", "FTS5", "p99");
        for kind in TYPICAL.into_iter().chain(WITH_FACETS) {
            self.measure(kind, &searcher, tantivy.as_ref(), fts5.as_mut());
        }
        self.figure("resident after all", resident(), "MiB");
    }

    /// Builds the index as the product does when there is none, from the facts of the calls.
    fn build(&self) {
        let begin = Instant::now();
        let (mut index, opened) = Index::open_or_rebuild(&self.folder, "IN").expect("an index");
        if let Opened::Ready { cursor } = opened {
            assert_eq!(cursor, self.calls, "the kept index is of as many calls");
            return println!("the index was there");
        }
        index.set_memory(FILLING_BYTES).expect("a writer");
        for chunk in self.chunks() {
            index.apply_new(&chunk).expect("calls go in");
        }
        index.commit(self.calls).expect("the index is written");
        let elapsed = begin.elapsed();
        index.close().expect("merges end");
        self.figure("build rate", self.calls as f64 / elapsed.as_secs_f64(), "calls/s");
        self.figure("build time with merges", begin.elapsed().as_secs_f64(), "s");
        let bytes: u64 = files(&self.folder.join("live"));
        self.figure("index size", bytes as f64 / 1_048_576.0, "MiB");
        self.figure("index size of a call", bytes as f64 / self.calls as f64, "bytes");
        self.figure("resident after building", resident(), "MiB");
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

    fn fts5(&self) -> Fts5 {
        let begin = Instant::now();
        let file = self.folder.join("fts5.db");
        let _ = std::fs::remove_file(&file);
        let mut fts5 = Fts5::create(&file);
        let mut first = 0;
        for chunk in self.chunks() {
            fts5.insert(first, &chunk);
            first += chunk.len();
        }
        fts5.finish();
        let size = std::fs::metadata(&file).map_or(0, |file| file.len()) as f64;
        self.figure("FTS5 build rate", self.calls as f64 / begin.elapsed().as_secs_f64(), "calls/s");
        self.figure("FTS5 size", size / 1_048_576.0, "MiB");
        fts5
    }

    fn measure(&self, kind: Kind, searcher: &Searcher, tantivy: Option<&RawTantivy>, fts5: Option<&mut Fts5>) {
        let name = kind.name();
        // The first answers come from a cold cache of the system; everybody gets a few for free.
        let own = times(kind, RUNS, Duration::MAX, |asked| found(searcher, asked));
        let mut line = format!("{name:26}{:>12.0}{}", own.found, self.pair(name, &own));
        let facets = WITH_FACETS.contains(&kind);
        if let Some(tantivy) = tantivy.filter(|_| !facets) {
            let raw = times(kind, RUNS, RIVAL_TIME, |asked| tantivy.ask(asked));
            let shared = raw.totals.len();
            assert_eq!(own.totals[..shared], raw.totals, "{name}: both find the same");
            line += &self.pair(&format!("tantivy {name}"), &raw);
        }
        if let Some(fts5) = fts5.filter(|_| !facets) {
            let sql = times(kind, RUNS, RIVAL_TIME, |asked| fts5.ask(asked));
            line += &self.pair(&format!("FTS5 {name}"), &sql);
        }
        println!("{line}");
    }

    /// Both figures of one cell of the table, in ms.
    fn pair(&self, name: &str, times: &Times) -> String {
        let [p50, p99] = [0.5, 0.99].map(|share| times.at(share));
        self.print(&format!("{name} p50"), p50, "ms");
        self.print(&format!("{name} p99"), p99, "ms");
        format!("{p50:>10.2}{p99:>10.2}")
    }

    fn figure(&self, name: &str, value: f64, unit: &str) {
        println!("{name}: {value:.0} {unit}");
        self.print(name, value, unit);
    }

    fn print(&self, name: &str, value: f64, unit: &str) {
        println!("figure search.{}.{} {value:.3} {unit}", self.calls, name.replace(' ', "_"));
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
    fn at(&self, share: f64) -> f64 {
        let place = (self.sorted.len() as f64 * share) as usize;
        self.sorted[place.min(self.sorted.len() - 1)].as_secs_f64() * 1000.0
    }
}

/// Asks up to `runs` questions, but stops after `most`.
fn times(kind: Kind, runs: usize, most: Duration, mut ask: impl FnMut(&Asked) -> u64) -> Times {
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
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}
