//! The database's file and its schema.

use callvault::db::Db;
use sqlx::{Connection, Row};

use super::archive::Copy;
use super::exceptions::is_listed;
use crate::raw::Raw;
use crate::servers::Postgres;

/// Everything that the tables say, but what can't be found anyway.
async fn content(copy: &Copy) -> Result<Vec<String>, sqlx::Error> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(copy.database());
    let mut connection = sqlx::ConnectOptions::connect(&options).await?;
    let mut rows = Vec::new();
    let list = "select name from sqlite_master where type = 'table' order by 1";
    for table in sqlx::query(list).fetch_all(&mut connection).await? {
        let table: String = table.try_get(0)?;
        if is_listed(&table) || table == "cursors" {
            continue;
        }
        let sql = format!("select name from pragma_table_info('{table}')");
        let columns = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await?;
        let quoted: Vec<String> = columns.iter().map(|row| format!("quote({})", row.get::<String, _>(0))).collect();
        let sql = format!("select {} as row from {table} order by 1", quoted.join(" || ',' || "));
        for row in sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await? {
            rows.push(format!("{table}: {}", row.try_get::<String, _>("row")?));
        }
    }
    connection.close().await?;
    Ok(rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bit_flipped_in_the_database_is_found_or_changes_no_row() {
    let copy = Copy::embedded().await;
    let original = std::fs::read(copy.database()).unwrap();
    let whole = content(&copy).await.unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let (mut found, rounds) = (0, 150);
    for round in 0..rounds {
        let mut bytes = original.clone();
        let (at, bit) = (random.usize(..bytes.len()), random.u8(..8));
        bytes[at] ^= 1 << bit;
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", copy.database().display()));
        }
        std::fs::write(copy.database(), bytes).unwrap();
        if copy.verify().await.is_clean() {
            let now = content(&copy).await.unwrap();
            assert!(now == whole, "round {round}: bit {bit} of byte {at} changes a row and is not found");
        } else {
            found += 1;
        }
    }
    assert!(found > rounds / 8, "pages are mostly empty in so small an archive, but not all of them: {found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_schema_is_found_and_named() {
    let copy = Copy::embedded().await;
    let original = std::fs::read(copy.database()).unwrap();
    let mut raw = Raw::file(&copy.database()).await;
    let indexes = raw.texts("select name from sqlite_master where type = 'index' and sql is not null").await;
    let mut cases: Vec<(String, String)> =
        indexes.iter().map(|index| (format!("drop index {index}"), format!("index {index}"))).collect();
    for table in raw.tables().await {
        let column = format!("alter table {table} add column stranger text");
        cases.push((column, format!("table {table}")));
        cases.push((format!("create index stranger on {table} (1)"), "index stranger".to_owned()));
        let trigger = format!("create trigger stranger after insert on {table} begin select 1; end");
        cases.push((trigger, "trigger stranger".to_owned()));
    }
    cases.push(("create view stranger as select 1".to_owned(), "view stranger".to_owned()));
    cases.push(("create table stranger (a)".to_owned(), "table stranger".to_owned()));
    raw.close().await;
    assert!(cases.len() > 30);
    for (sql, name) in cases {
        std::fs::write(copy.database(), &original).unwrap();
        let mut raw = Raw::file(&copy.database()).await;
        raw.run(&sql).await;
        raw.close().await;
        let verdict = copy.verify().await;
        assert!(verdict.names(std::slice::from_ref(&name)), "{sql}: {verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: tests/run.sh has it"]
async fn a_changed_schema_is_found_and_named_on_a_server_too() {
    let postgres = Postgres::start();
    let of = |database: &str| format!("{}{database}", postgres.url().strip_suffix("postgres").unwrap());
    let mut raw = Raw::server(&postgres.url()).await;
    raw.run("create database whole").await;
    let whole = Db::open_postgres(&of("whole"), None).await.unwrap();
    whole.migrate().await.unwrap();
    assert_eq!(whole.flaws().await.unwrap(), [], "as the migrations make it");
    whole.close().await;
    let mut cases = vec![
        ("index calls_open", "drop index calls_open".to_owned()),
        ("constraint tokens_secret_hash_key", "alter table tokens drop constraint tokens_secret_hash_key".to_owned()),
        ("trigger journal_grown", "drop trigger journal_grown on journal_head".to_owned()),
        ("trigger journal_grown", "alter table journal_head disable trigger journal_grown".to_owned()),
        ("table calls", "alter table calls alter status drop not null".to_owned()),
        ("table stranger", "create table stranger (a int)".to_owned()),
        ("view stranger", "create view stranger as select 1".to_owned()),
        ("rule stranger", "create rule stranger as on delete to journal do instead nothing".to_owned()),
        (
            "function callvault_journal_grown",
            "create or replace function callvault_journal_grown() returns trigger language plpgsql as
             $$ begin return null; end $$"
                .to_owned(),
        ),
    ];
    for table in ["journal", "calls", "sessions"] {
        cases.push(("trigger stranger", format!(
            "create trigger stranger before insert on {table} for each row execute function suppress_redundant_updates_trigger()"
        )));
        cases.push(("index stranger", format!("create index stranger on {table} ((1))")));
    }
    for (n, (name, sql)) in cases.iter().enumerate() {
        raw.run(&format!("create database case_{n} template whole")).await;
        let mut changed = Raw::server(&of(&format!("case_{n}"))).await;
        changed.run(sql).await;
        changed.close().await;
        let db = Db::open_postgres(&of(&format!("case_{n}")), None).await.unwrap();
        let flaws = db.flaws().await.unwrap();
        db.close().await;
        assert!(flaws.iter().any(|(what, _)| what == name), "{sql}: {flaws:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_lost_a_row_is_found() {
    let copy = Copy::embedded().await;
    let mut raw = Raw::file(&copy.database()).await;
    raw.run("pragma writable_schema = on").await;
    // The row is inserted while the index is not looked after.
    let sql = "select sql from sqlite_master where name = 'calls_open'";
    let definition = raw.texts(sql).await.remove(0);
    raw.run(
        "update sqlite_master set sql = 'create index calls_open on calls (open_since) where open_since < 0'
        where name = 'calls_open'",
    )
    .await;
    raw.close().await;
    let mut raw = Raw::file(&copy.database()).await;
    raw.run("reindex calls_open").await;
    raw.run("pragma writable_schema = on").await;
    let sql = format!("update sqlite_master set sql = '{definition}' where name = 'calls_open'");
    raw.run(&sql).await;
    raw.close().await;
    let mut raw = Raw::file(&copy.database()).await;
    assert_eq!(raw.texts("select call_id from calls where open_since is not null").await.len(), 0, "it hides a call");
    raw.close().await;
    let verdict = copy.verify().await;
    assert!(verdict.names(&["missing from index calls_open".to_owned()]), "{verdict:?}");
}
