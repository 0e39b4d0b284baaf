//! `pgbench` inserting rows of the size of ours, in batches of the size of ours, beside the program.

use std::process::Command;
use std::time::Duration;

use super::common::pair::Postgres;

const DATABASE: &str = "pgbench";
/// The longest text that a command takes as one argument, less some room.
const LONGEST: usize = 120_000;

/// What a webhook is in the journal: characters of the entry and bytes of the body, on average.
pub struct RowSize {
    pub entry: usize,
    pub body: usize,
}

impl RowSize {
    /// Of the newest entries.
    pub fn of(postgres: &Postgres, database: &str) -> Self {
        let newest =
            "with newest as (select * from journal where kind = 'webhook.received' order by seq desc limit 1000)";
        let mean = "select avg(length(entry))::int, avg(length(body))::int from newest join journal_bodies using (seq)";
        let told = postgres.ask(database, &format!("{newest} {mean}"));
        let (entry, body) = told.split_once('|').expect("two numbers");
        Self { entry: entry.parse().expect("a number"), body: body.parse().expect("a number") }
    }
}

/// A table of its own, with a number for a key and no other index.
pub fn prepare(postgres: &Postgres) {
    postgres.database(DATABASE);
    let columns = "seq bigint generated always as identity primary key, entry text not null, body text not null";
    postgres.ask(DATABASE, &format!("create table rows ({columns})"));
}

/// Batches a second of one connection: each is one statement that was prepared, with the rows as two arrays, and one
/// transaction that is on the disk.
pub fn batches(postgres: &Postgres, rows: usize, size: &RowSize, time: Duration) -> f64 {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let script = dir.path().join("insert.sql");
    let insert = "insert into rows (entry, body)
        select * from unnest(cast(:entries as text[]), cast(:bodies as text[]));\n";
    std::fs::write(&script, insert).expect("the script is written");
    let array = |name: &str, length: usize| {
        let text = format!("{name}={{{}}}", vec!["x".repeat(length); rows].join(","));
        assert!(text.len() < LONGEST, "so many rows fit into an argument");
        text
    };
    let output = Command::new("pgbench")
        .args(["--no-vacuum", "--protocol=prepared", "--client=1", "--time", &time.as_secs().to_string()])
        .args(["--define", &array("entries", size.entry), "--define", &array("bodies", size.body)])
        .arg("--file")
        .args([script.as_os_str(), postgres.url(DATABASE).as_ref()])
        .output()
        .expect("pgbench runs: it needs the package postgresql");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.expect("transactions a second")
}
