//! `completeness` and `retention report`: the reports on paper, for whoever has to show them.

use async_trait::async_trait;

use super::{Context, Job, JobError, Outcome};
use crate::app::App;
use crate::delivery::Parcel;
use crate::reports::{Completeness, Days, Format, Moment, Report, ReportError, Retention};

/// The names of the jobs, and of their locks.
pub const COMPLETENESS: &str = "completeness";
pub const RETENTION: &str = "retention report";

pub(super) struct Complete;
pub(super) struct Kept;

/// A page, unless another format is asked for.
const FORMATS: [&str; 4] = ["--format=html", "--format=json", "--format=csv", "--format=xlsx"];

fn format(args: &[String]) -> Format {
    let asked = args.iter().rev().find_map(|arg| arg.strip_prefix("--format=")?.parse().ok());
    asked.unwrap_or(Format::Html)
}

/// A report as it is sent.
///
/// # Errors
/// It can't be written so.
pub fn parcel(report: &impl Report, format: Format) -> Result<Parcel, ReportError> {
    Ok(Parcel {
        report: report.name().0.into(),
        name: report.file_name(format),
        media_type: format.media_type(),
        // What goes to a program or onto paper can't move a terminal's cursor.
        bytes: format.write(report, str::to_owned)?.into(),
    })
}

fn outcome(report: &impl Report, args: &[String], attention: &str) -> Result<Outcome, JobError> {
    let parcel = parcel(report, format(args)).map_err(other)?;
    Ok(Outcome { attention: report.needs_attention().then(|| attention.to_owned()), report: Some(parcel) })
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> JobError {
    JobError::Other(Box::new(error))
}

async fn now(app: &App) -> Result<Moment, JobError> {
    Moment::now(&app.report_source(), &app.clock).await.map_err(other)
}

#[async_trait]
impl Job for Complete {
    fn name(&self) -> &'static str {
        COMPLETENESS
    }

    fn takes(&self) -> &'static [&'static str] {
        &FORMATS
    }

    /// About the last day that is over.
    async fn run(&self, context: Context<'_>) -> Result<Outcome, JobError> {
        let (app, moment) = (context.app, now(context.app).await?);
        let days = Days::asked(None, None, moment.as_of, &app.config.timezone.0).map_err(other)?;
        let report = Completeness::make(&app.report_source(), &days, moment).await.map_err(other)?;
        outcome(&report, context.args, "not every call of the day is accounted for: run callvault completeness")
    }
}

#[async_trait]
impl Job for Kept {
    fn name(&self) -> &'static str {
        RETENTION
    }

    fn takes(&self) -> &'static [&'static str] {
        &FORMATS
    }

    async fn run(&self, context: Context<'_>) -> Result<Outcome, JobError> {
        let (app, moment) = (context.app, now(context.app).await?);
        app.custody().catch_up().await.map_err(other)?;
        let days = Days::year(None, None, moment.as_of, &app.config.timezone.0).map_err(other)?;
        let report = Retention::make(&app.retention_source(), &days, moment).await.map_err(other)?;
        outcome(&report, context.args, "checks failed, or recordings are not archived: run callvault retention report")
    }
}
