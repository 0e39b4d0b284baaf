//! `fixity`: reads stored objects again, those that are due or, with `--all`, every one.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use super::{Context, Job, JobError, NAMED, Outcome};
use crate::delivery::{Parcel, file_name};
use crate::fixity::{Failure, JOB, Pace, Tally};

pub(super) struct Fixity;

#[derive(Serialize)]
struct Report<'a> {
    report: &'static str,
    made_at: Timestamp,
    objects: u64,
    bytes: u64,
    failed: u64,
    mended: u64,
    left_for_later: u64,
    /// Not all of them where there are very many.
    failures: &'a [Failure],
}

#[async_trait]
impl Job for Fixity {
    fn name(&self) -> &'static str {
        JOB
    }

    fn takes(&self) -> &'static [&'static str] {
        &["--all"]
    }

    async fn run(&self, context: Context<'_>) -> Result<Outcome, JobError> {
        let (app, fixity) = (context.app, context.app.fixity()?);
        let mut round = fixity.round(!context.args.is_empty()).await?;
        let mut pace = Pace::new(app.config.fixity.max_bytes_per_second);
        let mut failures = Vec::new();
        let mut told = |failure: &Failure| {
            if failures.len() < NAMED {
                failures.push(failure.clone());
            }
        };
        if !fixity.walk(&mut round, &mut pace, context.stop, Duration::MAX, &mut told).await? {
            return Err(JobError::Stopped);
        }
        let failed = round.tally.failed;
        Ok(Outcome {
            attention: (failed > 0).then(|| format!("{failed} stored objects are not what they were")),
            report: Some(report(&round.tally, &failures, app.clock.now())?),
        })
    }
}

/// What a walk came to.
///
/// # Errors
/// It has no JSON form.
pub fn report(tally: &Tally, failures: &[Failure], made_at: Timestamp) -> serde_json::Result<Parcel> {
    let report = Report {
        report: JOB,
        made_at,
        objects: tally.objects,
        bytes: tally.bytes,
        failed: tally.failed,
        mended: tally.mended,
        left_for_later: tally.unsettled,
        failures,
    };
    Ok(Parcel {
        report: JOB.into(),
        name: file_name(JOB, made_at, "json"),
        media_type: "application/json",
        bytes: Bytes::from(serde_json::to_vec_pretty(&report)?),
    })
}
