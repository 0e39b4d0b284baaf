//! Legal holds, dispositions and policies.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::custody::{CustodyError, Disposition, Hold, HoldQuery, HoldState, NewHold, certificate_page};
use crate::retention::adopted_sets;
use crate::search::Filters;
use crate::web::WebState;
use crate::web::auth::{Dispose, May, PlaceHolds, ReadCalls};
use crate::web::error::{Error, Problem, Refused, Result};

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .routes(routes!(holds, place))
        .routes(routes!(hold))
        .routes(routes!(close))
        .routes(routes!(release))
        .routes(routes!(policies))
        .routes(routes!(due))
        .routes(routes!(dispositions, propose))
        .routes(routes!(approve))
        .routes(routes!(cancel))
        .routes(routes!(execute))
        .routes(routes!(certificate))
}

impl From<CustodyError> for Error {
    fn from(error: CustodyError) -> Self {
        match error {
            CustodyError::Refused(why) => Self::Conflict(sentence(&why)),
            CustodyError::Unknown(what) => Self::NotFound(sentence(&format!("there is no {what}"))),
            error @ CustodyError::Shortens(_) => Self::Conflict(sentence(&error.to_string())),
            CustodyError::Db(error) => error.into(),
            CustodyError::Append(error) => error.into(),
            CustodyError::Store(error) => error.into(),
            CustodyError::Search(error) => error.into(),
            CustodyError::Query(error) => error.into(),
            error @ (CustodyError::Json(_) | CustodyError::Vanished) => {
                crate::db::Error::Damaged(error.to_string()).into()
            }
        }
    }
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map_or_else(String::new, |first| first.to_uppercase().collect());
    format!("{first}{}.", chars.as_str())
}

/// A hold with how many calls it has.
#[derive(Serialize, ToSchema)]
struct HoldView {
    #[serde(flatten)]
    #[schema(value_type = Object)]
    hold: Hold,
    /// Calls that are under it now.
    held: u64,
}

#[derive(Serialize, ToSchema)]
struct Holds {
    holds: Vec<HoldView>,
}

/// A hold that is to be placed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Placing {
    name: String,
    matter: String,
    reason: String,
    custodian: String,
    /// Ids of calls that are picked by hand.
    #[serde(default)]
    calls: Vec<String>,
    /// The parameters of a search, by name; the hold goes on catching what it is about until it is closed.
    #[schema(value_type = Option<Object>)]
    filters: Option<Filters>,
}

async fn view(state: &WebState, hold: Hold) -> Result<HoldView> {
    let held = state.app.custody().calls_held(&hold.placed.name).await?.len() as u64;
    Ok(HoldView { hold, held })
}

async fn hold_named(state: &WebState, name: &str) -> Result<HoldView> {
    let hold = state.app.custody().hold(name).await?;
    view(state, hold.ok_or_else(|| Error::NotFound("There is no hold of that name.".into()))?).await
}

/// All legal holds, the newest first.
#[utoipa::path(get, path = "/api/v1/holds", tag = "retention", responses(
    (status = 200, body = Holds), Refused,
), security(("bearer" = [])))]
async fn holds(_: May<ReadCalls>, State(state): State<WebState>) -> Result<Json<Holds>> {
    let mut holds = Vec::new();
    for hold in state.app.custody().holds().await? {
        holds.push(view(&state, hold).await?);
    }
    Ok(Json(Holds { holds }))
}

/// Places a legal hold.
///
/// What it is about is caught within seconds; until all of that is known (`complete`), nothing is destroyed.
#[utoipa::path(post, path = "/api/v1/holds", tag = "retention", request_body = Placing, responses(
    (status = 201, body = HoldView),
    (status = 400, description = "A query that can't be read", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The name is taken, or it is about nothing", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn place(
    may: May<PlaceHolds>,
    State(state): State<WebState>,
    body: std::result::Result<Json<Placing>, axum::extract::rejection::JsonRejection>,
) -> Result<(StatusCode, Json<HoldView>)> {
    let Json(new) = body.map_err(|error| Error::BadRequest(error.body_text()))?;
    let (config, filters) = (&state.app.config, new.filters.filter(|filters| *filters != Filters::default()));
    let query =
        filters.map(|filters| HoldQuery { filters, timezone: config.timezone.name(), region: config.region.clone() });
    let Placing { name, matter, reason, custodian, calls, .. } = new;
    let new = NewHold { name, matter, reason, custodian, calls, query };
    state.app.custody().place(&new, &may.identity.actor()).await?;
    Ok((StatusCode::CREATED, Json(hold_named(&state, &new.name).await?)))
}

/// One legal hold.
#[utoipa::path(get, path = "/api/v1/holds/{name}", tag = "retention", params(("name" = String, Path)), responses(
    (status = 200, body = HoldView),
    (status = 404, description = "No such hold", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn hold(_: May<ReadCalls>, State(state): State<WebState>, Path(name): Path<String>) -> Result<Json<HoldView>> {
    Ok(Json(hold_named(&state, &name).await?))
}

/// Lets a hold catch no new calls; those that it has, it keeps.
#[utoipa::path(post, path = "/api/v1/holds/{name}/close", tag = "retention", params(("name" = String, Path)), responses(
    (status = 200, body = HoldView),
    (status = 404, description = "No such hold", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It is closed already", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn close(
    may: May<PlaceHolds>,
    State(state): State<WebState>,
    Path(name): Path<String>,
) -> Result<Json<HoldView>> {
    hold_named(&state, &name).await?;
    state.app.custody().close_hold(&name, &may.identity.actor()).await?;
    Ok(Json(hold_named(&state, &name).await?))
}

/// Asks for the release of a hold; by a second person, agrees to it.
#[utoipa::path(post, path = "/api/v1/holds/{name}/release", tag = "retention", params(("name" = String, Path)), responses(
    (status = 200, description = "Released", body = HoldView),
    (status = 202, description = "Asked for: somebody else has to agree", body = HoldView),
    (status = 404, description = "No such hold", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The same person asked, or it is released already", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn release(
    may: May<PlaceHolds>,
    State(state): State<WebState>,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<HoldView>)> {
    let released = state.app.custody().release_hold(&name, &may.identity.actor()).await?;
    let status = if released == HoldState::Released { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(hold_named(&state, &name).await?)))
}

#[derive(Serialize, ToSchema)]
struct PolicyView {
    id: String,
    title: String,
    /// ISO 8601, such as `P5Y`.
    period: String,
    reason: String,
    citation: String,
}

#[derive(Serialize, ToSchema)]
struct PoliciesInForce {
    /// Over the policies' texts.
    sha256: String,
    policies: Vec<PolicyView>,
    /// Every set that was ever in force, the first one first.
    #[schema(value_type = Vec<Object>)]
    adopted: Vec<crate::retention::Adopted>,
    /// Recordings whose lock or hold is not yet in the store as it is to be.
    behind: u64,
}

/// The retention policies in force.
#[utoipa::path(get, path = "/api/v1/retention/policies", tag = "retention", responses(
    (status = 200, body = PoliciesInForce), Refused,
), security(("bearer" = [])))]
async fn policies(_: May<ReadCalls>, State(state): State<WebState>) -> Result<Json<PoliciesInForce>> {
    let set = state.app.policies.current();
    let (first, others) = set.policies();
    let view = |policy: &crate::retention::Policy| PolicyView {
        id: policy.id.clone(),
        title: policy.title.clone(),
        period: policy.period.to_string(),
        reason: policy.reason.clone(),
        citation: policy.citation.clone(),
    };
    Ok(Json(PoliciesInForce {
        sha256: set.sha256().to_owned(),
        policies: std::iter::once(first).chain(others).map(view).collect(),
        adopted: adopted_sets(&state.app.db).await?,
        behind: state.app.custody().behind().await?,
    }))
}

#[derive(Serialize, ToSchema)]
struct Due {
    /// The longest over first, at most 1,000.
    #[schema(value_type = Vec<Object>)]
    due: Vec<crate::custody::Item>,
}

/// What is over and not held.
#[utoipa::path(get, path = "/api/v1/retention/due", tag = "retention", responses(
    (status = 200, body = Due), Refused,
), security(("bearer" = [])))]
async fn due(_: May<ReadCalls>, State(state): State<WebState>) -> Result<Json<Due>> {
    Ok(Json(Due { due: state.app.custody().due(1000).await? }))
}

#[derive(Serialize, ToSchema)]
struct Dispositions {
    #[schema(value_type = Vec<Object>)]
    dispositions: Vec<Disposition>,
}

/// All dispositions, the newest first.
#[utoipa::path(get, path = "/api/v1/retention/dispositions", tag = "retention", responses(
    (status = 200, body = Dispositions), Refused,
), security(("bearer" = [])))]
async fn dispositions(_: May<ReadCalls>, State(state): State<WebState>) -> Result<Json<Dispositions>> {
    Ok(Json(Dispositions { dispositions: state.app.custody().dispositions().await? }))
}

/// Proposes what is due for destruction, at most 10,000 calls.
#[utoipa::path(post, path = "/api/v1/retention/dispositions", tag = "retention", responses(
    (status = 201, body = Object),
    (status = 409, description = "Disposition is off, or nothing is due", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn propose(may: May<Dispose>, State(state): State<WebState>) -> Result<(StatusCode, Json<Disposition>)> {
    let proposed = state.app.custody().propose(u64::MAX, &may.identity.actor()).await?;
    Ok((StatusCode::CREATED, Json(proposed)))
}

/// Approves a proposal: somebody else than who proposed it.
#[utoipa::path(post, path = "/api/v1/retention/dispositions/{id}/approve", tag = "retention", params(("id" = String, Path)), responses(
    (status = 200, body = Object),
    (status = 409, description = "The same person proposed it, or it is approved already", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn approve(
    may: May<Dispose>,
    State(state): State<WebState>,
    Path(id): Path<String>,
) -> Result<Json<Disposition>> {
    Ok(Json(state.app.custody().approve(&id, &may.identity.actor()).await?))
}

/// Cancels a disposition that is not being executed yet.
#[utoipa::path(post, path = "/api/v1/retention/dispositions/{id}/cancel", tag = "retention", params(("id" = String, Path)), responses(
    (status = 204, description = "Cancelled"),
    (status = 409, description = "It is too late", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn cancel(may: May<Dispose>, State(state): State<WebState>, Path(id): Path<String>) -> Result<StatusCode> {
    state.app.custody().cancel(&id, None, &may.identity.actor()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Destroys what was approved, once its time of grace is over; answers with the certificate.
#[utoipa::path(post, path = "/api/v1/retention/dispositions/{id}/execute", tag = "retention", params(("id" = String, Path)), responses(
    (status = 200, description = "Executed: the certificate of destruction", body = Object),
    (status = 404, description = "No such disposition", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It is not time yet, or it was cancelled", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn execute(_: May<Dispose>, State(state): State<WebState>, Path(id): Path<String>) -> Result<impl IntoResponse> {
    let custody = state.app.custody();
    // Whoever asked may go away; it is carried out all the same.
    let done = tokio::spawn(async move { custody.execute(&id, &|_, _| {}).await }).await;
    let done = done.map_err(|error| crate::db::Error::Damaged(error.to_string()))??;
    Ok(Json(done.certificate))
}

/// The certificate of destruction, as it lies in the store; as a page that prints where the client asks for HTML.
#[utoipa::path(get, path = "/api/v1/retention/dispositions/{id}/certificate", tag = "retention", params(("id" = String, Path)), responses(
    (status = 200, description = "JSON in canonical form (RFC 8785), or HTML", body = Object),
    (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn certificate(
    _: May<ReadCalls>,
    State(state): State<WebState>,
    Path(id): Path<String>,
    headers: axum::http::HeaderMap,
) -> Result<axum::response::Response> {
    use sha2::{Digest, Sha256};
    let bytes = state.app.custody().certificate(&id).await?;
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !accepts.contains("text/html") {
        return Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response());
    }
    let damaged = |error: String| crate::db::Error::Damaged(error);
    let certificate = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let page = certificate_page(&certificate, &hex::encode(Sha256::digest(&bytes)));
    let page = page.map_err(|error| damaged(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response())
}
