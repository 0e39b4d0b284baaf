//! What can go wrong in the search: the officer's query, or the index.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tantivy::TantivyError;
use tantivy::directory::error::{LockError, OpenReadError};

/// A search that could not be read; for whoever typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", self.place())]
pub struct QueryError {
    /// Where in the parameter, in characters from 0.
    pub at: Option<usize>,
    /// The parameter, named as in the API: `q`, `status`, `cursor`, …
    pub parameter: &'static str,
    /// What is wrong and what would be right, in one sentence.
    pub message: String,
}

impl QueryError {
    pub(super) fn new(parameter: &'static str, message: impl Into<String>) -> Self {
        Self { at: None, parameter, message: message.into() }
    }

    pub(super) fn at(at: usize, message: impl Into<String>) -> Self {
        Self { at: Some(at), parameter: "q", message: message.into() }
    }

    fn place(&self) -> String {
        match self.at {
            // People count from 1.
            Some(at) => format!("{}, character {}", self.parameter, at + 1),
            None => self.parameter.to_owned(),
        }
    }
}

/// A failure of the index.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The query or the cursor is at fault, not the index.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// There is no index yet; `serve` makes one.
    #[error("there is no search index yet")]
    Missing,
    /// The index can't be read, or belongs to another version. Nothing is lost: call
    /// [`super::Index::open_or_rebuild`] and index everything again.
    #[error("the search index is damaged: {0}")]
    Damaged(String),
    /// Too many searches wait already.
    #[error("too many searches run at the same time: try again in a moment")]
    Busy,
    /// Another process writes this index.
    #[error("the search index is in use by another process")]
    Locked,
    /// Changes wait for a commit, and what was asked for would lose them.
    #[error("changes to the search index wait for a commit")]
    Uncommitted,
    #[error("the search index can't be read or written")]
    Io(#[source] io::Error),
    /// Anything else; the writer must be opened again.
    #[error("the search index failed")]
    Failed(#[source] TantivyError),
}

impl Error {
    /// Whether renaming the index aside and indexing again is the remedy.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A file that is too short or makes no sense: the disk works, its content is wrong.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::NotFound => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Io(error),
        }
    }
}

impl From<TantivyError> for Error {
    fn from(error: TantivyError) -> Self {
        match error {
            TantivyError::DataCorruption(_)
            | TantivyError::IncompatibleIndex(_)
            | TantivyError::DeserializeError(_)
            | TantivyError::SchemaError(_)
            | TantivyError::FieldNotFound(_)
            | TantivyError::InternalError(_)
            | TantivyError::OpenReadError(OpenReadError::FileDoesNotExist(_) | OpenReadError::IncompatibleIndex(_)) => {
                Self::Damaged(error.to_string())
            }
            TantivyError::OpenReadError(OpenReadError::IoError { ref io_error, .. })
            | TantivyError::IoError(ref io_error) => io::Error::new(io_error.kind(), io_error.to_string()).into(),
            TantivyError::LockFailure(LockError::LockBusy, _) => Self::Locked,
            _ => Self::Failed(error),
        }
    }
}

/// Runs `work`, taking a panic for damage: tantivy checks some of what it reads by assertions only.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::Damaged("reading it failed an assertion".to_owned())))
}
