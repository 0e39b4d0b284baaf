//! The few steps that make a file durable, once and for all.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The folders whose names are known to be durable: one that merely is there may have been made by a run that a power
/// cut ended before it was.
#[derive(Debug, Default)]
pub(super) struct Folders(Mutex<HashSet<PathBuf>>);

/// More are forgotten, and made durable once more when they are met again.
const REMEMBERED: usize = 4096;

impl Folders {
    /// Makes a folder below `root`, which must be there, and those between; each name is durable on return.
    pub(super) fn make(&self, root: &Path, path: &Path) -> io::Result<()> {
        if path == root || (self.known().contains(path) && path.is_dir()) {
            return Ok(());
        }
        let Some(parent) = path.parent() else { return Ok(()) };
        self.make(root, parent)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => sync_dir(parent)?,
        }
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(path.to_owned());
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a folder and those above it, where they are missing; each new name is durable in the folder that holds it.
pub(super) fn create_dir_all(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_dir_all(parent)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => sync_dir(parent)?,
        }
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A file that is removed when it goes out of sight, whatever happened to it; renamed or linked, only the name goes.
pub(crate) struct Staged(pub(crate) PathBuf);

impl Drop for Staged {
    fn drop(&mut self) {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "a staged file could not be removed; the next start does it");
            }
            _ => {}
        }
    }
}

/// Writes a new file and waits until its content is on the disk.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
