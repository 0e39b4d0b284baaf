//! Runs everything in one process: the server and the workers behind it, until it is told to stop.
//!
//! The listener and the signal to stop are parameters, so that a test can start the real thing on port 0.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::TokenError;
use crate::app::App;
use crate::archiver::{Analyser, Archive, ArchiveError, Spool, Worker};
use crate::config::ConfigError;
use crate::db::Growth;
use crate::fault;
use crate::flags::Evaluator;
use crate::health::supervise;
use crate::lock::{DataDirLock, LockError};
use crate::nodes::Node;
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
    if let Some(store) = &app.fs_store {
        store.clear_staging()?;
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
    let node = Node::of(&app.config.data_dir, app.db.clone())?;
    let worker = Arc::new(Worker::new(Arc::clone(&archive), node.clone())?);
    let analyser = Arc::new(Analyser::new(archive, node.clone()));
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
        node,
    });
    let tracker = TaskTracker::new();
    let cancel = || shutdown.clone();
    let (metrics, looked_at, written) = (metrics.clone(), Arc::clone(app), Arc::clone(app));
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

/// Commands and other nodes append to the journal beside this server; this wakes whoever follows it. Where the database
/// sends word, looking is only for what it could not tell.
async fn hear_of_other_writers(app: Arc<App>, shutdown: CancellationToken) {
    const LOOK_EVERY: Duration = Duration::from_millis(500);
    /// One look is for all that was told in so long.
    const GATHER: Duration = Duration::from_millis(20);
    let mut word = None;
    loop {
        if word.is_none() {
            word = app.db.growth().await.unwrap_or_default();
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            lost = heard(&mut word) => {
                if lost {
                    word = None;
                }
                tokio::time::sleep(GATHER).await;
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        fault::point("listener.look");
        if let Err(error) = app.journal.look().await {
            tracing::warn!(%error, "the journal can't be read at the moment");
        }
    }
}

/// Waits for word of the database; true where the connection on which it comes is lost.
async fn heard(word: &mut Option<Growth>) -> bool {
    match word {
        Some(word) => word.heard().await.is_err(),
        None => std::future::pending().await,
    }
}

/// Samples of histograms pile up until they are folded into their buckets, whether or not anybody scrapes.
async fn keep_metrics_small(metrics: PrometheusHandle, shutdown: CancellationToken) {
    const EVERY: Duration = Duration::from_secs(5);
    while tokio::time::timeout(EVERY, shutdown.cancelled()).await.is_err() {
        metrics.run_upkeep();
    }
}
