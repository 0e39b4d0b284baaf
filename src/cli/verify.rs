//! `verify`: the check with a progress bar on a terminal and plain lines elsewhere.

use indicatif::ProgressBar;

use super::deliver::Deliver;
use super::{Found, Outcome, jobs, say};
use crate::app::App;
use crate::jobs::{NAMED, verify_report};
use crate::nodes::Taken;
use crate::verify::{Damage, JOB, Progress};

/// Shows how far the check is.
struct Shown {
    bar: Option<ProgressBar>,
    /// Of what was damaged, as much as a report names.
    damaged: Vec<Damage>,
}

impl Progress for Shown {
    fn begin(&mut self, part: &'static str, total: u64) {
        match &self.bar {
            Some(bar) => {
                bar.reset();
                bar.set_length(total);
                bar.set_message(part);
            }
            None => eprintln!("checking {part} ({total})"),
        }
    }

    fn advance(&mut self, steps: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(steps);
        }
    }

    fn damage(&mut self, damage: &Damage) {
        if self.damaged.len() < NAMED {
            self.damaged.push(damage.clone());
        }
        let line = format!("DAMAGED  {}: {}", damage.what, damage.why);
        match &self.bar {
            Some(bar) => bar.suspend(|| drop(say(&line))),
            None => drop(say(&line)),
        }
    }
}

pub(super) async fn verify(app: &App, deliver: Deliver) -> Outcome {
    // What is too damaged for a lease has to be checked all the same.
    let taken = async { anyhow::Ok(app.node()?.job(JOB).await?) };
    let lock = match taken.await {
        Ok(Taken::Here(lock)) => Some(lock),
        Ok(Taken::Elsewhere { by }) => {
            jobs::leave(JOB, &by);
            return Ok(Found::Nothing);
        }
        Err(error) => {
            tracing::warn!(%error, "another process may be checking at the same time");
            None
        }
    };
    let outcome = check(app, deliver).await;
    if let Some(lock) = lock
        && let Err(error) = lock.release().await
    {
        tracing::warn!(%error, "the job could not be given up; it ends by itself");
    }
    outcome
}

async fn check(app: &App, deliver: Deliver) -> Outcome {
    let bar = super::terminal::bar();
    let mut shown = Shown { bar, damaged: Vec::new() };
    let report = crate::verify::verify(app, &mut shown).await?;
    if let Some(bar) = &shown.bar {
        bar.finish_and_clear();
    }
    if let Err(error) = app.leave_word(report.damages) {
        tracing::warn!(%error, "no word of this check can be left in the data directory; the metrics will not show it");
    }
    deliver.deliver(app, &verify_report(&report, &shown.damaged, app.clock.now())?).await?;
    let found = if report.damages == 0 { "no damage".to_owned() } else { format!("{} DAMAGED", report.damages) };
    say(format!(
        "{} journal entries, {} calls, {} objects ({} bytes): {found}",
        report.entries, report.calls, report.objects, report.object_bytes
    ))?;
    Ok(if report.damages == 0 { Found::Nothing } else { Found::Wrong })
}
