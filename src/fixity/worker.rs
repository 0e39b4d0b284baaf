//! Fixity beside a server: at low priority, on one node at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Fixity, FixityError, JOB, Pace, Round};
use crate::nodes::{JobLock, Taken};

/// How often it is looked whether something is due.
const POLL: Duration = Duration::from_secs(5);
const BACK_OFF: Duration = Duration::from_secs(5);
/// After so long the job is given up for a moment: a command, or another node, may be waiting for it.
const TURN: Duration = Duration::from_secs(120);
/// The part of the archive's health that is this work's.
const PART: &str = "fixity";

impl Fixity {
    /// Runs until cancelled.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let (mut pace, mut round) = (Pace::new(self.settings.max_bytes_per_second), None);
        while !cancel.is_cancelled() {
            let pause = match self.look(&mut round, &mut pace, &cancel).await {
                Ok(failing) => {
                    if failing == 0 {
                        self.health.clear(PART);
                    }
                    POLL
                }
                Err(error) => {
                    tracing::warn!(%error, "stored objects can't be read again at the moment; trying again");
                    self.health.report(PART, "stored objects can't be read again at the moment: see the log");
                    BACK_OFF
                }
            };
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Goes on with what is due; how many objects fail.
    async fn look(
        &self,
        round: &mut Option<Round>,
        pace: &mut Pace,
        cancel: &CancellationToken,
    ) -> Result<u64, FixityError> {
        self.follow().await?;
        let failing = self.say_what_fails().await?;
        if round.is_none() && !self.is_something_due().await? {
            return Ok(failing);
        }
        let Taken::Here(lock) = self.node.job(JOB).await? else { return Ok(failing) };
        let walked = self.go_on(round, pace, cancel, &lock).await;
        lock.release().await?;
        walked?;
        self.say_what_fails().await
    }

    async fn go_on(
        &self,
        round: &mut Option<Round>,
        pace: &mut Pace,
        cancel: &CancellationToken,
        lock: &JobLock,
    ) -> Result<(), FixityError> {
        let stop = cancel.child_token();
        let under_way = round.get_or_insert_with(|| self.round_in_background());
        if stopped_with(self.walk(under_way, pace, &stop, TURN, &mut |_| {}), &stop, lock).await? {
            *round = None;
        }
        Ok(())
    }

    async fn is_something_due(&self) -> Result<bool, FixityError> {
        let oldest = self.ledger.oldest_at().await?;
        let due = oldest.is_some_and(|at| at <= self.before(self.settings.every));
        let again = self.round_in_background();
        Ok(due || !self.ledger.failed(super::ledger::Place::START, again.failed_until(), 1).await?.is_empty())
    }

    async fn say_what_fails(&self) -> Result<u64, FixityError> {
        let failing = self.ledger.failing().await?;
        if failing > 0 {
            let why = format!("{failing} stored objects are not what they were: run callvault fixity status");
            self.health.report(PART, why);
        }
        Ok(failing)
    }
}

/// Does some work, and has it stop where the job may be another's.
pub async fn stopped_with<T>(work: impl Future<Output = T>, stop: &CancellationToken, lock: &JobLock) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => done,
        () = lock.lost().cancelled() => {
            stop.cancel();
            work.await
        }
    }
}
