//! The one connection that writes to SQLite, and a transaction on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::Result;

/// SQLite takes one writer at a time anyway, so there is one connection for it, opened when it is needed; cheap to clone.
///
/// The driver's pool would give every transaction back by way of a task of its own, which on a busy machine takes longer
/// than the transaction.
#[derive(Clone, Debug)]
pub struct WriteConnection {
    options: Arc<SqliteConnectOptions>,
    held: Arc<Mutex<Option<SqliteConnection>>>,
    closed: Arc<AtomicBool>,
}

impl WriteConnection {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options: Arc::new(options), held: Arc::default(), closed: Arc::default() }
    }

    /// Waits until nobody else writes.
    pub(super) async fn lock(&self) -> Result<WriteTx> {
        let mut held = Arc::clone(&self.held).lock_owned().await;
        if self.closed.load(Ordering::Acquire) {
            return Err(sqlx::Error::PoolClosed.into());
        }
        if held.is_none() {
            *held = Some(self.options.connect().await?);
        }
        Ok(WriteTx { held: Some(held) })
    }

    /// Nothing is written from now on.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if let Some(connection) = self.held.lock().await.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the database was not closed in order; it takes up its write-ahead log when it is opened");
        }
    }
}

/// What is begun on it must be ended by [`WriteTx::ended`]; otherwise the connection is closed, which undoes it: after an
/// error, or when nobody waits for it any more, only that is sure to leave no transaction behind. (SQLite ends one by
/// itself when the disk is full.)
#[derive(Debug)]
pub struct WriteTx {
    /// Until it is ended.
    held: Option<OwnedMutexGuard<Option<SqliteConnection>>>,
}

impl WriteTx {
    pub(super) fn connection(&mut self) -> Result<&mut SqliteConnection> {
        let connection = self.held.as_mut().and_then(|held| held.as_mut());
        Ok(connection.ok_or(sqlx::Error::WorkerCrashed)?)
    }

    /// Keeps the connection for the next.
    pub(super) fn ended(mut self) {
        self.held = None;
    }
}

impl Drop for WriteTx {
    fn drop(&mut self) {
        if let Some(mut held) = self.held.take() {
            *held = None;
        }
    }
}
