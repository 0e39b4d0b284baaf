//! Calls in progress.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::calls::Call;
use crate::web::WebState;
use crate::web::auth::{May, ReadCalls};
use crate::web::error::{Refused, Result};

/// More calls than this are not shown at once.
const MOST: u64 = 1000;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().routes(routes!(live))
}

/// Who is on the phone.
#[derive(Serialize, ToSchema)]
struct Live {
    /// Oldest first.
    calls: Vec<Call>,
    agents: Vec<AgentCalls>,
}

/// How many calls an agent is in.
#[derive(Serialize, ToSchema)]
struct AgentCalls {
    agent: String,
    calls: u64,
}

/// Calls in progress now.
#[utoipa::path(get, path = "/api/v1/live", tag = "calls", responses(
    (status = 200, description = "Calls in progress", body = Live),
    Refused,
), security(("bearer" = [])))]
async fn live(_: May<ReadCalls>, State(state): State<WebState>) -> Result<Json<Live>> {
    let calls = state.app.calls.in_progress(MOST).await?;
    let mut agents: BTreeMap<String, u64> = BTreeMap::new();
    for agent in calls.iter().filter_map(|call| call.agent.clone()) {
        *agents.entry(agent).or_default() += 1;
    }
    let agents = agents.into_iter().map(|(agent, calls)| AgentCalls { agent, calls }).collect();
    Ok(Json(Live { calls, agents }))
}
