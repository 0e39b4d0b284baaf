//! Objects in a bucket of S3 or of a server that speaks its language (Ceph), locked by the server itself.
//!
//! Every object is a version with an id, and everything is read by that id. A bucket with Object Lock does not stop
//! anybody from writing another version over an object, and some servers ignore the header that asks them to; so the
//! first version of a key counts, and whoever writes looks before and after. What a server verifies of the bytes on
//! their way differs too: each request is signed with their SHA-256, which every server checks, and carries the checksum
//! that AWS keeps. Nothing outside of this module sees the prefix that stands before every key.

mod client;
mod doctor;
mod error;
mod lock;
mod parts;
mod put;
mod read;
mod versions;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jiff::Timestamp;

use super::key::is_sound;
use super::{ByteStream, Content, Diagnosis, Examined, Listed, ObjectInfo, ObjectKey, ObjectStore, StoreError};
use crate::config;
use client::Clients;
use put::Turns;

/// The longest key that S3 takes, in bytes.
const MAX_KEY: usize = 1024;
/// Larger objects go up in parts, so that a broken connection costs one part.
const PARTS_ABOVE: u64 = 64 << 20;
/// Of the least size that is worth a request of its own.
const PART: u64 = 16 << 20;

/// The store in a bucket; cheap to clone.
#[derive(Clone, Debug)]
pub struct S3Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: config::S3,
    /// Empty, or with a slash at its end.
    prefix: String,
    clients: Clients,
    turns: Turns,
    parts_above: u64,
    part: u64,
}

impl S3Store {
    /// Prepares the store. Nothing is asked of the server yet: it may be away.
    pub async fn open(settings: &config::S3) -> Self {
        Self::with_parts(settings, PARTS_ABOVE, PART).await
    }

    /// The same with other sizes: objects above `parts_above` bytes go up in parts of `part` bytes, or of more where
    /// there would be too many. Servers take no part below 5 MiB but the last.
    pub async fn with_parts(settings: &config::S3, parts_above: u64, part: u64) -> Self {
        let mut prefix = settings.prefix.clone();
        if !prefix.is_empty() && !prefix.ends_with('/') {
            prefix.push('/');
        }
        let (settings, clients) = (settings.clone(), Clients::new(settings).await);
        Self(Arc::new(Inner { settings, prefix, clients, turns: Turns::default(), parts_above, part }))
    }

    /// A key as the server sees it.
    fn name(&self, key: &str) -> Result<String, StoreError> {
        let name = format!("{}{key}", self.0.prefix);
        if is_sound(key) && name.len() <= MAX_KEY { Ok(name) } else { Err(StoreError::InvalidKey(key.to_owned())) }
    }

    fn bucket(&self) -> &str {
        &self.0.settings.bucket
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put_new(
        &self,
        key: &ObjectKey,
        content: Content,
        retain_until: Timestamp,
    ) -> Result<ObjectInfo, StoreError> {
        self.put(&key.path(), &content, retain_until).await
    }

    async fn get(&self, key: &str, version: Option<&str>, range: Option<Range<u64>>) -> Result<ByteStream, StoreError> {
        self.stream(key, version, range).await
    }

    async fn examine(&self, key: &str, version: Option<&str>) -> Result<Option<Examined>, StoreError> {
        self.read_back(key, version).await
    }

    async fn head(&self, key: &str, version: Option<&str>) -> Result<Option<ObjectInfo>, StoreError> {
        let name = self.name(key)?;
        Ok(match self.version(&name, key, version).await? {
            Some(version) => self.lock_of(&name, &version).await?.map(|lock| lock.info(key, &version)),
            None => None,
        })
    }

    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<Listed, StoreError>>, StoreError> {
        self.every_version(prefix).await
    }

    async fn extend_retention(&self, key: &str, version: Option<&str>, until: Timestamp) -> Result<(), StoreError> {
        self.extend(key, version, until).await
    }

    async fn set_legal_hold(&self, key: &str, version: Option<&str>, on: bool) -> Result<(), StoreError> {
        self.hold(key, version, on).await
    }

    async fn destroy(&self, key: &str, version: Option<&str>, now: Timestamp) -> Result<(), StoreError> {
        self.delete_version(key, version, now).await
    }

    async fn tidy(&self) -> Result<u64, StoreError> {
        self.abort_forgotten().await
    }

    async fn diagnose(&self, now: Timestamp) -> Diagnosis {
        self.examine_set_up(now).await
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn locks(&self) -> bool {
        self.0.settings.object_lock != config::ObjectLock::Off
    }

    fn lock_flaw(&self, found: Option<Timestamp>, until: Timestamp, now: Timestamp) -> Option<String> {
        if !self.locks() {
            return None;
        }
        match found {
            // No server locks anything until a date in the past.
            None if until <= now => None,
            None => Some("its lock is missing".into()),
            Some(found) if found != lock::whole_second(until) => {
                Some(format!("its lock ends {found}, the receipt says {until}"))
            }
            Some(_) => None,
        }
    }
}
