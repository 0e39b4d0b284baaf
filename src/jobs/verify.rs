//! `verify`: the check of everything.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use super::{Context, Job, JobError, NAMED, Outcome};
use crate::delivery::{Parcel, file_name};
use crate::verify::{Damage, JOB, Progress, Report as Checked, verify};

pub(super) struct Verify;

#[derive(Default)]
struct Found(Vec<Damage>);

#[derive(Serialize)]
struct Report<'a> {
    report: &'static str,
    made_at: Timestamp,
    journal_entries: u64,
    calls: u64,
    objects: u64,
    object_bytes: u64,
    damages: u64,
    /// Not all of them where there are very many.
    damaged: Vec<Named<'a>>,
}

#[derive(Serialize)]
struct Named<'a> {
    what: &'a str,
    why: &'a str,
}

impl Progress for Found {
    fn begin(&mut self, _: &'static str, _: u64) {}

    fn advance(&mut self, _: u64) {}

    fn damage(&mut self, damage: &Damage) {
        if self.0.len() < NAMED {
            self.0.push(damage.clone());
        }
    }
}

#[async_trait]
impl Job for Verify {
    fn name(&self) -> &'static str {
        JOB
    }

    async fn run(&self, context: Context<'_>) -> Result<Outcome, JobError> {
        let (app, mut found) = (context.app, Found::default());
        let checked = tokio::select! {
            checked = verify(app, &mut found) => checked?,
            // It only reads.
            () = context.stop.cancelled() => return Err(JobError::Stopped),
        };
        if let Err(error) = app.leave_word(checked.damages) {
            tracing::warn!(%error, "no word of this check can be left in the data directory");
        }
        let damages = checked.damages;
        Ok(Outcome {
            attention: (damages > 0).then(|| format!("{damages} things are damaged: run callvault verify")),
            report: Some(report(&checked, &found.0, app.clock.now())?),
        })
    }
}

/// What a check came to.
///
/// # Errors
/// It has no JSON form.
pub fn report(checked: &Checked, damaged: &[Damage], made_at: Timestamp) -> serde_json::Result<Parcel> {
    let report = Report {
        report: JOB,
        made_at,
        journal_entries: checked.entries,
        calls: checked.calls,
        objects: checked.objects,
        object_bytes: checked.object_bytes,
        damages: checked.damages,
        damaged: damaged.iter().map(|one| Named { what: &one.what, why: &one.why }).collect(),
    };
    Ok(Parcel {
        report: JOB.into(),
        name: file_name(JOB, made_at, "json"),
        media_type: "application/json",
        bytes: Bytes::from(serde_json::to_vec_pretty(&report)?),
    })
}
