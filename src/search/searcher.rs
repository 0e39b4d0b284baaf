//! The reading side of the index: beside a running writer, also from another process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use tantivy::directory::error::OpenReadError;
use tantivy::directory::{Directory, MmapDirectory};
use tantivy::schema::Value;
use tantivy::{DocAddress, DocSet, IndexReader, ReloadPolicy, SegmentReader, TERMINATED, TantivyDocument, Term};

use super::cache::Cache;
use super::cursor::{self, Sort};
use super::error::{Error, guarded};
use super::expr::Expr;
use super::facets::{Counts, Facet};
use super::files::{Files, check};
use super::filters::QueryContext;
use super::gather::{Gathered, Hit, Plan, gather};
use super::index::{Index, LIVE, Payload, usable};
use super::schema::{self, DIGEST, Fields};
use super::text;

/// tantivy's list of the files that it wrote.
const MANAGED: &str = ".managed.json";
/// tantivy's list of the segments.
const META: &str = "meta.json";

/// Which part of the result is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Most calls on the page; 0 for totals alone.
    pub limit: usize,
    pub sort: Sort,
    /// [`Found::next_cursor`] of the page before.
    pub cursor: Option<String>,
    pub facets: Vec<Facet>,
    /// Whether to count all matches.
    pub count: bool,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: 50, sort: Sort::default(), cursor: None, facets: Vec::new(), count: true }
    }
}

/// The answer to a search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Calls that match, on all pages; `None` if they were not to be counted.
    pub total: Option<u64>,
    /// In the order of the sort.
    pub call_ids: Vec<String>,
    /// Where the next page begins; `None` on the last one.
    pub next_cursor: Option<String>,
    /// By facet, then by value; only what was asked for.
    pub facets: Counts,
}

/// Counts over a whole result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    pub calls: u64,
    /// Calls in which somebody spoke, or speaks: in progress or ended.
    pub connected: u64,
    pub by_status: std::collections::BTreeMap<String, u64>,
    pub by_recording: std::collections::BTreeMap<String, u64>,
    /// Calls without a direction are missing here.
    pub by_direction: std::collections::BTreeMap<String, u64>,
    /// Calls with an open flag, by rule.
    pub open_flags: std::collections::BTreeMap<String, u64>,
}

/// One state of the index, and what its commit says of itself.
struct Snapshot {
    searcher: tantivy::Searcher,
    payload: Option<Payload>,
}

/// Answers searches from the last commit it has seen; [`Searcher::refresh`] looks for a newer one.
/// Cheap to share, and its methods may run at the same time.
pub struct Searcher {
    live: PathBuf,
    /// Those of the process that writes the index; `None` for whoever only reads beside it.
    files: Option<Files>,
    index: tantivy::Index,
    reader: IndexReader,
    fields: Fields,
    snapshot: RwLock<Arc<Snapshot>>,
    cache: Cache,
}

impl Searcher {
    /// Opens the index in `dir` for reading. With more than one thread the segments of a large
    /// index are searched in parallel.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none, [`Error::Damaged`] if it can't be used.
    pub fn open(dir: &Path, threads: usize) -> Result<Self, Error> {
        let live = dir.join(LIVE);
        guarded(|| Self::with(&live, None, schema::open(open_directory(&live)?)?, threads))
    }

    /// Opens the index that this process writes, on the files that it holds.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn beside(index: &Index, dir: &Path, threads: usize) -> Result<Self, Error> {
        let files = index.files().clone();
        guarded(|| Self::with(&dir.join(LIVE), Some(files.clone()), schema::open(files)?, threads))
    }

    fn with(live: &Path, files: Option<Files>, mut index: tantivy::Index, threads: usize) -> Result<Self, Error> {
        usable(&index.load_metas()?)?;
        if threads > 1 {
            index.set_multithread_executor(threads)?;
        }
        let builder = index.reader_builder().reload_policy(ReloadPolicy::Manual);
        // Only ids are stored, and each is asked for once.
        let reader = builder.doc_store_cache_num_blocks(4).try_into()?;
        let snapshot = RwLock::new(Arc::new(snapshot(&index, &reader)?));
        let (_, fields) = schema::schema();
        Ok(Self { live: live.to_owned(), files, index, reader, fields, snapshot, cache: Cache::default() })
    }

    /// Whether it reads the very files that `index` writes.
    pub(super) fn is_beside(&self, index: &Index) -> bool {
        self.files.as_ref().is_some_and(|files| files.is(index.files()))
    }

    /// Whether its files are out of everybody's reach.
    pub(super) fn is_private(&self) -> bool {
        self.files.is_some()
    }

    /// Goes over to the last commit; searches that run stay with theirs.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it can't be read, also after the index was replaced: open it again.
    pub fn refresh(&self) -> Result<(), Error> {
        let fresh = Arc::new(guarded(|| snapshot(&self.index, &self.reader))?);
        self.cache.retain(&fresh.searcher.segment_readers().iter().map(SegmentReader::segment_id).collect());
        *self.snapshot.write().unwrap_or_else(std::sync::PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Finds the calls for which `expr` holds.
    ///
    /// # Errors
    /// [`Error::Query`] if the cursor is of another search, [`Error::Damaged`] if the index is.
    pub fn search(&self, expr: &Expr, page: &Page, context: &QueryContext) -> Result<Found, Error> {
        let decode = |cursor: &String| cursor::decode(cursor, page.sort, expr);
        let after = page.cursor.as_ref().map(decode).transpose()?;
        guarded(|| {
            let snapshot = self.snapshot();
            let plan = Plan {
                sort: page.sort,
                // One more than asked for tells whether there is a next page.
                limit: if page.limit == 0 { 0 } else { page.limit.saturating_add(1) },
                after,
                count: page.count,
                facets: &page.facets,
                tz: &context.tz,
                fields: &self.fields,
                cache: &self.cache,
            };
            let Gathered { total, mut hits, facets } = gather(&snapshot.searcher, expr, &plan)?;
            let more = hits.len() > page.limit;
            hits.truncate(page.limit);
            let last = hits.last().filter(|_| more);
            Ok(Found {
                total: page.count.then_some(total),
                next_cursor: last.map(|hit| cursor::encode(hit.key, page.sort, expr)),
                call_ids: self.ids(&snapshot, &hits)?,
                facets,
            })
        })
    }

    /// Counts the calls for which `expr` holds by what matters for an overview.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the index is.
    pub fn totals(&self, expr: &Expr, context: &QueryContext) -> Result<Totals, Error> {
        let facets = vec![Facet::Status, Facet::Recording, Facet::Direction, Facet::Flag];
        let page = Page { limit: 0, facets, ..Page::default() };
        let mut found = self.search(expr, &page, context)?;
        let mut take = |facet: Facet| found.facets.remove(facet.as_str()).unwrap_or_default();
        let by_status = take(Facet::Status);
        let count = |status: &str| by_status.get(status).copied().unwrap_or_default();
        Ok(Totals {
            connected: count("in_progress") + count("ended"),
            by_recording: take(Facet::Recording),
            by_direction: take(Facet::Direction),
            open_flags: take(Facet::Flag),
            by_status,
            calls: found.total.unwrap_or_default(),
        })
    }

    /// The journal entry to be read next, as of the commit that is searched: everything before it
    /// can be found. 0 if nothing was committed.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.snapshot().payload.as_ref().map_or(0, |payload| payload.cursor)
    }

    /// The cursor with which the index was first committed after it was made or cleared.
    #[must_use]
    pub fn built_at(&self) -> Option<u64> {
        self.snapshot().payload.as_ref().map(|payload| payload.built_at)
    }

    /// How many calls can be found.
    #[must_use]
    pub fn num_calls(&self) -> u64 {
        self.snapshot().searcher.num_docs()
    }

    /// [`super::CallDoc::digest`] of the call as it was indexed; `None` if it was not.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the index is.
    pub fn digest_of(&self, call_id: &str) -> Result<Option<u64>, Error> {
        let term = Term::from_field_text(self.fields.call_id, &text::term(call_id));
        guarded(|| {
            for segment in self.snapshot().searcher.segment_readers() {
                let postings = segment.inverted_index(self.fields.call_id)?;
                let option = tantivy::schema::IndexRecordOption::Basic;
                let Some(mut postings) = postings.read_postings(&term, option)? else { continue };
                while postings.doc() != TERMINATED {
                    let doc = postings.doc();
                    if !segment.is_deleted(doc) {
                        return Ok(segment.fast_fields().u64(DIGEST)?.first(doc));
                    }
                    postings.advance();
                }
            }
            Ok(None)
        })
    }

    /// Reads every file of the last commit and compares its checksum; returns the names of those that are damaged,
    /// missing or no file of the index, and why. Takes as long as reading the index. Where nobody writes it, nothing
    /// else may lie there.
    ///
    /// # Errors
    /// [`Error::Damaged`] if not even the list of files can be read.
    pub fn check(&self, nobody_writes: bool) -> Result<Vec<(String, String)>, Error> {
        guarded(|| {
            // Opened afresh: the list of files in memory is as old as this searcher.
            let directory = open_directory(&self.live)?;
            let index = schema::open(directory.clone())?;
            let managed = index.directory().list_managed_files();
            let mut damaged: Vec<(PathBuf, String)> = Vec::new();
            let listed = index.load_metas()?.list_segment_files();
            let on_disk = names_in(&self.live)?;
            // Of the files that a segment may have it has those that were ever written, or that lie there.
            for file in listed.iter().filter(|file| managed.contains(*file) || on_disk.contains_key(*file)) {
                match directory.get_file_handle(file) {
                    Ok(handle) => damaged.extend(check(&handle).err().map(|error| (file.clone(), error.to_string()))),
                    // A running writer merges segments and deletes what it merged.
                    Err(OpenReadError::FileDoesNotExist(_))
                        if !index.load_metas()?.list_segment_files().contains(file) => {}
                    Err(OpenReadError::FileDoesNotExist(_)) => damaged.push((file.clone(), "it is missing".into())),
                    Err(_) => damaged.push((file.clone(), "it can't be read".into())),
                }
            }
            for (file, regular) in on_disk {
                let known = managed.contains(&file) || file == Path::new(MANAGED);
                if !regular {
                    damaged.push((file, "it is no file".into()));
                } else if !known && (listed.contains(&file) || file == Path::new(META)) {
                    damaged.push((MANAGED.into(), "it does not list every file of the index".into()));
                } else if nobody_writes && !known && file.extension().is_none_or(|extension| extension != "lock") {
                    damaged.push((file, "it is no file of the index".into()));
                }
            }
            let mut names: Vec<_> =
                damaged.iter().map(|(file, why)| (file.display().to_string(), why.clone())).collect();
            names.sort_unstable();
            names.dedup();
            Ok(names)
        })
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn ids(&self, snapshot: &Snapshot, hits: &[Hit]) -> Result<Vec<String>, Error> {
        let id = |address: DocAddress| {
            let document: TantivyDocument = snapshot.searcher.doc(address)?;
            let id = document.get_first(self.fields.stored_id).and_then(|value| value.as_str());
            id.map(str::to_owned).ok_or_else(|| Error::Damaged("a call has no id".to_owned()))
        };
        hits.iter().map(|hit| id(hit.address)).collect()
    }
}

/// What lies in a folder, and whether it is a plain file.
fn names_in(live: &Path) -> Result<BTreeMap<PathBuf, bool>, Error> {
    let entries = std::fs::read_dir(live)?;
    entries
        .map(|entry| entry.and_then(|e| Ok((e.file_name().into(), e.file_type()?.is_file()))).map_err(Error::Io))
        .collect()
}

fn open_directory(live: &Path) -> Result<MmapDirectory, Error> {
    if !live.join(META).try_exists().map_err(Error::Io)? {
        return Err(Error::Missing);
    }
    Ok(MmapDirectory::open(live).map_err(tantivy::TantivyError::from)?)
}

/// The last commit with its own payload. A commit in between is met by trying again; if commits
/// keep coming, the payload is the older one, which promises less than is there.
fn snapshot(index: &tantivy::Index, reader: &IndexReader) -> Result<Snapshot, Error> {
    const TRIES: usize = 3;
    let mut before = index.load_metas()?;
    for _ in 1..TRIES {
        reader.reload()?;
        let after = index.load_metas()?;
        if after.opstamp == before.opstamp && after.payload == before.payload {
            break;
        }
        before = after;
        reader.reload()?;
    }
    Ok(Snapshot { searcher: reader.searcher(), payload: usable(&before)? })
}
