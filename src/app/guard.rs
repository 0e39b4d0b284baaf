//! Nothing is made anew over what was kept: a journal and its recordings belong together.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;

use super::{App, OpenError};
use crate::config::{Config, StorageKind};
use crate::objects::{ObjectKey, ObjectStore, StoreError};

/// Where an archive's objects lie: recordings, and what is left of them once all are destroyed.
const KEPT: [&str; 2] = [ObjectKey::RECORDINGS, ObjectKey::DISPOSITIONS];
/// A bucket that is away must not hold up a start.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether recordings were ever stored where the configuration says. Of a bucket that does not answer nothing is known;
/// then it is taken for empty, and somebody is told.
pub(super) async fn holds_objects(config: &Config, remote: Option<&dyn ObjectStore>) -> bool {
    let Some(store) = remote else {
        let holds = |folder: &str| {
            let entries = std::fs::read_dir(config.objects_dir().join(folder));
            entries.is_ok_and(|mut entries| entries.next().is_some())
        };
        return KEPT.into_iter().any(holds);
    };
    match holds_recordings(store).await {
        Ok(holds) => holds,
        Err(error) => {
            tracing::warn!(%error, "whether the bucket holds recordings of another journal could not be checked");
            false
        }
    }
}

async fn holds_recordings(store: &dyn ObjectStore) -> Result<bool, StoreError> {
    let first = async {
        for folder in KEPT {
            match store.list(folder).await?.next().await {
                Some(Err(error @ (StoreError::Io(_) | StoreError::SetUp(_)))) => return Err(error),
                // A stray is something too.
                Some(_) => return Ok(true),
                None => {}
            }
        }
        Ok(false)
    };
    tokio::time::timeout(PATIENCE, first)
        .await
        .unwrap_or_else(|_| Err(StoreError::Io(std::io::Error::from(std::io::ErrorKind::TimedOut))))
}

/// There are recordings and no journal of them.
pub(super) fn no_journal(config: &Config) -> OpenError {
    let database = if uses_sqlite(config) { config.sqlite_path().display().to_string() } else { "its database".into() };
    match config.storage.kind {
        StorageKind::Filesystem => {
            OpenError::ObjectsWithoutJournal { objects: config.objects_dir().display().to_string(), database }
        }
        StorageKind::S3 => OpenError::BucketWithoutJournal { bucket: bucket(config), database },
    }
}

/// A bucket in words.
fn bucket(config: &Config) -> String {
    let s3 = &config.storage.s3;
    if s3.prefix.is_empty() { s3.bucket.clone() } else { format!("{} (prefix {})", s3.bucket, s3.prefix) }
}

pub(super) fn uses_sqlite(config: &Config) -> bool {
    config.database.url.expose() == "sqlite"
}

/// Also where there is none.
pub(super) fn is_empty_file(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |metadata| metadata.len() == 0)
}

impl App {
    /// Looks whether a remote store holds what was archived, or is another one than it was. Where it does not answer,
    /// nothing is known, and nothing refused.
    ///
    /// # Errors
    /// Recordings are archived, and the bucket holds none.
    pub async fn check_store(&self) -> Result<(), OpenError> {
        if !self.store.is_remote() {
            return Ok(());
        }
        let (.., archived) = self.calls.counts().await?;
        if archived == 0 {
            return Ok(());
        }
        match holds_recordings(&*self.store).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(OpenError::BucketEmpty { bucket: bucket(&self.config), archived }),
            Err(error) => {
                tracing::warn!(%error, "whether the bucket holds the archived recordings could not be checked");
                Ok(())
            }
        }
    }
}
