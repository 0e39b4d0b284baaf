//! The writing side of the index. Only `serve` opens it.
//!
//! The index lies in `live` below its folder. One that can't be used is renamed to `aside`, where
//! it stays until the next one takes its place: it can be looked at, and it is never in the way.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tantivy::directory::error::OpenReadError;
use tantivy::directory::{Directory, DirectoryLock, INDEX_WRITER_LOCK, MmapDirectory};
use tantivy::index::IndexMeta;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::{IndexWriter, Term};

use super::doc::CallDoc;
use super::error::{Error, guarded};
use super::files::Files;
use super::number::Forms;
use super::schema::{self, Fields, VERSION};
use super::text;

pub(super) const LIVE: &str = "live";
const ASIDE: &str = "aside";

/// The smallest memory budget that tantivy allows a writer, in bytes: for following the journal.
pub const STEADY_BYTES: usize = 15_000_000;
/// Writer memory while the index is built from nothing, in bytes.
pub const FILLING_BYTES: usize = 120_000_000;

/// Segments of more calls are not merged any more: one merge stays short, and several segments
/// can be searched in parallel. Once enough of its calls were replaced, a segment counts again.
const MERGED_CALLS: usize = 5_000_000;

/// What is kept in every commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Payload {
    pub version: u32,
    /// The version of tantivy that wrote it.
    pub library: String,
    /// Country of numbers without country code, as they were indexed.
    pub region: String,
    /// The journal entry to be read next.
    pub cursor: u64,
    /// The cursor of the first commit.
    pub built_at: u64,
}

/// In which state an index was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// Usable; the journal is to be followed from `cursor`.
    Ready { cursor: u64 },
    /// New, or never committed.
    Empty,
    /// The one that was there could not be used; a new, empty one took its place.
    RebuiltBecause(String),
}

/// The index, open for writing. Dropping it forgets what was not committed.
pub struct Index {
    index: tantivy::Index,
    files: Files,
    /// Missing only while it is replaced.
    writer: Option<IndexWriter>,
    fields: Fields,
    forms: Forms,
    built_at: Option<u64>,
    uncommitted: bool,
}

impl Index {
    /// Opens the index in `dir`, or makes one. What can't be read, or was made by another version
    /// or for another `region`, is renamed aside and replaced by an empty one.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process writes it, [`Error::Io`] if the disk fails; neither
    /// touches what is there.
    pub fn open_or_rebuild(dir: &Path, region: &str) -> Result<(Self, Opened), Error> {
        let live = dir.join(LIVE);
        fs::create_dir_all(&live).map_err(Error::Io)?;
        let reason = match guarded(|| Self::open(&live, region)) {
            Ok(Some(index)) => {
                let opened = match index.payload()? {
                    Some(payload) => Opened::Ready { cursor: payload.cursor },
                    None => Opened::Empty,
                };
                return Ok((index, opened));
            }
            Ok(None) => return Ok((Self::create(&live, region)?, Opened::Empty)),
            Err(Error::Damaged(reason)) => reason,
            Err(error) => return Err(error),
        };
        // Whoever still writes it must not lose it under its feet.
        Self::discard(dir)?;
        Ok((Self::create(&live, region)?, Opened::RebuiltBecause(reason)))
    }

    /// Renames the index in `dir` aside, so that the next [`Self::open_or_rebuild`] finds none: for
    /// damage that was met while reading. Nothing happens if there is no index.
    ///
    /// # Errors
    /// [`Error::Locked`] if an [`Index`] is still open on it, [`Error::Io`] if the disk fails.
    pub fn discard(dir: &Path) -> Result<(), Error> {
        let live = dir.join(LIVE);
        if !live.try_exists().map_err(Error::Io)? {
            return Ok(());
        }
        let _lock = lock(&live)?;
        set_aside(dir).map_err(Error::Io)
    }

    /// `None` if there is no index.
    fn open(live: &Path, region: &str) -> Result<Option<Self>, Error> {
        let files = Files::open(live)?;
        if !tantivy::Index::exists(&files).map_err(tantivy::TantivyError::from)? {
            return match fs::read_dir(live)?.any(|entry| entry.is_ok_and(|entry| !is_lock(&entry))) {
                true => Err(Error::Damaged("its list of segments is missing".to_owned())),
                false => Ok(None),
            };
        }
        let index = schema::open(files.clone())?;
        let meta = index.load_metas()?;
        let payload = usable(&meta)?;
        if let Some(payload) = &payload
            && payload.region != region
        {
            let reason = format!("it was made for region {}", payload.region);
            return Err(Error::Damaged(reason));
        }
        hold_all(&index, &files)?;
        // Opens every segment: what lies in a file may make no sense though its checksum is right.
        index.reader_builder().reload_policy(tantivy::ReloadPolicy::Manual).try_into()?;
        Self::with(index, files, region, payload).map(Some)
    }

    fn create(live: &Path, region: &str) -> Result<Self, Error> {
        fs::create_dir_all(live).map_err(Error::Io)?;
        let (schema, _) = schema::schema();
        let files = Files::open(live)?;
        let builder = tantivy::Index::builder().schema(schema).settings(schema::settings());
        let index = builder.tokenizers(schema::tokenizers()).open_or_create(files.clone())?;
        Self::with(index, files, region, None)
    }

    fn with(index: tantivy::Index, files: Files, region: &str, payload: Option<Payload>) -> Result<Self, Error> {
        let writer = Some(new_writer(&index, STEADY_BYTES)?);
        files.tidy().map_err(Error::Io)?;
        let (_, fields) = schema::schema();
        let built_at = payload.map(|payload| payload.built_at);
        Ok(Self { index, files, writer, fields, forms: Forms::new(region), built_at, uncommitted: false })
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// Takes every file of the last commit out of everybody's reach.
    pub(super) fn hold(&self) -> Result<(), Error> {
        hold_all(&self.index, &self.files)
    }

    /// The name of a file that somebody else touched since this process wrote or read it: what lies there can't be
    /// trusted any more, though nothing that was read so far is wrong.
    #[must_use]
    pub fn disturbed(&self) -> Option<String> {
        self.files.disturbed().map(|file| file.display().to_string())
    }

    fn payload(&self) -> Result<Option<Payload>, Error> {
        usable(&self.index.load_metas()?)
    }

    /// Adds calls or replaces what is known of them. Of two states of one call the later wins.
    ///
    /// # Errors
    /// After an error the index must be opened again; what was not committed is lost.
    pub fn apply(&mut self, calls: &[CallDoc]) -> Result<(), Error> {
        for call in calls {
            self.uncommitted = true;
            let id = Term::from_field_text(self.fields.call_id, &text::term(&call.call_id));
            let document = self.fields.document(call, &mut self.forms);
            let writer = self.writer()?;
            writer.delete_term(id);
            writer.add_document(document)?;
        }
        Ok(())
    }

    /// Adds calls of which the index knows nothing yet: much faster than [`Self::apply`], for
    /// filling an empty index. A call that is there already would be found twice.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_new(&mut self, calls: &[CallDoc]) -> Result<(), Error> {
        for call in calls {
            self.uncommitted = true;
            let document = self.fields.document(call, &mut self.forms);
            self.writer()?.add_document(document)?;
        }
        Ok(())
    }

    /// Makes everything applied so far durable and searchable, together with `cursor`, the
    /// sequence number of the journal entry to be read next.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn commit(&mut self, cursor: u64) -> Result<(), Error> {
        let built_at = *self.built_at.get_or_insert(cursor);
        let library = tantivy::version_string().to_owned();
        let payload = Payload { version: VERSION, library, region: self.forms.region().to_owned(), cursor, built_at };
        let payload = serde_json::to_string(&payload).map_err(io::Error::from)?;
        let mut commit = self.writer()?.prepare_commit()?;
        commit.set_payload(&payload);
        commit.commit()?;
        self.uncommitted = false;
        Ok(())
    }

    /// Forgets every call and starts again at journal entry 0; durable on return.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn clear(&mut self) -> Result<(), Error> {
        let writer = self.writer()?;
        writer.rollback()?;
        writer.delete_all_documents()?;
        self.built_at = None;
        self.commit(0)?;
        // The next commit says up to where the index was built.
        self.built_at = None;
        Ok(())
    }

    /// Gives the writer `bytes` of memory, at least [`STEADY_BYTES`]: more makes larger segments
    /// and so a faster rebuild. Waits for running merges.
    ///
    /// # Errors
    /// [`Error::Uncommitted`] if changes wait for a commit.
    pub fn set_memory(&mut self, bytes: usize) -> Result<(), Error> {
        if self.uncommitted {
            return Err(Error::Uncommitted);
        }
        // The old writer has to give back its lock before the new one can take it.
        if let Some(writer) = self.writer.take() {
            writer.wait_merging_threads()?;
        }
        self.writer = Some(new_writer(&self.index, bytes)?);
        Ok(())
    }

    /// Writes every segment anew that has replaced calls in it, so that nothing is left of what they said. Everything has to
    /// be committed. Waits until it is done.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn forget_replaced(&mut self) -> Result<(), Error> {
        let segments = self.index.searchable_segment_metas()?;
        for segment in segments.iter().filter(|segment| segment.has_deletes()) {
            // One that a merge has taken meanwhile is no more.
            let merged = self.writer()?.merge(&[segment.id()]).wait();
            if let Err(error) = merged {
                let there = self.index.searchable_segment_ids()?.contains(&segment.id());
                if there {
                    return Err(error.into());
                }
            }
        }
        self.writer()?.garbage_collect_files().wait()?;
        Ok(())
    }

    /// Whether no call is indexed, as far as was committed.
    ///
    /// # Errors
    /// If the list of segments can't be read.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.index.searchable_segment_metas()?.iter().all(|segment| segment.num_docs() == 0))
    }

    /// Waits until all merges are done.
    ///
    /// # Errors
    /// If a merge failed. Nothing that was committed is lost.
    pub fn close(mut self) -> Result<(), Error> {
        match self.writer.take() {
            Some(writer) => Ok(writer.wait_merging_threads()?),
            None => Ok(()),
        }
    }

    fn writer(&mut self) -> Result<&mut IndexWriter, Error> {
        // Only missing if opening it failed in between.
        self.writer.as_mut().ok_or(Error::Locked)
    }
}

/// What the last commit says of itself; `None` if nothing was committed yet.
///
/// # Errors
/// [`Error::Damaged`] if it is not an index of this version.
pub(super) fn usable(meta: &IndexMeta) -> Result<Option<Payload>, Error> {
    let (schema, _) = schema::schema();
    if meta.schema != schema || meta.index_settings != schema::settings() {
        return Err(Error::Damaged("it was made by another version".to_owned()));
    }
    let Some(payload) = &meta.payload else {
        return match meta.segments.is_empty() {
            true => Ok(None),
            false => Err(Error::Damaged("its last commit has no cursor".to_owned())),
        };
    };
    let unreadable = |_| Error::Damaged("its cursor can't be read".to_owned());
    let payload: Payload = serde_json::from_str(payload).map_err(unreadable)?;
    if payload.version != VERSION {
        let reason = format!("it has version {}, and this program writes {VERSION}", payload.version);
        return Err(Error::Damaged(reason));
    }
    if payload.library != tantivy::version_string() {
        return Err(Error::Damaged(format!("it was written by {}", payload.library)));
    }
    Ok(Some(payload))
}

fn new_writer(index: &tantivy::Index, bytes: usize) -> Result<IndexWriter, Error> {
    let options = IndexWriterOptions::builder()
        .num_worker_threads(1)
        .num_merge_threads(1)
        .memory_budget_per_thread(bytes.max(STEADY_BYTES))
        .build();
    let writer: IndexWriter = index.writer_with_options(options)?;
    let mut merges = LogMergePolicy::default();
    // A call changes a few times soon after it came: small segments fill up with replaced
    // documents, which cost every search until they are merged away.
    merges.set_del_docs_ratio_before_merge(0.3);
    merges.set_max_docs_before_merge(MERGED_CALLS);
    writer.set_merge_policy(Box::new(merges));
    // A new writer gives its first operation the number of the last commit (tantivy 0.27). Were that the deletion of a
    // replaced document, a merge could lose it: segments that are up to that commit take it for done, and the call
    // would be found twice from then on. Nothing gets this number.
    writer.run(Vec::new())?;
    Ok(writer)
}

/// tantivy opens some files only when they are first needed; by then somebody may have touched them.
fn hold_all(index: &tantivy::Index, files: &Files) -> Result<(), Error> {
    let written = index.directory().list_managed_files();
    for file in index.load_metas()?.list_segment_files().intersection(&written) {
        match files.get_file_handle(file) {
            // A merge just ended, and what it merged was deleted.
            Err(OpenReadError::FileDoesNotExist(_)) if !index.load_metas()?.list_segment_files().contains(file) => {}
            other => drop(other.map_err(tantivy::TantivyError::from)?),
        }
    }
    Ok(())
}

/// Keeps any other writer out for as long as it lives.
fn lock(live: &Path) -> Result<DirectoryLock, Error> {
    let directory = MmapDirectory::open(live).map_err(tantivy::TantivyError::from)?;
    directory.acquire_lock(&INDEX_WRITER_LOCK).map_err(|error| tantivy::TantivyError::LockFailure(error, None).into())
}

fn set_aside(dir: &Path) -> io::Result<()> {
    let aside = dir.join(ASIDE);
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(dir.join(LIVE), aside)
}

fn is_lock(entry: &fs::DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().ends_with(b".lock")
}
