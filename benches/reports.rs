//! How long the retention report takes over a million recordings and calls, beside one plain scan of the same table.
//!
//! `cargo bench --bench reports`

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise and prints its figures"
)]

mod common;

use std::process::Stdio;
use std::time::Instant;

use callvault::custody::{KeptRow, What};
use callvault::db::Db;
use callvault::retention::{Dates, PolicySet};
use common::{Server, figure, median};
use jiff::{Timestamp, ToSpan};

const ROWS: i64 = 1_000_000;
const AT_ONCE: i64 = 5_000;
const ROUNDS: usize = 5;

/// One of a million, spread over five years.
fn row(number: i64, policies: &PolicySet, begin: Timestamp) -> KeptRow {
    let received = begin + (number * 5 * 365 * 24 * 60 / ROWS).minutes();
    let recorded = number % 5 > 0;
    let until = received + (5 * 365 * 24).hours();
    let micros = until.as_microsecond();
    KeptRow {
        call_seq: -1 - number,
        source: if recorded { format!("{number:064x}") } else { String::new() },
        subject: format!("call_{number:012}"),
        last_seq: 0,
        what: if recorded { What::Recording } else { What::Call },
        traits: format!(r#"{{"f":{{"agent":[{{"rank":4,"value":"9198333445{:02}"}}]}}}}"#, number % 100),
        dates: Dates { ended: Some(received), received, ..Dates::default() },
        policy: "default".into(),
        policy_sha256: policies.sha256().into(),
        due_at: micros,
        lock_wanted: recorded.then_some(micros),
        locked_until: recorded.then_some(micros),
        locked_first: recorded.then_some(micros),
        bytes: if recorded { 1_700_000 } else { 0 },
        kept_since: received.as_microsecond(),
        held: false,
        disposition: None,
        destroyed_at: None,
    }
}

async fn fill(db: &Db) {
    let policies = PolicySet::built_in();
    let begin: Timestamp = "2021-11-01T00:00:00Z".parse().expect("a moment");
    for from in (0..ROWS).step_by(AT_ONCE as usize) {
        let rows = (from..from + AT_ONCE).map(|number| row(number, &policies, begin)).collect();
        let mut tx = db.begin().await.expect("a transaction");
        tx.write(vec![KeptRow::write(rows)]).await.expect("the rows are written");
        tx.commit().await.expect("the rows are durable");
    }
}

fn main() {
    let mut server = Server::start("");
    server.stop();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let db = runtime.block_on(Db::open_sqlite(&server.folder().join("data/callvault.db"))).expect("the database");
    runtime.block_on(fill(&db));
    let (mut reports, mut scans) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let done = server
            .command(&["retention", "report", "--format", "json"])
            .stdout(Stdio::piped())
            .output()
            .expect("the command runs");
        reports.push(begin.elapsed().as_secs_f64());
        let report: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
        assert_eq!(report["kept"]["recordings"]["count"], ROWS / 5 * 4, "all are counted");
        let begin = Instant::now();
        runtime.block_on(db.fetch_one("select sum(bytes) as n from kept", &[])).expect("a sum");
        scans.push(begin.elapsed().as_secs_f64());
    }
    let folder = server.folder().join("longer");
    std::fs::create_dir_all(&folder).expect("a folder");
    let policy = |file: &str, text: String| std::fs::write(folder.join(file), text).expect("a policy");
    let body = "title='t'\nstart='call_end'\nreason='r'\n";
    policy("all.toml", format!("id='all'\nperiod='P5Y'\n{body}"));
    policy("some.toml", format!("id='some'\nperiod='P7Y'\n{body}[applies_to]\nagents=['919833344507']\n"));
    let begin = Instant::now();
    let folder = folder.to_str().expect("a path");
    let done = server.command(&["retention", "policies", "diff", folder, "--json"]).stdout(Stdio::piped()).output();
    let diff = begin.elapsed().as_secs_f64();
    let told: serde_json::Value = serde_json::from_slice(&done.expect("the command runs").stdout).expect("JSON");
    assert_eq!((&told["compared"], &told["longer"]), (&ROWS.into(), &(ROWS / 100).into()), "all are compared");
    figure("policies diff: a million recordings and calls", format!("{diff:.2} s"), "under 5 s");
    figure("retention report: a million recordings and calls", format!("{:.2} s", median(reports)), "under 2 s");
    figure("retention report: one plain scan of the same table", format!("{:.2} s", median(scans)), "");
}
