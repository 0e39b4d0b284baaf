//! Finds calls: the index, the language of `q`, and the filters.
//!
//! ```text
//! CallDoc ──schema──▶ Index (writer) ──commits──▶ Searcher ──gather──▶ Found
//! Filters ──filters, parse──▶ Expr ──plan──▶ set of documents ──┘
//! ```
//!
//! | file | its one job |
//! |---|---|
//! | `doc` | what is indexed of a call, and its digest |
//! | `text`, `number` | how names and numbers are compared: the same for index and query |
//! | `filters`, `parse`, `values` | parameters to a tree, with the place of every error |
//! | `expr` | that tree; pure data |
//! | `schema` | fields, and the document of a call |
//! | `index`, `searcher` | one writes and rebuilds, the other reads beside it |
//! | `files` | the index's files as a server holds them: nobody can change them under it |
//! | `plan`, `bits`, `cache` | tree to the set of a segment's documents; such sets; those kept for the next query |
//! | `gather`, `facets`, `cursor` | total, page and counts of a set |
//! | `matching` | which of a few calls a query is about, without the index |
//!
//! The index is disposable: it follows the journal by a cursor that every commit carries, and what
//! can't be used is renamed aside and built again. This module does **not** read the journal or the
//! database, does not decide when to commit, and knows no permissions.

mod bits;
mod cache;
mod cursor;
mod doc;
mod document;
mod error;
mod expr;
mod facets;
mod files;
mod filters;
mod follow;
mod gather;
mod handle;
mod index;
mod matching;
mod number;
mod parse;
mod plan;
mod schema;
mod searcher;
mod text;
mod values;

#[cfg(test)]
mod tests;

pub use cursor::Sort;
pub use doc::CallDoc;
pub use error::{Error, QueryError};
pub use expr::{Expr, Match, Phrase, Who};
pub use facets::{Counts, Facet};
pub use filters::{Filters, QueryContext, compile};
pub use follow::{FollowError, Follower};
pub use handle::SearchHandle;
pub use index::{FILLING_BYTES, Index, Opened, STEADY_BYTES};
pub use matching::matching;
pub use number::Fragment;
pub use parse::parse;
pub use searcher::{Found, Page, Searcher, Totals};
