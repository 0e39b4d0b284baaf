//! What only PostgreSQL has: a pool for one who must not wait for others, a clock that all nodes share, and word of what
//! other nodes did.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use super::replica::Replica;
use super::{Db, Result};

/// Connections of one node, beside those of its journal.
const CONNECTIONS: u32 = 10;
/// One writes; the second is for the moment in which a broken one is still being closed.
const WRITER_CONNECTIONS: u32 = 2;
/// How long a query waits for a connection. While nothing answers, the pool tries again after pauses that grow up to this:
/// so late at most it notices that the server is back.
const ACQUIRE_PATIENCE: Duration = Duration::from_secs(5);
const WRITER_PATIENCE: Duration = Duration::from_secs(1);
/// Of a replica, for which the primary stands in.
const REPLICA_PATIENCE: Duration = Duration::from_secs(2);
/// The channel on which a trigger tells that the journal has grown (migration 0004).
const CHANNEL: &str = "callvault_journal";

/// A server of PostgreSQL; cheap to clone.
#[derive(Clone, Debug)]
pub struct Server {
    options: Box<PgConnectOptions>,
    pub(super) pool: PgPool,
    /// Where there is one.
    pub(super) replica: Option<Arc<Replica>>,
    /// The replica, in handles for reading.
    pub(super) asked_first: Option<Arc<Replica>>,
}

impl Server {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self::with(PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE_PATIENCE), options)
    }

    pub(super) fn beside_primary(options: PgConnectOptions) -> Self {
        Self::with(PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(REPLICA_PATIENCE), options)
    }

    /// Nothing is connected before somebody asks.
    fn with(pool: PgPoolOptions, options: PgConnectOptions) -> Self {
        let pool = pool.connect_lazy_with(options.clone());
        Self { options: Box::new(options), pool, replica: None, asked_first: None }
    }
}

impl Db {
    /// The same database with connections of its own, for a task on another runtime, which must call it there: what it
    /// waits for is then told to its own thread. On SQLite the same.
    #[must_use]
    pub fn apart(&self) -> Self {
        let Self::Postgres(server) = self else { return self.clone() };
        let pool = PgPoolOptions::new()
            .max_connections(WRITER_CONNECTIONS)
            .acquire_timeout(WRITER_PATIENCE)
            // A look before every batch would cost a fifth of it; a connection that is broken shows when it is used.
            .test_before_acquire(false);
        Self::Postgres(Server::with(pool, (*server.options).clone()))
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
