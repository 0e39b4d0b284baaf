//! `verify`: the check with a progress bar on a terminal and plain lines elsewhere.

use indicatif::ProgressBar;

use super::{Found, Outcome, say};
use crate::app::App;
use crate::verify::{Damage, Progress};

/// Shows how far the check is.
struct Shown {
    bar: Option<ProgressBar>,
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
        let line = format!("DAMAGED  {}: {}", damage.what, damage.why);
        match &self.bar {
            Some(bar) => bar.suspend(|| drop(say(&line))),
            None => drop(say(&line)),
        }
    }
}

pub(super) async fn verify(app: &App) -> Outcome {
    let mut shown = Shown { bar: super::terminal::bar() };
    let report = crate::verify::verify(app, &mut shown).await?;
    if let Some(bar) = shown.bar {
        bar.finish_and_clear();
    }
    if let Err(error) = app.leave_word(report.damages) {
        tracing::warn!(%error, "no word of this check can be left in the data directory; the metrics will not show it");
    }
    let found = if report.damages == 0 { "no damage".to_owned() } else { format!("{} DAMAGED", report.damages) };
    say(format!(
        "{} journal entries, {} calls, {} objects ({} bytes): {found}",
        report.entries, report.calls, report.objects, report.object_bytes
    ))?;
    Ok(if report.damages == 0 { Found::Nothing } else { Found::Wrong })
}
