//! The jobs that run by themselves: each is a command too, and is registered here, so that the schedule of the
//! configuration can name it.
//!
//! A job says what it found, and may make a report. When it runs, and where its report goes, is not its business.

mod fixity;
mod reports;
mod verify;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::db::Error as DbError;
use crate::delivery::Parcel;
use crate::fixity::FixityError;
use crate::nodes::{JobLock, Taken};
use crate::verify::VerifyError;

pub use fixity::report as fixity_report;
pub use reports::{COMPLETENESS, RETENTION, parcel};
pub use verify::report as verify_report;

/// Things that are wrong and that a report names at most.
pub const NAMED: usize = 1000;

/// Every job that there is.
pub const ALL: &[&dyn Job] = &[&fixity::Fixity, &verify::Verify, &reports::Complete, &reports::Kept];

/// What a job came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What needs somebody's attention, in words without personal data; `None` where nothing does. As a command it ends
    /// with 1 then.
    pub attention: Option<String>,
    pub report: Option<Parcel>,
}

/// Why a job could not be done.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Fixity(#[from] FixityError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("a report has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
    /// Of jobs whose errors nothing else is to know.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
    /// It goes on, or begins anew, the next time.
    #[error("it was stopped before its end")]
    Stopped,
}

/// What a job has to work with.
pub struct Context<'a> {
    pub app: &'a App,
    /// Such as [`Job::accepts`].
    pub args: &'a [String],
    pub stop: &'a CancellationToken,
}

/// A job that one process does at a time.
#[async_trait]
pub trait Job: Send + Sync {
    /// Its name, in the configuration and as the name of its lock: that of its command.
    fn name(&self) -> &'static str;

    /// The arguments that its command takes and that make sense here.
    fn takes(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether it can be run with these arguments; else what it takes, in words.
    ///
    /// # Errors
    /// It can't: an argument is unknown, unless a job reads them in a way of its own.
    fn accepts(&self, args: &[String]) -> Result<(), String> {
        let takes = if self.takes().is_empty() { "none".to_owned() } else { self.takes().join(", ") };
        match args.iter().find(|arg| !self.takes().contains(&arg.as_str())) {
            Some(unknown) => Err(format!("{} does not take {unknown:?} here, but {takes}", self.name())),
            None => Ok(()),
        }
    }

    /// Does it. It is dropped where it does not end after `stop`.
    async fn run(&self, context: Context<'_>) -> Result<Outcome, JobError>;
}

/// The job of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static dyn Job> {
    ALL.iter().copied().find(|job| job.name() == name)
}

/// Does a job unless another process does; `Err` says which, in words.
///
/// # Errors
/// The outer one: the job could not be done.
pub async fn run_alone(job: &dyn Job, context: Context<'_>) -> Result<Result<Outcome, String>, JobError> {
    let lock = match context.app.node()?.job(job.name()).await? {
        Taken::Here(lock) => lock,
        Taken::Elsewhere { by } => return Ok(Err(by)),
    };
    let outcome = run_under(&lock, job, context).await;
    if let Err(error) = lock.release().await {
        tracing::warn!(%error, job = job.name(), "the job could not be given up; it ends by itself");
    }
    outcome.map(Ok)
}

async fn run_under(lock: &JobLock, job: &dyn Job, context: Context<'_>) -> Result<Outcome, JobError> {
    let stop = context.stop.child_token();
    let work = job.run(Context { stop: &stop, ..context });
    tokio::pin!(work);
    tokio::select! {
        outcome = &mut work => outcome,
        () = lock.lost().cancelled() => {
            stop.cancel();
            work.await
        }
    }
}
