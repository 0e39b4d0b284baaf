//! For operators and their monitors: health and metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::WebState;
use super::auth::{May, ReadMetrics};
use super::error::{Problem, Result};
use crate::intake::WebhookSpool;

/// An index that is further behind than this many entries is told.
const NOTABLY_BEHIND: u64 = 5_000;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(render_metrics))
}

/// Alive or ready.
#[derive(Serialize, ToSchema)]
struct Health {
    status: &'static str,
}

/// Whether this node can take webhooks, and every part that is not well.
#[derive(Serialize, ToSchema)]
struct Readiness {
    /// `ready` or `not ready`.
    status: &'static str,
    degraded: Vec<Degraded>,
}

/// A part that is not well.
#[derive(Clone, Serialize, ToSchema)]
struct Degraded {
    part: &'static str,
    why: String,
}

/// The process is alive.
#[utoipa::path(get, path = "/healthz", tag = "system", responses((status = 200, description = "Alive", body = Health)))]
async fn healthz() -> Json<Health> {
    Json(Health { status: "alive" })
}

/// 200 as long as this node can durably accept webhooks.
#[utoipa::path(get, path = "/readyz", tag = "system", responses(
    (status = 200, description = "Webhooks are taken", body = Readiness),
    (status = 503, description = "Webhooks are not taken", body = Readiness),
))]
async fn readyz(State(state): State<WebState>) -> Response {
    let (ready, degraded) = state.readiness.get(readiness(&state)).await;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { status: if ready { "ready" } else { "not ready" }, degraded })).into_response()
}

/// Whether webhooks can be taken, and what is not well.
async fn readiness(state: &WebState) -> (bool, Vec<Degraded>) {
    let mut degraded = Vec::new();
    degraded.extend(state.app.health.degraded().into_iter().map(|(part, why)| Degraded { part, why }));
    let waiting = state.intake.spool.as_ref().map_or(0, WebhookSpool::count);
    if waiting > 0 {
        let why = format!("{waiting} webhooks wait on this node until they are journaled");
        degraded.push(Degraded { part: "webhooks", why });
    }
    let size = writable_journal(state).await;
    let ready = size.is_ok() || (state.app.config.roles.intake && state.intake.can_wait());
    match size {
        Err(why) => {
            tracing::error!(why, ready, "the journal can't be written");
            degraded.push(Degraded { part: "journal", why });
        }
        Ok(size) if state.app.config.roles.web => degraded.extend(lagging_search(state, size)),
        Ok(_) => {}
    }
    let damaged = state.app.calls.damaged().list().len();
    if damaged > 0 {
        let why = format!("{damaged} stored rows are damaged and left out: run callvault verify");
        degraded.push(Degraded { part: "database", why });
    }
    (ready, degraded)
}

/// How the index differs from a journal of a size, if it does notably.
fn lagging_search(state: &WebState, size: u64) -> Option<Degraded> {
    let behind = state.app.search.searcher().map(|searcher| size.saturating_sub(searcher.cursor()));
    let why = match (state.app.search.notice(), behind) {
        (Some(why), _) => why,
        (None, Err(_)) => "there is no index yet".into(),
        (None, Ok(behind)) if behind > NOTABLY_BEHIND => format!("the index is {behind} entries behind"),
        (None, Ok(_)) => return None,
    };
    Some(Degraded { part: "search", why })
}

/// What was found out last about readiness. Anybody may ask, and finding out takes the write lock: it is done by one at
/// a time, and not again for a moment.
#[derive(Clone, Default)]
pub struct LastReadiness(Arc<tokio::sync::Mutex<Option<Found>>>);

/// When it was found out, whether webhooks can be taken, and what is not well.
type Found = (Instant, (bool, Vec<Degraded>));

impl LastReadiness {
    const FRESH: Duration = Duration::from_millis(500);

    async fn get(&self, find_out: impl Future<Output = (bool, Vec<Degraded>)>) -> (bool, Vec<Degraded>) {
        let mut last = self.0.lock().await;
        if let Some((at, found)) = last.as_ref()
            && at.elapsed() < Self::FRESH
        {
            return found.clone();
        }
        let found = find_out.await;
        *last = Some((Instant::now(), found.clone()));
        found
    }
}

/// The journal's size, if an entry could be appended now.
async fn writable_journal(state: &WebState) -> std::result::Result<u64, String> {
    const PATIENCE: Duration = Duration::from_secs(2);
    const MIN_FREE_BYTES: u64 = 16 << 20;
    let disk =
        rustix::fs::statvfs(&state.app.config.data_dir).map_err(|error| format!("the disk can't be asked: {error}"))?;
    if disk.f_bavail * disk.f_frsize < MIN_FREE_BYTES {
        return Err("the disk of the data directory is full".into());
    }
    let held_up = state.app.journal.held_up();
    if held_up > PATIENCE {
        return Err(format!("the database has not taken the newest entries for {} s", held_up.as_secs()));
    }
    let look = async {
        // Only that it could begin counts.
        let begun = async { state.app.db.begin().await?.roll_back().await };
        begun.await.map_err(|error| format!("the database can't be written: {error}"))?;
        state.app.journal.size().await.map_err(|error| error.to_string())
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| Err("the database stays locked".into()))
}

/// Metrics for Prometheus; any token but `ingest`, or none where `metrics_public` is on.
#[utoipa::path(get, path = "/metrics", tag = "system", responses(
    (status = 200, description = "Prometheus text format", body = String, content_type = "text/plain"),
    (status = 401, description = "No valid token", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "An ingest token", body = Problem, content_type = "application/problem+json"),
), security(("bearer" = [])))]
async fn render_metrics(State(state): State<WebState>, request: Request) -> Result<Response> {
    if !state.app.config.metrics_public {
        let (mut parts, _) = request.into_parts();
        May::<ReadMetrics>::from_request_parts(&mut parts, &state).await?;
    }
    state.gauges.look(&state.app).await;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], state.metrics.render()).into_response())
}
