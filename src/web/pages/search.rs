//! The search: one box, the filters, the result.

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

use super::facets::{self, Chip, FACETS, FacetList, Preset, Select};
use super::format::{capitalised, grouped};
use super::query::Query;
use super::rows::{Row, Terms, rows};
use super::shell::{PageMay, Shell, html, shown};
use super::words;
use crate::search::{Counts, Facet, Page, QueryError, compile};
use crate::web::WebState;
use crate::web::api::{SearchAnswer, SearchParams, find};
use crate::web::auth::ReadCalls;
use crate::web::error::{Error, Result};

/// What the form shows itself; anything else in the address it carries along unseen.
const SHOWN: [&str; 9] =
    ["q", "started_from", "started_to", "agent", "direction", "status", "recording", "flag", "flag_state"];

#[derive(Template)]
#[template(path = "search.html")]
struct SearchPage {
    shell: Shell,
    q: String,
    from: DateField,
    to: DateField,
    zone: String,
    selects: Vec<Select>,
    hidden: Vec<(String, String)>,
    presets: Vec<Preset>,
    examples: Vec<Example>,
    chips: Vec<Chip>,
    problem: Option<Problem>,
    notice: Option<String>,
    results: Option<Results>,
    /// Where webhooks go, for an archive that is still empty.
    webhook: String,
}

/// A search to learn from.
struct Example {
    query: &'static str,
    finds: &'static str,
    href: String,
}

struct DateField {
    value: String,
    /// A date picker would drop anything that is no plain date.
    plain: bool,
}

/// Why the search could not be read.
struct Problem {
    text: String,
    /// The query up to where it stops making sense, and what follows.
    place: Option<(String, String)>,
    /// Whether the box is at fault.
    in_box: bool,
}

struct Results {
    total: String,
    one: bool,
    empty: bool,
    took_ms: u64,
    rows: Vec<Row>,
    facets: Vec<FacetList>,
    /// The next page.
    next: Option<String>,
    /// The first page, on any other.
    first: Option<String>,
    start: SortLink,
    duration: SortLink,
    csv: String,
    jsonl: String,
}

/// A column's heading that sorts by it.
struct SortLink {
    href: String,
    /// As in `aria-sort`; empty where the column does not say the order.
    order: &'static str,
}

/// Why there is no result.
enum Failure {
    Query(QueryError),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

pub(super) async fn search(
    may: PageMay<ReadCalls>,
    State(state): State<WebState>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = Query::parse(&query.unwrap_or_default());
    shown(may.who(), page(&may, &state, &query).await)
}

async fn page(may: &PageMay<ReadCalls>, state: &WebState, query: &Query) -> Result<Response> {
    let region = state.app.config.region.as_str();
    let (mut status, mut problem, mut notice, mut results, mut agents) =
        (StatusCode::OK, None, state.app.search.notice(), None, Vec::new());
    match found(state, query).await {
        Ok((answer, known)) => (results, agents) = (Some(result(answer, query, state)), known),
        Err(Failure::Query(error)) => (status, problem) = (StatusCode::BAD_REQUEST, Some(place(&error, query))),
        Err(Failure::Other(Error::BadRequest(mut text))) => {
            if text.starts_with("cursor:") {
                text = "This page of results belongs to another search. Search again to begin at the first.".into();
            }
            (status, problem) = (StatusCode::BAD_REQUEST, Some(Problem { text, place: None, in_box: false }));
        }
        Err(Failure::Other(Error::Busy(text))) => {
            status = StatusCode::SERVICE_UNAVAILABLE;
            notice.get_or_insert(text);
        }
        Err(Failure::Other(error)) => return Err(error),
    }
    let tz = state.app.config.timezone.0.clone();
    let page = SearchPage {
        shell: Shell::new(query.first("q").unwrap_or("Search"), may.who(), "search"),
        q: query.first("q").unwrap_or_default().to_owned(),
        from: DateField::new(query.first("started_from")),
        to: DateField::new(query.first("started_to")),
        zone: tz.iana_name().unwrap_or("UTC").to_owned(),
        selects: facets::selects(query, &agents, region),
        hidden: query.hidden(&SHOWN),
        presets: facets::presets(query, state.app.clock.now().to_zoned(tz).date()),
        examples: examples(),
        chips: facets::chips(query, region),
        problem,
        notice: notice.map(|text| capitalised(&text)),
        results,
        webhook: format!("{}/webhooks/doubletick", state.app.public_url()),
    };
    let mut response = html(status, &page);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Ok(response)
}

/// The calls, and all agents that could be chosen.
async fn found(state: &WebState, query: &Query) -> std::result::Result<(SearchAnswer, Vec<String>), Failure> {
    let mut params = SearchParams::parse(&query.for_api(), &[])?;
    let context = state.app.query_context();
    // Before the search does it again: here the place of an error is still known.
    compile(&params.filters, &context).map_err(Failure::Query)?;
    params.page.facets = FACETS.iter().filter_map(|name| name.parse().ok()).collect();
    let other_agents = (!params.filters.agent.is_empty()).then(|| {
        let mut filters = params.filters.clone();
        filters.agent.clear();
        filters
    });
    let mut answer = find(state, params).await?;
    if let Some(filters) = other_agents {
        // Under the filter there is one agent left, and no way to another.
        let expr = compile(&filters, &context).map_err(Failure::Query)?;
        let page = Page { limit: 0, facets: vec![Facet::Agent], count: false, ..Page::default() };
        let mut counts = state.app.search.search(expr, page, context).await.map_err(Error::from)?.facets;
        answer.facets.insert("agent".into(), counts.remove("agent").unwrap_or_default());
    }
    let agents = by_count(&answer.facets, "agent");
    Ok((answer, agents))
}

/// The values of a facet, the commonest first.
fn by_count(counts: &Counts, facet: &str) -> Vec<String> {
    let mut values: Vec<(&String, &u64)> = counts.get(facet).into_iter().flatten().collect();
    values.sort_by(|(_, m), (_, n)| n.cmp(m));
    values.into_iter().map(|(value, _)| value.clone()).collect()
}

fn result(answer: SearchAnswer, query: &Query, state: &WebState) -> Results {
    let terms = Terms::of(state);
    let export = query.without_all(&["limit", "facets"]).for_api();
    Results {
        total: grouped(answer.total),
        one: answer.total == 1,
        empty: answer.total == 0,
        took_ms: answer.took_ms,
        rows: rows(&answer.calls, &terms),
        facets: facets::facets(query, &answer.facets, terms.region),
        next: answer.next_cursor.map(|cursor| query.with("cursor", &cursor).href()),
        first: query.first("cursor").map(|_| query.without_all(&[]).href()),
        start: sort_link(query, "started_at"),
        duration: sort_link(query, "duration"),
        csv: format!("/api/v1/calls.csv?{export}"),
        jsonl: format!("/api/v1/calls.jsonl?{export}"),
    }
}

fn sort_link(query: &Query, column: &str) -> SortLink {
    let falling = format!("-{column}");
    let sort = query.first("sort").unwrap_or("-started_at");
    let (order, next) = match sort {
        sort if sort == falling => ("descending", column),
        sort if sort == column => ("ascending", falling.as_str()),
        _ => ("", falling.as_str()),
    };
    // The usual order needs no word in the address.
    let changed = if next == "-started_at" { query.without_all(&["sort"]) } else { query.only("sort", next) };
    SortLink { href: changed.href(), order }
}

fn examples() -> Vec<Example> {
    let examples = [
        ("ananya kul", "Words of a name, in any order; the last one may be cut short."),
        ("98200 11", "Any part of a phone number from three digits on, written as you like."),
        ("\"Ananya Kulkarni\"", "These words one behind the other."),
        ("flag:short_call NOT agent:farhan", "Short calls of everybody but Farhan."),
        ("duration:>60 (status:ended OR status:in_progress)", "Longer than a minute, ended or still going on."),
        ("recording:missing started:2026-03", "Calls of March 2026 whose recording never came."),
    ];
    let example = |(query, finds)| Example { query, finds, href: Query::default().with("q", query).href() };
    examples.into_iter().map(example).collect()
}

impl DateField {
    fn new(value: Option<&str>) -> Self {
        let value = value.unwrap_or_default().to_owned();
        let plain = value.is_empty() || (value.len() == 10 && value.parse::<jiff::civil::Date>().is_ok());
        Self { value, plain }
    }
}

/// Says of an error where it is and what would be right.
fn place(error: &QueryError, query: &Query) -> Problem {
    let message = capitalised(&error.message);
    match error.at {
        Some(at) if error.parameter == "q" => {
            let q = query.first("q").unwrap_or_default();
            let parts = (q.chars().take(at).collect(), q.chars().skip(at).collect());
            Problem { text: format!("Character {}: {}.", at + 1, error.message), place: Some(parts), in_box: true }
        }
        _ if error.parameter == "q" => Problem { text: format!("{message}."), place: None, in_box: true },
        _ => {
            let text = format!("{}: {}.", words::filter_name(error.parameter), error.message);
            Problem { text, place: None, in_box: false }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_its_place() {
        let context = crate::search::QueryContext { tz: jiff::tz::TimeZone::UTC, region: "IN".into() };
        let query = Query::parse("q=%E0%A4%AE status:bogus <script>");
        let params = SearchParams::parse(&query.for_api(), &[]).unwrap();
        let problem = place(&compile(&params.filters, &context).unwrap_err(), &query);
        let (before, after) = problem.place.unwrap();
        assert_eq!(format!("{before}{after}"), query.first("q").unwrap());
        assert!(problem.in_box && problem.text.starts_with("Character "), "{}", problem.text);
    }

    #[test]
    fn every_example_can_be_read() {
        let context = crate::search::QueryContext { tz: jiff::tz::TimeZone::UTC, region: "IN".into() };
        for example in examples() {
            let query = Query::parse(example.href.trim_start_matches("/?"));
            let params = SearchParams::parse(&query.for_api(), &[]).unwrap();
            assert!(compile(&params.filters, &context).is_ok(), "{}", example.query);
        }
    }

    #[test]
    fn names_are_text_whatever_they_hold() {
        let mut call = crate::calls::Facts::default().call();
        call.call_id = "a/\"><script>alert(1)</script>".into();
        call.customer.name = Some(format!("<script>alert(2)</script>\u{202e}{}", "W".repeat(5_000)));
        call.agent = Some("'\"><img src=x onerror=alert(3)>".into());
        let query = Query::parse("q=%22%3E%3Cscript%3Ealert(4)&agent=%3Cb%3E&%3Ci%3E=%3Cu%3E");
        let terms = Terms { tz: &jiff::tz::TimeZone::UTC, region: "IN" };
        let page = SearchPage {
            shell: Shell::new("<script>", None, "search"),
            q: query.first("q").unwrap().to_owned(),
            from: DateField::new(Some("\"><script>")),
            to: DateField::new(None),
            zone: "UTC".into(),
            selects: facets::selects(&query, &["<script>".into()], "IN"),
            hidden: query.hidden(&SHOWN),
            presets: Vec::new(),
            examples: examples(),
            chips: facets::chips(&query, "IN"),
            problem: Some(Problem { text: "<script>".into(), place: Some(("<b>".into(), "<i>".into())), in_box: true }),
            notice: Some("<script>".into()),
            results: Some(Results {
                total: grouped(1),
                one: true,
                empty: false,
                took_ms: 1,
                rows: rows(&[call], &terms),
                facets: Vec::new(),
                next: None,
                first: None,
                start: sort_link(&query, "started_at"),
                duration: sort_link(&query, "duration"),
                csv: format!("/api/v1/calls.csv?{}", query.for_api()),
                jsonl: String::new(),
            }),
            webhook: String::new(),
        };
        let text = page.render().unwrap();
        // One script is ours, and it has an address.
        assert_eq!(text.matches("<script").count(), 1, "{text}");
        assert!(!text.contains("<img") && !text.contains("<i>") && !text.contains("<u>") && !text.contains("style="));
        assert!(text.len() < 20_000, "a long name is cut");
    }

    #[test]
    fn columns_sort_both_ways() {
        let link = |query: &str, column: &str| {
            let SortLink { href, order } = sort_link(&Query::parse(query), column);
            (href, order)
        };
        assert_eq!(link("q=a", "started_at"), ("/?q=a&sort=started_at".into(), "descending"));
        assert_eq!(link("sort=started_at", "started_at"), ("/".into(), "ascending"));
        assert_eq!(link("q=a&cursor=x", "duration"), ("/?q=a&sort=-duration".into(), ""));
        assert_eq!(link("sort=-duration", "duration"), ("/?sort=duration".into(), "descending"));
    }

    #[test]
    fn a_time_stays_in_its_field() {
        assert!(DateField::new(Some("2026-03-09")).plain && DateField::new(None).plain);
        assert!(!DateField::new(Some("2026-03-09T10:00:00Z")).plain && !DateField::new(Some("2026-03-99")).plain);
    }
}
