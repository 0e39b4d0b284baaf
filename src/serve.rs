//! Runs everything in one process: the server and the workers behind it, until it is told to stop.
//!
//! The listener and the signal to stop are parameters, so that a test can start the real thing on port 0.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::TokenError;
use crate::app::{App, OpenError};
use crate::archiver::{Analyser, Archive, ArchiveError, Gate, SecondLook, Spool, Worker};
use crate::config::ConfigError;
use crate::custody::{Custody, CustodyError};
use crate::db::{Error as DbError, Growth, Sight};
use crate::fault;
use crate::flags::Evaluator;
use crate::health::{Health, supervise};
use crate::intake::{Intake, WebhookSpool};
use crate::lock::{DataDirLock, LockError};
use crate::nodes::Node;
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
    Custody(#[from] CustodyError),
    #[error(transparent)]
    Db(#[from] DbError),
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
    let crew = Crew { health: app.health.clone(), tracker: TaskTracker::new(), stop: shutdown.clone() };
    let prepared = tokio::select! {
        prepared = prepare(&app) => prepared?,
        // Told to stop while something hangs that is needed for the start.
        () = shutdown.cancelled() => return Ok(()),
    };
    let intake_ends = CancellationToken::new();
    let intake = open_intake(&app, &Crew { stop: intake_ends.clone(), ..crew.clone() })?;
    prepared.start(&app, &crew);
    start_upkeep(&app, &metrics, &crew);
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "serving");

    let router = web::router(WebState::new(Arc::clone(&app), metrics, intake));
    web::serve(listener, router, &shutdown, web::Limits::default()).await;
    shutdown.cancel();
    intake_ends.cancel();
    crew.tracker.close();
    if tokio::time::timeout(WORKERS_GRACE, crew.tracker.wait()).await.is_err() {
        tracing::warn!("a worker did not stop in time; what it was doing is taken up at the next start");
    }
    if tokio::time::timeout(DATABASE_GRACE, app.db.close()).await.is_err() {
        tracing::warn!("the database could not be closed in time; it recovers by itself at the next start");
    }
    tracing::info!("stopped");
    Ok(())
}

/// What runs beside the server until it is told to stop.
#[derive(Clone)]
struct Crew {
    health: Health,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Crew {
    fn add<F>(&self, name: &'static str, start: impl Fn(CancellationToken) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        let started = move || start(stop.clone());
        self.tracker.spawn(supervise(self.health.clone(), name, self.stop.clone(), started));
    }
}

/// The workers of the node's roles, before they are started.
struct Workers {
    archiver: Arc<Worker>,
    analyser: Arc<Analyser>,
    /// Only where the store keeps versions.
    second_look: Option<Arc<SecondLook>>,
    evaluator: Arc<Evaluator>,
    keeper: (Arc<Custody>, Node),
    follower: Arc<Follower>,
}

/// Brings the tokens of the configuration into force, and makes ready what runs beside the server.
async fn prepare(app: &Arc<App>) -> Result<Workers, ServeError> {
    app.journal.look().await?;
    app.check_store().await?;
    app.access.sync_bootstrap(&app.config.bootstrap.parse()?).await?;
    // Should the database go away in a moment, whoever has a token goes on.
    app.access.learn().await;
    let custody = Arc::new(app.custody());
    custody.begin().await?;
    let node = Node::of(&app.config.data_dir, app.db.clone())?;
    let archive = Arc::new(Archive {
        db: app.db.clone(),
        journal: app.journal.clone(),
        calls: app.calls.clone(),
        store: Arc::clone(&app.store),
        gate: Gate::new(app.store.is_remote()),
        spool: Spool::open(&app.config.spool_dir(), app.config.spool.max_bytes - webhooks_share(app))?,
        policies: app.policies.clone(),
        clock: app.clock.clone(),
        settings: app.config.recordings.clone(),
        public_url: app.public_url(),
        health: app.health.clone(),
    });
    let archiver = Arc::new(Worker::new(Arc::clone(&archive), node.clone())?);
    Ok(Workers {
        analyser: Arc::new(Analyser::new(Arc::clone(&archive), node.clone(), archiver.rush())),
        archiver,
        keeper: (custody, node.clone()),
        second_look: app.store.is_remote().then(|| Arc::new(SecondLook::new(archive, node.clone()))),
        evaluator: Arc::new(Evaluator {
            db: app.db.clone(),
            journal: app.journal.clone(),
            calls: app.calls.clone(),
            clock: app.clock.clone(),
            thresholds: app.config.flags.clone(),
            policies: app.policies.clone(),
            health: app.health.clone(),
            node,
        }),
        follower: Arc::new(Follower {
            journal: app.reading.journal.clone(),
            calls: app.reading.calls.clone(),
            handle: app.search.clone(),
            region: app.config.region.clone(),
        }),
    })
}

impl Workers {
    fn start(self, app: &App, crew: &Crew) {
        let Self { archiver, analyser, second_look, evaluator, keeper: (keeper, node), follower } = self;
        if app.config.roles.archiver {
            crew.add("archiver", move |stop| Arc::clone(&archiver).run(stop));
            crew.add("analyser", move |stop| Arc::clone(&analyser).run(stop));
            if let Some(look) = second_look {
                crew.add("second look", move |stop| Arc::clone(&look).run(stop));
            }
            crew.add("keeper", move |stop| Arc::clone(&keeper).run(node.clone(), stop));
            crew.add("flagger", move |stop| Arc::clone(&evaluator).run(stop));
        }
        if app.config.roles.web {
            crew.add("indexer", move |stop| Arc::clone(&follower).run(stop));
        }
    }
}

/// How much of the spool is for webhooks, in bytes: none where the database is as near as the spool.
fn webhooks_share(app: &App) -> u64 {
    if app.db.is_shared() { app.config.spool.max_bytes / 10 } else { 0 }
}

/// The door for webhooks, and what journals those that had to wait. It ends after the last request did.
fn open_intake(app: &Arc<App>, crew: &Crew) -> Result<Intake, ServeError> {
    let (journal, clock) = (app.journal.clone(), app.clock.clone());
    if !app.db.is_shared() || !app.config.roles.intake {
        return Ok(Intake { journal, clock, spool: None });
    }
    let folder = app.config.spool_dir().join("webhooks");
    let (spool, drain) = WebhookSpool::open(folder, webhooks_share(app), journal.clone())?;
    let drain = Arc::new(Mutex::new(drain));
    crew.add("webhook spool", move |stop| {
        let drain = Arc::clone(&drain);
        async move { drain.lock().await.run(&stop).await }
    });
    Ok(Intake { journal, clock, spool: Some(spool) })
}

/// What every node needs, whatever it does.
fn start_upkeep(app: &Arc<App>, metrics: &PrometheusHandle, crew: &Crew) {
    let (looked_at, written, metrics) = (Arc::clone(app), Arc::clone(app), metrics.clone());
    crew.add("listener", move |stop| hear_of_other_writers(Arc::clone(&looked_at), stop));
    crew.add("log shortener", move |stop| shorten_log(Arc::clone(&written), stop));
    crew.add("metrics", move |stop| keep_metrics_small(metrics.clone(), stop));
    if app.db.has_replica() {
        let replicated = Arc::clone(app);
        crew.add("replica watcher", move |stop| watch_replica(Arc::clone(&replicated), stop));
    }
    if app.store.is_remote() {
        let tidied = Arc::clone(app);
        crew.add("store tidier", move |stop| tidy_store(Arc::clone(&tidied), stop));
    }
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

/// Looks whether the replica may be asked: what reads asks the primary until this says so.
async fn watch_replica(app: Arc<App>, shutdown: CancellationToken) {
    const EVERY: Duration = Duration::from_secs(2);
    const PART: &str = "replica";
    metrics::gauge!("callvault_replica_up").set(0.0);
    while let Some(sight) = app.db.look_at_replica().await {
        match sight {
            Sight::Follows { behind } => {
                metrics::gauge!("callvault_replica_up").set(1.0);
                metrics::gauge!("callvault_replica_behind_entries").set(behind as f64);
                if behind > Sight::NOTABLY_BEHIND {
                    app.health.report(PART, format!("it is {behind} entries behind: searches find older states"));
                } else {
                    app.health.clear(PART);
                }
            }
            Sight::Unsure { asked: true } => {
                metrics::gauge!("callvault_replica_up").set(1.0);
                app.health.clear(PART);
            }
            Sight::Unsure { asked: false } => {}
            Sight::Away(why) | Sight::Unfit(why) => {
                metrics::gauge!("callvault_replica_up").set(0.0);
                app.health.report(PART, why);
            }
        }
        if tokio::time::timeout(EVERY, shutdown.cancelled()).await.is_ok() {
            return;
        }
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
