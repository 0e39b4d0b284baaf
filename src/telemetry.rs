//! Logs to stderr and metrics for Prometheus.
//!
//! A log line is a fixed message with fields. Names, numbers, URLs, query strings and secrets never appear in one.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Upper bounds of latency buckets, in seconds.
const SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
/// Upper bounds of batch sizes.
const ENTRIES: [f64; 7] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];
/// The route whose every request may be a call.
const WEBHOOKS: &str = "/webhooks/doubletick";

/// Starts logging; `RUST_LOG` chooses what, else `default`. Only the first call has an effect.
pub fn start_logging(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // A second subscriber is refused: the first one goes on.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    std::panic::set_hook(Box::new(panicked));
}

/// No panic is silent. Where it happened is logged; what it says is not, unless somebody asks for it: it may quote a name.
fn panicked(info: &std::panic::PanicHookInfo) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or_default().to_owned();
    metrics::counter!("callvault_panics_total").increment(1);
    tracing::error!(place, thread, "the program panicked: this is a fault of its own, please report it");
    tracing::debug!(said = info.payload_as_str().unwrap_or_default(), "what the panic said");
}

/// Starts recording metrics for this process; the handle renders them.
///
/// # Errors
/// A bucket list is empty, which it is not.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_entries".into()), &ENTRIES)?
        .build_recorder();
    let handle = recorder.handle();
    // Several servers in one process (tests) share the first recorder.
    let _ = metrics::set_global_recorder(recorder);
    describe();
    begin();
    Ok(handle)
}

/// Every counter from 0 on, and the times of webhooks: who looks at how much something grew sees the first of it only after
/// a 0. The restarts of a worker begin where it is supervised.
fn begin() {
    for outcome in ["accepted", "ignored", "quarantined", "spooled"] {
        metrics::counter!("callvault_webhooks_total", "outcome" => outcome).increment(0);
    }
    for outcome in ["archived", "failed"] {
        metrics::counter!("callvault_recordings_total", "outcome" => outcome).increment(0);
    }
    for found in ["before", "after"] {
        metrics::counter!("callvault_store_foreign_total", "found" => found).increment(0);
    }
    metrics::counter!("callvault_webhooks_pushed_back_total").increment(0);
    metrics::counter!("callvault_webhook_spool_damaged_total").increment(0);
    metrics::counter!("callvault_fetch_retries_total").increment(0);
    metrics::counter!("callvault_panics_total").increment(0);
    metrics::counter!("callvault_retention_extended_total").increment(0);
    metrics::counter!("callvault_disposed_total").increment(0);
    metrics::counter!("callvault_fixity_checked_total").increment(0);
    metrics::counter!("callvault_fixity_bytes_total").increment(0);
    metrics::counter!("callvault_fixity_failed_total").increment(0);
    for class in ["2xx", "4xx", "5xx"] {
        // A histogram is there once it is asked for.
        let _ = metrics::histogram!("callvault_http_seconds", "route" => WEBHOOKS, "status" => class);
    }
}

/// What keeps and checks what is stored.
fn describe_keeping() {
    use metrics::{describe_counter, describe_gauge};
    describe_counter!("callvault_fixity_checked_total", "Stored objects that were read again and are what they were.");
    describe_counter!("callvault_fixity_bytes_total", "Bytes of them.");
    describe_counter!("callvault_fixity_failed_total", "Stored objects that were found not to be what they were.");
    describe_gauge!(
        "callvault_fixity_failing",
        "Stored objects that were not what they were when they were last read."
    );
    describe_gauge!(
        "callvault_fixity_oldest_seconds",
        "For how long the stored object was not read again that was not for longest; 0 where there is none."
    );
    describe_gauge!("callvault_fixity_every_seconds", "How often every stored object is to be read again.");
    describe_counter!("callvault_schedule_runs_total", "Runs of the schedule that this node did, by name and outcome.");
    describe_gauge!("callvault_schedule_failing", "1 while a run of the schedule needs attention, or failed.");
    describe_gauge!("callvault_schedule_late_seconds", "For how long a run of the schedule has been due.");
    describe_gauge!("callvault_schedule_took_seconds", "How long a run of the schedule took the last time.");
    describe_gauge!(
        "callvault_retention_refused",
        "Recordings that the store refuses to keep as long as they must be."
    );
    describe_counter!("callvault_retention_extended_total", "Recordings whose lock was moved to a later date.");
    describe_counter!("callvault_disposed_total", "Calls and messages in quarantine that were destroyed.");
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("callvault_webhooks_total", "Webhooks acknowledged, by outcome.");
    describe_counter!(
        "callvault_webhooks_pushed_back_total",
        "Webhooks answered 503 because they could not be journaled."
    );
    describe_counter!(
        "callvault_webhook_spool_damaged_total",
        "Lines of the webhook spool that do not read back: webhooks that were acknowledged and are not in the journal."
    );
    describe_counter!("callvault_recordings_total", "Recordings settled, by outcome.");
    describe_counter!(
        "callvault_store_foreign_total",
        "Objects that somebody else put at a key of a recording: before it was archived there, or after."
    );
    describe_counter!("callvault_fetch_retries_total", "Fetches that will be tried again.");
    describe_counter!("callvault_panics_total", "Panics anywhere in the program: faults of its own.");
    describe_counter!("callvault_worker_restarts_total", "Workers that panicked and were started again.");
    describe_histogram!("callvault_journal_batch_entries", "Entries committed in one transaction.");
    describe_histogram!("callvault_http_seconds", "Time to answer, by route and status class.");
    describe_keeping();
    describe_gauge!("callvault_degraded", "1 while a part is not well; /readyz says why.");
    describe_gauge!("callvault_journal_entries", "Size of the journal.");
    describe_gauge!("callvault_journal_waiting", "Appends that wait for the writer.");
    describe_gauge!("callvault_search_cursor", "Journal entry that the search index reads next.");
    describe_gauge!("callvault_search_behind_entries", "Journal entries that the search index has not taken in yet.");
    describe_gauge!("callvault_calls", "Calls that the search knows.");
    describe_gauge!("callvault_recordings", "Calls by the state of their recording, as the search knows them.");
    describe_gauge!("callvault_flags_open", "Calls with an open flag, by rule, as the search knows them.");
    describe_gauge!("callvault_recordings_pending", "Recordings that are announced and not archived.");
    describe_gauge!(
        "callvault_recordings_oldest_pending_seconds",
        "For how long the recording that waits longest has been known and not archived; 0 where none waits."
    );
    describe_gauge!("callvault_recordings_unanalysed", "Recordings that are archived and not analysed.");
    describe_gauge!("callvault_damaged_rows", "Stored rows that make no sense and are left out until they are mended.");
    describe_gauge!("callvault_store_up", "1 while the object store answers.");
    describe_gauge!("callvault_replica_up", "1 while the database's replica is asked for searches.");
    describe_gauge!("callvault_replica_behind_entries", "Journal entries that the replica has not taken in yet.");
    describe_gauge!("callvault_spool_bytes", "Bytes of recordings on their way into the store.");
    describe_gauge!("callvault_spool_limit_bytes", "Room for them; when it is taken, nothing more is fetched.");
    describe_gauge!("callvault_webhook_spool_events", "Webhooks that wait on this node's disk to be journaled.");
    describe_gauge!("callvault_webhook_spool_bytes", "Bytes of webhooks that wait.");
    describe_gauge!("callvault_webhook_spool_limit_bytes", "Room for them; when it is taken, webhooks are refused.");
    describe_gauge!(
        "callvault_verify_last_success_seconds",
        "When callvault verify last found no damage here, in Unix time; 0 where it never did."
    );
    describe_gauge!("callvault_verify_damages", "What the last callvault verify here found damaged.");
}
