//! How the parts are: which of them are not well and why, and workers that are started again when they panic.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The pause before a worker that panicked is started again; it doubles with every panic.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A worker that ran this long since its last panic is well again.
const WELL_AFTER: Duration = Duration::from_secs(120);

/// The parts that are not well, each with the reason; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Health {
    /// A part is not well.
    pub fn report(&self, part: &'static str, why: impl Into<String>) {
        self.parts().insert(part, why.into());
        metrics::gauge!("callvault_degraded", "part" => part).set(1.0);
    }

    /// A part is well again.
    pub fn clear(&self, part: &'static str) {
        if self.parts().remove(part).is_some() {
            metrics::gauge!("callvault_degraded", "part" => part).set(0.0);
        }
    }

    /// Every part that is not well.
    #[must_use]
    pub fn degraded(&self) -> Vec<(&'static str, String)> {
        self.parts().iter().map(|(part, why)| (*part, why.clone())).collect()
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does some work; `None` where it panicked. The panic itself is logged and counted by the hook of `telemetry`.
pub async fn caught<T>(work: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(work).catch_unwind().await.ok()
}

/// Runs a worker until it is cancelled. One that panics is started again after a pause: the other parts, and above all
/// the taking of webhooks, go on meanwhile.
pub async fn supervise<F: Future<Output = ()>>(
    health: Health,
    worker: &'static str,
    cancel: CancellationToken,
    mut start: impl FnMut() -> F,
) {
    metrics::counter!("callvault_worker_restarts_total", "worker" => worker).increment(0);
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        let well = async {
            tokio::time::sleep(WELL_AFTER).await;
            health.clear(worker);
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = caught(start()) => ended,
            () = well => None,
        };
        if cancel.is_cancelled() {
            return;
        }
        if started.elapsed() >= WELL_AFTER {
            pause = FIRST_PAUSE;
        }
        let how = if ended.is_some() { "ended by itself" } else { "panicked" };
        metrics::counter!("callvault_worker_restarts_total", "worker" => worker).increment(1);
        tracing::error!(worker, how, pause = ?pause, "a worker stopped; it is started again");
        health.report(worker, format!("it {how} and is started again: see the log for where"));
        if tokio::time::timeout(pause, cancel.cancelled()).await.is_ok() {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_panics_is_started_again_and_said_to_be_unwell() {
        let (health, cancel, mut starts) = (Health::default(), CancellationToken::new(), 0);
        let worker = supervise(health.clone(), "worker", cancel.clone(), || {
            starts += 1;
            let (first, cancel) = (starts < 3, cancel.clone());
            async move {
                assert!(!first, "on purpose");
                cancel.cancelled().await;
            }
        });
        let watch = async {
            tokio::time::sleep(FIRST_PAUSE * 4).await;
            assert_eq!(health.degraded().len(), 1);
            tokio::time::sleep(WELL_AFTER).await;
            assert_eq!(health.degraded(), [], "well again");
            cancel.cancel();
        };
        tokio::join!(worker, watch);
        assert_eq!(starts, 3);
    }
}
