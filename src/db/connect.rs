//! Opening a database.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::replica::Replica;
use super::write::WriteConnection;
use super::{Db, Result, Server};

/// How long a statement waits for another process's write lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);
/// Pages of 4 KiB in the write-ahead log before they are moved into the file. Keys of calls land on pages at random; the
/// longer the log, the more of them share a page by then.
const WAL_PAGES: &str = "16384";
/// Pages that the connection that writes keeps: less than zero counts KiB. Its keys land on pages at random.
const WRITER_CACHE: &str = "-16384";
/// Rows that wait between the thread that reads them and the task that takes them: fewer would wake each other in turn.
const ROW_BUFFER: usize = 1024;
/// Statements that a connection keeps: the few for many rows come in ten sizes each.
const STATEMENTS: usize = 256;
/// Connections that read beside the one that writes.
const SQLITE_READERS: u32 = 4;
/// Readers that hold up the emptying of the log are waited for so often, and for so long each time.
const FORGET_ATTEMPTS: usize = 50;
const FORGET_PAUSE: Duration = Duration::from_millis(100);

impl Db {
    /// Opens (and makes, where it is missing) the SQLite file at `path`.
    ///
    /// # Errors
    /// The file can't be opened, or is no database.
    pub async fn open_sqlite(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An acknowledged event survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .pragma("wal_autocheckpoint", WAL_PAGES)
            // What is deleted or replaced is overwritten with zeros.
            .pragma("secure_delete", "on")
            .row_buffer_size(ROW_BUFFER)
            .statement_cache_capacity(STATEMENTS)
            .busy_timeout(BUSY_TIMEOUT);
        let write = WriteConnection::new(options.clone().pragma("cache_size", WRITER_CACHE));
        // It makes the file, and tells what is wrong with it.
        write.lock().await?.ended();
        let read = SqlitePoolOptions::new().max_connections(SQLITE_READERS).test_before_acquire(false);
        let read = read.connect_lazy_with(options);
        Ok(Self::Sqlite { write, read })
    }

    /// Connects to PostgreSQL. What is read by [`Db::for_reading`] may come from a replica, where one is named; it need not
    /// be there.
    ///
    /// # Errors
    /// An address can't be read, or nothing answers at the first.
    pub async fn open_postgres(url: &str, replica_url: Option<&str>) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)?.application_name("callvault");
        let mut server = Server::new(options.clone());
        server.replica = replica_url.map(Replica::new).transpose()?.map(Arc::new);
        // A server that is just starting is waited for; of one that does not let us in the pool says only that it took long.
        match server.pool.acquire().await {
            Err(sqlx::Error::PoolTimedOut) => drop(PgConnection::connect_with(&options).await?),
            acquired => drop(acquired?),
        }
        Ok(Self::Postgres(server))
    }

    /// Moves what SQLite's write-ahead log holds into the file, beside whoever writes and reads, and as far as they let it.
    /// Otherwise the transaction that finds the log long does all of it, and whoever waits for that one waits.
    ///
    /// # Errors
    /// The database; nothing is lost then.
    pub async fn shorten_log(&self) -> Result<()> {
        if let Self::Sqlite { .. } = self {
            self.fetch_all("pragma wal_checkpoint(passive)", &[]).await?;
        }
        Ok(())
    }

    /// Sees to it that nothing is left of what was deleted: SQLite has overwritten it with zeros, and keeps older pages in
    /// its log until that is emptied. PostgreSQL does both in its own time (VACUUM).
    ///
    /// # Errors
    /// The database; [`Error::Refused`] while somebody reads what was there before.
    pub async fn forget_deleted(&self) -> Result<()> {
        if let Self::Sqlite { .. } = self {
            for _ in 0..FORGET_ATTEMPTS {
                let row = self.fetch_one("pragma wal_checkpoint(truncate)", &[]).await?;
                if row.int("busy")? == 0 {
                    return Ok(());
                }
                tokio::time::sleep(FORGET_PAUSE).await;
            }
            return Err(super::Error::Refused(
                "somebody reads what was there before, so that the database keeps it in its log: run it again later"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Closes every connection; on SQLite this folds the write-ahead log into the file.
    pub async fn close(&self) {
        match self {
            Self::Sqlite { write, read } => {
                read.close().await;
                write.close().await;
            }
            Self::Postgres(server) => {
                if let Some(replica) = &server.replica {
                    replica.close().await;
                }
                server.pool.close().await;
            }
        }
    }
}
