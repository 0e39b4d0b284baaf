//! The parameters of a search, as they stand in a query string. A name that nobody knows is an error: a filter that is
//! silently left out would show more than was asked for.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use utoipa::IntoParams;

use crate::search::{Facet, Filters, Page, QueryError, Sort};
use crate::web::WebState;
use crate::web::error::{Error, Result};

/// Calls on a page, if nothing is said.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 500;

/// A parsed query string: what to find, and which part of it to show.
#[derive(Clone, Debug, Default)]
pub(in crate::web) struct SearchParams {
    pub(in crate::web) filters: Filters,
    pub(in crate::web) page: Page,
}

impl SearchParams {
    /// Reads a query string; `own` names parameters that the caller handles itself.
    pub(in crate::web) fn parse(query: &str, own: &[&str]) -> Result<Self> {
        let mut params = Self { page: Page { limit: DEFAULT_LIMIT, ..Page::default() }, ..Self::default() };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if !own.contains(&name.as_ref()) {
                params.take(&name, value.into_owned())?;
            }
        }
        Ok(params)
    }

    fn take(&mut self, name: &str, value: String) -> Result<()> {
        if value.is_empty() {
            return Ok(());
        }
        let Self { filters, page } = self;
        match name {
            "q" => filters.q = Some(value),
            "agent" => filters.agent.push(value),
            "customer" => filters.customer.push(value),
            "number" => filters.number.push(value),
            "direction" => filters.direction.push(value),
            "status" => filters.status.push(value),
            "channel" => filters.channel.push(value),
            "waba_number" => filters.waba_number.push(value),
            "flag" => filters.flag.push(value),
            "flag_state" => filters.flag_state.push(value),
            "recording" => filters.recording.push(value),
            "started_from" => filters.started_from = Some(value),
            "started_to" => filters.started_to = Some(value),
            "min_duration" => filters.min_duration = Some(number(name, &value)?),
            "max_duration" => filters.max_duration = Some(number(name, &value)?),
            "on_hold" => filters.on_hold = Some(yes_or_no(name, &value)?),
            "sort" => page.sort = value.parse::<Sort>().map_err(|error: QueryError| Error::from(error))?,
            "limit" => page.limit = limit(&value)?,
            "cursor" => page.cursor = Some(value),
            "facets" => {
                for facet in value.split(',').map(str::trim).filter(|facet| !facet.is_empty()) {
                    page.facets.push(facet.parse::<Facet>().map_err(|error: QueryError| Error::from(error))?);
                }
            }
            _ => {
                return Err(Error::BadRequest(format!(
                    "There is no parameter {name:?}; /docs lists those that there are."
                )));
            }
        }
        Ok(())
    }
}

fn number(name: &str, value: &str) -> Result<u64> {
    let seconds = value.parse().ok().filter(|seconds: &u64| i64::try_from(*seconds).is_ok());
    seconds.ok_or_else(|| Error::BadRequest(format!("{name}: give a whole number of seconds.")))
}

fn yes_or_no(name: &str, value: &str) -> Result<bool> {
    value.parse().map_err(|_| Error::BadRequest(format!("{name}: give true or false.")))
}

pub(super) fn limit(value: &str) -> Result<usize> {
    let limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| Error::BadRequest(format!("limit: give a number from 1 to {MAX_LIMIT}.")))
}

impl FromRequestParts<WebState> for SearchParams {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &WebState) -> Result<Self> {
        Self::parse(parts.uri.query().unwrap_or_default(), &[])
    }
}

impl SearchParams {
    /// Only the filters: for what is done with all that are found.
    pub(in crate::web) fn only_filters(self) -> Result<Filters> {
        if self.page.cursor.is_some() || !self.page.facets.is_empty() {
            return Err(Error::BadRequest("This is for all calls that are found: leave cursor and facets out.".into()));
        }
        Ok(self.filters)
    }
}

/// Which calls; a repeated filter means any of its values.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "the description of what SearchParams reads by hand")]
pub(super) struct FilterDoc {
    /// Free text over names, numbers and ids, and the query language: `agent:`, `customer:`, `number:`, `direction:`,
    /// `status:`, `duration:>60`, `duration:10..20`, `started:2026-03-01..2026-03-09`, `flag:`, `flag_state:`,
    /// `recording:`, `waba:`, `AND OR NOT`, quotes, brackets.
    q: Option<String>,
    agent: Option<Vec<String>>,
    customer: Option<Vec<String>>,
    /// A fragment of three or more digits of the customer's, calling or called number.
    number: Option<Vec<String>>,
    /// `incoming` or `outgoing`.
    direction: Option<Vec<String>>,
    /// `initiated`, `in_progress`, `ended`, `rejected`, `missed` or `failed`.
    status: Option<Vec<String>>,
    /// `whatsapp` or `pstn`.
    channel: Option<Vec<String>>,
    waba_number: Option<Vec<String>>,
    /// A flag's rule, such as `short_call`.
    flag: Option<Vec<String>>,
    /// `open`, `in_review`, `cleared`, `escalated` or `resolved`; together with `flag`, of that flag.
    flag_state: Option<Vec<String>>,
    /// `none`, `pending`, `archived`, `failed`, `missing` or `destroyed`.
    recording: Option<Vec<String>>,
    /// RFC 3339, or a date in the configured time zone.
    started_from: Option<String>,
    /// RFC 3339, or a date in the configured time zone, which includes its day.
    started_to: Option<String>,
    /// Seconds.
    min_duration: Option<u64>,
    /// Seconds.
    max_duration: Option<u64>,
    on_hold: Option<bool>,
    /// `-started_at` (default), `started_at`, `-duration` or `duration`.
    sort: Option<String>,
}

/// Which part of the result.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "the description of what SearchParams reads by hand")]
pub(super) struct PageDoc {
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u16>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Comma list of `agent`, `direction`, `status`, `flag`, `recording`, `day`.
    facets: Option<String>,
}
