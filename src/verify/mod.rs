//! Checks everything that is kept against everything that was journaled, and names what does not fit.
//!
//! The database against itself, the journal against itself, the projections against the journal, the index against the projections, every stored
//! object against its receipt, and the store against the journal for objects that nobody knows. It changes nothing, and
//! runs beside a server that goes on working. What it can't see: a journal cut off at its end with the head row
//! rewritten to match; only a checkpoint that lies elsewhere shows that.

mod calls;
mod database;
mod derived;
mod index;
mod journal;
mod objects;
mod tokens;

use std::collections::BTreeSet;

use crate::app::App;
use crate::db::Error as DbError;
use crate::objects::StoreError;
use crate::search::Error as SearchError;

/// Rows that are read at once.
const STEP: u64 = 1000;
/// Of one kind of stray rows at most so many are named.
const NAMED: u64 = 100;

/// One thing that does not fit, in words; `what` names the entry, call or object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub what: String,
    pub why: String,
}

/// How far it is.
pub trait Progress: Send {
    /// A part begins; `total` steps are ahead.
    fn begin(&mut self, part: &'static str, total: u64);
    /// So many steps more are done.
    fn advance(&mut self, steps: u64);
    /// Something does not fit.
    fn damage(&mut self, damage: &Damage);
}

/// What was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub entries: u64,
    pub calls: u64,
    pub objects: u64,
    pub object_bytes: u64,
    pub damages: u64,
}

/// Why the check could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Search(#[from] SearchError),
    #[error("an object could not be read: {0}")]
    Read(#[from] std::io::Error),
}

/// A run of the check.
struct Run<'a> {
    app: &'a App,
    progress: &'a mut dyn Progress,
    report: Report,
    /// What the dispositions erased in the quarantine, once it was asked for.
    erased: Option<BTreeSet<u64>>,
    /// Entries beyond this came while the check ran, and are left to the next one.
    size: u64,
}

/// Checks everything.
///
/// # Errors
/// Database, index or store can't be used at all; damage is no error but a finding.
pub async fn verify(app: &App, progress: &mut dyn Progress) -> Result<Report, VerifyError> {
    let mut run = Run { app, progress, report: Report::default(), erased: None, size: 0 };
    let database = run.database().await;
    run.finding("database", database)?;
    let journal = run.journal().await;
    run.finding("journal", journal)?;
    let calls = run.calls().await;
    run.finding("calls", calls)?;
    let tokens = run.tokens().await;
    run.finding("tokens", tokens)?;
    let derived = run.derived().await;
    run.finding("retention", derived)?;
    let work = run.work().await;
    run.finding("work in progress", work)?;
    let index = run.index().await;
    run.finding("search index", index)?;
    let objects = run.objects().await;
    run.finding("objects", objects)?;
    Ok(run.report)
}

impl Run<'_> {
    fn damage(&mut self, what: impl Into<String>, why: impl Into<String>) {
        let damage = Damage { what: what.into(), why: why.into() };
        self.report.damages += 1;
        self.progress.damage(&damage);
    }

    /// A part that breaks off at something that makes no sense has found damage; the others are checked all the same.
    fn finding(&mut self, part: &str, outcome: Result<(), VerifyError>) -> Result<(), VerifyError> {
        match outcome {
            Err(VerifyError::Db(error)) if error.is_damage() => {
                self.damage(part, format!("it can't be read to its end: {error}"));
                Ok(())
            }
            other => other,
        }
    }
}
