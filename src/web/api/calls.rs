//! Calls: search, one call, totals, exports.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{FilterDoc, PageDoc, SearchParams};
use crate::calls::Call;
use crate::export::{self, Format};
use crate::intake;
use crate::journal::{Kind, Record};
use crate::search::compile;
use crate::web::WebState;
use crate::web::auth::{May, ReadCalls};
use crate::web::error::{Error, Problem, Refused, Result};

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .routes(routes!(search))
        .routes(routes!(one))
        .routes(routes!(stats))
        .routes(routes!(csv))
        .routes(routes!(jsonl))
}

/// A page of a search.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct SearchAnswer {
    /// Calls that match, on all pages.
    pub(in crate::web) total: u64,
    pub(in crate::web) calls: Vec<Call>,
    /// Give it as `cursor` for the next page; null on the last.
    pub(in crate::web) next_cursor: Option<String>,
    /// Counts by value, for each facet that was asked for.
    pub(in crate::web) facets: BTreeMap<String, BTreeMap<String, u64>>,
    pub(in crate::web) took_ms: u64,
}

/// One call with everything that was journaled about it.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct CallDetail {
    #[serde(flatten)]
    pub(in crate::web) call: Call,
    pub(in crate::web) events: Vec<CallEntry>,
}

/// A journal entry about a call.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct CallEntry {
    pub(in crate::web) seq: u64,
    /// Such as `webhook.received` or `recording.archived`.
    pub(in crate::web) kind: String,
    /// The sender's event type, for webhooks.
    pub(in crate::web) event: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub(in crate::web) received_at: Timestamp,
}

/// Totals for an overview.
#[derive(Serialize, ToSchema)]
struct Stats {
    calls: u64,
    /// Every call was at least initiated.
    initiated: u64,
    /// Calls in which somebody answered.
    accepted: u64,
    /// `accepted` / `initiated`, 0 to 1; null without calls.
    connect_rate: Option<f64>,
    by_status: BTreeMap<String, u64>,
    by_recording: BTreeMap<String, u64>,
    by_direction: BTreeMap<String, u64>,
    /// Calls with an open flag, by rule.
    by_flag: BTreeMap<String, u64>,
}

/// Finds calls.
#[utoipa::path(get, path = "/api/v1/calls", tag = "calls", params(FilterDoc, PageDoc), responses(
    (status = 200, description = "A page of the result", body = SearchAnswer,
        headers(("callvault-index-behind" = u64, description = "Journal entries that the index has not taken in yet"))),
    (status = 400, description = "A parameter can't be read: where and why", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn search(_: May<ReadCalls>, State(state): State<WebState>, params: SearchParams) -> Result<Response> {
    let answer = find(&state, params).await?;
    Ok((behind(&state), Json(answer)).into_response())
}

/// How far the index of this node is behind the journal, for whoever must not take an answer for complete.
fn behind(state: &WebState) -> [(&'static str, String); 1] {
    let size = *state.app.journal.watch().borrow();
    let cursor = state.app.search.searcher().map_or(0, |searcher| searcher.cursor());
    [("callvault-index-behind", size.saturating_sub(cursor).to_string())]
}

/// The search behind the API and the page.
pub(in crate::web) async fn find(state: &WebState, params: SearchParams) -> Result<SearchAnswer> {
    let start = Instant::now();
    let (app, context) = (&state.app, state.app.query_context());
    let expr = compile(&params.filters, &context)?;
    let found = app.search.search(expr, params.page, context).await?;
    let calls = app.reading.calls.get_many(&found.call_ids).await?;
    Ok(SearchAnswer {
        total: found.total.unwrap_or_default(),
        calls,
        next_cursor: found.next_cursor,
        facets: found.facets,
        took_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// One call with its events.
#[utoipa::path(get, path = "/api/v1/calls/{call_id}", tag = "calls", params(("call_id" = String, Path)), responses(
    (status = 200, description = "The call", body = CallDetail),
    (status = 404, description = "No such call", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn one(
    _: May<ReadCalls>,
    State(state): State<WebState>,
    Path(call_id): Path<String>,
) -> Result<Json<CallDetail>> {
    detail(&state, &call_id).await.map(Json)
}

/// A call with its entries, for the API and the page.
pub(in crate::web) async fn detail(state: &WebState, call_id: &str) -> Result<CallDetail> {
    let (call, records) = state.app.reading.call(call_id).await?.ok_or_else(no_such_call)?;
    Ok(CallDetail { call, events: records.iter().map(CallEntry::of).collect() })
}

pub(super) fn no_such_call() -> Error {
    Error::NotFound("There is no call of this id.".into())
}

impl CallEntry {
    fn of(record: &Record) -> Self {
        let entry = &record.entry;
        let webhook = matches!(entry.kind, Kind::WebhookReceived | Kind::WebhookImported);
        let body = record.body.as_ref().filter(|_| webhook);
        let event = body.and_then(|body| intake::understand(&body.bytes).ok());
        Self {
            seq: entry.seq,
            kind: entry.kind.as_str().to_owned(),
            event: event.map(|event| event.name().to_owned()),
            received_at: entry.received(),
        }
    }
}

/// Totals of all calls that match.
#[utoipa::path(get, path = "/api/v1/stats", tag = "calls", params(FilterDoc), responses(
    (status = 200, description = "The totals", body = Stats),
    (status = 400, description = "A parameter can't be read: where and why", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn stats(_: May<ReadCalls>, State(state): State<WebState>, params: SearchParams) -> Result<Response> {
    let context = state.app.query_context();
    let expr = compile(&params.filters, &context)?;
    let totals = state.app.search.totals(expr, context).await?;
    // A recording is owed exactly where there was a conversation.
    let accepted = totals.calls - totals.by_recording.get("none").copied().unwrap_or_default();
    let stats = Stats {
        calls: totals.calls,
        initiated: totals.calls,
        accepted,
        connect_rate: (totals.calls > 0).then(|| accepted as f64 / totals.calls as f64),
        by_status: totals.by_status,
        by_recording: totals.by_recording,
        by_direction: totals.by_direction,
        by_flag: totals.open_flags,
    };
    Ok((behind(&state), Json(stats)).into_response())
}

/// The whole result of a search as a table for spreadsheets: a row for each recording.
#[utoipa::path(get, path = "/api/v1/calls.csv", tag = "calls", params(FilterDoc), responses(
    (status = 200, description = "RFC 4180, streamed", body = String, content_type = "text/csv"),
    (status = 400, description = "A parameter can't be read: where and why", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn csv(_: May<ReadCalls>, State(state): State<WebState>, params: SearchParams) -> Result<Response> {
    whole(&state, &params, Format::Csv).await
}

/// The whole result of a search, one call a line.
#[utoipa::path(get, path = "/api/v1/calls.jsonl", tag = "calls", params(FilterDoc), responses(
    (status = 200, description = "JSON lines, streamed", body = String, content_type = "application/jsonl"),
    (status = 400, description = "A parameter can't be read: where and why", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn jsonl(_: May<ReadCalls>, State(state): State<WebState>, params: SearchParams) -> Result<Response> {
    whole(&state, &params, Format::Jsonl).await
}

async fn whole(state: &WebState, params: &SearchParams, format: Format) -> Result<Response> {
    let source = state.app.export_source();
    let expr = compile(&params.filters, &source.context)?;
    // An index that can't be read is an answer, not a download that breaks off.
    state.app.search.searcher()?;
    let stream = export::stream(source, expr, params.page.sort, format);
    let body = Body::from_stream(stream.inspect_err(|error| tracing::error!(%error, "an export broke off")));
    let name = format!("attachment; filename=\"calls.{}\"", format.extension());
    let headers = [(header::CONTENT_TYPE, format.media_type().to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((behind(state), headers, body).into_response())
}
