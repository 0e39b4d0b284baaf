//! `search`, `show`, `recording retry`, `export`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use futures_util::TryStreamExt;
use jiff::Timestamp;

use super::terminal::visible;
use super::{Found, Outcome, say};
use crate::app::App;
use crate::archiver::{RetryOutcome, retry, retry_all_failed};
use crate::calls::Call;
use crate::export::{self, Format};
use crate::intake::call_key;
use crate::search::{Error as SearchError, Filters, Page, Sort, compile};

/// The filters of every search; a repeated one means any of its values.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct FilterArgs {
    /// Names, phone fragments, ids, or the query language; put -- in front of a query that begins with a dash.
    query: Vec<String>,
    #[arg(long)]
    agent: Vec<String>,
    #[arg(long)]
    customer: Vec<String>,
    /// Three or more digits of a number.
    #[arg(long)]
    number: Vec<String>,
    #[arg(long)]
    direction: Vec<String>,
    #[arg(long)]
    status: Vec<String>,
    #[arg(long)]
    channel: Vec<String>,
    #[arg(long)]
    waba_number: Vec<String>,
    #[arg(long)]
    flag: Vec<String>,
    #[arg(long)]
    flag_state: Vec<String>,
    #[arg(long)]
    recording: Vec<String>,
    /// A date, or RFC 3339.
    #[arg(long)]
    started_from: Option<String>,
    /// A date (its day included), or RFC 3339.
    #[arg(long)]
    started_to: Option<String>,
    /// Seconds.
    #[arg(long)]
    min_duration: Option<u64>,
    /// Seconds.
    #[arg(long)]
    max_duration: Option<u64>,
    #[arg(long)]
    on_hold: Option<bool>,
    /// -started_at, started_at, -duration or duration.
    #[arg(long, default_value = "-started_at", allow_hyphen_values = true)]
    sort: String,
}

#[derive(Args)]
pub(super) struct SearchArgs {
    #[command(flatten)]
    filters: FilterArgs,
    /// Calls to show at most.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    filters: FilterArgs,
    #[arg(long)]
    format: ExportFormat,
    /// A new file; standard output without it.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ExportFormat {
    Csv,
    Jsonl,
}

#[derive(Subcommand)]
pub(super) enum RecordingCommand {
    /// Have a recording fetched again.
    Retry {
        #[arg(required_unless_present = "failed")]
        call_id: Option<String>,
        /// All that failed.
        #[arg(long, conflicts_with = "call_id")]
        failed: bool,
    },
}

impl FilterArgs {
    pub(super) fn filters(&self) -> Filters {
        Filters {
            q: (!self.query.is_empty()).then(|| self.query.join(" ")),
            agent: self.agent.clone(),
            customer: self.customer.clone(),
            number: self.number.clone(),
            direction: self.direction.clone(),
            status: self.status.clone(),
            channel: self.channel.clone(),
            waba_number: self.waba_number.clone(),
            flag: self.flag.clone(),
            flag_state: self.flag_state.clone(),
            recording: self.recording.clone(),
            started_from: self.started_from.clone(),
            started_to: self.started_to.clone(),
            min_duration: self.min_duration,
            max_duration: self.max_duration,
            on_hold: self.on_hold,
        }
    }
}

pub(super) async fn search(app: &App, args: SearchArgs) -> Outcome {
    let context = app.query_context();
    let expr = compile(&args.filters.filters(), &context)?;
    let sort: Sort = args.filters.sort.parse()?;
    warn_if_behind(app).await?;
    let page = Page { limit: usize::from(args.limit), sort, ..Page::default() };
    let found = app.search.search(expr, page, context).await.map_err(explain)?;
    let calls = app.calls.get_many(&found.call_ids).await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        for call in &calls {
            writeln!(out, "{}", serde_json::to_string(call)?)?;
        }
        return Ok(Found::Nothing);
    }
    for call in &calls {
        writeln!(out, "{}", visible(&line(app, call)))?;
    }
    let total = found.total.unwrap_or_default();
    let shown = if calls.len() as u64 == total { String::new() } else { format!(", {} shown", calls.len()) };
    writeln!(out, "{total} calls{shown}")?;
    Ok(Found::Nothing)
}

/// One row of the table.
fn line(app: &App, call: &Call) -> String {
    let when = call.started_at.or(call.ended_at).unwrap_or(call.first_seen_at);
    let arrow = match call.direction.as_deref() {
        Some("incoming") => "in ",
        Some("outgoing") => "out",
        _ => "   ",
    };
    let customer = [call.customer.name.as_deref(), call.customer.number.as_deref()];
    let flags: Vec<&str> =
        call.flags.iter().filter(|flag| flag.state == "open").map(|flag| flag.rule.as_str()).collect();
    format!(
        "{}  {arrow}  {:<11} {:>6}  {:<9}  {:<36}  {:<24}  {}  {}",
        local(app, when),
        call.status,
        call.duration_seconds.map_or_else(String::new, |seconds| format!("{seconds} s")),
        call.recording.state.as_str(),
        customer.into_iter().flatten().collect::<Vec<_>>().join(" "),
        call.agent.as_deref().unwrap_or_default(),
        call.call_id,
        flags.join(","),
    )
}

fn local(app: &App, time: Timestamp) -> String {
    time.to_zoned(app.config.timezone.0.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

async fn warn_if_behind(app: &App) -> anyhow::Result<()> {
    let behind = app.journal.size().await?.saturating_sub(app.search.searcher().map_err(explain)?.cursor());
    if behind > 0 && crate::lock::DataDirLock::check_free(&app.config.data_dir).is_ok() {
        eprintln!(
            "callvault: the search index is {behind} journal entries behind and nobody serves: run callvault reindex"
        );
    }
    Ok(())
}

fn explain(error: SearchError) -> anyhow::Error {
    let hint = matches!(error, SearchError::Missing | SearchError::Damaged(_));
    let error = anyhow::Error::from(error);
    if hint { error.context("searching is not possible: run callvault serve, or callvault reindex") } else { error }
}

pub(super) async fn show(app: &App, call_id: &str, json: bool) -> Outcome {
    let Some(call) = app.calls.get(call_id).await? else {
        bail!("there is no call {call_id:?}: callvault search finds calls by name, number and date");
    };
    let events = app.journal.about(&call_key(call_id), u64::MAX).await?;
    let mut out = std::io::stdout().lock();
    if json {
        let mut value = serde_json::to_value(&call)?;
        let events: Vec<_> = events
            .iter()
            .map(|record| {
                let event = record.body.as_ref().and_then(|body| crate::intake::understand(&body.bytes).ok());
                serde_json::json!({"seq": record.entry.seq, "kind": record.entry.kind.as_str(),
                    "event": event.map(|event| event.name().to_owned()), "received_at": record.entry.received()})
            })
            .collect();
        value["events"] = events.into();
        writeln!(out, "{value}")?;
        return Ok(Found::Nothing);
    }
    let value = serde_json::to_value(&call)?;
    for (name, value) in value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        match value {
            serde_json::Value::Object(inner) => {
                for (part, value) in inner.iter().filter(|(_, value)| !value.is_null()) {
                    writeln!(out, "{:<26} {}", format!("{name}.{part}"), plain(value))?;
                }
            }
            serde_json::Value::Array(items) if items.is_empty() => {}
            serde_json::Value::Array(items) => {
                for item in items {
                    writeln!(out, "{name:<26} {}", plain(item))?;
                }
            }
            value => writeln!(out, "{name:<26} {}", plain(value))?,
        }
    }
    for record in &events {
        let entry = &record.entry;
        writeln!(
            out,
            "{:<26} {}  {}",
            format!("journal {}", entry.seq),
            local(app, entry.received()),
            entry.kind.as_str()
        )?;
    }
    Ok(Found::Nothing)
}

fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => visible(text),
        serde_json::Value::Object(inner) => {
            inner.values().filter(|v| !v.is_null()).map(plain).collect::<Vec<_>>().join("  ")
        }
        other => other.to_string(),
    }
}

pub(super) async fn recording(app: &App, command: RecordingCommand) -> Outcome {
    let RecordingCommand::Retry { call_id, failed } = command;
    let Some(call_id) = call_id.filter(|_| !failed) else {
        let asked = retry_all_failed(&app.db, &app.journal, &app.calls, "cli").await?;
        say(format!("{asked} calls: their recordings will be fetched again."))?;
        return Ok(Found::Nothing);
    };
    match retry(&app.db, &app.journal, &app.calls, &call_id, "cli").await? {
        RetryOutcome::Asked(_) => say("The recording will be fetched again.")?,
        RetryOutcome::Hurried => say("The recording is on its way; the next attempt is made now.")?,
        RetryOutcome::Nothing(state) => {
            bail!("the recording is {}: there is nothing to fetch again; callvault show tells more", state.as_str())
        }
        RetryOutcome::NoSuchCall => {
            bail!("there is no call {call_id:?}: callvault search finds calls by name, number and date")
        }
    }
    Ok(Found::Nothing)
}

pub(super) async fn export(app: &App, args: ExportArgs) -> Outcome {
    let source = app.export_source();
    let expr = compile(&args.filters.filters(), &source.context)?;
    let sort: Sort = args.filters.sort.parse()?;
    warn_if_behind(app).await?;
    let format = match args.format {
        ExportFormat::Csv => Format::Csv,
        ExportFormat::Jsonl => Format::Jsonl,
    };
    let mut out: Box<dyn Write> = match &args.out {
        None => Box::new(std::io::stdout().lock()),
        Some(path) => {
            let file = std::fs::File::create_new(path);
            Box::new(file.with_context(|| format!("can't make {}: name a new file", path.display()))?)
        }
    };
    let mut stream = std::pin::pin!(export::stream(source, expr, sort, format));
    while let Some(bytes) = stream.try_next().await? {
        out.write_all(&bytes)?;
    }
    out.flush()?;
    Ok(Found::Nothing)
}
