//! Objects as read-only files below one folder, each with a sidecar that holds its lock.
//!
//! An object appears whole: a complete, synced file is hard-linked to its name, and a link never replaces a name. The
//! sidecar `<name>.retention.json` is the only thing that ever changes, and only to a later date or a hold.

mod durable;
mod sidecar;

use std::fs;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::key::is_sound;
use super::{ByteStream, Content, Diagnosis, Examined, Listed, ObjectInfo, ObjectKey, ObjectStore, StoreError};
use crate::fault;
use durable::{Folders, Staged};
use sidecar::Sidecar;

/// Where files are made before they get their name; empty while nothing is under way.
const STAGING: &str = ".staging";
/// Made by some file systems, and only for root to look into.
const LOST_AND_FOUND: &str = "lost+found";
const READ_ONLY: u32 = 0o444;
const WRITABLE: u32 = 0o222;
/// Read and written at once when streaming or comparing, in bytes.
const BLOCK: usize = 256 * 1024;

/// The store on a local file system; cheap to clone.
#[derive(Clone, Debug)]
pub struct FsStore {
    root: Arc<Path>,
    folders: Arc<Folders>,
}

impl FsStore {
    /// Opens (and makes, where it is missing) the store below `root`.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn open(root: &Path) -> io::Result<Self> {
        durable::create_dir_all(&root.join(STAGING))?;
        Ok(Self { root: root.into(), folders: Arc::default() })
    }

    /// Removes what an interrupted run left before it got its name.
    fn clear_staging(&self) -> io::Result<u64> {
        let mut removed = 0;
        for entry in fs::read_dir(self.root.join(STAGING))? {
            let entry = entry?;
            // A folder is nothing of ours: a file system's lost+found, where this is one of its own.
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn path(&self, key: &str) -> Result<PathBuf, StoreError> {
        if is_sound(key) && !key.ends_with(sidecar::SUFFIX) {
            Ok(self.root.join(key))
        } else {
            Err(StoreError::InvalidKey(key.to_owned()))
        }
    }

    /// A name of its own in the staging folder.
    fn staged(&self) -> Staged {
        Staged(self.root.join(STAGING).join(uuid::Uuid::now_v7().to_string()))
    }

    fn put_blocking(&self, key: &str, content: &Content, retain_until: Timestamp) -> Result<ObjectInfo, StoreError> {
        let path = self.path(key)?;
        let folder = path.parent().ok_or_else(|| StoreError::InvalidKey(key.to_owned()))?;
        if !self.root.is_dir() {
            // It is never made again: its disk may only not be mounted.
            return Err(io::Error::other("its folder is gone: mount its disk, or restore it").into());
        }
        for needed in [folder, &self.root.join(STAGING)] {
            self.folders.make(&self.root, needed)?;
        }
        let created = self.link(&path, content)?;
        if !created && !same_bytes(&path, content)? {
            return Err(StoreError::Conflict(key.to_owned()));
        }
        fault::step("store.linked")?;
        let size = fs::metadata(&path)?.len();
        // The link is made durable with the sidecar's name: both are in the same folder.
        let sidecar = match Sidecar::read(&path, key)? {
            Some(known) if known.retain_until >= retain_until => known,
            known => {
                let legal_hold = known.is_some_and(|sidecar| sidecar.legal_hold);
                let new = Sidecar { retain_until, legal_hold, size_bytes: size, sha256: hex::encode(content.sha256()) };
                new.write(&path, &self.staged().0)?;
                new
            }
        };
        fault::step("store.locked")?;
        durable::sync_dir(folder)?;
        fault::step("store.durable")?;
        Ok(sidecar.info(key, size))
    }

    /// Gives a complete file its name; `false` where the name is taken.
    fn link(&self, path: &Path, content: &Content) -> Result<bool, StoreError> {
        if path.exists() {
            return Ok(false);
        }
        // Dropped at the end, with the staged name.
        let staged = self.staged();
        let source = match content {
            Content::File { path: source, size, .. } => {
                if fs::metadata(source)?.len() != *size {
                    return Err(io::Error::other("the staged file is not the one that was hashed").into());
                }
                fs::set_permissions(source, fs::Permissions::from_mode(READ_ONLY))?;
                fs::File::open(source)?.sync_all()?;
                source
            }
            Content::Bytes(bytes) => {
                durable::write_new(&staged.0, bytes, READ_ONLY)?;
                &staged.0
            }
        };
        fault::step("store.synced")?;
        let linked = match fs::hard_link(source, path) {
            // The spool lies on another file system: the bytes have to be copied after all.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                fs::copy(source, &staged.0)?;
                fs::File::open(&staged.0)?.sync_all()?;
                fs::hard_link(&staged.0, path)
            }
            other => other,
        };
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn head_blocking(&self, key: &str) -> Result<Option<ObjectInfo>, StoreError> {
        let path = self.path(key)?;
        let size = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let info = match Sidecar::read(&path, key)? {
            Some(sidecar) => sidecar.info(key, size),
            None => ObjectInfo {
                key: key.to_owned(),
                size,
                version: None,
                retain_until: None,
                legal_hold: false,
                others: 0,
            },
        };
        Ok(Some(info))
    }

    /// The bytes first: a lock of nothing is found and taken away by the next run.
    fn destroy_blocking(&self, key: &str, now: Timestamp) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let kept = |why: String| Err(StoreError::Kept { key: key.to_owned(), why });
        match Sidecar::read(&path, key)? {
            None if path.exists() => return kept("its lock is missing, so nobody knows until when it is kept".into()),
            None => return Ok(()),
            Some(lock) if lock.legal_hold => return kept("a legal hold is on it".into()),
            Some(lock) if lock.retain_until > now => return kept(format!("it is kept until {}", lock.retain_until)),
            Some(_) => {}
        }
        for file in [path.clone(), sidecar::path(&path)] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => fault::step("store.removed")?,
            }
        }
        let Some(folder) = path.parent() else { return Ok(()) };
        durable::sync_dir(folder)?;
        // Whoever looks at the folders must not see which calls there were.
        for folder in folder.ancestors().take_while(|folder| **folder != *self.root) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn change_lock(
        &self,
        key: &str,
        change: impl FnOnce(Sidecar) -> Result<Sidecar, StoreError>,
    ) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let known = Sidecar::read(&path, key)?.ok_or_else(|| StoreError::NotFound(key.to_owned()))?;
        change(known)?.write(&path, &self.staged().0)
    }

    /// Every object below a folder, sent one by one; what can't be read or is no object is told and passed over.
    fn walk(&self, folder: &Path, prefix: &str, send: &mut Sink<'_>) -> bool {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return send(Err(error.into())),
        };
        for entry in entries {
            let outcome = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)));
            let (path, kind) = match outcome {
                Ok(found) => found,
                Err(error) => {
                    if !send(Err(error.into())) {
                        return false;
                    }
                    continue;
                }
            };
            let key = path.strip_prefix(&self.root).unwrap_or(&path).to_string_lossy().into_owned();
            if key == STAGING || key == LOST_AND_FOUND {
                continue;
            }
            if kind.is_dir() {
                let below = format!("{key}/");
                if (below.starts_with(prefix) || prefix.starts_with(&below)) && !self.walk(&path, prefix, send) {
                    return false;
                }
            } else if key.starts_with(prefix) && self.look(&key, &path, kind.is_file()).is_some_and(|seen| !send(seen))
            {
                return false;
            }
        }
        true
    }

    /// What a name in the store stands for; `None` for an object's sidecar.
    fn look(&self, key: &str, path: &Path, plain: bool) -> Option<Result<Listed, StoreError>> {
        let stray = |why| Some(Err(StoreError::Stray { key: key.to_owned(), why }));
        if !plain {
            return stray("it is no plain file");
        }
        if let Some(object) = path.to_str().and_then(|path| path.strip_suffix(sidecar::SUFFIX)) {
            return if Path::new(object).is_file() { None } else { stray("it is the lock of nothing") };
        }
        match fs::metadata(path) {
            Ok(metadata) => Some(Ok(Listed { key: key.to_owned(), size: metadata.len(), version: None })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(Err(error.into())),
        }
    }

    fn flaws_blocking(&self, key: &str, sha256: &str) -> Result<Vec<String>, StoreError> {
        let path = self.path(key)?;
        let mut flaws = Vec::new();
        let metadata = fs::symlink_metadata(&path)?;
        if !metadata.is_file() {
            flaws.push("another thing stands in its place".to_owned());
        } else if metadata.mode() & WRITABLE != 0 {
            flaws.push(format!("it can be written to (mode {:o})", metadata.mode() & 0o777));
        }
        flaws.extend(Sidecar::flaws(&path, key, metadata.len(), sha256)?);
        Ok(flaws)
    }
}

/// The next block of a file, read straight into the memory that is handed on.
async fn next_block(mut file: io::Take<fs::File>) -> io::Result<Option<(Bytes, io::Take<fs::File>)>> {
    let read = move || {
        let mut block = Vec::with_capacity(BLOCK);
        file.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        Ok((!block.is_empty()).then(|| (Bytes::from(block), file)))
    };
    tokio::task::spawn_blocking(read).await?
}
/// Where what a walk meets is sent; `false` once nobody listens any more.
type Sink<'a> = dyn FnMut(Result<Listed, StoreError>) -> bool + 'a;

fn same_bytes(path: &Path, content: &Content) -> io::Result<bool> {
    match content {
        Content::Bytes(bytes) => Ok(fs::read(path)? == bytes[..]),
        Content::File { size, sha256, .. } => {
            if fs::metadata(path)?.len() != *size {
                return Ok(false);
            }
            Ok(sha256_of(fs::File::open(path)?)? == *sha256)
        }
    }
}

/// Reads and hashes on one thread: blocks that change threads are hashed at three quarters of the speed.
fn sha256_of(mut file: fs::File) -> io::Result<[u8; 32]> {
    let (mut hash, mut block) = (Sha256::new(), vec![0; BLOCK]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hash.finalize().into()),
            n => hash.update(&block[..n]),
        }
    }
}

fn open(path: &Path, key: &str) -> Result<fs::File, StoreError> {
    fs::File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound(key.to_owned()),
        _ => StoreError::Io(error),
    })
}

#[async_trait]
impl ObjectStore for FsStore {
    async fn put_new(
        &self,
        key: &ObjectKey,
        content: Content,
        retain_until: Timestamp,
    ) -> Result<ObjectInfo, StoreError> {
        let (store, key) = (self.clone(), key.path());
        blocking(move || store.put_blocking(&key, &content, retain_until)).await
    }

    async fn get(&self, key: &str, _: Option<&str>, range: Option<Range<u64>>) -> Result<ByteStream, StoreError> {
        let (path, key) = (self.path(key)?, key.to_owned());
        let opened = move || {
            let mut file = open(&path, &key)?;
            file.seek(io::SeekFrom::Start(range.as_ref().map_or(0, |range| range.start)))?;
            Ok(file.take(range.map_or(u64::MAX, |range| range.end.saturating_sub(range.start))))
        };
        Ok(futures_util::stream::try_unfold(blocking(opened).await?, next_block).boxed())
    }

    async fn examine(&self, key: &str, _: Option<&str>) -> Result<Option<Examined>, StoreError> {
        let (store, key) = (self.clone(), key.to_owned());
        let examine = move || {
            let Some(info) = store.head_blocking(&key)? else { return Ok(None) };
            let sha256 = hex::encode(sha256_of(open(&store.path(&key)?, &key)?)?);
            let flaws = store.flaws_blocking(&key, &sha256)?;
            Ok(Some(Examined { info, sha256, flaws }))
        };
        blocking(examine).await
    }

    async fn head(&self, key: &str, _: Option<&str>) -> Result<Option<ObjectInfo>, StoreError> {
        let (store, key) = (self.clone(), key.to_owned());
        blocking(move || store.head_blocking(&key)).await
    }

    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<Listed, StoreError>>, StoreError> {
        let (store, prefix) = (self.clone(), prefix.to_owned());
        let (sender, receiver) = tokio::sync::mpsc::channel(64);
        tokio::task::spawn_blocking(move || {
            let root = Arc::clone(&store.root);
            let mut send = |info| sender.blocking_send(info).is_ok();
            store.walk(&root, &prefix, &mut send);
        });
        let stream = futures_util::stream::unfold(receiver, async |mut receiver| {
            let next = receiver.recv().await?;
            Some((next, receiver))
        });
        Ok(stream.boxed())
    }

    async fn extend_retention(&self, key: &str, _: Option<&str>, until: Timestamp) -> Result<(), StoreError> {
        let (store, key) = (self.clone(), key.to_owned());
        let change = move || {
            store.change_lock(&key, |known| {
                if until < known.retain_until {
                    return Err(StoreError::Shortened { key: key.clone(), until: known.retain_until });
                }
                Ok(Sidecar { retain_until: until, ..known })
            })
        };
        blocking(change).await
    }

    async fn set_legal_hold(&self, key: &str, _: Option<&str>, on: bool) -> Result<(), StoreError> {
        let (store, key) = (self.clone(), key.to_owned());
        blocking(move || store.change_lock(&key, |known| Ok(Sidecar { legal_hold: on, ..known }))).await
    }

    async fn destroy(&self, key: &str, _: Option<&str>, now: Timestamp) -> Result<(), StoreError> {
        let (store, key) = (self.clone(), key.to_owned());
        blocking(move || store.destroy_blocking(&key, now)).await
    }

    async fn tidy(&self) -> Result<u64, StoreError> {
        let store = self.clone();
        blocking(move || Ok(store.clear_staging()?)).await
    }

    async fn diagnose(&self, _: Timestamp) -> Diagnosis {
        let (root, staging) = (self.root.display(), self.root.join(STAGING));
        match fs::read_dir(&self.root).and_then(|_| tempfile::tempfile_in(staging)) {
            Ok(_) => Diagnosis { fine: format!("{root} can be used"), ..Diagnosis::default() },
            Err(error) => {
                let fault = format!("{root} can't be used ({error}): give this user the right to read and write there");
                Diagnosis { faults: vec![fault], ..Diagnosis::default() }
            }
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Io(io::Error::other(error)))?
}
