//! Every column of every table changed, every row deleted, inserted, renumbered: the tables and columns are asked of the
//! database, so that a new one is covered the day it comes.

use std::collections::BTreeMap;
use std::path::Path;

use callvault::evidence::Frontier;
use callvault::journal::Filter;
use callvault::search::Follower;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection};

use super::archive::{Copy, Verdict};
use super::exceptions::is_listed;

/// A connection that keeps no rule.
pub async fn connect(database: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(database).foreign_keys(false);
    let mut connection = options.connect().await.unwrap();
    run(&mut connection, "pragma ignore_check_constraints = on").await;
    connection
}

pub async fn run(connection: &mut SqliteConnection, sql: &str) -> u64 {
    let done = sqlx::query(AssertSqlSafe(sql.to_owned())).execute(connection).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected()
}

pub async fn ask(connection: &mut SqliteConnection, sql: &str) -> Vec<SqliteRow> {
    let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await;
    rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

pub async fn texts(connection: &mut SqliteConnection, sql: &str) -> Vec<String> {
    ask(connection, sql).await.iter().map(|row| row.get(0)).collect()
}

/// A column as the database declares it.
struct Column {
    name: String,
    kind: String,
    nullable: bool,
    key: bool,
    unique: bool,
}

pub async fn tables(connection: &mut SqliteConnection) -> Vec<String> {
    let sql =
        "select name from sqlite_master where type = 'table' and name not like 'sqlite\\_%' escape '\\' order by 1";
    texts(connection, sql).await
}

async fn columns(connection: &mut SqliteConnection, table: &str) -> Vec<Column> {
    let unique = format!(
        "select ii.name from pragma_index_list('{table}') il, pragma_index_info(il.name) ii
         where il.\"unique\" = 1 and il.origin = 'u'"
    );
    let unique = texts(connection, &unique).await;
    let sql = format!("select name, type, \"notnull\" as required, pk from pragma_table_info('{table}')");
    let column = |row: &SqliteRow| {
        let (name, key): (String, bool) = (row.get("name"), row.get::<i64, _>("pk") > 0);
        let nullable = row.get::<i64, _>("required") == 0 && !key;
        Column {
            unique: unique.contains(&name),
            name,
            kind: row.get::<String, _>("type").to_lowercase(),
            nullable,
            key,
        }
    };
    ask(connection, &sql).await.iter().map(column).collect()
}

/// Other values for a column, as expressions.
fn changes(column: &Column, value: &str) -> Vec<String> {
    let name = &column.name;
    let mut changes = match column.kind.as_str() {
        // The next number may be another row's.
        "integer" | "bigint" if column.key => vec![format!("{name} + 1000"), format!("-{name} - 1000")],
        "integer" | "bigint" => vec![format!("coalesce({name}, 0) + 1"), format!("coalesce({name}, 2) - 1")],
        "text" => vec![format!("coalesce({name}, '') || 'x'"), "cast(x'ff' as text)".to_owned()],
        "blob" => vec![format!("cast(coalesce({name}, x'') || x'01' as blob)")],
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
        "recordings" => vec![format!("call {}", of("call_id")), of("call_seq")],
        "recording_work" => vec![of("call_seq")],
        "cursors" => vec![format!("cursor {}", of("name")), "nobody keeps such a cursor".into()],
        "tokens" => vec![format!("token {}", of("name"))],
        "sessions" | "sign_in_links" => vec![format!("token {}", of("token")), format!("{table} row 1")],
        "schema_version" => vec!["schema version".into(), "schema_version".into()],
        other => panic!("{other}: say under which name a row of this table is told of"),
    }
}

/// An archive whose database is put back after each case.
struct Bench {
    copy: Copy,
    original: Vec<u8>,
    cases: usize,
    wrong: Vec<String>,
}

impl Bench {
    async fn new() -> Self {
        let copy = Copy::new().await;
        let original = std::fs::read(copy.database()).unwrap();
        Self { copy, original, cases: 0, wrong: Vec::new() }
    }

    /// Does one thing to the rows and looks what `verify` says.
    async fn after(&mut self, sql: &[String]) -> Verdict {
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.copy.database().display()));
        }
        std::fs::write(self.copy.database(), &self.original).unwrap();
        let mut connection = connect(&self.copy.database()).await;
        for statement in sql {
            assert!(run(&mut connection, statement).await > 0, "{statement} changes something");
        }
        connection.close().await.unwrap();
        self.cases += 1;
        self.copy.verify().await
    }

    fn expect(&mut self, case: &str, verdict: &Verdict, names: &[String]) {
        if !verdict.names(names) {
            self.wrong.push(format!("{case}: none of {names:?} in {verdict:?}"));
        }
    }
}

/// One row of a table as SQL literals; the fullest one, so that as much as possible can be changed.
async fn row(connection: &mut SqliteConnection, table: &str, columns: &[Column]) -> (i64, BTreeMap<String, String>) {
    let filled: Vec<String> = columns.iter().map(|column| format!("({} is not null)", column.name)).collect();
    let quoted: Vec<String> = columns.iter().map(|column| format!("quote({0}) as {0}", column.name)).collect();
    let sql = format!(
        "select rowid as row, {} from {table} order by {} desc, rowid limit 1",
        quoted.join(", "),
        filled.join(" + ")
    );
    let rows = ask(connection, &sql).await;
    let row = rows.first().unwrap_or_else(|| panic!("{table} is empty: give the archive a row of it"));
    (row.get("row"), columns.iter().map(|column| (column.name.clone(), row.get(&*column.name))).collect())
}

/// A table with its columns and one of its rows.
struct Table {
    name: String,
    columns: Vec<Column>,
    rowid: i64,
    row: BTreeMap<String, String>,
}

async fn all_tables(copy: &Copy) -> Vec<Table> {
    let mut connection = connect(&copy.database()).await;
    let mut all = Vec::new();
    for name in tables(&mut connection).await {
        if name == "leases" {
            // It stays empty here: any row of it is found, see below.
            continue;
        }
        let columns = columns(&mut connection, &name).await;
        let (rowid, row) = row(&mut connection, &name, &columns).await;
        all.push(Table { name, columns, rowid, row });
    }
    connection.close().await.unwrap();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_changed_column_is_found() {
    let mut bench = Bench::new().await;
    let mut unfound = Vec::new();
    for Table { name: table, columns, rowid, row } in all_tables(&bench.copy).await {
        for column in &columns {
            let (name, mut missed) = (format!("{table}.{}", column.name), 0);
            for change in changes(column, &row[&column.name]) {
                let sql = format!("update {table} set {} = {change} where rowid = {rowid}", column.name);
                let verdict = bench.after(std::slice::from_ref(&sql)).await;
                let any = !column.key && is_listed(&format!("{table}.*"));
                if verdict.is_clean() && (any || is_listed(&table) || is_listed(&name)) {
                    missed += 1;
                } else {
                    let mut names = names(&table, &row);
                    // What changes a name may be told of under the new one.
                    names.extend(column.key.then(|| table.clone()));
                    bench.expect(&sql, &verdict, &names);
                }
            }
            unfound.extend((missed > 0).then_some(name));
        }
    }
    assert!(bench.cases > 100, "the columns are found: {}", bench.cases);
    assert_eq!(bench.wrong, [""; 0]);
    assert!(unfound.contains(&"cursors.next_seq".to_owned()), "what is listed can't be found indeed: {unfound:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_deleted_inserted_or_renumbered_row_is_found() {
    let mut bench = Bench::new().await;
    for Table { name: table, columns, rowid, row } in all_tables(&bench.copy).await {
        let names = names(&table, &row);
        let deletion = format!("delete from {table} where rowid = {rowid}");
        let verdict = bench.after(std::slice::from_ref(&deletion)).await;
        if !(is_listed(&table) || is_listed(&format!("{table}: deleted"))) {
            bench.expect(&deletion, &verdict, &names);
        }
        if is_listed(&table) {
            continue;
        }
        for key in columns.iter().filter(|column| column.key) {
            let other = |column: &Column| match (column.name == key.name || column.unique, &*column.kind) {
                (false, _) => column.name.clone(),
                (true, "integer" | "bigint") => format!("(select max({0}) + 5 from {table})", column.name),
                (true, "text") => format!("{} || '-twin'", column.name),
                (true, _) => format!("cast({} || x'01' as blob)", column.name),
            };
            let values: Vec<String> = columns.iter().map(other).collect();
            let twin = format!("insert into {table} select {} from {table} where rowid = {rowid}", values.join(", "));
            let verdict = bench.after(std::slice::from_ref(&twin)).await;
            let (table_name, twin_name) = (table.clone(), "-twin".to_owned());
            let beyond = ["journal row", "journal_bodies row", "belongs to no call", "belong to"].map(str::to_owned);
            bench.expect(&twin, &verdict, &[names.clone(), vec![table_name, twin_name], beyond.to_vec()].concat());
            if key.kind == "integer" {
                let moved = format!("update {table} set {0} = {0} + 1000 where rowid = {rowid}", key.name);
                let verdict = bench.after(std::slice::from_ref(&moved)).await;
                bench.expect(&moved, &verdict, &names);
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
        let mut connection = connect(&bench.copy.database()).await;
        let keys: Vec<i64> = ask(&mut connection, &format!("select {key} from {table} order by 1 limit 7"))
            .await
            .iter()
            .map(|row| row.get(0))
            .collect();
        connection.close().await.unwrap();
        let (a, b) = (keys[keys.len() - 2], keys[keys.len() - 1]);
        let set = |from: i64, to: i64| format!("update {table} set {key} = {to} where {key} = {from}");
        let verdict = bench.after(&[set(a, -7), set(b, a), set(-7, b)]).await;
        let names = if table == "calls" {
            vec!["it is not the row of".to_owned(), "first_seq".to_owned()]
        } else {
            vec![format!("journal entry {a}")]
        };
        bench.expect(table, &verdict, &names);
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
        ("lease flags", "insert into leases values ('flags', 'somebody', 0)".to_owned()),
    ];
    for (name, sql) in cases {
        let verdict = bench.after(std::slice::from_ref(&sql)).await;
        bench.expect(&sql, &verdict, &[name.to_owned()]);
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
    let tree = hex::encode(frontier.to_bytes());
    let mut connection = connect(&copy.database()).await;
    for sql in [
        format!("delete from journal where seq = {size}"),
        format!("delete from journal_bodies where seq = {size}"),
        format!("update cursors set next_seq = {size}"),
    ] {
        assert_eq!(run(&mut connection, &sql).await, 1, "{sql}");
    }
    assert!(!copy.verify().await.is_clean(), "without the head row it is found");
    run(&mut connection, &format!("update journal_head set size = {size}, at = {at}, frontier = x'{tree}'")).await;
    assert!(copy.verify().await.names(&["search index".into()]), "the index remembers");
    let (journal, calls) = (app.journal.clone(), app.calls.clone());
    Follower { journal, calls, handle: app.search.clone(), region: "IN".into() }.rebuild().await.unwrap();
    assert_eq!(copy.verify().await.0, [""; 0]);
    assert!(is_listed("the journal's tail"));
}
