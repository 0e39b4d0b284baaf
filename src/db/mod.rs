//! The only room that knows sqlx: connections, transactions and migrations for SQLite and PostgreSQL.
//!
//! SQL is written once with `$1` placeholders, which both drivers take; the few statements that must differ are a
//! [`Sql::Split`]. Times are `i64` microseconds, JSON is TEXT. It holds no statement of any other module and no
//! rule about what rows mean.

mod ask;
mod check;
mod connect;
mod migrate;
mod rows;
mod value;
mod write;

use std::time::Duration;

use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Executor, PgPool, Postgres, SqlitePool};
use value::Bind;
use write::{WriteConnection, WriteTx};

use crate::fault;

pub use ask::Ask;
pub use check::Flaw;
pub use migrate::SCHEMA_VERSION;
pub use rows::Rows;
pub use value::{Arg, Row, Sql, ascending, text_safe};

/// How long one step of a transaction may take: longer than the wait for another process's lock.
const STEP_PATIENCE: Duration = Duration::from_secs(30);
/// How long a query outside of transactions may take: some look at every row.
const QUERY_PATIENCE: Duration = Duration::from_secs(300);

/// What went wrong between us and the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the database could not be used: {0}")]
    Sqlx(#[from] sqlx::Error),
    #[error("the database did not answer within {0:?}: see whether it, or the disk below it, is stuck")]
    TimedOut(Duration),
    #[error("the database has schema version {found}, this program knows up to {known}: use a newer callvault")]
    NewerSchema { found: i64, known: i64 },
    #[error("the database has schema version {found}, this program needs {known}: run callvault migrate")]
    OlderSchema { found: i64, known: i64 },
    #[error(
        "the database says that it has schema version {version}, but {what}: {why}. Somebody changed it; restore it from a backup"
    )]
    StrangeSchema { version: i64, what: String, why: String },
    #[error("the database has tables but no schema version: somebody changed it; restore it from a backup")]
    NoSchemaVersion,
    #[error("stored data is damaged: {0}")]
    Damaged(String),
}

impl Error {
    /// True where a second attempt may succeed: lost connection, lock, full disk.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Sqlx(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
                    // Connection, resources, operator intervention, serialisation, read-only transaction.
                    ["08", "53", "57", "40", "25"].iter().any(|class| code.starts_with(class))
                } else {
                    // BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN; the low byte of an extended code.
                    code.parse::<i64>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14))
                }
            }
            Self::Sqlx(
                sqlx::Error::Io(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::Tls(_)
                | sqlx::Error::WorkerCrashed,
            )
            | Self::TimedOut(_) => true,
            _ => false,
        }
    }

    /// True where the database refuses this very row and would refuse it again: constraint, size, type, range.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        let Self::Sqlx(sqlx::Error::Database(error)) = self else { return false };
        let code = error.code().unwrap_or_default();
        if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
            // Data exception, integrity constraint, program limit.
            ["22", "23", "54"].iter().any(|class| code.starts_with(class))
        } else {
            // TOOBIG, CONSTRAINT, MISMATCH, RANGE.
            code.parse::<i64>().is_ok_and(|code| matches!(code & 0xff, 18 | 19 | 20 | 25))
        }
    }

    /// True where what is stored makes no sense: a page, a value that does not decode, a row that does not read back.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Sqlx(sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => true,
            Self::Sqlx(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
                    // Internal error: data_corrupted, index_corrupted.
                    code.starts_with("XX00")
                } else {
                    // CORRUPT, NOTADB.
                    code.parse::<i64>().is_ok_and(|code| matches!(code & 0xff, 11 | 26))
                }
            }
            _ => false,
        }
    }

    /// True where a unique constraint refused the row.
    #[must_use]
    pub fn is_unique_violation(&self) -> bool {
        matches!(self, Self::Sqlx(sqlx::Error::Database(error)) if error.is_unique_violation())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Sqlx(error.into())
    }
}

/// Everything that is asked of the database comes by here: what never answers must not hold up who asks for ever.
async fn bounded<T>(name: &'static str, patience: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let patience = fault::patience(patience);
    let answer = tokio::time::timeout(patience, fault::operation(name, work)).await;
    answer.unwrap_or(Err(Error::TimedOut(patience)))
}

/// Takes SQLite's write lock at once.
const BEGIN: &str = "begin immediate";
const COMMIT: &str = "commit";
const ROLL_BACK: &str = "rollback";
const NOTHING: [Arg; 0] = [];

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A database; cheap to clone.
#[derive(Clone, Debug)]
pub enum Db {
    /// One connection writes, several read.
    Sqlite {
        write: WriteConnection,
        read: SqlitePool,
    },
    Postgres(PgPool),
}

/// A write transaction; undone when dropped without [`Tx::commit`].
pub enum Tx {
    Sqlite(WriteTx),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

macro_rules! run {
    ($executor:expr, $args:ident, $sql:expr, $params:expr, $method:ident) => {{
        let mut arguments = $args::default();
        for param in $params {
            Bind::<$args>::bind(param, &mut arguments).map_err(sqlx::Error::Encode)?;
        }
        sqlx::query_with($sql, arguments).$method($executor).await
    }};
}

impl Db {
    /// Begins a write transaction; on SQLite it takes the write lock at once.
    ///
    /// # Errors
    /// The database can't be reached, or stays locked longer than its busy timeout.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(self.begin_with(Vec::new()).await?.0)
    }

    /// Begins a write transaction with questions, and gives the rows for each; on SQLite all take one hand-over.
    ///
    /// # Errors
    /// As [`Db::begin`].
    pub async fn begin_with(&self, asked: Vec<Ask>) -> Result<(Tx, Vec<Vec<Row>>)> {
        let begin = async {
            match self {
                Self::Sqlite { write, .. } => {
                    let mut tx = write.lock().await?;
                    let rows = ask::together(tx.connection()?, BEGIN, asked).await?;
                    Ok((Tx::Sqlite(tx), rows))
                }
                Self::Postgres(pool) => {
                    let (mut tx, mut rows) = (Tx::Postgres(pool.begin().await?), Vec::with_capacity(asked.len()));
                    for ask in asked {
                        rows.push(match ask {
                            Ask::Plain(sql) => tx.fetch_all(sql, &[]).await?,
                            Ask::ByKeys { head, keys } => tx.fetch_in(head, &keys).await?,
                        });
                    }
                    Ok((tx, rows))
                }
            }
        };
        bounded("database.begin", STEP_PATIENCE, begin).await
    }

    /// All rows of a query that only reads.
    ///
    /// # Errors
    /// As the database reports them.
    pub async fn fetch_all(&self, sql: impl Into<Sql>, params: &[Arg]) -> Result<Vec<Row>> {
        let sql = sql.into();
        let query = async {
            Ok(match self {
                Self::Sqlite { read, .. } => {
                    let rows =
                        run!(read, SqliteArguments, AssertSqlSafe(sql.sqlite()), params.iter().cloned(), fetch_all)?;
                    rows.into_iter().map(Row::Sqlite).collect()
                }
                Self::Postgres(pool) => {
                    let rows =
                        run!(pool, PgArguments, AssertSqlSafe(sql.postgres()), params.iter().cloned(), fetch_all)?;
                    rows.into_iter().map(Row::Postgres).collect()
                }
            })
        };
        bounded("database.query", QUERY_PATIENCE, query).await
    }

    /// The first row, if any.
    ///
    /// # Errors
    /// As the database reports them.
    pub async fn fetch_optional(&self, sql: impl Into<Sql>, params: &[Arg]) -> Result<Option<Row>> {
        Ok(self.fetch_all(sql, params).await?.into_iter().next())
    }

    /// The first row of a query that always has one.
    ///
    /// # Errors
    /// Also when there is none.
    pub async fn fetch_one(&self, sql: impl Into<Sql>, params: &[Arg]) -> Result<Row> {
        self.fetch_optional(sql, params).await?.ok_or(Error::Sqlx(sqlx::Error::RowNotFound))
    }

    /// The rows of many keys: `head` ends in `in`.
    ///
    /// # Errors
    /// As the database reports them.
    pub async fn fetch_in(&self, head: &str, keys: &[Arg]) -> Result<Vec<Row>> {
        let mut rows = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(rows::MOST_ROWS) {
            let (sql, params) = with_keys(head, chunk);
            rows.extend(self.fetch_all(sql, &params).await?);
        }
        Ok(rows)
    }

    /// Runs one statement in a transaction of its own; returns the number of rows that it touched.
    ///
    /// # Errors
    /// As the database reports them.
    pub async fn execute(&self, sql: impl Into<Sql>, params: &[Arg]) -> Result<u64> {
        let mut tx = self.begin().await?;
        let touched = tx.execute(sql, params).await?;
        tx.commit().await?;
        Ok(touched)
    }
}

impl Tx {
    /// All rows of a query.
    ///
    /// # Errors
    /// As the database reports them.
    pub async fn fetch_all(&mut self, sql: impl Into<Sql>, params: &[Arg]) -> Result<Vec<Row>> {
        let sql = sql.into();
        let query = async {
            Ok(match self {
                Self::Sqlite(tx) => {
                    let connection = tx.connection()?;
                    let params = params.iter().cloned();
                    let rows = run!(connection, SqliteArguments, AssertSqlSafe(sql.sqlite()), params, fetch_all)?;
                    rows.into_iter().map(Row::Sqlite).collect()
                }
                Self::Postgres(tx) => {
                    let rows =
                        run!(&mut **tx, PgArguments, AssertSqlSafe(sql.postgres()), params.iter().cloned(), fetch_all)?;
                    rows.into_iter().map(Row::Postgres).collect()
                }
            })
        };
        bounded("database.fetch", STEP_PATIENCE, query).await
    }

    /// The first row, if any.
    ///
    /// # Errors
    /// As the database reports them.
    pub async fn fetch_optional(&mut self, sql: impl Into<Sql>, params: &[Arg]) -> Result<Option<Row>> {
        Ok(self.fetch_all(sql, params).await?.into_iter().next())
    }

    /// Runs one statement; returns the number of rows that it touched.
    ///
    /// # Errors
    /// As the database reports them.
    pub async fn execute(&mut self, sql: impl Into<Sql>, params: &[Arg]) -> Result<u64> {
        self.execute_with(sql.into(), params.iter().cloned()).await
    }

    async fn execute_with(&mut self, sql: Sql, params: impl IntoIterator<Item = Arg> + Send) -> Result<u64> {
        let statement = async {
            Ok(match self {
                Self::Sqlite(tx) => {
                    run!(tx.connection()?, SqliteArguments, AssertSqlSafe(sql.sqlite()), params, execute)?
                        .rows_affected()
                }
                Self::Postgres(tx) => {
                    run!(&mut **tx, PgArguments, AssertSqlSafe(sql.postgres()), params, execute)?.rows_affected()
                }
            })
        };
        bounded("database.execute", STEP_PATIENCE, statement).await
    }

    /// Writes rows into several tables, in this order, with few statements; returns the number of rows that were touched.
    ///
    /// Every statement takes one of a few fixed numbers of rows, so that the statement cache keeps a handful of texts and
    /// not one per batch. SQLite takes all statements at once where it can: what a small batch costs is mostly the way to
    /// its thread and back.
    ///
    /// # Errors
    /// As the database reports them.
    pub async fn write(&mut self, mut all: Vec<Rows>) -> Result<u64> {
        all.retain(|rows| !rows.rows.is_empty());
        if let (Self::Sqlite(_), Some(size)) = (&*self, rows::common_size(&all)) {
            let (sql, params) = rows::together(all, size);
            return self.execute_with(Sql::Owned(sql), params).await;
        }
        let mut touched = 0;
        for mut rows in all {
            while !rows.rows.is_empty() {
                let (sql, params) = match self {
                    Self::Sqlite(_) => rows::together(vec![rows.piece(rows::MOST_ROWS)], rows::MOST_ROWS),
                    Self::Postgres(_) => rows.piece(rows::largest_piece(rows.rows.len())).in_place(),
                };
                touched += self.execute_with(Sql::Owned(sql), params).await?;
            }
        }
        Ok(touched)
    }

    /// The rows of many keys: `head` ends in `in`.
    ///
    /// # Errors
    /// As the database reports them.
    pub async fn fetch_in(&mut self, head: &str, keys: &[Arg]) -> Result<Vec<Row>> {
        let mut rows = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(rows::MOST_ROWS) {
            let (sql, params) = with_keys(head, chunk);
            rows.extend(self.fetch_all(sql, &params).await?);
        }
        Ok(rows)
    }

    /// Makes everything durable, or nothing.
    ///
    /// # Errors
    /// After an error it is unknown whether the transaction took effect.
    pub async fn commit(self) -> Result<()> {
        self.write_and_commit(Vec::new()).await
    }

    /// [`Tx::write`] and [`Tx::commit`]; on SQLite a batch that is not large takes one hand-over.
    ///
    /// # Errors
    /// As [`Tx::commit`].
    pub async fn write_and_commit(mut self, all: Vec<Rows>) -> Result<()> {
        let (sql, params) = match (&self, rows::common_size(&all)) {
            (Self::Sqlite(_), Some(size)) => rows::together(all, size),
            _ => {
                self.write(all).await?;
                Default::default()
            }
        };
        let commit = async {
            match self {
                Self::Sqlite(mut tx) => {
                    let sql = AssertSqlSafe(sql + COMMIT);
                    run!(tx.connection()?, SqliteArguments, sql, params, execute)?;
                    tx.ended();
                }
                Self::Postgres(tx) => tx.commit().await?,
            }
            Ok(())
        };
        bounded("database.commit", STEP_PATIENCE, commit).await
    }

    /// Leaves everything as it was.
    ///
    /// # Errors
    /// The database; it does not take effect then either.
    pub async fn roll_back(self) -> Result<()> {
        let undo = async {
            match self {
                Self::Sqlite(mut tx) => {
                    run!(tx.connection()?, SqliteArguments, ROLL_BACK, NOTHING, execute)?;
                    tx.ended();
                }
                Self::Postgres(tx) => tx.rollback().await?,
            }
            Ok(())
        };
        bounded("database.rollback", STEP_PATIENCE, undo).await
    }

    /// Runs a script of several statements without parameters.
    async fn script(&mut self, sql: &'static str) -> Result<()> {
        match self {
            Self::Sqlite(tx) => _ = tx.connection()?.execute(sqlx::raw_sql(sql)).await?,
            Self::Postgres(tx) => _ = (&mut **tx).execute(sqlx::raw_sql(sql)).await?,
        }
        Ok(())
    }
}

/// A list of keys, filled up by repeating the last.
fn with_keys(head: &str, keys: &[Arg]) -> (Sql, Vec<Arg>) {
    let size = rows::padded(keys.len());
    let mut params = keys.to_vec();
    if let Some(last) = keys.last() {
        params.resize(size, last.clone());
    }
    let (sqlite, postgres) = (rows::question_marks(size), rows::places(0, size));
    (Sql::OwnedSplit { sqlite: format!("{head} {sqlite}"), postgres: format!("{head} {postgres}") }, params)
}
