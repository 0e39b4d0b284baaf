//! Reads the parameters of a search, `q` among them, into one [`Expr`].

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::error::QueryError;
use super::expr::{Expr, Match, Who};
use super::parse;
use super::values::{self, End, known, quoted};

/// In whose terms a query is read.
#[derive(Debug, Clone)]
pub struct QueryContext {
    /// The configured time zone: in it date-only values are read and days are counted.
    pub tz: TimeZone,
    /// ISO 3166 code of the country of numbers without country code, such as `IN`.
    pub region: String,
}

/// Most values of one repeated filter.
const MAX_VALUES: usize = 100;

/// Most conditions of a whole search, filters and query together: each costs a walk through a part of the index.
const MAX_CONDITIONS: usize = 200;

/// The parameters of a search as they came, named as in the API. A filter with several values
/// means any of them; different filters must all hold; empty values count as not given.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filters {
    /// Free text and the query language.
    pub q: Option<String>,
    pub agent: Vec<String>,
    pub customer: Vec<String>,
    /// Fragments of three or more digits of customer, from or to.
    pub number: Vec<String>,
    pub direction: Vec<String>,
    pub status: Vec<String>,
    pub channel: Vec<String>,
    pub waba_number: Vec<String>,
    pub flag: Vec<String>,
    /// Together with `flag`: both on the same flag.
    pub flag_state: Vec<String>,
    pub recording: Vec<String>,
    /// RFC 3339, or a date in the configured time zone.
    pub started_from: Option<String>,
    /// The same; a date includes its day.
    pub started_to: Option<String>,
    /// Whole seconds, included.
    pub min_duration: Option<u64>,
    /// Whole seconds, included.
    pub max_duration: Option<u64>,
    pub on_hold: Option<bool>,
}

/// The meaning of all filters together.
///
/// # Errors
/// [`QueryError`] names the parameter that can't be read, why, and for `q` where.
pub fn compile(filters: &Filters, context: &QueryContext) -> Result<Expr, QueryError> {
    let region = context.region.as_str();
    let who = |value: &str| {
        Who::read(value, false, region).ok_or_else(|| format!("{} holds no letter and no digit", quoted(value)))
    };
    let word = |what, list, make: fn(String) -> Match| move |value: &str| known(what, value, list).map(make);
    let mut all = vec![
        parse::parse(filters.q.as_deref().unwrap_or_default(), context)?,
        any("agent", &filters.agent, |value| who(value).map(Match::Agent))?,
        any("customer", &filters.customer, |value| who(value).map(Match::Customer))?,
        any("number", &filters.number, |value| parse::fragment(value, region).map(Match::Number))?,
        any("direction", &filters.direction, word("direction", values::DIRECTIONS, Match::Direction))?,
        any("status", &filters.status, word("status", values::STATUSES, Match::Status))?,
        any("channel", &filters.channel, word("channel", values::CHANNELS, Match::Channel))?,
        any("waba_number", &filters.waba_number, |value| Ok(Match::Waba(parse::whole_number(value, region))))?,
        any("recording", &filters.recording, word("recording state", values::RECORDINGS, Match::Recording))?,
        flags(filters)?,
        started(filters, &context.tz)?,
    ];
    if filters.min_duration.is_some() || filters.max_duration.is_some() {
        let range = values::duration_range(filters.min_duration, filters.max_duration);
        all.push(Expr::Is(range.map_err(|message| QueryError::new("min_duration", message))?));
    }
    all.extend(filters.on_hold.map(|held| Expr::Is(Match::OnHold(held))));
    let expr = Expr::all(all);
    if expr.conditions() > MAX_CONDITIONS {
        let message = format!("a search can't have more than {MAX_CONDITIONS} conditions: leave some filters out");
        return Err(QueryError::new("q", message));
    }
    Ok(expr)
}

/// The values of a repeated filter that say anything.
fn given<'a>(
    parameter: &'static str,
    values: &'a [String],
) -> Result<impl Iterator<Item = &'a str> + Clone, QueryError> {
    if values.len() > MAX_VALUES {
        let message = format!("this filter can't be given more than {MAX_VALUES} times");
        return Err(QueryError::new(parameter, message));
    }
    if values.iter().any(|value| value.len() > 4 * parse::MAX_CHARS) {
        return Err(QueryError::new(parameter, "this value is too long"));
    }
    Ok(values.iter().map(|value| value.trim()).filter(|value| !value.is_empty()))
}

fn any(
    parameter: &'static str,
    values: &[String],
    read: impl Fn(&str) -> Result<Match, String>,
) -> Result<Expr, QueryError> {
    let read = |value| read(value).map(Expr::Is).map_err(|message| QueryError::new(parameter, message));
    given(parameter, values)?.map(read).collect::<Result<_, _>>().map(Expr::any)
}

fn flags(filters: &Filters) -> Result<Expr, QueryError> {
    let rules: BTreeSet<String> = given("flag", &filters.flag)?.map(str::to_owned).collect();
    let states = given("flag_state", &filters.flag_state)?
        .map(|value| known("flag state", value, values::FLAG_STATES))
        .collect::<Result<BTreeSet<_>, _>>()
        .map_err(|message| QueryError::new("flag_state", message))?;
    // Each rule with each state: given twice they mean nothing more.
    let optional = |values: BTreeSet<String>| match values.is_empty() {
        true => vec![None],
        false => values.into_iter().map(Some).collect(),
    };
    let states = optional(states);
    let pairs = optional(rules)
        .into_iter()
        .flat_map(|rule| states.iter().map(move |state| Match::Flag { rule: rule.clone(), state: state.clone() }));
    let given = |flag: &Match| !matches!(flag, Match::Flag { rule: None, state: None });
    Ok(Expr::any(pairs.filter(given).map(Expr::Is).collect()))
}

fn started(filters: &Filters, tz: &TimeZone) -> Result<Expr, QueryError> {
    let read = |parameter, value: &Option<String>, end| {
        let value = value.as_deref().map(str::trim).filter(|value| !value.is_empty());
        let read = value.map(|value| values::moment(value, end, tz)).transpose();
        read.map_err(|message| QueryError::new(parameter, message))
    };
    let from = read("started_from", &filters.started_from, End::From)?;
    let until = read("started_to", &filters.started_to, End::To)?;
    if from.is_none() && until.is_none() {
        return Ok(Expr::All);
    }
    let range = values::date_range(from, until);
    range.map(Expr::Is).map_err(|message| QueryError::new("started_to", message))
}
