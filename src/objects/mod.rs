//! The write-once store: recordings and call records under their retain-until dates.
//!
//! One trait for every backend. There is no way to overwrite an object, and one to destroy a version whose time is over and
//! that nobody holds, which only an executed disposition uses. It does not know what a recording is, or why it is kept
//! until when.

#[cfg(feature = "failpoints")]
mod faulty;
mod fs;
mod key;
mod s3;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::config::{Config, StorageKind};
#[cfg(feature = "failpoints")]
pub use faulty::Faulty;
pub use fs::FsStore;
pub use key::ObjectKey;
pub use s3::S3Store;

/// What is to be stored.
#[derive(Clone, Debug)]
pub enum Content {
    /// A complete file of ours that nobody writes to any more. It may end up being the stored object itself.
    File {
        path: PathBuf,
        size: u64,
        sha256: [u8; 32],
    },
    Bytes(Bytes),
}

impl Content {
    /// In bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        match self {
            Self::File { sha256, .. } => *sha256,
            Self::Bytes(bytes) => Sha256::digest(bytes).into(),
        }
    }
}

/// What a store says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: String,
    pub size: u64,
    /// The store's id for this version; `None` where it keeps none.
    pub version: Option<String>,
    /// `None` where there is no lock; [`ObjectStore::lock_flaw`] says whether there should be.
    pub retain_until: Option<Timestamp>,
    pub legal_hold: bool,
    /// How many further versions of its key there are.
    pub others: usize,
}

/// One version of an object, as a list has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub size: u64,
    /// The store's id for this version; `None` where it keeps none.
    pub version: Option<String>,
}

/// What there is to find out about an object as it lies in its store now.
#[derive(Clone, Debug)]
pub struct Examined {
    pub info: ObjectInfo,
    /// Of the bytes, read back and never remembered; lower-case hex.
    pub sha256: String,
    /// What is wrong with how it is kept, in words, if those are its bytes.
    pub flaws: Vec<String>,
}

/// How well a store is, for whoever set it up: each text one sentence that says what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// What there is, and works.
    pub fine: String,
    /// Works, but somebody should know.
    pub notes: Vec<String>,
    pub faults: Vec<String>,
}

/// An object's bytes as they stream from the store.
pub type ByteStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{0} holds other bytes already: a kept object is never replaced")]
    Conflict(String),
    #[error("there is no object {0}")]
    NotFound(String),
    #[error("{key} has no version {version} any more, only others")]
    VersionGone { key: String, version: String },
    #[error("{0:?} is no object key")]
    InvalidKey(String),
    #[error("{key} is kept until {until}: a retention date is never moved to an earlier one")]
    Shortened { key: String, until: Timestamp },
    /// It is not time yet, or somebody holds it.
    #[error("{key} can't be destroyed: {why}")]
    Kept { key: String, why: String },
    #[error("the lock of {key} can't be read: {why}")]
    Lock { key: String, why: String },
    #[error("{key}: {why}")]
    Stray { key: String, why: &'static str },
    /// Whoever set the store up has to mend it: says what is wrong and what to do, and never a secret.
    #[error("{0}")]
    SetUp(String),
    /// Passes by itself, or so it seems: worth trying again.
    #[error("the store could not be used: {0}")]
    Io(#[from] std::io::Error),
}

impl StoreError {
    /// True where the store can't be used at all for now; false where it has answered.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Io(_) | Self::SetUp(_))
    }
}

/// A store of objects that are written once.
///
/// Some stores keep several versions of one key. The first that was written is the object; what somebody put over it
/// later changes nothing for readers, and is listed. `version` is an id that such a store gave; `None` means the first.
#[async_trait]
pub trait ObjectStore: Send + Sync {
    /// Stores an object under its lock. The same bytes already there: done (a later date extends the lock). Other
    /// bytes there: [`StoreError::Conflict`], and nothing changes. When it returns, object and lock are durable; nobody
    /// can ever see half an object.
    async fn put_new(
        &self,
        key: &ObjectKey,
        content: Content,
        retain_until: Timestamp,
    ) -> Result<ObjectInfo, StoreError>;

    /// An object's bytes, whole or a range of them; the range must lie within its size.
    async fn get(&self, key: &str, version: Option<&str>, range: Option<Range<u64>>) -> Result<ByteStream, StoreError>;

    /// Reads an object back, for verification; `None` if there is none.
    async fn examine(&self, key: &str, version: Option<&str>) -> Result<Option<Examined>, StoreError>;

    /// What the store says of an object; `None` if there is none.
    async fn head(&self, key: &str, version: Option<&str>) -> Result<Option<ObjectInfo>, StoreError>;

    /// Every version of every object whose key starts with `prefix`, in no order. What lies among them and is no object
    /// comes as [`StoreError::Stray`].
    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<Listed, StoreError>>, StoreError>;

    /// Moves the retain-until date to a later moment; the same moment changes nothing, an earlier one is refused.
    async fn extend_retention(&self, key: &str, version: Option<&str>, until: Timestamp) -> Result<(), StoreError>;

    /// Places or lifts a legal hold.
    async fn set_legal_hold(&self, key: &str, version: Option<&str>, on: bool) -> Result<(), StoreError>;

    /// Destroys one version for ever: its date lies before `now`, and no legal hold is on it. One that is gone already is
    /// no error.
    ///
    /// Nothing but the execution of a disposition may call it.
    async fn destroy(&self, key: &str, version: Option<&str>, now: Timestamp) -> Result<(), StoreError>;

    /// Removes what interrupted runs left before it became an object; returns how much it was. Where the store is not
    /// remote, only for the process that alone writes here.
    async fn tidy(&self) -> Result<u64, StoreError>;

    /// Looks whether everything works that an archive needs; `now` is this machine's time. It may leave a small object
    /// of its own, which [`list`](Self::list) does not tell.
    async fn diagnose(&self, now: Timestamp) -> Diagnosis;

    /// True where it is reached over a network: it may be away for a while, and nothing must wait for it at the start.
    fn is_remote(&self) -> bool {
        false
    }

    /// True where the store itself keeps objects from being deleted or changed before their date.
    fn locks(&self) -> bool {
        true
    }

    /// What is wrong with the lock of an object that is to be kept until a date, in words, as seen at `now`.
    fn lock_flaw(&self, found: Option<Timestamp>, until: Timestamp, _now: Timestamp) -> Option<String> {
        match found {
            None => Some("its lock is missing".into()),
            Some(found) if found != until => Some(format!("its lock ends {found}, the receipt says {until}")),
            Some(_) => None,
        }
    }
}

/// Opens the store that a configuration names; a remote one is not asked yet.
///
/// # Errors
/// The folder can't be made.
pub async fn open(config: &Config) -> std::io::Result<Arc<dyn ObjectStore>> {
    Ok(match config.storage.kind {
        StorageKind::Filesystem => breakable(FsStore::open(&config.objects_dir())?),
        StorageKind::S3 => breakable(S3Store::open(&config.storage.s3).await),
    })
}

#[cfg(feature = "failpoints")]
fn breakable(store: impl ObjectStore + 'static) -> Arc<dyn ObjectStore> {
    Arc::new(Faulty(store))
}

#[cfg(not(feature = "failpoints"))]
fn breakable(store: impl ObjectStore + 'static) -> Arc<dyn ObjectStore> {
    Arc::new(store)
}
