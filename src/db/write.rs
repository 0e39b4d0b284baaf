//! A connection that only one at a time has, for writing, and a transaction on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::Connection;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::Result;

/// Where there is one writer at a time anyway, there is one connection for it, opened when it is needed; cheap to clone.
///
/// The driver's pool would give every transaction back by way of a task of its own, and look whether the connection is still
/// there, which on a busy machine takes longer than the transaction.
#[derive(Debug)]
pub struct WriteConnection<C: Connection> {
    options: Arc<C::Options>,
    held: Arc<Mutex<Option<C>>>,
    closed: Arc<AtomicBool>,
}

impl<C: Connection> Clone for WriteConnection<C> {
    fn clone(&self) -> Self {
        Self { options: Arc::clone(&self.options), held: Arc::clone(&self.held), closed: Arc::clone(&self.closed) }
    }
}

impl<C: Connection> WriteConnection<C> {
    pub(super) fn new(options: impl Into<Arc<C::Options>>) -> Self {
        Self { options: options.into(), held: Arc::default(), closed: Arc::default() }
    }

    /// Waits until nobody else writes.
    pub(super) async fn lock(&self) -> Result<WriteTx<C>> {
        let mut held = Arc::clone(&self.held).lock_owned().await;
        if self.closed.load(Ordering::Acquire) {
            return Err(sqlx::Error::PoolClosed.into());
        }
        let is_new = held.is_none();
        if is_new {
            *held = Some(C::connect_with(&self.options).await?);
        }
        Ok(WriteTx { held: Some(held), is_new })
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
pub struct WriteTx<C> {
    /// Until it is ended.
    held: Option<OwnedMutexGuard<Option<C>>>,
    /// The connection was opened for it.
    pub(super) is_new: bool,
}

impl<C> WriteTx<C> {
    pub(super) fn connection(&mut self) -> Result<&mut C> {
        let connection = self.held.as_mut().and_then(|held| held.as_mut());
        Ok(connection.ok_or(sqlx::Error::WorkerCrashed)?)
    }

    /// Keeps the connection for the next.
    pub(super) fn ended(mut self) {
        self.held = None;
    }
}

impl<C> Drop for WriteTx<C> {
    fn drop(&mut self) {
        if let Some(mut held) = self.held.take() {
            *held = None;
        }
    }
}
