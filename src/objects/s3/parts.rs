//! Large objects in parts, in constant memory, and what is left of uploads that were broken off.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, EncodingType};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::super::StoreError;
use super::S3Store;
use super::client::{SignedPayload, sending};
use super::put::{Write, Written, check_size, not_the_one, odd};
use super::versions::{Version, decoded, marker};
use crate::fault;

/// No upload takes more.
const MAX_PARTS: u64 = 10_000;
/// An upload that began longer ago than this is nobody's any more.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(1);
/// Read at once while hashing, in bytes.
const BLOCK: usize = 256 * 1024;

/// An upload that is not finished.
struct Upload {
    name: String,
    id: String,
    begun: Option<Timestamp>,
}

impl S3Store {
    /// Sends a file in parts. Whatever goes wrong, nothing is left of it if the server can be told so.
    pub(super) async fn write_parts(&self, write: &Write<'_>, path: &Path) -> Result<Written, StoreError> {
        check_size(path, write.size).await?;
        if write.lock.is_some() {
            // A server that drops the lock at the beginning would say only at the end that it has none.
            self.demand_locks().await?;
        }
        // An earlier run was broken off: whoever writes this key now is alone with it.
        for upload in self.uploads(write.name).await? {
            if upload.name == write.name {
                self.abort(&upload.name, &upload.id).await?;
            }
        }
        let upload = self.begin(write).await?;
        let sent = async {
            let parts = self.send_parts(write, path, &upload).await?;
            self.complete(write, &upload, parts).await
        };
        let id = match sent.await {
            Ok(Written::Version(id)) => id,
            other => {
                if let Err(error) = self.abort(write.name, &upload).await {
                    tracing::warn!(%error, "an upload could not be aborted; it is done later");
                }
                return other;
            }
        };
        fault::point("store.completed");
        // Some servers drop the lock with which an upload began.
        if let (Some((_, until)), Some(id)) = (&write.lock, &id) {
            self.ensure_lock(write.name, &Version { id: id.clone(), size: write.size, others: 0 }, *until).await?;
        }
        Ok(Written::Version(id))
    }

    async fn begin(&self, write: &Write<'_>) -> Result<String, StoreError> {
        let (mode, until) = write.lock.clone().map_or((None, None), |(mode, until)| (Some(mode), Some(until)));
        let request = self
            .0
            .clients
            .writer
            .create_multipart_upload()
            .bucket(self.bucket())
            .key(write.name)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .set_object_lock_mode(mode)
            .set_object_lock_retain_until_date(until.map(super::lock::date));
        match request.send().await {
            Ok(answer) => {
                answer.upload_id().map(str::to_owned).ok_or_else(|| odd("the S3 server began a nameless upload"))
            }
            Err(error) => {
                let failed = self.failed("s3:PutObject", &error);
                if failed.is_unwanted() && write.lock.is_some() {
                    self.demand_locks().await?;
                }
                Err(failed.into())
            }
        }
    }

    /// One after the other: each is read twice, once for its hash and once to be sent, so that none stays in memory.
    async fn send_parts(&self, write: &Write<'_>, path: &Path, id: &str) -> Result<Vec<CompletedPart>, StoreError> {
        let size = self.0.part.max(write.size.div_ceil(MAX_PARTS));
        let (mut parts, mut whole, mut offset) = (Vec::new(), Sha256::new(), 0);
        while offset < write.size {
            let length = size.min(write.size - offset);
            let file = path.to_owned();
            let hash = move || hash_part(&file, offset, length, whole);
            let sha256: [u8; 32];
            (whole, sha256) = tokio::task::spawn_blocking(hash).await.map_err(io::Error::other)??;
            let number = i32::try_from(parts.len() + 1).unwrap_or(i32::MAX);
            let body = ByteStream::read_from().path(path).offset(offset).length(Length::Exact(length)).build().await;
            let checksum = STANDARD.encode(sha256);
            let request = self.0.clients.writer.upload_part().bucket(self.bucket()).key(write.name).upload_id(id);
            let request = request
                .part_number(number)
                .content_length(length.cast_signed())
                .checksum_sha256(&checksum)
                .body(body.map_err(io::Error::other)?);
            let request = request.customize().interceptor(SignedPayload(hex::encode(sha256)));
            let answer = request.config_override(sending(length)).send().await;
            let answer = answer.map_err(|error| self.failed("s3:PutObject", &error))?;
            let part = CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag().map(str::to_owned));
            parts.push(part.checksum_sha256(checksum).build());
            offset += length;
            fault::point("store.part_sent");
        }
        if <[u8; 32]>::from(whole.finalize()) != write.sha256 {
            return Err(not_the_one());
        }
        Ok(parts)
    }

    async fn complete(&self, write: &Write<'_>, id: &str, parts: Vec<CompletedPart>) -> Result<Written, StoreError> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.0.clients.writer.complete_multipart_upload().bucket(self.bucket()).key(write.name);
        let request = request.upload_id(id).multipart_upload(parts).if_none_match("*");
        // The server puts the parts together, which takes it the longer the more there is.
        match request.customize().config_override(sending(write.size)).send().await {
            Ok(answer) => Ok(Written::Version(answer.version_id().map(str::to_owned))),
            Err(error) => {
                let failed = self.failed("s3:PutObject", &error);
                if failed.is_taken() { Ok(Written::Taken) } else { Err(failed.into()) }
            }
        }
    }

    async fn abort(&self, name: &str, id: &str) -> Result<(), StoreError> {
        let request = self.0.clients.writer.abort_multipart_upload().bucket(self.bucket()).key(name).upload_id(id);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let failed = self.failed("s3:AbortMultipartUpload", &error);
                if failed.is_gone() { Ok(()) } else { Err(failed.into()) }
            }
        }
    }

    /// Tries whether uploads in parts can be begun, found and aborted.
    pub(super) async fn try_upload(&self, name: &str) -> Result<(), StoreError> {
        self.uploads(name).await?;
        let content = super::super::Content::Bytes(bytes::Bytes::new());
        let id = self.begin(&Write { name, content: &content, sha256: [0; 32], size: 0, lock: None }).await?;
        self.abort(name, &id).await
    }

    /// Aborts what was begun under our prefix and is nobody's any more, by the server's clock.
    pub(super) async fn abort_forgotten(&self) -> Result<u64, StoreError> {
        let uploads = self.uploads(&self.0.prefix).await?;
        let now = self.0.clients.clock.now();
        let forgotten =
            |upload: &Upload| now.zip(upload.begun).is_some_and(|(now, begun)| now.duration_since(begun) > FORGOTTEN);
        let mut aborted = 0;
        for upload in uploads.iter().filter(|upload| forgotten(upload)) {
            self.abort(&upload.name, &upload.id).await?;
            aborted += 1;
        }
        Ok(aborted)
    }

    /// The uploads whose keys begin with a prefix.
    async fn uploads(&self, prefix: &str) -> Result<Vec<Upload>, StoreError> {
        let (mut found, mut from) = (Vec::new(), (None, None));
        loop {
            let request = self.0.clients.reader.list_multipart_uploads().bucket(self.bucket()).prefix(prefix);
            let request = request.set_key_marker(from.0.clone()).set_upload_id_marker(from.1.clone());
            let answer = request.encoding_type(EncodingType::Url).send().await;
            let answer = answer.map_err(|error| self.failed("s3:ListBucketMultipartUploads", &error))?;
            // Ceph encodes the keys here without saying so.
            found.extend(answer.uploads().iter().filter_map(|upload| {
                let begun = upload.initiated().and_then(|at| Timestamp::from_second(at.secs()).ok());
                Some(Upload { name: decoded(upload.key()), id: upload.upload_id()?.to_owned(), begun })
            }));
            let next = answer.next_key_marker().map(|key| {
                let last = answer.uploads().last().and_then(|upload| upload.key());
                marker(key, [last, None])
            });
            let next = (next, answer.next_upload_id_marker().map(str::to_owned));
            if !answer.is_truncated().unwrap_or_default() || next == from {
                return Ok(found);
            }
            from = next;
        }
    }
}

/// The SHA-256 of a part, which goes on into that of the whole.
fn hash_part(path: &Path, offset: u64, length: u64, mut whole: Sha256) -> io::Result<(Sha256, [u8; 32])> {
    let mut file = File::open(path)?;
    file.seek(io::SeekFrom::Start(offset))?;
    let (mut part, mut block, mut left) = (Sha256::new(), vec![0; BLOCK], file.take(length));
    loop {
        match left.read(&mut block)? {
            0 => return Ok((whole, part.finalize().into())),
            n => {
                part.update(&block[..n]);
                whole.update(&block[..n]);
            }
        }
    }
}
