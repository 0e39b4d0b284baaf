//! An archive's database past the program: by somebody who has all rights, and keeps no rule that can be switched off.

use std::path::Path;

use callvault::config::Config;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use crate::pair;

pub enum Raw {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// A column as the database declares it.
pub struct Column {
    pub name: String,
    /// `bigint`, `text`, `blob` or `boolean`.
    pub kind: String,
    pub nullable: bool,
    pub key: bool,
    pub unique: bool,
}

impl Raw {
    /// The database of a configuration, whose file lies in `dir`.
    pub async fn of(config: &Config, dir: &Path) -> Self {
        match config.database.url.expose() {
            "sqlite" => Self::file(&config.data_dir.join("callvault.db")).await,
            _ => Self::server(&pair::as_superuser(dir)).await,
        }
    }

    pub async fn file(database: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(database).foreign_keys(false);
        let mut this = Self::Sqlite(options.connect().await.unwrap());
        this.run("pragma ignore_check_constraints = on").await;
        this
    }

    pub async fn server(url: &str) -> Self {
        let mut this = Self::Postgres(PgConnection::connect(url).await.unwrap());
        // Neither foreign keys nor triggers.
        this.run("set session_replication_role = replica").await;
        this
    }

    pub fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// Runs a statement; how many rows it changed.
    pub async fn run(&mut self, sql: &str) -> u64 {
        self.try_run(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The same; `None` where the database itself keeps it from happening.
    pub async fn run_if_let(&mut self, sql: &str) -> Option<u64> {
        match self.try_run(sql).await {
            Ok(rows) => Some(rows),
            // Class 23: a constraint.
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code.starts_with("23")) => None,
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    async fn try_run(&mut self, sql: &str) -> sqlx::Result<u64> {
        let query = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(connection) => Ok(sqlx::query(query).execute(connection).await?.rows_affected()),
            Self::Postgres(connection) => Ok(sqlx::query(query).execute(connection).await?.rows_affected()),
        }
    }

    /// The first columns of all rows that a query gives, as texts.
    pub async fn texts(&mut self, sql: &str) -> Vec<String> {
        self.rows(sql, 1).await.into_iter().map(|mut row| row.remove(0)).collect()
    }

    /// As many columns, all of them texts, of all rows that a query gives.
    pub async fn rows(&mut self, sql: &str, columns: usize) -> Vec<Vec<String>> {
        let query = AssertSqlSafe(sql.to_owned());
        let rows: sqlx::Result<Vec<Vec<String>>> = match self {
            Self::Sqlite(connection) => sqlx::query(query)
                .fetch_all(connection)
                .await
                .map(|rows| rows.iter().map(|row| (0..columns).map(|n| row.get(n)).collect()).collect()),
            Self::Postgres(connection) => sqlx::query(query)
                .fetch_all(connection)
                .await
                .map(|rows| rows.iter().map(|row| (0..columns).map(|n| row.get(n)).collect()).collect()),
        };
        rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub async fn tables(&mut self) -> Vec<String> {
        let sql = if self.is_sqlite() {
            "select name from sqlite_master where type = 'table' and name not like 'sqlite\\_%' escape '\\' order by 1"
        } else {
            "select tablename::text from pg_tables where schemaname = 'public' order by 1"
        };
        self.texts(sql).await
    }

    pub async fn columns(&mut self, table: &str) -> Vec<Column> {
        let (unique, columns) = if self.is_sqlite() {
            (
                format!(
                    "select ii.name from pragma_index_list('{table}') il, pragma_index_info(il.name) ii
                     where il.\"unique\" = 1 and il.origin = 'u'"
                ),
                format!(
                    "select name, lower(type), cast(\"notnull\" as text), cast(pk > 0 as text)
                     from pragma_table_info('{table}')"
                ),
            )
        } else {
            let keys = |kind| {
                format!(
                    "select a.attname::text from pg_constraint c join pg_attribute a
                       on a.attrelid = c.conrelid and a.attnum = any (c.conkey)
                     where c.conrelid = '{table}'::regclass and c.contype = '{kind}'"
                )
            };
            let columns = format!(
                "select attname::text, format_type(atttypid, null), attnotnull::int::text,
                    (attname::text in ({}))::int::text
                 from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 order by attnum",
                keys('p')
            );
            (keys('u'), columns)
        };
        let unique = self.texts(&unique).await;
        let column = |row: Vec<String>| {
            let key = row[3] == "1";
            let kind = if row[1] == "bytea" { "blob" } else { &row[1] }.to_owned();
            Column {
                unique: unique.contains(&row[0]),
                name: row[0].clone(),
                kind,
                nullable: row[2] == "0" && !key,
                key,
            }
        };
        self.rows(&columns, 4).await.into_iter().map(column).collect()
    }

    /// A value as a literal, `NULL` for none.
    pub fn literal(&self, column: &str) -> String {
        if self.is_sqlite() { format!("quote({column})") } else { format!("quote_nullable({column})") }
    }

    /// Where a row lies, as a text; and the condition that finds it.
    pub fn place(&self) -> &'static str {
        if self.is_sqlite() { "cast(rowid as text)" } else { "ctid::text" }
    }

    pub fn at(&self, place: &str) -> String {
        if self.is_sqlite() { format!("rowid = {place}") } else { format!("ctid = '{place}'") }
    }

    /// Bytes, given in hex.
    pub fn bytes(&self, hex: &str) -> String {
        if self.is_sqlite() { format!("x'{hex}'") } else { format!("'\\x{hex}'::bytea") }
    }

    pub async fn close(self) {
        match self {
            Self::Sqlite(connection) => connection.close().await.unwrap(),
            Self::Postgres(connection) => connection.close().await.unwrap(),
        }
    }
}
