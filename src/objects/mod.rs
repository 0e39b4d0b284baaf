//! The write-once store: recordings and call records under their retain-until dates.
//!
//! One trait for every backend. There is no way to overwrite an object and none to delete one: what a key holds once,
//! it holds until its time is over. It does not know what a recording is, or why it is kept until when.

#[cfg(feature = "failpoints")]
mod faulty;
mod fs;
mod key;

use std::ops::Range;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use jiff::Timestamp;

#[cfg(feature = "failpoints")]
pub use faulty::Faulty;
pub use fs::FsStore;
pub use key::ObjectKey;

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

/// What a store says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: String,
    pub size: u64,
    /// The store's id for this version; `None` where it keeps none.
    pub version: Option<String>,
    /// `None` where the lock is not written yet: such an object must be put again.
    pub retain_until: Option<Timestamp>,
    pub legal_hold: bool,
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

/// An object's bytes as they stream from the store.
pub type ByteStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{0} holds other bytes already: a kept object is never replaced")]
    Conflict(String),
    #[error("there is no object {0}")]
    NotFound(String),
    #[error("{0:?} is no object key")]
    InvalidKey(String),
    #[error("{key} is kept until {until}: a retention date is never moved to an earlier one")]
    Shortened { key: String, until: Timestamp },
    #[error("the lock of {key} can't be read: {why}")]
    Lock { key: String, why: String },
    #[error("{key}: {why}")]
    Stray { key: String, why: &'static str },
    #[error("the store could not be used: {0}")]
    Io(#[from] std::io::Error),
}

impl StoreError {
    /// True where the store can't be used at all for now; false where it has answered.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Io(_))
    }
}

/// A store of objects that are written once.
#[async_trait]
pub trait ObjectStore: Send + Sync {
    /// Whether it is on another machine, and so can be away while this one is well.
    fn is_remote(&self) -> bool;

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
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StoreError>;

    /// Every object whose key starts with `prefix`, in no order. What lies among them and is no object comes as
    /// [`StoreError::Stray`].
    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<ObjectInfo, StoreError>>, StoreError>;

    /// Moves the retain-until date to a later moment; the same moment changes nothing, an earlier one is refused.
    async fn extend_retention(&self, key: &str, until: Timestamp) -> Result<(), StoreError>;

    /// Places or lifts a legal hold.
    async fn set_legal_hold(&self, key: &str, on: bool) -> Result<(), StoreError>;
}
