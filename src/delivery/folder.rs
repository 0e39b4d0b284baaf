//! A file that is durable once it has its name, and never in another's place.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::BESIDE;
use crate::objects::{ObjectKey, durable};

/// Whoever may read the folder by its group may read it.
const MODE: u32 = 0o640;

/// Writes a file into a folder that is there; the name that it got: another where a file of that name with other bytes is
/// there already.
pub(super) fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<String> {
    if !folder.is_dir() {
        return Err(io::Error::new(ErrorKind::NotFound, "there is no such folder: make it, or mount its disk"));
    }
    let staged = durable::Staged(folder.join(format!(".{name}.{}", uuid::Uuid::now_v7())));
    durable::write_new(&staged.0, bytes, MODE)?;
    let mut name = name.to_owned();
    for _ in 0..BESIDE {
        let path = folder.join(&name);
        match link(&staged.0, &path, bytes) {
            Ok(()) => {
                durable::sync_dir(folder)?;
                return Ok(name);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // It may be this very file, from a run that ended before it could say so.
                if fs::read(&path).is_ok_and(|there| there == bytes) {
                    return Ok(name);
                }
                name = ObjectKey::beside(&name);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(ErrorKind::AlreadyExists, "files of that name are there already: move them away"))
}

/// Gives the file its name; where the file system has no links, it is written once more.
fn link(staged: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::hard_link(staged, path) {
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            durable::write_new(path, bytes, MODE)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(write(folder.path(), "r-1.json", b"one").unwrap(), "r-1.json");
        assert_eq!(write(folder.path(), "r-1.json", b"one").unwrap(), "r-1.json");
        assert_eq!(write(folder.path(), "r-1.json", b"two").unwrap(), "r-2.json");
        assert_eq!(fs::read(folder.path().join("r-1.json")).unwrap(), b"one");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn a_folder_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(&folder.path().join("none"), "r.json", b"one").unwrap_err();
        assert!(error.to_string().contains("make it"), "{error}");
    }
}
