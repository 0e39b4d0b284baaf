//! What only PostgreSQL has: a pool for one who must not wait for others, a clock that all nodes share, and word of what
//! other nodes did.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Either, Executor, PgPool, Postgres, Transaction};

use super::replica::Replica;
use super::write::{WriteConnection, WriteTx};
use super::{Ask, COMMIT, Db, Error, ROLL_BACK, Result, Row, Tx};

/// Connections of one node, beside that of its journal.
const CONNECTIONS: u32 = 10;
/// How long a query waits for a connection. While nothing answers, the pool tries again after pauses that grow up to this:
/// so late at most it notices that the server is back.
const ACQUIRE_PATIENCE: Duration = Duration::from_secs(5);
/// A connection that was in use so lately is taken to be there still: looking costs as much as a small question.
const TRUSTED: Duration = Duration::from_secs(1);
/// Who writes apart finds all by keys. A plan made while the tables were small, before the server first looked at how many
/// rows there are, would read them from end to end, for minutes.
const BY_INDEX: &str = "set enable_seqscan = off";
const WRITER_PATIENCE: Duration = Duration::from_secs(1);
/// Of a replica, for which the primary stands in.
const REPLICA_PATIENCE: Duration = Duration::from_secs(2);
/// The channel on which a trigger tells that the journal has grown (migration 0004).
const CHANNEL: &str = "callvault_journal";

/// A server of PostgreSQL; cheap to clone.
#[derive(Clone, Debug)]
pub struct Server {
    options: Arc<PgConnectOptions>,
    pub(super) pool: PgPool,
    /// Of whoever writes apart from the others.
    apart: Option<WriteConnection<PgConnection>>,
    /// Where there is one.
    pub(super) replica: Option<Arc<Replica>>,
    /// The replica, in handles for reading.
    pub(super) asked_first: Option<Arc<Replica>>,
}

impl Server {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self::with(ACQUIRE_PATIENCE, options)
    }

    pub(super) fn beside_primary(options: PgConnectOptions) -> Self {
        Self::with(REPLICA_PATIENCE, options)
    }

    /// Nothing is connected before somebody asks.
    fn with(patience: Duration, options: PgConnectOptions) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(patience)
            .test_before_acquire(false)
            .before_acquire(|connection, known| {
                Box::pin(async move { Ok(known.idle_for <= TRUSTED || connection.ping().await.is_ok()) })
            });
        let pool = pool.connect_lazy_with(options.clone());
        Self { options: Arc::new(options), pool, apart: None, replica: None, asked_first: None }
    }

    /// A write transaction with the rows for each question. Apart, what begins it and the first questions, as far as they
    /// have no keys, are one text: what a small transaction costs is mostly the ways there and back.
    pub(super) async fn begin(&self, asked: Vec<Ask>) -> Result<(Tx, Vec<Vec<Row>>)> {
        let (mut rows, mut asked) = (Vec::with_capacity(asked.len()), asked.into_iter().peekable());
        let tx = match &self.apart {
            None => PgTx::Pooled(self.pool.begin().await?),
            Some(apart) => {
                let held = tokio::time::timeout(WRITER_PATIENCE, apart.lock()).await;
                let mut tx = held.map_err(|_| Error::TimedOut(WRITER_PATIENCE))??;
                if tx.is_new {
                    tx.connection()?.execute(BY_INDEX).await?;
                }
                let mut text = "begin".to_owned();
                while let Some(Ask::Plain(sql)) = asked.next_if(|ask| matches!(ask, Ask::Plain(_))) {
                    text.push_str(&format!("; {}", sql.postgres()));
                    rows.push(Vec::new());
                }
                let mut answers = tx.connection()?.fetch_many(sqlx::raw_sql(AssertSqlSafe(text)));
                let mut done = 0;
                while let Some(answer) = answers.try_next().await? {
                    match answer {
                        Either::Left(_) => done += 1,
                        // The first statement has none.
                        Either::Right(row) => {
                            if let Some(rows) = rows.get_mut(done - 1) {
                                rows.push(Row::Postgres(row));
                            }
                        }
                    }
                }
                drop(answers);
                PgTx::Apart(tx)
            }
        };
        let mut tx = Tx::Postgres(tx);
        rows.extend(tx.ask(asked).await?);
        Ok((tx, rows))
    }
}

/// A transaction, on a connection of the pool or on that of who writes apart.
pub enum PgTx {
    Pooled(Transaction<'static, Postgres>),
    Apart(WriteTx<PgConnection>),
}

impl PgTx {
    pub(super) fn connection(&mut self) -> Result<&mut PgConnection> {
        match self {
            Self::Pooled(tx) => Ok(tx),
            Self::Apart(tx) => tx.connection(),
        }
    }

    pub(super) async fn commit(self) -> Result<()> {
        match self {
            Self::Pooled(tx) => tx.commit().await?,
            Self::Apart(tx) => end(tx, COMMIT).await?,
        }
        Ok(())
    }

    pub(super) async fn roll_back(self) -> Result<()> {
        match self {
            Self::Pooled(tx) => tx.rollback().await?,
            Self::Apart(tx) => end(tx, ROLL_BACK).await?,
        }
        Ok(())
    }
}

async fn end(mut tx: WriteTx<PgConnection>, how: &'static str) -> Result<()> {
    tx.connection()?.execute(how).await?;
    tx.ended();
    Ok(())
}

impl Db {
    /// The same database with a connection of its own for writing, for a task on another runtime, which must call it there:
    /// what it waits for is then told to its own thread. On SQLite the same.
    #[must_use]
    pub fn apart(&self) -> Self {
        let Self::Postgres(server) = self else { return self.clone() };
        let apart = Some(WriteConnection::new(Arc::clone(&server.options)));
        // Who writes must see what was written last.
        Self::Postgres(Server { apart, asked_first: None, ..server.clone() })
    }

    /// Whether several nodes may work on it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// The time of the database's own clock in microseconds, which is the same for all nodes; `None` where there is only
    /// one node, and so only its own.
    ///
    /// # Errors
    /// The database.
    pub async fn shared_clock(&self) -> Result<Option<i64>> {
        let Self::Postgres(_) = self else { return Ok(None) };
        let sql = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint as now";
        self.fetch_one(sql, &[]).await?.int("now").map(Some)
    }

    /// Word of what other nodes append, from now on; `None` where there are no others.
    ///
    /// # Errors
    /// The database.
    pub async fn growth(&self) -> Result<Option<Growth>> {
        let Self::Postgres(server) = self else { return Ok(None) };
        let mut listener = PgListener::connect_with(&server.pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(Some(Growth(listener)))
    }
}

/// Tells when the journal has grown; only a hint, since word is lost while the connection is.
pub struct Growth(PgListener);

impl Growth {
    /// Waits for word. Several that came meanwhile are one.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn heard(&mut self) -> Result<()> {
        self.0.recv().await?;
        while self.0.next_buffered().is_some() {}
        Ok(())
    }
}
