//! One server for each data directory: a lock that the operating system releases with the process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

const FILE: &str = "serve.lock";
/// How often a held lock is looked at again before it counts as held.
const LOOKS: u32 = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// Held as long as a server runs.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{dir} is served already, by {holder}: stop that one first, or give this one its own --data-dir")]
    Held { dir: String, holder: String },
    #[error("the lock of {dir} can't be used: {source}")]
    Io { dir: String, source: std::io::Error },
}

impl DataDirLock {
    /// Takes the lock; `address` tells the next one who has it.
    ///
    /// # Errors
    /// Another process holds it.
    pub fn acquire(dir: &Path, address: &str) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { dir: dir.display().to_string(), source };
        let mut file = lock(dir)?;
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        // In one piece: whoever is refused at this moment reads all of it or nothing.
        file.write_all(format!("process {} at {address}\n", std::process::id()).as_bytes()).map_err(failed)?;
        Ok(Self { _file: file })
    }

    /// Looks whether somebody holds the lock, without leaving a trace.
    ///
    /// # Errors
    /// [`LockError::Held`] where somebody does.
    pub fn check_free(dir: &Path) -> Result<(), LockError> {
        lock(dir).map(drop)
    }
}

/// Takes the lock, patiently: a command that only looks holds it for a moment too.
fn lock(dir: &Path) -> Result<File, LockError> {
    let mut outcome = try_lock(dir);
    for _ in 0..LOOKS {
        match outcome {
            Err(LockError::Held { .. }) => std::thread::sleep(BETWEEN_LOOKS),
            settled => return settled,
        }
        outcome = try_lock(dir);
    }
    outcome
}

fn try_lock(dir: &Path) -> Result<File, LockError> {
    let failed = |source| LockError::Io { dir: dir.display().to_string(), source };
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(dir.join(FILE)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(failed)?;
            let holder = if holder.trim().is_empty() { "another process".into() } else { holder.trim().to_owned() };
            Err(LockError::Held { dir: dir.display().to_string(), holder })
        }
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDirLock::acquire(dir.path(), "http://127.0.0.1:1").unwrap();
        let error = DataDirLock::acquire(dir.path(), "http://127.0.0.1:2").unwrap_err().to_string();
        assert!(error.contains(&format!("process {} at http://127.0.0.1:1", std::process::id())), "{error}");
        drop(first);
        DataDirLock::acquire(dir.path(), "http://127.0.0.1:2").unwrap();
    }
}
