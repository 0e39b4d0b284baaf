//! Flags: saying what is to be thought of one, or of all that a search finds; what was said, and how far everybody is.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, RawQuery, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{FilterDoc, SearchParams, limit};
use crate::calls::records::ReviewState;
use crate::calls::{FlagCount, FlagFilter, FlagRow, FlagView};
use crate::clock::from_micros;
use crate::flags::{SampleWeek, Verdict, review};
use crate::search::moment;
use crate::web::WebState;
use crate::web::auth::{May, ReadCalls, ReviewFlags};
use crate::web::body::Timely;
use crate::web::error::{Error, Problem, Refused, Result};

/// Calls whose flags are reviewed at once at most: an answer has to come in time.
const MOST_AT_ONCE: u64 = 5000;
const DEFAULT_LIMIT: usize = 100;
/// Weeks of a sample that are told of.
const SAMPLE_WEEKS: usize = 13;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().routes(routes!(one)).routes(routes!(list, many))
}

type Body = Timely<Json<Said>, JsonRejection>;

/// What is to be thought of a flag.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Said {
    state: ReviewState,
    /// One of the firm's own words, such as `no breach`; at most 100 characters.
    #[schema(max_length = 100)]
    outcome: Option<String>,
    /// At most 4,000 characters.
    #[schema(max_length = 4000)]
    note: Option<String>,
}

impl Said {
    fn verdict(body: Body) -> Result<Verdict> {
        match body {
            Timely::Here(Json(Self { state, outcome, note })) => Ok(Verdict::new(state, outcome, note)?),
            Timely::Late => Err(Error::TooSlow),
            Timely::Unreadable(_) => {
                let example = r#"{"state": "cleared", "outcome": "no breach", "note": "…"}"#;
                let what = format!("Give JSON such as {example}; the state is in_review, cleared or escalated.");
                Err(Error::BadRequest(what))
            }
        }
    }
}

/// Says what is to be thought of a flag: it is being looked into, all is well, or somebody else has to act. Nobody reviews
/// their own calls.
#[utoipa::path(post, path = "/api/v1/calls/{call_id}/flags/{rule}/review", tag = "reviews", request_body = Said,
    params(("call_id" = String, Path), ("rule" = String, Path, description = "Such as short_call")), responses(
    (status = 200, description = "The flag as it stands now", body = FlagView),
    (status = 400, description = "The body can't be read", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such call", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The flag is not there, or done with", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn one(
    may: May<ReviewFlags>,
    State(state): State<WebState>,
    Path((call_id, rule)): Path<(String, String)>,
    body: Body,
) -> Result<Json<FlagView>> {
    let (app, verdict) = (&state.app, Said::verdict(body)?);
    review(&app.journal, &app.calls, (&call_id, &rule), &verdict, &may.identity.reviewer()).await?;
    let call = app.calls.get(&call_id).await?.ok_or_else(super::calls::no_such_call)?;
    let flag = call.flags.into_iter().find(|flag| flag.rule == rule);
    flag.map(Json).ok_or_else(|| Error::Conflict("The call has no such flag any more.".into()))
}

/// What came of a review of many flags.
#[derive(Serialize, ToSchema)]
struct ManyReviewed {
    /// Flags that were reviewed.
    changed: u64,
    /// Flags, and calls without any, that were left as they are.
    skipped: u64,
    /// How many for which reason.
    reasons: BTreeMap<String, u64>,
    /// The first hundred of them.
    examples: Vec<LeftOut>,
}

/// What was left as it is.
#[derive(Serialize, ToSchema)]
struct LeftOut {
    call_id: String,
    /// Null where it is about all flags of the call.
    rule: Option<String>,
    why: String,
}

/// Says the same of all flags that a search finds: of those that `flag` and `flag_state` name, else of all that can be
/// reviewed. At most 5,000 calls at once.
#[utoipa::path(post, path = "/api/v1/reviews", tag = "reviews", request_body = Said, params(FilterDoc), responses(
    (status = 200, description = "What was reviewed, and what was not and why", body = ManyReviewed),
    (status = 400, description = "A parameter or the body can't be read", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "Too many calls match", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn many(
    may: May<ReviewFlags>,
    State(state): State<WebState>,
    params: SearchParams,
    body: Body,
) -> Result<Json<ManyReviewed>> {
    let (filters, verdict) = (params.only_filters()?, Said::verdict(body)?);
    let done = state.app.review_found(&filters, &verdict, &may.identity.reviewer(), MOST_AT_ONCE).await?;
    let left_out = |(call_id, rule, why)| LeftOut { call_id, rule, why };
    Ok(Json(ManyReviewed {
        changed: done.changed,
        skipped: done.skipped.values().sum(),
        reasons: done.skipped,
        examples: done.examples.into_iter().map(left_out).collect(),
    }))
}

/// Reviews, and how far everybody is.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct Reviews {
    /// The latest first; of each flag the latest one.
    pub(in crate::web) reviews: Vec<ReviewItem>,
    /// Give it as `cursor` for the next page; null on the last.
    pub(in crate::web) next_cursor: Option<String>,
    pub(in crate::web) progress: Progress,
}

/// How far everybody is.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct Progress {
    /// How the flags of each agent's calls stand, whoever reviewed them and when.
    pub(in crate::web) agents: Vec<AgentProgress>,
    /// What each reviewer said, of the reviews that match.
    pub(in crate::web) reviewers: Vec<ReviewerProgress>,
    /// The last thirteen weeks of each sample, the latest first.
    pub(in crate::web) samples: Vec<SampleWeek>,
}

/// How the flags of one agent's calls stand: numbers by state.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct AgentProgress {
    /// Null for calls without one.
    pub(in crate::web) agent: Option<String>,
    pub(in crate::web) flags: BTreeMap<String, u64>,
}

/// What one reviewer said: numbers by state.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct ReviewerProgress {
    pub(in crate::web) reviewer: String,
    pub(in crate::web) reviews: BTreeMap<String, u64>,
}

/// A flag's latest review.
#[derive(Serialize, ToSchema)]
pub(in crate::web) struct ReviewItem {
    /// Of the journal's entry, in which the note stands.
    pub(in crate::web) seq: u64,
    pub(in crate::web) call_id: String,
    pub(in crate::web) rule: String,
    /// What the reviewer said.
    pub(in crate::web) state: String,
    /// How the flag stands: another than `state` where it was raised anew or resolved since.
    pub(in crate::web) flag_state: String,
    pub(in crate::web) outcome: Option<String>,
    /// As it stands in the journal, such as `token:asha`.
    pub(in crate::web) reviewer: String,
    #[schema(value_type = String, format = DateTime)]
    pub(in crate::web) at: Timestamp,
    pub(in crate::web) agent: Option<String>,
}

/// Which reviews.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "the description of what Asked reads by hand")]
struct ReviewsDoc {
    /// A token's name, or an actor as it stands in the journal.
    reviewer: Option<String>,
    /// A flag's rule, such as `short_call`.
    rule: Option<Vec<String>>,
    /// `in_review`, `cleared` or `escalated`: what the reviewer said.
    state: Option<Vec<String>>,
    /// Number or name.
    agent: Option<String>,
    /// Reviewed from: RFC 3339, or a date in the configured time zone.
    from: Option<String>,
    /// Reviewed to: RFC 3339, or a date in the configured time zone, which includes its day.
    to: Option<String>,
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u16>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A parsed query string.
struct Asked {
    filter: FlagFilter,
    limit: usize,
    before: u64,
}

impl Asked {
    fn parse(state: &WebState, query: &str) -> Result<Self> {
        let mut asked = Self { filter: FlagFilter::default(), limit: DEFAULT_LIMIT, before: i64::MAX.cast_unsigned() };
        let tz = &state.app.config.timezone.0;
        let time = |name: &str, value: &str, to: bool| {
            moment(value, to, tz).map_err(|why| Error::BadRequest(format!("{name}: {why}.")))
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()).filter(|(_, value)| !value.trim().is_empty())
        {
            let (filter, value) = (&mut asked.filter, value.trim().to_owned());
            match &*name {
                "reviewer" => filter.reviewer = Some(value),
                "rule" => filter.rules.push(value),
                "state" if ["in_review", "cleared", "escalated"].contains(&&*value) => filter.review_states.push(value),
                "state" => {
                    return Err(Error::BadRequest("state: a review is in_review, cleared or escalated.".into()));
                }
                "agent" => filter.agent = Some(value),
                "from" => filter.from = Some(time("from", &value, false)?),
                "to" => filter.until = Some(time("to", &value, true)?),
                "limit" => asked.limit = limit(&value)?,
                "cursor" => {
                    let unknown = || Error::BadRequest("cursor: give next_cursor of the page before.".into());
                    asked.before = value.parse().ok().filter(|seq| i64::try_from(*seq).is_ok()).ok_or_else(unknown)?;
                }
                _ => {
                    let message = format!("There is no parameter {name:?}; /docs lists those that there are.");
                    return Err(Error::BadRequest(message));
                }
            }
        }
        if asked.filter.rules.len() > 100 {
            return Err(Error::BadRequest("rule: this filter can't be given more than 100 times.".into()));
        }
        Ok(asked)
    }
}

/// What was said of flags, and how far everybody is.
#[utoipa::path(get, path = "/api/v1/reviews", tag = "reviews", params(ReviewsDoc), responses(
    (status = 200, description = "Reviews and progress", body = Reviews),
    (status = 400, description = "A parameter can't be read", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn list(_: May<ReadCalls>, State(state): State<WebState>, RawQuery(query): RawQuery) -> Result<Json<Reviews>> {
    find(&state, query.as_deref().unwrap_or_default()).await.map(Json)
}

/// The list behind the API and the page.
pub(in crate::web) async fn find(state: &WebState, query: &str) -> Result<Reviews> {
    let Asked { filter, limit, before } = Asked::parse(state, query)?;
    let calls = &state.app.reading.calls;
    let mut rows = calls.reviews(&filter, before, limit as u64 + 1).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let reviews: Vec<ReviewItem> = rows.into_iter().filter_map(ReviewItem::of).collect();
    let last = reviews.last().filter(|_| more);
    let next_cursor = last.map(|last| last.seq.to_string());
    let of_agents = FlagFilter { rules: filter.rules.clone(), agent: filter.agent.clone(), ..FlagFilter::default() };
    let agents = grouped(calls.flags_by_agent(&of_agents).await?);
    let reviewers = grouped(calls.flags_by_reviewer(&filter).await?);
    let (config, now) = (&state.app.config, state.app.clock.now());
    let samples = state.app.samples().weeks(&config.review.samples, now, &config.timezone.0, SAMPLE_WEEKS).await?;
    let progress = Progress {
        agents: agents.into_iter().map(|(agent, flags)| AgentProgress { agent, flags }).collect(),
        reviewers: reviewers
            .into_iter()
            .map(|(reviewer, reviews)| ReviewerProgress { reviewer: reviewer.unwrap_or_default(), reviews })
            .collect(),
        samples,
    };
    Ok(Reviews { reviews, next_cursor, progress })
}

/// Somebody, as shown, with numbers by state.
type Standing = (Option<String>, BTreeMap<String, u64>);

/// Counts by whom they are of; those of one stand together.
fn grouped(counts: Vec<FlagCount>) -> Vec<Standing> {
    let (mut all, mut last): (Vec<Standing>, _) = (Vec::new(), None);
    for FlagCount { key, who, state, count } in counts {
        match all.last_mut() {
            Some((_, states)) if last.as_ref() == Some(&key) => drop(states.insert(state, count)),
            _ => all.push((who, BTreeMap::from([(state, count)]))),
        }
        last = Some(key);
    }
    all
}

impl ReviewItem {
    fn of(row: FlagRow) -> Option<Self> {
        let review = row.reviewed?;
        Some(Self {
            seq: review.seq.cast_unsigned(),
            call_id: row.call_id,
            rule: row.rule,
            state: review.state,
            flag_state: row.state,
            outcome: review.outcome,
            reviewer: review.reviewer,
            at: from_micros(review.at),
            agent: row.agent,
        })
    }
}
