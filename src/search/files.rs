//! The files of the index as a server holds them: private, checked copies.
//!
//! tantivy maps files into memory and trusts them. Under a server that runs for months this is too much trust: cutting a
//! mapped file ends the process by a signal, and a changed byte ends it by a failed assertion on a thread of its own, or
//! changes an answer. So a server never maps the files that lie in its folder. It copies each when it first needs it,
//! checks the copy, and maps that; the copy's name is removed at once, so nobody can reach it. Whatever happens to the
//! folder afterwards, searches go on with what was checked; the folder is [looked at](Files::disturbed), and an index that
//! somebody touched is built again. Where the file system can share blocks between files, a copy costs nothing; elsewhere
//! the index takes its room twice while it is served.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::footer::Footer;
use tantivy::directory::{
    Directory, DirectoryLock, FileHandle, FileSlice, Lock, MmapDirectory, WatchCallback, WatchHandle, WritePtr,
};

use super::error::Error;

/// How copies are called for the moment that it takes to map them, beside the index.
const COPY: &str = "copy-";

/// How tantivy calls a list until it has its own name.
const HALF: &str = ".tmp";

/// A directory of tantivy's whose files can't be changed from outside once they are open; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Files(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    live: PathBuf,
    /// Writes and locks.
    folder: MmapDirectory,
    held: Mutex<HashMap<PathBuf, Held>>,
}

/// A file that was opened or written, as it was then.
#[derive(Debug)]
struct Held {
    stamp: Stamp,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    /// A segment's.
    Mapped(Arc<dyn FileHandle>),
    /// A list: small, and replaced as a whole.
    Small(Arc<[u8]>),
}

/// What changes when somebody touches a file.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        // The time of the last change of anything: unlike the one of writing it can't be set.
        Ok(Self { inode: metadata.ino(), bytes: metadata.len(), changed: (metadata.ctime(), metadata.ctime_nsec()) })
    }
}

impl Files {
    /// Prepares to hold the files in `live`. Only for the process that writes the index.
    pub(super) fn open(live: &Path) -> Result<Self, Error> {
        let folder = MmapDirectory::open(live).map_err(tantivy::TantivyError::from)?;
        Ok(Self(Arc::new(Inner { live: live.to_owned(), folder, held: Mutex::default() })))
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A file that is no longer what this process wrote or read, if there is one. Costs one look at each file's
    /// metadata.
    pub(super) fn disturbed(&self) -> Option<PathBuf> {
        let touched = |(name, file): (&PathBuf, &Held)| {
            let same = Stamp::of(&self.0.live.join(name)).is_ok_and(|stamp| stamp == file.stamp);
            (!same).then(|| name.clone())
        };
        self.held().iter().find_map(touched)
    }

    /// Removes copies and half-written lists that an interrupted run left. Only for whoever has the writer's lock.
    pub(super) fn tidy(&self) -> io::Result<()> {
        let live = self.0.live.as_path();
        for (folder, prefix) in [(live.parent().unwrap_or(live), COPY), (live, HALF)] {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, HashMap<PathBuf, Held>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies a file, maps the copy, takes its name away, and checks what was mapped.
    fn hold(&self, name: &Path) -> Result<Held, OpenReadError> {
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::NotFound => OpenReadError::FileDoesNotExist(name.to_owned()),
            _ => OpenReadError::wrap_io_error(error, name.to_owned()),
        };
        let path = self.0.live.join(name);
        // Before it is read: a change in between shows as one.
        let stamp = Stamp::of(&path).map_err(failed)?;
        let beside = self.0.live.parent().unwrap_or(&self.0.live);
        let mut copy = tempfile::Builder::new().prefix(COPY).tempfile_in(beside).map_err(failed)?;
        io::copy(&mut File::open(&path).map_err(failed)?, copy.as_file_mut()).map_err(failed)?;
        // A directory of its own: another would remember mappings by names that are used again.
        let mapped = MmapDirectory::open(beside).map_err(|error| failed(io::Error::other(error)))?;
        let handle = mapped.get_file_handle(copy.path().file_name().unwrap_or_default().as_ref())?;
        copy.close().map_err(failed)?;
        check(&handle).map_err(failed)?;
        Ok(Held { stamp, content: Content::Mapped(handle) })
    }
}

/// Compares a file's checksum with the one in its footer, and the footer's version with the library's.
///
/// # Errors
/// What does not fit, or the file can't be read.
pub(super) fn check(handle: &Arc<dyn FileHandle>) -> io::Result<()> {
    let wrong = |why| Err(io::Error::new(ErrorKind::InvalidData, why));
    let (footer, body) = Footer::extract_footer(FileSlice::new(Arc::clone(handle)))?;
    if crc32fast::hash(&body.read_bytes()?) != footer.crc {
        return wrong("its checksum is wrong");
    }
    if footer.version != *tantivy::version() {
        return wrong("its footer is not what was written");
    }
    Ok(())
}

impl Directory for Files {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        let mut held = self.held();
        if let Some(Held { content: Content::Mapped(handle), .. }) = held.get(path) {
            return Ok(Arc::clone(handle));
        }
        let file = self.hold(path)?;
        let content = file.content.clone();
        held.insert(path.to_owned(), file);
        match content {
            Content::Mapped(handle) => Ok(handle),
            Content::Small(_) => Err(OpenReadError::FileDoesNotExist(path.to_owned())),
        }
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.held().remove(path);
        self.0.folder.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.0.folder.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        self.0.folder.open_write(path)
    }

    /// What this process wrote or read before is what it goes on with, whatever lies there now.
    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        let mut held = self.held();
        if let Some(Held { content: Content::Small(known), .. }) = held.get(path) {
            return Ok(known.to_vec());
        }
        let stamp = Stamp::of(&self.0.live.join(path));
        let content = self.0.folder.atomic_read(path)?;
        let stamp = stamp.map_err(|error| OpenReadError::wrap_io_error(error, path.to_owned()))?;
        held.insert(path.to_owned(), Held { stamp, content: Content::Small(content.as_slice().into()) });
        Ok(content)
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        // Nobody may look in between.
        let mut held = self.held();
        self.0.folder.atomic_write(path, data)?;
        let stamp = Stamp::of(&self.0.live.join(path))?;
        held.insert(path.to_owned(), Held { stamp, content: Content::Small(data.into()) });
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.0.folder.sync_directory()
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.0.folder.acquire_lock(lock)
    }

    fn watch(&self, callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.0.folder.watch(callback)
    }
}
