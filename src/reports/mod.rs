//! What the archive has and what it lacks, on paper: whether every call is accounted for, and what is kept until when.
//!
//! Each report is one struct, whose JSON form is stable; every other format is made of the [`Document`] that the struct
//! turns into. A report about a moment of the past reads the journal up to that moment and nothing that came later, and is
//! the same as the one that was made then. Nothing here is signed, delivered or scheduled.

mod chronicle;
mod class;
mod completeness;
mod completeness_page;
mod csv;
mod days;
mod document;
mod explain;
mod format;
mod html;
mod moment;
mod plot;
mod retention;
mod retention_page;
mod retention_plots;
mod scratch;
mod slots;
mod stock;
mod text;
mod xlsx;

pub use chronicle::{Batch, FailureReason, Failures, Fixity, FixityFailure, KindCount, PolicyChange};
pub use class::{Class, Standing, Verdict, classify};
pub use completeness::{CallLine, ClassCount, Completeness, DayCount, QuarantineLine};
pub use days::{Day, Days, DaysError, moment};
pub use document::{Cell, Column, Document, Figure, Line, Plot, Section, Series, Shade, Table, Tone, Unit, Width};
pub use explain::{Explained, MOST_CHARS, explain};
pub use format::{Format, Report, UnknownFormat};
pub use html::CONTENT_SECURITY_POLICY;
pub use moment::{Moment, Source};
pub use retention::{Ahead, Expiring, Kept, Month, PolicyAmount, PolicyYear, Retention, RetentionSource, YearAmount};
pub use stock::Amount;

use crate::db::Error as DbError;
use crate::journal::AppendError;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("journal entry {seq} can't be read ({why}): run callvault verify")]
    Damaged { seq: u64, why: String },
    #[error("a record has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
    #[error("there is no room for a temporary table: {0}")]
    Temporary(#[from] std::io::Error),
    #[error("the report can't be written as {format}: {why}")]
    Format { format: &'static str, why: String },
}
