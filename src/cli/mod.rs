//! The command line: reads arguments, calls the library, prints. Exit codes: 0 done, 1 found something wrong or failed,
//! 2 usage.

mod calls;
mod deliver;
mod demo;
mod doctor;
mod fixity;
mod flags;
mod hold;
mod import;
mod jobs;
mod person;
mod reports;
mod retention;
mod serve;
mod terminal;
mod token;
mod verify;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::App;
use crate::clock::Clock;
use crate::config::{self, Config, Flags, Roles};
use crate::schedule::Plan;
use crate::search::QueryError;
use crate::telemetry;

/// The compliance archive for recorded calls.
#[derive(Parser)]
#[command(name = "callvault", version, about, max_term_width = 100)]
struct Cli {
    /// Address and port to listen on, over the configuration.
    #[arg(long, global = true, value_name = "ADDR")]
    listen: Option<String>,
    /// Folder with database, recordings, index and spool, over the configuration.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file; callvault.toml in the working directory if present.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything in one process, or a part of it on one of several nodes.
    Serve {
        /// What this node does: a list of intake, archiver and web; without it everything.
        #[arg(long, value_name = "ROLES")]
        only: Option<Roles>,
    },
    /// Bring the database to the schema of this program; serve does it too unless database.migrate is false.
    Migrate,
    /// Serve on an embedded default with a simulated DoubleTick, in ./callvault-demo.
    Demo,
    /// Check configuration and every component.
    Doctor,
    /// Tokens: who may do what.
    #[command(subcommand)]
    Token(token::Command),
    /// Find calls.
    Search(calls::SearchArgs),
    /// Show one call with its events and its recording.
    Show {
        call_id: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Recordings: have failed ones fetched again.
    #[command(subcommand)]
    Recording(calls::RecordingCommand),
    /// Flags: list them and work them off.
    #[command(subcommand)]
    Flags(flags::Command),
    /// Journal past webhooks, one JSON body a line; running it again adds nothing.
    Import {
        /// The file, or - for standard input.
        file: PathBuf,
    },
    /// Rebuild the search index.
    Reindex,
    /// Check journal, projection, index and every stored object.
    Verify(deliver::Deliver),
    /// Retention: the report, what is due, disposition, and policies.
    #[command(subcommand)]
    Retention(retention::Command),
    /// Legal holds.
    #[command(subcommand)]
    Hold(hold::Command),
    /// Read stored objects again and compare them with their receipts.
    #[command(subcommand)]
    Fixity(fixity::Command),
    /// Write a whole search as CSV or JSON lines.
    Export(calls::ExportArgs),
    /// Whether every call of a day is accounted for: archived, without a recording and why, or a gap.
    Completeness(reports::CompletenessArgs),
}

/// What a command came to.
type Outcome = anyhow::Result<Found>;

/// Whether a command found something wrong that is no failure of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Wrong,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    #[cfg(feature = "failpoints")]
    let _scenario = crate::fault::scenario();
    // The demo prints for people; what it logs is for those who ask.
    telemetry::start_logging(if matches!(cli.command, Command::Demo) { "warn" } else { "info,tantivy=warn" });
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let outcome = runtime.block_on(run(cli));
    // A blocking task that hangs must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match outcome {
        Ok(Found::Nothing) => ExitCode::SUCCESS,
        Ok(Found::Wrong) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    let broken_pipe = error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    });
    if !broken_pipe {
        // It may repeat what was typed or sent.
        eprintln!("callvault: {}", terminal::visible(&in_one_sentence(error)));
    }
    // A query that can't be read was typed wrong.
    let usage = error.chain().any(|cause| cause.is::<QueryError>());
    ExitCode::from(if usage { 2 } else { 1 })
}

/// A line on standard output; a reader that has gone away is an error, not a panic.
fn say(line: impl AsRef<str>) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{}", line.as_ref())
}

/// The error with its causes, each said once: many repeat the cause in their own words.
fn in_one_sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| {
        match (said.is_empty(), said.contains(&cause)) {
            (true, _) => cause,
            (_, true) => said,
            _ => format!("{said}: {cause}"),
        }
    })
}

async fn run(cli: Cli) -> Outcome {
    let flags = Flags { config: cli.config, listen: cli.listen, data_dir: cli.data_dir };
    // The demo reads no configuration: it must run the same everywhere.
    let config = || -> anyhow::Result<Config> {
        let config = config::load(&flags, std::env::vars().filter(|(name, _)| name != person::TOKEN))?;
        // Whoever made a mistake there hears of it at once, not when it is due.
        Plan::of(&config)?;
        Ok(config)
    };
    match cli.command {
        Command::Serve { only } => serve::serve(Config { roles: only.unwrap_or_default(), ..config()? }).await,
        Command::Migrate => serve::migrate(config()?).await,
        Command::Demo => demo::demo(&flags).await,
        Command::Doctor => doctor::doctor(config()?).await,
        Command::Token(command) => token::token(config()?, command).await,
        Command::Search(args) => calls::search(&open(config()?).await?, args).await,
        Command::Show { call_id, json } => calls::show(&open(config()?).await?, &call_id, json).await,
        Command::Recording(command) => calls::recording(&open(config()?).await?, command).await,
        Command::Flags(command) => flags::flags(&open(config()?).await?, command).await,
        Command::Import { file } => import::import(config()?, &file).await,
        Command::Reindex => serve::reindex(open(config()?).await?).await,
        Command::Retention(command) => retention::retention(&open(config()?).await?, command).await,
        Command::Hold(command) => hold::hold(&open(config()?).await?, command).await,
        Command::Verify(deliver) => verify::verify(&open(config()?).await?, deliver).await,
        Command::Fixity(command) => fixity::fixity(config()?, command).await,
        Command::Export(args) => calls::export(&open(config()?).await?, args).await,
        Command::Completeness(args) => reports::completeness(&open(config()?).await?, args).await,
    }
}

/// The archive that is there.
async fn open(config: Config) -> anyhow::Result<App> {
    Ok(App::open_existing(config, Clock::system()).await?)
}
