//! The lock of an object, in a small JSON file beside it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::{ObjectInfo, StoreError};
use super::durable;
use crate::fault;

pub(super) const SUFFIX: &str = ".retention.json";

/// What the sidecar says. The object's own hash stands in it so that `sha256sum` can check a file without us.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sidecar {
    pub(super) retain_until: Timestamp,
    pub(super) legal_hold: bool,
    pub(super) size_bytes: u64,
    pub(super) sha256: String,
}

impl Sidecar {
    pub(super) fn read(object: &Path, key: &str) -> Result<Option<Self>, StoreError> {
        let text = match fs::read(path(object)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| StoreError::Lock { key: key.to_owned(), why: error.to_string() })
    }

    /// What is wrong with the sidecar of an object of so many bytes, in words; that it is missing is for others to say.
    pub(super) fn flaws(object: &Path, key: &str, size: u64, sha256: &str) -> Result<Vec<String>, StoreError> {
        let Some(sidecar) = Self::read(object, key)? else { return Ok(Vec::new()) };
        let mut flaws = Vec::new();
        let metadata = fs::symlink_metadata(path(object))?;
        if !metadata.is_file() {
            flaws.push("its lock is no plain file".to_owned());
        } else if metadata.mode() & 0o022 != 0 {
            flaws.push(format!("others can write to its lock (mode {:o})", metadata.mode() & 0o777));
        }
        if fs::read(path(object))? != serde_json::to_vec_pretty(&sidecar).map_err(io::Error::other)? {
            flaws.push("its lock is not written as the store writes it".to_owned());
        }
        if sidecar.size_bytes != size || sidecar.sha256 != sha256 {
            flaws.push("its lock is that of other bytes".to_owned());
        }
        Ok(flaws)
    }

    /// Replaces the sidecar as a whole, durably.
    pub(super) fn write(&self, object: &Path, staged: &Path) -> Result<(), StoreError> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        durable::write_new(staged, &text, 0o644)?;
        fault::step("store.lock_staged")?;
        fs::rename(staged, path(object))?;
        if let Some(folder) = object.parent() {
            durable::sync_dir(folder)?;
        }
        Ok(())
    }

    pub(super) fn info(&self, key: &str, size: u64) -> ObjectInfo {
        ObjectInfo {
            key: key.to_owned(),
            size,
            version: None,
            retain_until: Some(self.retain_until),
            legal_hold: self.legal_hold,
            others: 0,
        }
    }
}

pub(super) fn path(object: &Path) -> PathBuf {
    let mut path = object.as_os_str().to_owned();
    path.push(SUFFIX);
    path.into()
}
