//! The only room that knows sqlx: connections, transactions and migrations for SQLite and PostgreSQL.
//!
//! SQL is written once with `$1` placeholders, which both drivers take; the few statements that must differ are a
//! [`Sql::Split`]. Times are `i64` microseconds, JSON is TEXT. It holds no statement of any other module and no
//! rule about what rows mean.

mod ask;
mod check;
mod connect;
mod error;
mod fitness;
mod migrate;
mod postgres;
mod replica;
mod rows;
mod value;
mod write;

use std::time::Duration;

use rows::Column;
use sqlx::postgres::PgArguments;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Executor, SqlitePool};
use value::Bind;
use write::{WriteConnection, WriteTx};

use crate::fault;

pub use ask::Ask;
pub use check::Flaw;
pub use error::Error;
pub use fitness::Complaint;
pub use migrate::SCHEMA_VERSION;
pub use postgres::{Growth, PgTx, Server};
pub use replica::Sight;
pub use rows::{ColumnType, Rows};
pub use value::{Arg, Row, Sql, ascending, text_safe};

/// How long one step of a transaction may take: longer than the wait for another process's lock.
const STEP_PATIENCE: Duration = Duration::from_secs(30);
/// How long a query outside of transactions may take: some look at every row.
const QUERY_PATIENCE: Duration = Duration::from_secs(300);

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
        write: WriteConnection<SqliteConnection>,
        read: SqlitePool,
    },
    Postgres(Server),
}

/// A write transaction; undone when dropped without [`Tx::commit`].
pub enum Tx {
    Sqlite(WriteTx<SqliteConnection>),
    Postgres(PgTx),
}

macro_rules! run {
    ($executor:expr, $args:ident, $sql:expr, $params:expr, $method:ident) => {{
        let arguments: $args = bound($params)?;
        sqlx::query_with($sql, arguments).$method($executor).await
    }};
}

/// The arguments of a statement as a driver takes them.
fn bound<A: Default, P: Bind<A>>(params: impl IntoIterator<Item = P>) -> Result<A, sqlx::Error> {
    let mut arguments = A::default();
    for param in params {
        param.bind(&mut arguments).map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
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
                Self::Postgres(server) => server.begin(asked).await,
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
                Self::Postgres(server) => server.rows(sql.postgres(), || Ok(bound(params.iter().cloned())?)).await?,
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

    /// The rows of many keys: `head` ends in what the keys are compared with.
    ///
    /// # Errors
    /// As the database reports them.
    pub async fn fetch_in(&self, head: &str, keys: &[Arg]) -> Result<Vec<Row>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        if let Self::Postgres(server) = self {
            let query = server.rows(any_of(head).into(), || Ok(bound([Column::of_keys(keys)])?));
            return bounded("database.query", QUERY_PATIENCE, query).await;
        }
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
        if let Self::Postgres(server) = self {
            // Alone, a statement is a transaction.
            let (sql, params) = (sql.into().postgres(), params.iter().cloned());
            let statement =
                async { Ok(run!(&server.pool, PgArguments, AssertSqlSafe(sql), params, execute)?.rows_affected()) };
            return bounded("database.execute", STEP_PATIENCE, statement).await;
        }
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
                    let rows = run!(
                        tx.connection()?,
                        PgArguments,
                        AssertSqlSafe(sql.postgres()),
                        params.iter().cloned(),
                        fetch_all
                    )?;
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
                    run!(tx.connection()?, PgArguments, AssertSqlSafe(sql.postgres()), params, execute)?.rows_affected()
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
            if let Self::Postgres(_) = self {
                touched += self.at_once(vec![rows]).await?;
                continue;
            }
            while !rows.rows.is_empty() {
                let (sql, params) = rows::together(vec![rows.piece(rows::MOST_ROWS)], rows::MOST_ROWS);
                touched += self.execute_with(Sql::Owned(sql), params).await?;
            }
        }
        Ok(touched)
    }

    /// Rows for any number of tables in one statement, on PostgreSQL; the number of rows of the last that were touched.
    async fn at_once(&mut self, all: Vec<Rows>) -> Result<u64> {
        let Self::Postgres(tx) = self else { return Ok(0) };
        let (sql, columns) = rows::at_once(all);
        if columns.is_empty() {
            return Ok(0);
        }
        let statement =
            async { Ok(run!(tx.connection()?, PgArguments, AssertSqlSafe(sql), columns, execute)?.rows_affected()) };
        bounded("database.execute", STEP_PATIENCE, statement).await
    }

    /// The rows for each question.
    ///
    /// # Errors
    /// As the database reports them.
    pub async fn ask(&mut self, asked: impl IntoIterator<Item = Ask>) -> Result<Vec<Vec<Row>>> {
        let mut rows = Vec::new();
        for ask in asked {
            rows.push(match ask {
                Ask::Plain(sql) => self.fetch_all(sql, &[]).await?,
                Ask::ByKeys { head, keys } => self.fetch_in(head, &keys).await?,
            });
        }
        Ok(rows)
    }

    /// The rows of many keys: `head` ends in what the keys are compared with.
    ///
    /// # Errors
    /// As the database reports them.
    pub async fn fetch_in(&mut self, head: &str, keys: &[Arg]) -> Result<Vec<Row>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        if let Self::Postgres(tx) = self {
            let (sql, keys) = (any_of(head), Column::of_keys(keys));
            let query = async {
                let rows = run!(tx.connection()?, PgArguments, AssertSqlSafe(sql), [keys], fetch_all)?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            };
            return bounded("database.fetch", STEP_PATIENCE, query).await;
        }
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

    /// [`Tx::write`] and [`Tx::commit`]; on SQLite a batch that is not large takes one hand-over, on PostgreSQL one statement.
    ///
    /// # Errors
    /// As [`Tx::commit`].
    pub async fn write_and_commit(mut self, all: Vec<Rows>) -> Result<()> {
        let (sql, params) = match (&self, rows::common_size(&all)) {
            (Self::Sqlite(_), Some(size)) => rows::together(all, size),
            (Self::Sqlite(_), None) => {
                self.write(all).await?;
                Default::default()
            }
            (Self::Postgres(_), _) => {
                self.at_once(all).await?;
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
                Self::Postgres(tx) => tx.roll_back().await?,
            }
            Ok(())
        };
        bounded("database.rollback", STEP_PATIENCE, undo).await
    }

    /// Runs a script of several statements without parameters.
    async fn script(&mut self, sql: &'static str) -> Result<()> {
        match self {
            Self::Sqlite(tx) => _ = tx.connection()?.execute(sqlx::raw_sql(sql)).await?,
            Self::Postgres(tx) => _ = tx.connection()?.execute(sqlx::raw_sql(sql)).await?,
        }
        Ok(())
    }
}

/// A list of keys for SQLite, filled up by repeating the last.
fn with_keys(head: &str, keys: &[Arg]) -> (Sql, Vec<Arg>) {
    let size = rows::padded(keys.len());
    let mut params = keys.to_vec();
    if let Some(last) = keys.last() {
        params.resize(size, last.clone());
    }
    (Sql::Owned(format!("{head} in {}", rows::question_marks(size))), params)
}

/// PostgreSQL takes any number of keys as one array.
fn any_of(head: &str) -> String {
    format!("{head} = any($1)")
}
