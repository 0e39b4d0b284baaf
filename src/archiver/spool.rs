//! The folder in which recordings stand between the sender and the store.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The spool; cheap to clone. It counts what it holds, so that a bound is a bound.
#[derive(Clone, Debug)]
pub struct Spool {
    folder: Arc<Path>,
    max_bytes: u64,
    used: Arc<AtomicU64>,
    /// What lies there and waits, when it was measured last.
    resting: Arc<AtomicU64>,
}

/// Room that is taken while a file grows; given back when dropped.
#[derive(Debug)]
pub(super) struct Room {
    spool: Spool,
    bytes: u64,
}

impl Spool {
    /// Opens (and makes, where it is missing) the folder.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn open(folder: &Path, max_bytes: u64) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        metrics::gauge!("callvault_spool_limit_bytes").set(max_bytes as f64);
        let this = Self { folder: folder.into(), max_bytes, used: Arc::default(), resting: Arc::default() };
        this.tell();
        Ok(this)
    }

    /// Makes the folder again where somebody removed it: nothing in it was ever more than on its way.
    pub(super) fn ready(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)
    }

    /// The file of one recording: the same name in every attempt, so that a staged one is found again.
    pub(super) fn file(&self, call_seq: i64, source: &str) -> PathBuf {
        self.folder.join(format!("{call_seq}-{source}.audio"))
    }

    /// Where half a recording is put by.
    pub(super) fn half(&self, call_seq: i64, source: &str) -> PathBuf {
        self.folder.join(format!("{call_seq}-{source}.half"))
    }

    /// Every name that work on a recording gives to a file.
    pub(super) fn files_of(&self, call_seq: i64, source: &str) -> [PathBuf; 2] {
        [self.file(call_seq, source), self.half(call_seq, source)]
    }

    /// A nameless file: nothing is left of it whatever happens.
    pub(super) fn nameless(&self) -> io::Result<std::fs::File> {
        self.ready()?;
        tempfile::tempfile_in(&self.folder)
    }

    /// Names of the files that lie in the spool.
    pub(super) fn files(&self) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(&self.folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    /// Counts what lies there, while it may be much: the store is away.
    pub(super) fn measure(&self) -> io::Result<()> {
        let mut bytes = 0;
        for file in self.files()? {
            match std::fs::symlink_metadata(&file) {
                Ok(metadata) if metadata.is_file() => bytes += metadata.len(),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        // What is under way counts itself.
        self.resting.store(bytes.saturating_sub(self.used.load(Ordering::Relaxed)), Ordering::Relaxed);
        self.tell();
        Ok(())
    }

    /// Nothing waits any more.
    pub(super) fn forget_measure(&self) {
        self.resting.store(0, Ordering::Relaxed);
        self.tell();
    }

    /// Bytes that are taken.
    fn taken(&self) -> u64 {
        self.used.load(Ordering::Relaxed) + self.resting.load(Ordering::Relaxed)
    }

    /// Whether nothing more may be begun.
    pub(super) fn is_full(&self) -> bool {
        self.taken() >= self.max_bytes
    }

    fn tell(&self) {
        metrics::gauge!("callvault_spool_bytes").set(self.taken() as f64);
    }

    pub(super) fn room(&self) -> Room {
        Room { spool: self.clone(), bytes: 0 }
    }
}

impl Room {
    /// Takes more room; `false` where there is none.
    pub(super) fn grow(&mut self, bytes: u64) -> bool {
        self.spool.used.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        self.spool.tell();
        self.spool.taken() <= self.spool.max_bytes
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.spool.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.spool.tell();
    }
}
