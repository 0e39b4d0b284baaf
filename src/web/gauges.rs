//! Gauges that nobody counts as it goes: looked at when somebody asks for the metrics.
//!
//! None of it looks at every row. The journal's size is in its head row; what waits has partial indexes, which hold nothing
//! else; how the calls are is counted by the search index, in milliseconds for ten million. A part that does not answer
//! in time keeps its last value, so that a database that is away does not take the metrics with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::app::{App, Checked};
use crate::calls::RecordingState;
use crate::fixity;
use crate::flags::Rule;
use crate::search::{Filters, Totals, compile};

/// A scrape has ten seconds, unless somebody gives it more.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was seen last; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Gauges(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// Since when a recording is awaited, in microseconds: it goes on waiting while nobody can be asked.
    awaited_since: Option<i64>,
}

impl Gauges {
    /// Looks at everything, unless somebody else is just doing it.
    pub(super) async fn look(&self, app: &App) {
        let Ok(mut seen) = self.0.try_lock() else { return };
        metrics::gauge!("callvault_journal_waiting").set(app.journal.waiting() as f64);
        tokio::join!(journal(app), backlog(app), calls(app), objects(app), in_time(seen.look(app)));
        let waits = seen.awaited_since.map_or(0, |since| app.clock.now().as_microsecond().saturating_sub(since));
        metrics::gauge!("callvault_recordings_oldest_pending_seconds").set(waits.max(0) as f64 / 1e6);
        checked(app.checked());
    }
}

impl Seen {
    async fn look(&mut self, app: &App) {
        if let Ok(since) = app.calls.awaited_since().await {
            self.awaited_since = since;
        }
    }
}

async fn in_time<T>(look: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, look).await.ok()
}

async fn journal(app: &App) {
    let Some(Ok(size)) = in_time(app.journal.size()).await else { return };
    metrics::gauge!("callvault_journal_entries").set(size as f64);
    if let Ok(searcher) = app.search.searcher() {
        metrics::gauge!("callvault_search_behind_entries").set(size.saturating_sub(searcher.cursor()) as f64);
    }
}

async fn backlog(app: &App) {
    if let Some(Ok((pending, unanalysed))) = in_time(app.calls.backlog()).await {
        metrics::gauge!("callvault_recordings_pending").set(pending as f64);
        metrics::gauge!("callvault_recordings_unanalysed").set(unanalysed as f64);
    }
}

async fn objects(app: &App) {
    metrics::gauge!("callvault_fixity_every_seconds").set(app.config.fixity.every.as_secs_f64());
    let watch = fixity::watch(app.db.clone(), app.journal.clone(), app.clock.now());
    if let Some(Ok(watch)) = in_time(watch).await {
        metrics::gauge!("callvault_fixity_failing").set(watch.failing as f64);
        metrics::gauge!("callvault_fixity_oldest_seconds").set(watch.oldest.as_secs_f64());
    }
}

/// Only a node that searches has an index.
async fn calls(app: &App) {
    if !app.config.roles.web {
        return;
    }
    let context = app.query_context();
    let Ok(all) = compile(&Filters::default(), &context) else { return };
    let Some(Ok(Totals { calls, by_recording, open_flags, .. })) = in_time(app.search.totals(all, context)).await
    else {
        return;
    };
    let count = |counts: &BTreeMap<String, u64>, name: &str| counts.get(name).copied().unwrap_or_default() as f64;
    metrics::gauge!("callvault_calls").set(calls as f64);
    for state in RecordingState::ALL.map(RecordingState::as_str) {
        metrics::gauge!("callvault_recordings", "state" => state).set(count(&by_recording, state));
    }
    for rule in Rule::ALL.map(Rule::as_str) {
        metrics::gauge!("callvault_flags_open", "rule" => rule).set(count(&open_flags, rule));
    }
}

fn checked(checked: Option<Checked>) {
    let sound_at = checked.and_then(|checked| checked.sound_at).map_or(0, Timestamp::as_second);
    metrics::gauge!("callvault_verify_last_success_seconds").set(sound_at as f64);
    metrics::gauge!("callvault_verify_damages").set(checked.map_or(0, |checked| checked.damages) as f64);
}
