//! Runs everything in one process: the server and the workers behind it, until it is told to stop.
//!
//! The listener and the signal to stop are parameters, so that a test can start the real thing on port 0.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::TokenError;
use crate::app::{App, OpenError};
use crate::archiver::{Analyser, Archive, ArchiveError, Spool, Worker};
use crate::config::ConfigError;
use crate::fault;
use crate::flags::Evaluator;
use crate::health::supervise;
use crate::lock::{DataDirLock, LockError};
use crate::objects::StoreError;
use crate::search::Follower;
use crate::telemetry;
use crate::web::{self, WebState};

/// How long workers may take to end after the last request did (`web::Limits::grace`), then the database; together with
/// what the program itself needs, a stop stays below ten seconds whatever hangs.
const WORKERS_GRACE: Duration = Duration::from_secs(2);
const DATABASE_GRACE: Duration = Duration::from_secs(1);

/// Why the server could not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("bootstrap.tokens: {0}")]
    Token(#[from] TokenError),
    #[error("recordings can't be fetched: {0}")]
    Http(#[from] reqwest::Error),
    #[error("metrics can't be recorded: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

/// Serves an archive until `shutdown` is cancelled.
///
/// # Errors
/// Another process serves this data directory, or a part can't start.
pub async fn serve(app: App, listener: TcpListener, shutdown: CancellationToken) -> Result<(), ServeError> {
    let address = listener.local_addr()?;
    let _lock = DataDirLock::acquire(&app.config.data_dir, &format!("http://{address}"))?;
    let metrics = telemetry::start_metrics()?;
    // Only one crypto provider is compiled in; a second installation is refused and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if !app.store.is_remote() {
        app.store.tidy().await?;
    }
    let app = Arc::new(app);
    let workers = tokio::select! {
        workers = prepare(&app, &metrics, &shutdown) => workers?,
        // Told to stop while something hangs that is needed for the start.
        () = shutdown.cancelled() => return Ok(()),
    };
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "serving");

    let router = web::router(WebState::new(Arc::clone(&app), metrics));
    web::serve(listener, router, &shutdown, web::Limits::default()).await;
    shutdown.cancel();
    workers.close();
    if tokio::time::timeout(WORKERS_GRACE, workers.wait()).await.is_err() {
        tracing::warn!("a worker did not stop in time; what it was doing is taken up at the next start");
    }
    if tokio::time::timeout(DATABASE_GRACE, app.db.close()).await.is_err() {
        tracing::warn!("the database could not be closed in time; it recovers by itself at the next start");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Brings the tokens of the configuration into force, takes up what was interrupted, and starts what runs beside the
/// server.
async fn prepare(
    app: &Arc<App>,
    metrics: &PrometheusHandle,
    shutdown: &CancellationToken,
) -> Result<TaskTracker, ServeError> {
    app.check_store().await?;
    app.access.sync_bootstrap(&app.config.bootstrap.parse()?).await?;
    let archive = Arc::new(Archive {
        db: app.db.clone(),
        journal: app.journal.clone(),
        calls: app.calls.clone(),
        store: Arc::clone(&app.store),
        spool: Spool::open(&app.config.spool_dir(), app.config.spool.max_bytes)?,
        policies: app.policies.clone(),
        clock: app.clock.clone(),
        settings: app.config.recordings.clone(),
        public_url: app.public_url(),
        health: app.health.clone(),
    });
    let worker = Arc::new(Worker::new(Arc::clone(&archive), node_name(&app.config.data_dir)?)?);
    let analyser = Arc::new(Analyser(archive));
    let follower = Arc::new(Follower {
        journal: app.journal.clone(),
        calls: app.calls.clone(),
        handle: app.search.clone(),
        region: app.config.region.clone(),
    });
    let evaluator = Arc::new(Evaluator {
        db: app.db.clone(),
        journal: app.journal.clone(),
        calls: app.calls.clone(),
        clock: app.clock.clone(),
        thresholds: app.config.flags.clone(),
        policies: app.policies.clone(),
        health: app.health.clone(),
    });
    let tracker = TaskTracker::new();
    let cancel = || shutdown.clone();
    let (metrics, looked_at, written, tidied) = (metrics.clone(), Arc::clone(app), Arc::clone(app), Arc::clone(app));
    let supervised = |name, start: Box<dyn FnMut() -> BoxFuture<'static, ()> + Send>| {
        supervise(app.health.clone(), name, shutdown.clone(), start)
    };
    let run = |name, start| _ = tracker.spawn(supervised(name, start));
    let token = cancel();
    run("archiver", Box::new(move || Arc::clone(&worker).run(token.clone()).boxed()));
    let token = cancel();
    run("analyser", Box::new(move || Arc::clone(&analyser).run(token.clone()).boxed()));
    let token = cancel();
    run("indexer", Box::new(move || Arc::clone(&follower).run(token.clone()).boxed()));
    let token = cancel();
    run("flagger", Box::new(move || Arc::clone(&evaluator).run(token.clone()).boxed()));
    let token = cancel();
    run("listener", Box::new(move || hear_of_other_writers(Arc::clone(&looked_at), token.clone()).boxed()));
    let token = cancel();
    run("log shortener", Box::new(move || shorten_log(Arc::clone(&written), token.clone()).boxed()));
    let token = cancel();
    if tidied.store.is_remote() {
        run("store tidier", Box::new(move || tidy_store(Arc::clone(&tidied), token.clone()).boxed()));
    }
    let token = cancel();
    run("metrics", Box::new(move || keep_metrics_small(metrics.clone(), token.clone()).boxed()));
    Ok(tracker)
}

/// Keeps the database's log short where much is written, and empty where nothing is.
async fn shorten_log(app: Arc<App>, shutdown: CancellationToken) {
    const LOOK_EVERY: Duration = Duration::from_millis(250);
    const MANY_ENTRIES: u64 = 500;
    const AT_LATEST: Duration = Duration::from_secs(10);
    let (written, mut until, mut at) = (app.journal.watch(), 0, Instant::now());
    while tokio::time::timeout(LOOK_EVERY, shutdown.cancelled()).await.is_err() {
        let size = *written.borrow();
        let news = size.saturating_sub(until);
        if news == 0 || (news < MANY_ENTRIES && at.elapsed() < AT_LATEST) {
            continue;
        }
        if let Err(error) = app.db.shorten_log().await {
            tracing::warn!(%error, "the database's log can't be shortened at the moment");
        }
        (until, at) = (size, Instant::now());
    }
}

/// Removes from a remote store what interrupted runs left, at the start and from time to time: it may be away now, and
/// what was left a moment ago may still be somebody's.
async fn tidy_store(app: Arc<App>, shutdown: CancellationToken) {
    const EVERY: Duration = Duration::from_secs(3600);
    const AGAIN: Duration = Duration::from_secs(60);
    while !shutdown.is_cancelled() {
        let tidied = tokio::select! {
            tidied = app.store.tidy() => tidied,
            () = shutdown.cancelled() => return,
        };
        let pause = match tidied {
            Ok(0) => EVERY,
            Ok(removed) => {
                tracing::info!(removed, "removed from the store what interrupted runs left");
                EVERY
            }
            Err(error) => {
                tracing::warn!(%error, "the store can't be tidied at the moment; it is tried again");
                AGAIN
            }
        };
        let _ = tokio::time::timeout(pause, shutdown.cancelled()).await;
    }
}

/// Commands append to the journal beside the server; this wakes whoever follows it.
async fn hear_of_other_writers(app: Arc<App>, shutdown: CancellationToken) {
    const LOOK_EVERY: Duration = Duration::from_millis(500);
    while tokio::time::timeout(LOOK_EVERY, shutdown.cancelled()).await.is_err() {
        fault::point("listener.look");
        if let Err(error) = app.journal.look().await {
            tracing::warn!(%error, "the journal can't be read at the moment");
        }
    }
}

/// Samples of histograms pile up until they are folded into their buckets, whether or not anybody scrapes.
async fn keep_metrics_small(metrics: PrometheusHandle, shutdown: CancellationToken) {
    const EVERY: Duration = Duration::from_secs(5);
    while tokio::time::timeout(EVERY, shutdown.cancelled()).await.is_err() {
        metrics.run_upkeep();
    }
}

/// The name under which this node holds leases: the same after a restart on the same data directory.
fn node_name(data_dir: &std::path::Path) -> std::io::Result<String> {
    let path: PathBuf = data_dir.join("node-id");
    match std::fs::read_to_string(&path) {
        Ok(name) if !name.trim().is_empty() => Ok(name.trim().to_owned()),
        Ok(_) => write_node_name(&path),
        // What is no text is no name of ours; leases that were held under another run out.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => write_node_name(&path),
        Err(error) => Err(error),
    }
}

fn write_node_name(path: &std::path::Path) -> std::io::Result<String> {
    let name = uuid::Uuid::now_v7().to_string();
    std::fs::write(path, &name)?;
    Ok(name)
}
