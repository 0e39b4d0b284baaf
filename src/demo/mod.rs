//! The product on real input without any set-up: a server on an embedded default, and a simulated DoubleTick that sends
//! a year of past calls and a live trickle through the real webhook, and serves their recordings to the real fetch.
//!
//! It keeps to a folder of its own, which it marks, and reads no configuration.

pub mod simulator;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::access::Role;
use crate::app::{App, OpenError};
use crate::clock::Clock;
use crate::config::{self, Config, ConfigError, Flags};
use crate::db::Error as DbError;
use crate::lock::{DataDirLock, LockError};
use crate::serve::{ServeError, serve};
use simulator::cast::Cast;
use simulator::{Sender, Stage, past_calls, replay_past, router};

/// Marks a folder that demo made; holds what a second run needs.
const MARKER: &str = "callvault-demo.json";
const PAST_CALLS: usize = 2000;
/// Events that are posted at the same time while the past is replayed.
const REPLAY_AT_ONCE: usize = 32;

/// Why the demo can't run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("{0} was not made by callvault demo: move it away, or run the demo in another folder")]
    NotOurs(PathBuf),
    #[error("the marker in {path} can't be read ({why}): remove the folder and start again")]
    Marker { path: PathBuf, why: String },
    #[error("can't listen on {address} ({source}): choose another with --listen")]
    Listen { address: String, source: std::io::Error },
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Token(#[from] crate::access::TokenError),
    #[error(transparent)]
    Db(#[from] DbError),
    #[error("the simulated sender can't be set up: {0}")]
    Http(#[from] reqwest::Error),
}

/// What a demo's folder remembers from run to run.
#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    seed: u64,
    /// When the first run began: the past ends here.
    began: Timestamp,
    /// Where the recordings are served; their addresses are in the journal.
    recordings_port: u16,
    api_key: String,
    ingest_secret: String,
    admin_secret: String,
    /// True once the whole past was posted.
    replayed: bool,
}

/// What is printed once the demo can be used.
pub struct Welcome {
    pub address: String,
    /// Signs in once.
    pub sign_in: String,
    pub token: String,
    pub data_dir: PathBuf,
}

/// Runs the demo until `shutdown` is cancelled; `welcome` is called once it can be used, `told` with what it does next.
///
/// # Errors
/// The folder is not the demo's own, or a part can't start.
pub async fn demo(
    flags: &Flags,
    shutdown: CancellationToken,
    welcome: impl FnOnce(&Welcome),
    told: impl Fn(String) + Send + 'static,
) -> Result<(), DemoError> {
    let dir = flags.data_dir.clone().unwrap_or_else(|| "callvault-demo".into());
    let mut memory = prepare(&dir)?;
    DataDirLock::check_free(&dir)?;

    let address = flags.listen.clone().unwrap_or_else(|| "127.0.0.1:8470".into());
    let listener = bind(&address).await?;
    let recordings = match TcpListener::bind(("127.0.0.1", memory.recordings_port)).await {
        Ok(listener) => listener,
        // The old addresses lead nowhere then; what was fetched stays, the rest is shown as failed.
        Err(_) => bind("127.0.0.1:0").await?,
    };
    memory.recordings_port = recordings.local_addr()?.port();
    memory.write(&dir)?;

    let own_address = format!("http://{}", listener.local_addr()?);
    let config = memory.config(&dir, &own_address, &recordings.local_addr()?.to_string())?;
    let app = App::open(config, Clock::system()).await?;
    app.access.sync_bootstrap(&app.config.bootstrap.parse()?).await?;
    let code = sign_in_code(&app).await?;

    // The client below needs it, as the server does.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sender = Sender {
        client: reqwest::Client::builder().no_proxy().build()?,
        webhook_url: format!("{own_address}/webhooks/doubletick"),
        token: memory.ingest_secret.clone(),
    };
    let media = axum::serve(recordings, router(memory.api_key.clone()));
    let served = tokio::spawn(media.into_future());
    let simulated = tokio::spawn(simulate(memory, dir.clone(), sender, shutdown.clone(), told));
    welcome(&Welcome {
        sign_in: format!("{own_address}/sign-in/{code}"),
        token: app_token(&app.config),
        address: own_address,
        data_dir: dir,
    });
    let outcome = serve(app, listener, shutdown.clone()).await;
    shutdown.cancel();
    served.abort();
    simulated.abort();
    Ok(outcome?)
}

async fn bind(address: &str) -> Result<TcpListener, DemoError> {
    TcpListener::bind(address).await.map_err(|source| DemoError::Listen { address: address.to_owned(), source })
}

/// The folder, new or the demo's own.
fn prepare(dir: &Path) -> Result<Memory, DemoError> {
    let marker = dir.join(MARKER);
    match std::fs::read_to_string(&marker) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| DemoError::Marker { path: marker.clone(), why: error.to_string() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if dir.exists() && std::fs::read_dir(dir)?.next().is_some() {
                return Err(DemoError::NotOurs(dir.to_owned()));
            }
            std::fs::create_dir_all(dir)?;
            let memory = Memory {
                seed: 1,
                began: Clock::system().now(),
                recordings_port: 0,
                api_key: secret(),
                ingest_secret: secret(),
                admin_secret: secret(),
                replayed: false,
            };
            memory.write(dir)?;
            Ok(memory)
        }
        Err(error) => Err(error.into()),
    }
}

fn secret() -> String {
    format!("demo_{}", uuid::Uuid::new_v4().simple())
}

/// The demo's own administrator; the name holds a piece of its secret's hash.
async fn sign_in_code(app: &App) -> Result<String, DbError> {
    let tokens = app.access.tokens().await?;
    let admin = tokens.iter().find(|token| token.role == Role::Admin.as_str() && token.revoked_at.is_none());
    let name = admin.map_or("", |token| token.name.as_str());
    app.access.make_sign_in_code(name).await
}

fn app_token(config: &Config) -> String {
    let tokens = config.bootstrap.parse().unwrap_or_default();
    let admin = tokens.iter().find(|token| token.role == Role::Admin.as_str());
    admin.map_or_else(String::new, |token| token.secret.expose().to_owned())
}

impl Memory {
    fn write(&self, dir: &Path) -> Result<(), DemoError> {
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::other)?;
        Ok(std::fs::write(dir.join(MARKER), text)?)
    }

    /// The defaults, with patience cut down to what somebody who tries the product has.
    fn config(&self, dir: &Path, address: &str, recordings: &str) -> Result<Config, ConfigError> {
        let overrides = serde_json::json!({
            "public_url": address,
            "data_dir": dir,
            "timezone": "Asia/Kolkata",
            "recordings": {
                "hosts": [recordings], "api_key": self.api_key, "allow_private_addresses": true,
                "retry_base": "2s", "give_up_after": "10m",
            },
            "flags": { "call_overdue": "3m", "recording_overdue": "2m" },
            "bootstrap": { "tokens": format!("ingest={},admin={}", self.ingest_secret, self.admin_secret) },
        });
        config::with_defaults(&overrides)
    }
}

/// The sender's side: the past once, then the present until the end.
async fn simulate(
    mut memory: Memory,
    dir: PathBuf,
    sender: Sender,
    shutdown: CancellationToken,
    told: impl Fn(String) + Send + 'static,
) {
    let base = format!("http://127.0.0.1:{}", memory.recordings_port);
    let first_run = !memory.replayed;
    if first_run {
        let (start, past) = (Instant::now(), past_calls(memory.seed, memory.began, PAST_CALLS, &base));
        match replay_past(&sender, past, REPLAY_AT_ONCE).await {
            Ok(events) => {
                memory.replayed = true;
                if let Err(error) = memory.write(&dir) {
                    tracing::warn!(%error, "the demo will post its past again at the next start");
                }
                told(format!(
                    "A year of {PAST_CALLS} calls ({events} events) is in, after {:.1} s; their recordings are being fetched.",
                    start.elapsed().as_secs_f64()
                ));
            }
            Err(error) => told(format!("The past could not be posted: {error}")),
        }
    }
    let clock = Clock::system();
    let stage = Stage {
        cast: Cast::new(memory.seed),
        // Every run has calls of its own.
        seed: clock.now().as_microsecond().cast_unsigned(),
        recordings_base_url: base,
        opening: first_run,
        now: Arc::new(move || clock.now()),
    };
    told("Live calls come in from now on. Ctrl-C stops the demo.".to_owned());
    let undelivered = simulator::run(sender, stage, shutdown).await;
    if undelivered > 0 {
        told(format!("{undelivered} live events could not be delivered."));
    }
    // The last requests are answered before the server goes.
    tokio::time::sleep(Duration::from_millis(100)).await;
}
