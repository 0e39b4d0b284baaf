//! The whole result of a search as a stream: a table for spreadsheets, or one JSON object a line.
//!
//! Constant memory, whatever the size: pages of calls by cursor. Evidence packages are not made here.

mod csv;

pub use csv::neutral;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::try_unfold;

use crate::calls::Calls;
use crate::db::Error as DbError;
use crate::search::{Error as SearchError, Expr, Page, QueryContext, SearchHandle, Sort};

/// Calls that are read at once.
const PAGE: usize = 500;

/// How an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180, with a header line.
    Csv,
    /// One call a line, as the API shows it.
    Jsonl,
}

impl Format {
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Jsonl => "application/jsonl",
        }
    }

    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }
}

/// Why an export broke off.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Search(#[from] SearchError),
    #[error(transparent)]
    Db(#[from] DbError),
    #[error("a call could not be written: {0}")]
    Write(String),
}

/// Where the calls come from.
#[derive(Clone)]
pub struct Source {
    pub calls: Calls,
    pub search: SearchHandle,
    pub context: QueryContext,
}

enum Step {
    Header,
    Page(Option<String>),
    Done,
}

/// Streams every call that matches, in the order of `sort`. The first page is searched when the stream is first polled.
pub fn stream(
    source: Source,
    expr: Expr,
    sort: Sort,
    format: Format,
) -> impl Stream<Item = Result<Bytes, ExportError>> {
    try_unfold(Step::Header, move |step| {
        let (source, expr) = (source.clone(), expr.clone());
        async move {
            match step {
                Step::Header => {
                    let header = if format == Format::Csv { csv::header()? } else { Bytes::new() };
                    Ok(Some((header, Step::Page(None))))
                }
                Step::Page(cursor) => page(&source, expr, sort, format, cursor).await.map(Some),
                Step::Done => Ok(None),
            }
        }
    })
}

async fn page(
    source: &Source,
    expr: Expr,
    sort: Sort,
    format: Format,
    cursor: Option<String>,
) -> Result<(Bytes, Step), ExportError> {
    let page = Page { limit: PAGE, sort, cursor, count: false, ..Page::default() };
    let found = source.search.search(expr, page, source.context.clone()).await?;
    let calls = source.calls.get_many(&found.call_ids).await?;
    let bytes = match format {
        Format::Csv => csv::rows(&calls)?,
        Format::Jsonl => {
            let mut lines = Vec::new();
            for call in &calls {
                serde_json::to_writer(&mut lines, call).map_err(|error| ExportError::Write(error.to_string()))?;
                lines.push(b'\n');
            }
            lines.into()
        }
    };
    Ok((bytes, found.next_cursor.map_or(Step::Done, |cursor| Step::Page(Some(cursor)))))
}
