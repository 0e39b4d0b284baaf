//! The reading side of the index: beside a running writer, also from another process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use tantivy::directory::MmapDirectory;
use tantivy::directory::error::OpenReadError;
use tantivy::schema::Value;
use tantivy::{DocAddress, DocSet, IndexReader, ReloadPolicy, SegmentReader, TERMINATED, TantivyDocument, Term};

use super::cache::Cache;
use super::cursor::{self, Sort};
use super::error::{Error, guarded};
use super::expr::Expr;
use super::facets::{Counts, Facet};
use super::filters::QueryContext;
use super::gather::{Gathered, Hit, Plan, gather};
use super::index::{LIVE, Payload, usable};
use super::schema::{self, DIGEST, Fields};
use super::text;

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
        guarded(|| {
            let directory = open_directory(&live)?;
            let mut index = schema::open(directory)?;
            usable(&index.load_metas()?)?;
            if threads > 1 {
                index.set_multithread_executor(threads)?;
            }
            let builder = index.reader_builder().reload_policy(ReloadPolicy::Manual);
            // Only ids are stored, and each is asked for once.
            let reader = builder.doc_store_cache_num_blocks(4).try_into()?;
            let snapshot = RwLock::new(Arc::new(snapshot(&index, &reader)?));
            let (_, fields) = schema::schema();
            Ok(Self { live: live.clone(), index, reader, fields, snapshot, cache: Cache::default() })
        })
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

    /// Reads every file of the last commit and compares its checksum; returns the names of those
    /// that are damaged or missing. Takes as long as reading the index.
    ///
    /// # Errors
    /// [`Error::Damaged`] if not even the list of files can be read.
    pub fn check(&self) -> Result<Vec<String>, Error> {
        guarded(|| {
            // Opened afresh: the list of files in memory is as old as this searcher.
            let index = schema::open(open_directory(&self.live)?)?;
            let managed = index.directory().list_managed_files();
            let mut damaged = Vec::new();
            let listed = index.load_metas()?.list_segment_files();
            for file in listed.intersection(&managed) {
                match index.directory().validate_checksum(file) {
                    Ok(true) => {}
                    Ok(false) => damaged.push(file),
                    // A running writer merges segments and deletes what it merged.
                    Err(OpenReadError::FileDoesNotExist(_))
                        if !index.load_metas()?.list_segment_files().contains(file) => {}
                    Err(_) => damaged.push(file),
                }
            }
            let mut names: Vec<String> = damaged.iter().map(|file| file.display().to_string()).collect();
            names.sort_unstable();
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

fn open_directory(live: &Path) -> Result<MmapDirectory, Error> {
    if !live.join("meta.json").try_exists().map_err(Error::Io)? {
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
