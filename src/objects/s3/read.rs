//! Reading by the id of a version, and reading back.

use std::io;
use std::ops::Range;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream as Body, ByteStreamError};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};

use super::super::{ByteStream, Examined, StoreError};
use super::S3Store;
use super::lock::Lock;
use super::put::odd;
use super::versions::{Version, chosen};
use aws_sdk_s3::types::ObjectLockMode;

/// A connection that breaks off in the middle is no reason to call an object damaged.
const READS: usize = 3;

impl S3Store {
    pub(super) async fn stream(
        &self,
        key: &str,
        version: Option<&str>,
        range: Option<Range<u64>>,
    ) -> Result<ByteStream, StoreError> {
        let name = self.name(key)?;
        let id = match version {
            Some(id) => id.to_owned(),
            None => self.version(&name, key, None).await?.ok_or_else(|| StoreError::NotFound(key.to_owned()))?.id,
        };
        if range.as_ref().is_some_and(Range::is_empty) {
            // No request can ask for nothing.
            self.version(&name, key, Some(&id)).await?.ok_or_else(|| StoreError::NotFound(key.to_owned()))?;
            return Ok(stream::empty().boxed());
        }
        let range = range.map(|range| format!("bytes={}-{}", range.start, range.end - 1));
        match self.fetch(&name, &id, range).await? {
            Some(answer) => Ok(stream::unfold(answer.body, next).boxed()),
            None => match self.version(&name, key, Some(&id)).await? {
                None => Err(StoreError::NotFound(key.to_owned())),
                Some(_) => Err(odd("the S3 server lists an object and does not give it")),
            },
        }
    }

    /// `None` if the version is not there.
    async fn fetch(&self, name: &str, id: &str, range: Option<String>) -> Result<Option<GetObjectOutput>, StoreError> {
        let request = self.0.clients.reader.get_object().bucket(self.bucket()).key(name).version_id(id);
        match request.set_range(range).send().await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => {
                let failed = self.failed("s3:GetObjectVersion", &error);
                if failed.is_gone() { Ok(None) } else { Err(failed.into()) }
            }
        }
    }

    pub(super) async fn read_back(&self, key: &str, version: Option<&str>) -> Result<Option<Examined>, StoreError> {
        let name = self.name(key)?;
        let versions = self.look(&name).await?;
        let Some(version) = chosen(&versions, key, version)? else { return Ok(None) };
        let (sha256, lock) = self.hash(&name, &version).await?;
        let mut flaws = Vec::new();
        if versions.hidden {
            flaws.push("a delete marker hides it from whoever asks without its version".to_owned());
        }
        let weaker = self.mode() == Some(ObjectLockMode::Compliance) && lock.mode == Some(ObjectLockMode::Governance);
        if weaker {
            flaws.push(
                "it is locked in governance mode, not in compliance mode: who has the right can delete it".into(),
            );
        }
        Ok(Some(Examined { info: lock.info(key, &version), sha256: hex::encode(sha256), flaws }))
    }

    /// The SHA-256 of a version that is listed, and its lock.
    pub(super) async fn hash(&self, name: &str, version: &Version) -> Result<([u8; 32], Lock), StoreError> {
        let mut tries = 1;
        loop {
            let answer = self.fetch(name, &version.id, None).await?;
            let answer = answer.ok_or_else(|| odd("the S3 server lists an object and does not give it"))?;
            let lock = Lock::of_answer(&answer);
            match hash(answer.body).await {
                Ok((sha256, size)) if size == version.size => return Ok((sha256, lock)),
                outcome if tries == READS => {
                    outcome?;
                    return Err(odd("the S3 server gives more or less of an object than it lists"));
                }
                _ => tries += 1,
            }
        }
    }
}

async fn hash(mut body: Body) -> io::Result<([u8; 32], u64)> {
    let (mut hash, mut size) = (Sha256::new(), 0);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| broken(&error))?;
        hash.update(&chunk);
        size += chunk.len() as u64;
    }
    Ok((hash.finalize().into(), size))
}

async fn next(mut body: Body) -> Option<(io::Result<Bytes>, Body)> {
    let chunk = body.next().await?;
    Some((chunk.map_err(|error| broken(&error)), body))
}

fn broken(_: &ByteStreamError) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection to the S3 server broke off, or nothing came any more")
}
