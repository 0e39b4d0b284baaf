//! Webhooks in files: appended, made durable, read in order, and removed once they are journaled.
//!
//! A line is the CRC-32 of what follows, a space, and one webhook as JSON. Lines are in numbered files, so that what is
//! journaled makes room while more comes in. A line that lacks its end was never acknowledged.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fault;
use crate::journal::SALT_BYTES;

/// A file is followed by the next one from this size on, in bytes.
const FILE_BYTES: u64 = 16 << 20;
/// What says how far the files are journaled.
const PROGRESS: &str = "progress.json";
/// Where lines are put that do not read back.
const DAMAGED: &str = "damaged";

/// A webhook that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) actor: String,
    pub(super) received_at: Timestamp,
    /// The least size of the journal before somebody tried to append it; absent where nobody did.
    pub(super) tried_since: Option<u64>,
    /// The one of its body, which tells it from another that says the same.
    pub(super) salt: [u8; SALT_BYTES],
    pub(super) body: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    actor: String,
    received_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tried_since: Option<u64>,
    salt: String,
    body: String,
}

/// Up to where the files are journaled, and what the next attempt began with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    file: u64,
    offset: u64,
    /// The least size of the journal before an attempt at what follows; absent where there was none yet.
    tried_since: Option<u64>,
}

/// The next webhooks in order.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) waiting: Vec<Waiting>,
    /// The least size of the journal before any attempt at one of them.
    pub(super) tried_since: Option<u64>,
    /// Damaged ones among them.
    lines: u64,
    end: (u64, u64),
}

impl Next {
    /// How many lines they are, damaged ones among them.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }
}

/// The files of one node. All of it blocks.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    /// Numbers and lengths, the oldest first.
    files: VecDeque<(u64, u64)>,
    last: Option<File>,
    /// More may lie in the last file than its length says.
    dirty: bool,
    progress: Progress,
    /// Webhooks that wait.
    count: u64,
}

impl Files {
    /// Takes up what an earlier run left.
    ///
    /// # Errors
    /// The folder can't be used.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let progress = match fs::read(folder.join(PROGRESS)) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Progress::default(),
            Err(error) => return Err(error),
        };
        let mut this =
            Self { folder: folder.into(), files: VecDeque::new(), last: None, dirty: false, progress, count: 0 };
        let mut numbers: Vec<u64> = match fs::read_dir(folder) {
            Ok(entries) => entries.filter_map(|entry| number(&entry.ok()?.path())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        numbers.sort_unstable();
        for number in numbers {
            let (whole, lines) = this.whole_lines(number)?;
            this.files.push_back((number, whole));
            this.count += lines;
        }
        if this.files.front().is_some_and(|(first, _)| *first != this.progress.file) {
            // It was written for files that are gone.
            this.progress = Progress { file: this.first(), ..Progress::default() };
        }
        this.forget_what_is_journaled()?;
        Ok(this)
    }

    /// The length of a file up to its last complete line, and how many lines wait in it; what follows is cut off.
    fn whole_lines(&self, number: u64) -> io::Result<(u64, u64)> {
        let (path, mut whole, mut lines) = (self.path(number), 0, 0);
        let mut reader = BufReader::new(File::open(&path)?);
        let mut line = Vec::new();
        let from = if number == self.progress.file { self.progress.offset } else { 0 };
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line)? as u64;
            if length == 0 || line.last() != Some(&b'\n') {
                break;
            }
            lines += u64::from(whole >= from);
            whole += length;
        }
        File::options().write(true).open(&path)?.set_len(whole)?;
        Ok((whole, lines))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Webhooks that wait.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Bytes that lie in the files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, length)| length).sum()
    }

    /// Writes webhooks behind all others; they are durable when it returns, or not there.
    ///
    /// # Errors
    /// The disk. None of them will be journaled then.
    pub(super) fn append(&mut self, waiting: &[Waiting]) -> io::Result<()> {
        let mut text = Vec::new();
        for one in waiting {
            text.extend(line_of(one)?);
        }
        let length = self.room()?;
        self.cut(length)?;
        if let Err(error) = self.write(&text) {
            // What was written of it is taken back: now, or before anything else is written.
            self.dirty = true;
            let _ = self.cut(length);
            return Err(error);
        }
        if let Some((_, length)) = self.files.back_mut() {
            *length += text.len() as u64;
        }
        self.count += waiting.len() as u64;
        Ok(())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        if self.dirty {
            let file = self.last.as_mut().ok_or(io::ErrorKind::NotFound)?;
            file.set_len(length)?;
            file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let file = self.last.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.write_all(text)?;
        fault::step("webhooks.written")?;
        file.sync_data()?;
        fault::step("webhooks.synced")
    }

    /// Opens the last file, or a new one where there is none or it is long enough; its length.
    fn room(&mut self) -> io::Result<u64> {
        if !self.dirty && self.files.back().is_none_or(|(_, length)| *length >= FILE_BYTES) {
            let number = self.files.back().map_or(self.progress.file, |(last, _)| last + 1);
            fs::create_dir_all(&self.folder)?;
            File::create(self.path(number))?;
            File::open(&self.folder)?.sync_all()?;
            if let Some(above) = self.folder.parent() {
                File::open(above)?.sync_all()?;
            }
            self.files.push_back((number, 0));
            self.last = None;
        }
        let (number, length) = *self.files.back().ok_or(io::ErrorKind::NotFound)?;
        if self.last.is_none() {
            self.last = Some(File::options().append(true).open(self.path(number))?);
        }
        Ok(length)
    }

    /// The next webhooks, at most `limit` and not many bytes; lines that do not read back are put aside and passed over.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn next(&mut self, limit: usize, bytes: usize) -> io::Result<Next> {
        let Progress { file, offset, tried_since } = self.progress;
        let mut next = Next { waiting: Vec::new(), tried_since, lines: 0, end: (file, offset) };
        let mut reader = BufReader::new(File::open(self.path(file))?);
        reader.seek(SeekFrom::Start(offset))?;
        let (mut taken, mut line) = (0, Vec::new());
        let length = self.files.front().map_or(0, |(_, length)| *length);
        while next.waiting.len() < limit && taken < bytes && next.end.1 < length {
            line.clear();
            next.end.1 += reader.read_until(b'\n', &mut line)? as u64;
            taken += line.len();
            next.lines += 1;
            match read_line(&line) {
                Some(waiting) => {
                    next.tried_since = least(next.tried_since, waiting.tried_since);
                    next.waiting.push(waiting);
                }
                None => {
                    tracing::error!(
                        "a webhook that waited does not read back; it is kept in the spool's folder of damaged lines"
                    );
                    metrics::counter!("callvault_webhook_spool_damaged_total").increment(1);
                    self.put_aside(&line)?;
                }
            }
        }
        Ok(next)
    }

    fn put_aside(&self, line: &[u8]) -> io::Result<()> {
        let folder = self.folder.join(DAMAGED);
        fs::create_dir_all(&folder)?;
        let mut file = File::create(folder.join(uuid::Uuid::now_v7().to_string()))?;
        file.write_all(line)?;
        file.sync_all()
    }

    /// Notes that the next webhooks are about to be appended to a journal of a size: should nobody learn what became of
    /// it, they are looked for from there on.
    ///
    /// # Errors
    /// The disk; then they must not be appended.
    pub(super) fn begin(&mut self, next: &mut Next, journal_size: u64) -> io::Result<()> {
        next.tried_since = least(next.tried_since, Some(journal_size));
        self.progress.tried_since = next.tried_since;
        self.write_progress()
    }

    /// Takes out what is journaled.
    ///
    /// # Errors
    /// The disk; it is then journaled again, which changes nothing.
    pub(super) fn done(&mut self, next: &Next) -> io::Result<()> {
        let (file, offset) = next.end;
        self.count = self.count.saturating_sub(next.lines);
        self.progress = Progress { file, offset, tried_since: None };
        self.forget_what_is_journaled()
    }

    /// Removes files of which all is journaled, and the last trace where that is all.
    fn forget_what_is_journaled(&mut self) -> io::Result<()> {
        while let Some((number, length)) = self.files.front().copied()
            && number == self.progress.file
            && self.progress.offset >= length
        {
            let next = self.files.get(1).map_or(number + 1, |(next, _)| *next);
            self.progress = Progress { file: next, offset: 0, tried_since: None };
            if self.files.len() > 1 {
                self.write_progress()?;
            } else {
                self.last = None;
            }
            remove(&self.path(number))?;
            self.files.pop_front();
        }
        if self.files.is_empty() {
            self.count = 0;
            remove(&self.folder.join(PROGRESS))?;
        }
        Ok(())
    }

    fn write_progress(&self) -> io::Result<()> {
        let (path, new) = (self.folder.join(PROGRESS), self.folder.join("progress.new"));
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(&self.progress)?)?;
        file.sync_data()?;
        fs::rename(new, path)?;
        File::open(&self.folder)?.sync_all()?;
        fault::step("webhooks.noted")
    }

    fn first(&self) -> u64 {
        self.files.front().map_or(0, |(first, _)| *first)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:012}.webhooks"))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The number in a file's name, if it is one of ours.
fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".webhooks")?.parse().ok()
}

fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    [one, other].into_iter().flatten().min()
}

fn line_of(waiting: &Waiting) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(&Line {
        actor: waiting.actor.clone(),
        received_at: waiting.received_at,
        tried_since: waiting.tried_since,
        salt: hex::encode(waiting.salt),
        body: STANDARD.encode(&waiting.body),
    })?;
    Ok(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).into_bytes())
}

fn read_line(line: &[u8]) -> Option<Waiting> {
    let (crc, json) = std::str::from_utf8(line).ok()?.strip_suffix('\n')?.split_once(' ')?;
    if u32::from_str_radix(crc, 16).ok()? != crc32fast::hash(json.as_bytes()) {
        return None;
    }
    let line: Line = serde_json::from_str(json).ok()?;
    Some(Waiting {
        actor: line.actor,
        received_at: line.received_at,
        tried_since: line.tried_since,
        salt: hex::decode(&line.salt).ok()?.try_into().ok()?,
        body: STANDARD.decode(&line.body).ok()?,
    })
}
