//! `serve`, `migrate` and `reindex`.

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Found, Outcome, say};
use crate::app::{App, open_db};
use crate::clock::Clock;
use crate::config::Config;
use crate::db::SCHEMA_VERSION;
use crate::journal::{Body, Kind, NewEntry};
use crate::lock::DataDirLock;
use crate::search::Follower;

pub(super) async fn serve(config: Config) -> Outcome {
    // Who serves already is told before the address is: that one names the cause.
    if config.data_dir.is_dir() {
        DataDirLock::check_free(&config.data_dir)?;
    }
    let address = config.listen;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on {address}: choose another with --listen"))?;
    let app = App::open(config, Clock::system()).await?;
    if app.access.tokens().await?.is_empty() && app.config.bootstrap.tokens.expose().is_empty() {
        tracing::warn!("there is no token yet: make one with callvault token create NAME --role ingest");
    }
    crate::serve::serve(app, listener, shutdown_on_signal()?).await?;
    Ok(Found::Nothing)
}

/// Applies what is missing and does nothing else: for a role that may change the schema, before a version is rolled out.
pub(super) async fn migrate(config: Config) -> Outcome {
    let db = open_db(&config).await?;
    db.migrate().await?;
    db.close().await;
    say(format!("The database has schema version {SCHEMA_VERSION}."))?;
    Ok(Found::Nothing)
}

/// Cancelled by the first SIGTERM or SIGINT.
pub(super) fn shutdown_on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(token)
}

/// Asks a running server to build its index again, through the journal; without one, builds it here.
pub(super) async fn reindex(app: App) -> Outcome {
    let nothing = Body::of_json(&serde_json::json!({}))?;
    app.journal.append(vec![NewEntry::new(Kind::IndexRebuildRequested, "cli", None, nothing)]).await?;
    match DataDirLock::acquire(&app.config.data_dir, "(callvault reindex)") {
        Ok(_lock) => {
            let follower = Follower {
                journal: app.journal.clone(),
                calls: app.calls.clone(),
                handle: app.search.clone(),
                region: app.config.region.clone(),
            };
            let calls = follower.rebuild().await?;
            say(format!("The search index is rebuilt: {calls} calls."))?;
        }
        Err(crate::lock::LockError::Held { holder, .. }) => {
            say(format!("Asked the running server ({holder}) to rebuild its search index."))?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Found::Nothing)
}
