//! `fixity run | status`.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Subcommand;
use indicatif::ProgressBar;

use super::deliver::Deliver;
use super::serve::shutdown_on_signal;
use super::{Found, Outcome, jobs, open, say};
use crate::config::Config;
use crate::fixity::{Failure, JOB, Pace, stopped_with};
use crate::jobs::{NAMED, fixity_report};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Read every object that is due, oldest first, and every one that failed the last time; ends with 1 where one fails.
    Run {
        /// Every object, whether it is due or not.
        #[arg(long)]
        all: bool,
        /// What is read on average at most, over fixity.max_bytes_per_second; 0: as fast as it goes.
        #[arg(long, value_name = "N")]
        max_bytes_per_second: Option<u64>,
        #[command(flatten)]
        deliver: Deliver,
    },
    /// When the objects were last read, and which failed; ends with 1 where one did.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn fixity(config: Config, command: Command) -> Outcome {
    match command {
        Command::Run { all, max_bytes_per_second, deliver } => run(config, all, max_bytes_per_second, deliver).await,
        Command::Status { json } => status(config, json).await,
    }
}

async fn run(config: Config, all: bool, max_bytes_per_second: Option<u64>, deliver: Deliver) -> Outcome {
    let app = open(config).await?;
    let fixity = app.fixity()?;
    let Some(lock) = jobs::take(fixity.node(), JOB).await? else {
        // Somebody else is at it; what is known already is told all the same.
        return found(fixity.status().await?.failing);
    };
    let stop = shutdown_on_signal()?;
    let mut pace = Pace::new(max_bytes_per_second.unwrap_or(app.config.fixity.max_bytes_per_second));
    let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
    let mut failures = Vec::new();
    let mut told = |failure: &Failure| {
        if failures.len() < NAMED {
            failures.push(failure.clone());
        }
        let line = line(failure);
        match &bar {
            Some(bar) => bar.suspend(|| drop(say(&line))),
            None => drop(say(&line)),
        }
    };
    let work = async {
        let mut round = fixity.round(all).await?;
        let mut done = false;
        while !done && !stop.is_cancelled() {
            done = fixity.walk(&mut round, &mut pace, &stop, Duration::from_secs(5), &mut told).await?;
            if let Some(bar) = &bar {
                bar.set_message(format!("{} objects ({} bytes)", round.tally.objects, round.tally.bytes));
                bar.tick();
            }
        }
        Ok::<_, crate::fixity::FixityError>((done, round.tally))
    };
    let walked = stopped_with(work, &stop, &lock).await;
    lock.release().await?;
    let (done, tally) = walked?;
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let failed = if tally.failed == 0 { "none failed".to_owned() } else { format!("{} FAILED", tally.failed) };
    let mended = if tally.mended == 0 { String::new() } else { format!(", {} mended", tally.mended) };
    let later = if tally.unsettled == 0 { String::new() } else { format!(", {} left for later", tally.unsettled) };
    say(format!("{} objects ({} bytes): {failed}{mended}{later}", tally.objects, tally.bytes))?;
    if !done {
        anyhow::bail!("stopped before the end; run it again, it goes on where it was");
    }
    deliver.deliver(&app, &fixity_report(&tally, &failures, app.clock.now())?).await?;
    found(tally.failed)
}

async fn status(config: Config, json: bool) -> Outcome {
    let status = open(config).await?.fixity()?.status().await?;
    if json {
        say(serde_json::to_string(&status)?)?;
        return found(status.failing);
    }
    for failure in &status.failures {
        say(line(failure))?;
    }
    let oldest = status.oldest_at.map_or(String::new(), |at| format!("; the oldest was last read {at:.0}"));
    say(format!("{} objects, {} overdue, {} failing{oldest}", status.objects, status.overdue, status.failing))?;
    found(status.failing)
}

fn line(failure: &Failure) -> String {
    let version = failure.version.as_ref().map_or(String::new(), |version| format!(" version {version}"));
    format!("FAILED  object {}{version}: {}", failure.object_key, failure.why)
}

fn found(failing: u64) -> Outcome {
    Ok(if failing == 0 { Found::Nothing } else { Found::Wrong })
}
