//! Storing an object once, on a server that would take it twice.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ObjectLockMode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use tokio::sync::OwnedMutexGuard;

use super::super::{Content, ObjectInfo, StoreError};
use super::S3Store;
use super::client::{SignedPayload, sending};
use super::versions::{UNVERSIONED, Version};
use crate::fault;

/// How often to look again when the server says that something is there.
const LOOKS: usize = 3;

/// What became of a write.
pub(super) enum Written {
    /// The id of the new version; `None` where the server does not say.
    Version(Option<String>),
    /// The server says that there is something already.
    Taken,
}

/// What is to be written where.
pub(super) struct Write<'a> {
    /// As the server sees it.
    pub(super) name: &'a str,
    pub(super) content: &'a Content,
    pub(super) sha256: [u8; 32],
    pub(super) size: u64,
    pub(super) lock: Option<(ObjectLockMode, Timestamp)>,
}

/// One writer a key in this process: two that store the same bytes need not make two versions.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    async fn take(&self, name: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody waits for those that nobody else knows.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(name.to_owned()).or_default())
        };
        turn.lock_owned().await
    }
}

impl S3Store {
    pub(super) async fn put(&self, key: &str, content: &Content, until: Timestamp) -> Result<ObjectInfo, StoreError> {
        let name = self.name(key)?;
        let _turn = self.0.turns.take(&name).await;
        let (sha256, size) = (content.sha256(), content.size());
        for _ in 0..LOOKS {
            if let Some(first) = self.look(&name).await?.first() {
                return self.accept(key, &name, first, (sha256, size), until).await;
            }
            fault::point("store.looked");
            let write = Write { name: &name, content, sha256, size, lock: self.new_lock(until) };
            let Written::Version(own) = self.write(&write).await? else { continue };
            fault::point("store.written");
            // Whoever looked at the same moment saw nothing either.
            match self.look(&name).await?.first() {
                // Some servers take a lock and don't keep it.
                Some(first) if first.id == own.as_deref().unwrap_or(UNVERSIONED) => {
                    return Ok(self.ensure_lock(&name, first, until).await?.info(key, first));
                }
                Some(first) => return self.accept(key, &name, first, (sha256, size), until).await,
                None => return Err(odd("the S3 server took an object and does not list it")),
            }
        }
        Err(odd("the S3 server says that an object is there and does not list it"))
    }

    /// The version that was there first is the object, if its bytes are right.
    async fn accept(
        &self,
        key: &str,
        name: &str,
        first: &Version,
        (sha256, size): ([u8; 32], u64),
        until: Timestamp,
    ) -> Result<ObjectInfo, StoreError> {
        if first.size != size || self.hash(name, first).await?.0 != sha256 {
            return Err(StoreError::Conflict(key.to_owned()));
        }
        Ok(self.ensure_lock(name, first, until).await?.info(key, first))
    }

    async fn write(&self, write: &Write<'_>) -> Result<Written, StoreError> {
        match write.content {
            Content::File { path, .. } if write.size > self.0.parts_above => self.write_parts(write, path).await,
            Content::File { path, .. } => {
                check_size(path, write.size).await?;
                let body = ByteStream::read_from().path(path).build().await;
                self.write_whole(write, body.map_err(io::Error::other)?).await
            }
            Content::Bytes(bytes) => self.write_whole(write, ByteStream::from(bytes.clone())).await,
        }
    }

    async fn write_whole(&self, write: &Write<'_>, body: ByteStream) -> Result<Written, StoreError> {
        let (mode, until) = write.lock.clone().map_or((None, None), |(mode, until)| (Some(mode), Some(until)));
        let request = self
            .0
            .clients
            .writer
            .put_object()
            .bucket(self.bucket())
            .key(write.name)
            .content_length(write.size.cast_signed())
            .checksum_sha256(STANDARD.encode(write.sha256))
            .if_none_match("*")
            .set_object_lock_mode(mode)
            .set_object_lock_retain_until_date(until.map(super::lock::date))
            .body(body);
        let request = request.customize().interceptor(SignedPayload(hex::encode(write.sha256)));
        match request.config_override(sending(write.size)).send().await {
            Ok(answer) => Ok(Written::Version(answer.version_id().map(str::to_owned))),
            Err(error) => {
                let failed = self.failed("s3:PutObject", &error);
                if failed.is_taken() {
                    return Ok(Written::Taken);
                }
                if failed.is_unwanted() && write.lock.is_some() {
                    self.demand_locks().await?;
                }
                Err(failed.into())
            }
        }
    }
}

/// A file that is not the one that was hashed is not worth sending: the server would refuse it.
pub(super) async fn check_size(path: &Path, size: u64) -> Result<(), StoreError> {
    if tokio::fs::metadata(path).await?.len() == size { Ok(()) } else { Err(not_the_one()) }
}

pub(super) fn not_the_one() -> StoreError {
    odd("the staged file is not the one that was hashed")
}

pub(super) fn odd(why: &'static str) -> StoreError {
    StoreError::Io(io::Error::other(why))
}
