//! What the last `verify` came to, for whoever watches: it is another process, which may have ended long ago, so it leaves
//! word in the data directory, and a server that runs there shows it in its metrics.

use std::io::{Error, ErrorKind, Result};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::App;
use crate::clock::AHEAD;

/// A check that went to its end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Checked {
    pub at: Timestamp,
    pub damages: u64,
    /// When it last found nothing.
    pub sound_at: Option<Timestamp>,
}

impl App {
    /// The last check on this data directory; `None` where there was none, or where word of it does not read back.
    #[must_use]
    pub fn checked(&self) -> Option<Checked> {
        let mut checked: Checked = serde_json::from_slice(&std::fs::read(self.checked_file()).ok()?).ok()?;
        // A clock that was ahead must not make every later check superfluous.
        checked.sound_at = checked.sound_at.filter(|at| at.duration_since(self.clock.now()) <= AHEAD);
        Some(checked)
    }

    /// Leaves word of a check that ended now.
    ///
    /// # Errors
    /// The file can't be written; the check itself stands.
    pub fn leave_word(&self, damages: u64) -> Result<()> {
        let at = self.clock.now();
        let sound_at = if damages == 0 { Some(at) } else { self.checked().and_then(|checked| checked.sound_at) };
        let text = serde_json::to_string(&Checked { at, damages, sound_at })
            .map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        // Whoever reads it sees one or the other.
        let (file, new) = (self.checked_file(), self.config.data_dir.join("verify.json.new"));
        std::fs::write(&new, text + "\n")?;
        std::fs::rename(new, file)
    }

    fn checked_file(&self) -> PathBuf {
        self.config.data_dir.join("verify.json")
    }
}
