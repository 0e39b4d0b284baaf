//! What was said of flags, and how far everybody is.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::format::{Stamp, grouped, phone, segment, shortened};
use super::query::Query;
use super::rows::Terms;
use super::shell::{PageMay, Shell, html, shown};
use super::words::{self, Badge};
use crate::flags::SampleWeek;
use crate::web::WebState;
use crate::web::api::{ReviewItem, Reviews, find_reviews};
use crate::web::auth::ReadCalls;
use crate::web::error::Result;

/// The states of flags in the order of the columns.
const STATES: [&str; 5] = ["open", "in_review", "escalated", "cleared", "resolved"];

#[derive(Template)]
#[template(path = "reviews.html")]
struct ReviewsPage {
    shell: Shell,
    states: Vec<&'static str>,
    agents: Vec<Line>,
    reviewers: Vec<Line>,
    samples: Vec<Sample>,
    reviews: Vec<Item>,
    next: Option<String>,
    zone: String,
}

/// Somebody with numbers by state.
struct Line {
    name: String,
    /// What is still to be done, as a search.
    href: Option<String>,
    numbers: Vec<String>,
}

/// A week of a sample.
struct Sample {
    name: String,
    week: String,
    plan: String,
    /// What there is to say before it is drawn.
    waits: Option<&'static str>,
    population: String,
    drawn: String,
    numbers: Vec<String>,
}

impl From<&SampleWeek> for Sample {
    fn from(week: &SampleWeek) -> Self {
        let waits = match (week.seeded_seq, week.drawn_seq) {
            (_, Some(_)) => None,
            (Some(_), None) => Some("Not drawn yet"),
            (None, None) => Some("No seed: there is no sample of this week"),
        };
        Self {
            name: week.sample.clone(),
            week: week.week.clone(),
            plan: week.plan.clone(),
            waits,
            population: grouped(week.population),
            drawn: grouped(week.drawn),
            numbers: numbers(&week.flags),
        }
    }
}

struct Item {
    at: Stamp,
    call: String,
    call_id: String,
    rule: String,
    state: Badge,
    /// Where it stands otherwise now.
    now: Option<Badge>,
    outcome: Option<String>,
    by: String,
    agent: String,
}

pub(super) async fn reviews(
    may: PageMay<ReadCalls>,
    State(state): State<WebState>,
    RawQuery(query): RawQuery,
) -> Response {
    let page = async {
        let query = query.unwrap_or_default();
        let found = find_reviews(&state, &query).await?;
        Ok(html(
            StatusCode::OK,
            &ReviewsPage::new(found, &query, Shell::new("Reviews", may.who(), "reviews"), &Terms::of(&state)),
        ))
    };
    let page: Result<Response> = page.await;
    shown(may.who(), page)
}

impl ReviewsPage {
    fn new(found: Reviews, query: &str, shell: Shell, terms: &Terms<'_>) -> Self {
        let agent = |agent: Option<String>, flags: &BTreeMap<String, u64>| {
            let href = agent.as_ref().map(|agent| Query::default().with("agent", agent).with("flag", "any").href());
            let name =
                agent.map_or_else(|| "Unknown agent".into(), |agent| shortened(&phone(&agent, terms.region), 60));
            Line { name, href, numbers: numbers(flags) }
        };
        let progress = found.progress;
        let reviewer = |name: &str| shortened(name.strip_prefix("token:").unwrap_or(name), 80);
        Self {
            shell,
            states: STATES.iter().map(|state| words::flag_state(state).word).collect(),
            agents: progress.agents.into_iter().map(|one| agent(one.agent, &one.flags)).collect(),
            reviewers: progress
                .reviewers
                .iter()
                .map(|one| Line { name: reviewer(&one.reviewer), href: None, numbers: numbers(&one.reviews) })
                .collect(),
            samples: progress.samples.iter().map(Sample::from).collect(),
            reviews: found.reviews.into_iter().map(|item| Item::of(item, reviewer, terms)).collect(),
            next: found.next_cursor.map(|cursor| {
                let href = Query::parse(query).only("cursor", &cursor).href();
                format!("/reviews{}", href.trim_start_matches('/'))
            }),
            zone: terms.tz.iana_name().unwrap_or("UTC").to_owned(),
        }
    }
}

impl Item {
    fn of(item: ReviewItem, reviewer: impl Fn(&str) -> String, terms: &Terms<'_>) -> Self {
        Self {
            at: Stamp::new(item.at, terms.tz),
            call: format!("/calls/{}#flags", segment(&item.call_id)),
            rule: words::rule(&item.rule),
            now: (item.flag_state != item.state).then(|| words::flag_state(&item.flag_state)),
            state: words::flag_state(&item.state),
            outcome: item.outcome,
            by: reviewer(&item.reviewer),
            agent: item.agent.map_or_else(String::new, |agent| shortened(&phone(&agent, terms.region), 60)),
            call_id: shortened(&item.call_id, 40),
        }
    }
}

fn numbers(counts: &BTreeMap<String, u64>) -> Vec<String> {
    STATES.iter().map(|state| grouped(counts.get(*state).copied().unwrap_or_default())).collect()
}
