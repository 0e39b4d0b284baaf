//! Every column of every table changed, every row deleted, inserted, renumbered: the tables and columns are asked of the
//! database, so that a new one is covered the day it comes.

use std::collections::BTreeMap;

use callvault::evidence::Frontier;
use callvault::journal::Filter;
use callvault::search::Follower;

use super::archive::{Copy, Verdict};
use super::exceptions::is_listed;
use crate::raw::{Column, Raw};

/// Other values for a column, as expressions.
fn changes(raw: &Raw, column: &Column, value: &str) -> Vec<String> {
    let (name, byte) = (&column.name, raw.bytes("01"));
    let mut changes = match column.kind.as_str() {
        // The next number may be another row's.
        "integer" | "bigint" if column.key => vec![format!("{name} + 1000"), format!("-{name} - 1000")],
        "integer" | "bigint" => vec![format!("coalesce({name}, 0) + 1"), format!("coalesce({name}, 2) - 1")],
        "boolean" => vec![format!("not {name}")],
        "text" if raw.is_sqlite() => vec![format!("coalesce({name}, '') || 'x'"), "cast(x'ff' as text)".to_owned()],
        "text" => vec![format!("coalesce({name}, '') || 'x'")],
        "blob" if raw.is_sqlite() => vec![format!("cast(coalesce({name}, x'') || {byte} as blob)")],
        "blob" => vec![format!("coalesce({name}, '') || {byte}")],
        other => panic!("{other}: say how a value of this type is changed"),
    };
    if column.nullable && value != "NULL" {
        changes.push("null".to_owned());
    }
    changes
}

/// Under which names a row may be told of.
fn names(table: &str, row: &BTreeMap<String, String>) -> Vec<String> {
    let of = |column: &str| row.get(column).map_or("?", |value| value.trim_matches('\'')).to_owned();
    match table {
        "journal" | "journal_bodies" => {
            let seq = of("seq");
            vec![format!("journal entry {seq}"), format!("journal row {seq}"), format!("journal_bodies row {seq}")]
        }
        "journal_head" => vec!["journal head".into(), "journal_head".into()],
        "calls" => vec![format!("call {}", of("call_id")), format!("first_seq {}", of("first_seq")), of("subject")],
        "recordings" | "flags" => vec![format!("call {}", of("call_id")), of("call_seq")],
        "fixity" => vec![of("object"), format!("fixity row {}", of("seq"))],
        "recording_work" => vec![of("call_seq")],
        "schedule" => vec!["schedule".into()],
        "cursors" => vec![format!("cursor {}", of("name")), "nobody keeps such a cursor".into()],
        "tokens" => vec![format!("token {}", of("name"))],
        "sessions" | "sign_in_links" => vec![format!("token {}", of("token")), format!("{table} row 1")],
        "kept" => vec![format!("call {}", of("subject")), of("call_seq"), "kept".into()],
        "policy_sets" => vec![format!("policy_sets {}", of("adopted_seq")), format!("policy_sets {}", of("sha256"))],
        "client_events" => vec![format!("client_events {} {}", of("customer"), of("event"))],
        "holds" => vec![format!("holds {}", of("name"))],
        "dispositions" => vec![format!("dispositions {}", of("id"))],
        "schema_version" => vec!["schema version".into(), "schema_version".into()],
        other => panic!("{other}: say under which name a row of this table is told of"),
    }
}

/// An archive whose database is put back after each case.
struct Bench {
    copy: Copy,
    cases: usize,
    wrong: Vec<String>,
}

impl Bench {
    async fn new() -> Self {
        Self { copy: Copy::new().await, cases: 0, wrong: Vec::new() }
    }

    /// Does one thing to the rows and looks what `verify` says; `None` where the database does not let it be done.
    async fn after(&mut self, sql: &[String]) -> Option<Verdict> {
        self.copy.restore().await;
        self.cases += 1;
        let mut raw = self.copy.raw().await;
        for statement in sql {
            let Some(rows) = raw.run_if_let(statement).await else {
                raw.close().await;
                return None;
            };
            assert!(rows > 0, "{statement} changes something");
        }
        raw.close().await;
        Some(self.copy.verify().await)
    }

    fn expect(&mut self, case: &str, verdict: Option<&Verdict>, names: &[String]) {
        if verdict.is_some_and(|verdict| !verdict.names(names)) {
            self.wrong.push(format!("{case}: none of {names:?} in {verdict:?}"));
        }
    }
}

/// A table with its columns and one of its rows, as SQL literals; the fullest one, so that as much as possible can be
/// changed.
struct Table {
    name: String,
    columns: Vec<Column>,
    /// The condition that finds the row.
    at: String,
    row: BTreeMap<String, String>,
}

impl Table {
    async fn of(raw: &mut Raw, name: String) -> Self {
        let columns = raw.columns(&name).await;
        let filled: Vec<String> =
            columns.iter().map(|column| format!("case when {} is null then 0 else 1 end", column.name)).collect();
        let literals: Vec<String> = columns.iter().map(|column| raw.literal(&column.name)).collect();
        let sql = format!(
            "select {0}, {1} from {name} order by {2} desc, {0} limit 1",
            raw.place(),
            literals.join(", "),
            filled.join(" + ")
        );
        let mut rows = raw.rows(&sql, columns.len() + 1).await;
        assert!(!rows.is_empty(), "{name} is empty: give the archive a row of it");
        let mut row = rows.remove(0).into_iter();
        let at = raw.at(&row.next().unwrap());
        let row = columns.iter().map(|column| column.name.clone()).zip(row).collect();
        Self { name, columns, at, row }
    }
}

async fn all_tables(copy: &Copy) -> Vec<Table> {
    let mut raw = copy.raw().await;
    let mut all = Vec::new();
    for name in raw.tables().await {
        // Where there is one node it stays empty: any row of it is found, see below.
        if name != "leases" {
            all.push(Table::of(&mut raw, name).await);
        }
    }
    raw.close().await;
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_changed_column_is_found() {
    let mut bench = Bench::new().await;
    let mut unfound = Vec::new();
    let raw = bench.copy.raw().await;
    for Table { name: table, columns, at, row } in all_tables(&bench.copy).await {
        for column in &columns {
            let (name, mut missed) = (format!("{table}.{}", column.name), 0);
            for change in changes(&raw, column, &row[&column.name]) {
                let sql = format!("update {table} set {} = {change} where {at}", column.name);
                let verdict = bench.after(std::slice::from_ref(&sql)).await;
                let any = !column.key && is_listed(&format!("{table}.*"));
                if verdict.as_ref().is_some_and(Verdict::is_clean) && (any || is_listed(&table) || is_listed(&name)) {
                    missed += 1;
                } else {
                    let mut names = names(&table, &row);
                    // What changes a name may be told of under the new one.
                    names.extend(column.key.then(|| table.clone()));
                    bench.expect(&sql, verdict.as_ref(), &names);
                }
            }
            unfound.extend((missed > 0).then_some(name));
        }
    }
    // PostgreSQL takes no text that is none.
    let least = if raw.is_sqlite() { 100 } else { 90 };
    assert!(bench.cases > least, "the columns are found: {}", bench.cases);
    assert_eq!(bench.wrong, [""; 0]);
    assert!(unfound.contains(&"cursors.next_seq".to_owned()), "what is listed can't be found indeed: {unfound:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_deleted_inserted_or_renumbered_row_is_found() {
    let mut bench = Bench::new().await;
    let raw = bench.copy.raw().await;
    for Table { name: table, columns, at, row } in all_tables(&bench.copy).await {
        let names = names(&table, &row);
        let deletion = format!("delete from {table} where {at}");
        let verdict = bench.after(std::slice::from_ref(&deletion)).await;
        if !(is_listed(&table) || is_listed(&format!("{table}: deleted"))) {
            bench.expect(&deletion, verdict.as_ref(), &names);
        }
        if is_listed(&table) {
            continue;
        }
        for key in columns.iter().filter(|column| column.key) {
            let other = |column: &Column| match (column.name == key.name || column.unique, &*column.kind) {
                (false, _) => column.name.clone(),
                (true, "integer" | "bigint") => format!("(select max({0}) + 5 from {table})", column.name),
                (true, "text") => format!("{} || '-twin'", column.name),
                (true, _) if raw.is_sqlite() => format!("cast({} || x'01' as blob)", column.name),
                (true, _) => format!("{} || '\\x01'::bytea", column.name),
            };
            let values: Vec<String> = columns.iter().map(other).collect();
            let twin = format!("insert into {table} select {} from {table} where {at}", values.join(", "));
            let verdict = bench.after(std::slice::from_ref(&twin)).await;
            let (table_name, twin_name) = (table.clone(), "-twin".to_owned());
            let beyond = ["journal row", "journal_bodies row", "belongs to no call", "belong to"].map(str::to_owned);
            bench.expect(
                &twin,
                verdict.as_ref(),
                &[names.clone(), vec![table_name, twin_name], beyond.to_vec()].concat(),
            );
            if key.kind == "integer"
                || (key.kind == "bigint" && columns.iter().filter(|column| column.key).count() == 1)
            {
                let moved = format!("update {table} set {0} = {0} + 1000 where {at}", key.name);
                let verdict = bench.after(std::slice::from_ref(&moved)).await;
                bench.expect(&moved, verdict.as_ref(), &names);
            }
        }
    }
    assert!(bench.cases > 20, "{}", bench.cases);
    assert_eq!(bench.wrong, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rows_that_changed_places_are_found() {
    let mut bench = Bench::new().await;
    for (table, key) in [("journal", "seq"), ("journal_bodies", "seq"), ("calls", "first_seq")] {
        bench.copy.restore().await;
        let mut raw = bench.copy.raw().await;
        let sql = format!("select cast({key} as text) from {table} order by {key} limit 7");
        let keys: Vec<i64> = raw.texts(&sql).await.iter().map(|key| key.parse().unwrap()).collect();
        raw.close().await;
        let (a, b) = (keys[keys.len() - 2], keys[keys.len() - 1]);
        let set = |from: i64, to: i64| format!("update {table} set {key} = {to} where {key} = {from}");
        let verdict = bench.after(&[set(a, -7), set(b, a), set(-7, b)]).await;
        let names = if table == "calls" {
            vec!["it is not the row of".to_owned(), "first_seq".to_owned()]
        } else {
            vec![format!("journal entry {a}")]
        };
        bench.expect(table, verdict.as_ref(), &names);
    }
    assert_eq!(bench.wrong, [""; 0]);
}

/// What can't be derived has bounds all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_have_written_is_found() {
    let mut bench = Bench::new().await;
    let far = 253_402_300_799_000_000_i64;
    let cases = [
        ("recording_work", format!("update recording_work set leased_until = {far}")),
        ("recording_work", format!("update recording_work set next_attempt_at = {far}")),
        ("recording_work", format!("update recording_work set first_attempt_at = {far}")),
        ("recording_work", "update recording_work set attempts = -1".to_owned()),
        ("token kept", format!("update sessions set expires_at = {far}")),
        ("token kept", format!("update sign_in_links set expires_at = {far}")),
        ("cursor flags", "update cursors set next_seq = 1000000".to_owned()),
        ("cursor flags", "update cursors set next_seq = -1".to_owned()),
        ("sessions row", "update sessions set token = 'nobody'".to_owned()),
        ("lease flags", format!("insert into leases values ('flags', 'somebody', {far})")),
    ];
    for (name, sql) in cases {
        let verdict = bench.after(std::slice::from_ref(&sql)).await;
        bench.expect(&sql, verdict.as_ref(), &[name.to_owned()]);
    }
    assert_eq!(bench.wrong, [""; 0]);
}

/// Documented, not desired: only a checkpoint that lies elsewhere shows that the end is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_cut_off_with_everything_made_to_match_is_not_found() {
    let copy = Copy::new().await;
    let app = copy.open().await.unwrap();
    let records = app.journal.read(0, 1000, &Filter::default()).await.unwrap();
    let kept = &records[..records.len() - 1];
    let mut frontier = Frontier::default();
    kept.iter().for_each(|record| frontier.push(record.leaf));
    let (size, at) = (kept.len(), kept[kept.len() - 1].entry.at.as_microsecond());
    let mut raw = copy.raw().await;
    for sql in [
        format!("delete from journal where seq = {size}"),
        format!("delete from journal_bodies where seq = {size}"),
        format!("update cursors set next_seq = {size} where name = 'flags'"),
        format!("update cursors set next_seq = {size} where name = 'retention'"),
        format!("delete from kept where call_seq = {size}"),
    ] {
        assert_eq!(raw.run(&sql).await, 1, "{sql}");
    }
    assert!(!copy.verify().await.is_clean(), "without the head row it is found");
    let tree = raw.bytes(&hex::encode(frontier.to_bytes()));
    raw.run(&format!("update journal_head set size = {size}, at = {at}, frontier = {tree}")).await;
    assert!(copy.verify().await.names(&["search index".into()]), "the index remembers");
    let (journal, calls) = (app.journal.clone(), app.calls.clone());
    Follower { journal, calls, handle: app.search.clone(), region: "IN".into() }.rebuild().await.unwrap();
    assert_eq!(copy.verify().await.0, [""; 0]);
    assert!(is_listed("the journal's tail"));
}
