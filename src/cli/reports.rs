//! `completeness` and `retention report`: reports on a terminal or into a file.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::deliver::Send;
use super::person::actor;
use super::terminal::visible;
use super::{Found, Outcome, jobs, say};
use crate::access::Permission;
use crate::app::App;
use crate::jobs::{COMPLETENESS, RETENTION, parcel};
use crate::reports::{self, Completeness, Day, Days, Explained, Format, MOST_CHARS, Moment, Report, Retention};

/// What every report takes.
#[derive(Args)]
struct ReportArgs {
    /// The first day.
    #[arg(long, value_name = "DAY")]
    from: Option<Day>,
    /// The last day, included.
    #[arg(long, value_name = "DAY")]
    to: Option<Day>,
    /// As it was at a moment: RFC 3339, or a date for its end.
    #[arg(long, value_name = "MOMENT")]
    as_of: Option<String>,
    /// Without it the ending of the file says, else text.
    #[arg(long)]
    format: Option<Format>,
    /// A new file, or a folder for a file that is named after the report; standard output without it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    send: Send,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct CompletenessArgs {
    #[command(subcommand)]
    command: Option<CompletenessCommand>,
    /// One day, such as 2026-03-09, today or yesterday; without any, the last one that is over.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    day: Option<Day>,
    #[command(flatten)]
    report: ReportArgs,
}

#[derive(Subcommand)]
enum CompletenessCommand {
    /// Say why a call that does not fit is no gap.
    Explain {
        call_id: String,
        /// In words; it is kept in the journal.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Args)]
pub(super) struct RetentionReportArgs {
    #[command(flatten)]
    report: ReportArgs,
}

/// What is kept; ends with 1 where checks failed or recordings are not archived.
pub(super) async fn retention(app: &App, RetentionReportArgs { report: args }: RetentionReportArgs) -> Outcome {
    let format = format(&args)?;
    let (moment, tz) = (moment(app, &args).await?, &app.config.timezone.0);
    let days = Days::year(args.from.as_ref(), args.to.as_ref(), moment.as_of, tz)?;
    if args.as_of.is_none() {
        app.custody().catch_up().await?;
    }
    let source = app.retention_source();
    let report = match args.as_of {
        None => Retention::make(&source, &days, moment).await?,
        Some(_) => Retention::make_as_of(&source, &days, moment).await?,
    };
    deliver(app, RETENTION, &report, (format, args)).await
}

/// Whether every call is accounted for; ends with 1 where one is not.
pub(super) async fn completeness(app: &App, args: CompletenessArgs) -> Outcome {
    if let Some(CompletenessCommand::Explain { call_id, reason }) = args.command {
        return explain(app, &call_id, &reason).await;
    }
    let format = format(&args.report)?;
    let (moment, tz) = (moment(app, &args.report).await?, &app.config.timezone.0);
    let (from, to) = match &args.day {
        Some(day) => (Some(day), Some(day)),
        None => (args.report.from.as_ref(), args.report.to.as_ref()),
    };
    let days = Days::asked(from, to, moment.as_of, tz)?;
    let report = Completeness::make(&app.report_source(), &days, moment).await?;
    deliver(app, COMPLETENESS, &report, (format, args.report)).await
}

async fn explain(app: &App, call_id: &str, reason: &str) -> Outcome {
    let actor = actor(app, Permission::ExplainGaps).await?;
    match reports::explain(&app.report_source(), &app.clock, call_id, reason, &actor).await? {
        Explained::Journaled { .. } => {
            say("The explanation is kept; the call counts as explained from now on.")?;
            Ok(Found::Nothing)
        }
        Explained::NoGap(class) => {
            bail!("there is nothing to explain, the call is no gap: {}", class.title().to_lowercase())
        }
        Explained::NoReason => bail!("give the reason in 1 to {MOST_CHARS} characters"),
        Explained::NoSuchCall => {
            bail!("there is no call {call_id:?}: callvault search finds calls by name, number and date")
        }
    }
}

async fn moment(app: &App, args: &ReportArgs) -> anyhow::Result<Moment> {
    let source = app.report_source();
    let Some(text) = &args.as_of else { return Ok(Moment::now(&source, &app.clock).await?) };
    let as_of: Timestamp = reports::moment(text, app.clock.now(), &app.config.timezone.0)?;
    Ok(Moment::at(&source, as_of).await?)
}

fn format(args: &ReportArgs) -> anyhow::Result<Format> {
    let ending = args.out.as_ref().and_then(|path| path.extension()).and_then(|ending| ending.to_str());
    let sent = !args.send.is_nowhere() && args.out.is_none();
    let format = args.format.or_else(|| ending.and_then(|ending| ending.parse().ok()));
    let format = format.unwrap_or(if sent { Format::Html } else { Format::Text });
    if format == Format::Xlsx && args.out.is_none() && !sent {
        bail!("a spreadsheet is no text for a terminal: name a file with --out");
    }
    Ok(format)
}

/// Takes a report where it is wanted. Where it is to be kept, one process at a time does so.
async fn deliver(app: &App, job: &str, report: &impl Report, (format, args): (Format, ReportArgs)) -> Outcome {
    if args.out.is_none() && args.send.is_nowhere() {
        std::io::stdout().lock().write_all(&format.write(report, visible)?)?;
        return Ok(found(report));
    }
    let Some(lock) = jobs::take(&app.node()?, job).await? else { return Ok(Found::Nothing) };
    let outcome = keep(app, report, (format, args)).await;
    if let Err(error) = lock.release().await {
        tracing::warn!(%error, "the job could not be given up; it ends by itself");
    }
    outcome
}

async fn keep(app: &App, report: &impl Report, (format, args): (Format, ReportArgs)) -> Outcome {
    if let Some(path) = args.out {
        let path = if path.is_dir() { path.join(report.file_name(format)) } else { path };
        let bytes = format.write(report, visible)?;
        let mut file = std::fs::File::create_new(&path)
            .with_context(|| format!("can't make {}: name a new file", path.display()))?;
        file.write_all(&bytes).and_then(|()| file.sync_all())?;
    }
    args.send.deliver().deliver(app, &parcel(report, format)?).await?;
    Ok(found(report))
}

fn found(report: &impl Report) -> Found {
    if report.needs_attention() { Found::Wrong } else { Found::Nothing }
}
