//! One call: its facts, its recording, what proves it, and its history.

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use super::evidence::{RecordingCard, cards};
use super::flags::{Flag, flags};
use super::format::{Stamp, grouped, length, phone, segment};
use super::rows::{Terms, customer_number};
use super::shell::{PageMay, Shell, html, shown};
use super::timeline::{Moment, moment};
use super::words::{self, Badge};
use crate::access::{Identity, Permission};
use crate::archiver::{self, RetryOutcome};
use crate::calls::{Call, RecordingState};
use crate::journal::Record;
use crate::web::WebState;
use crate::web::auth::{ReadCalls, RetryRecordings};
use crate::web::error::{Error, Result};

/// Journal entries that the page shows; a sender that repeats itself must not make it endless.
const MOST_MOMENTS: usize = 300;

#[derive(Template)]
#[template(path = "call.html")]
struct CallPage {
    shell: Shell,
    call_id: String,
    heading: String,
    number: Option<String>,
    direction: &'static str,
    channel: &'static str,
    agent: Option<String>,
    status: Badge,
    when: Stamp,
    length: Option<String>,
    zone: String,
    facts: Vec<Fact>,
    flags: Vec<Flag>,
    /// There are flags to review, and it is the reader's own call.
    own_call: bool,
    holds: Vec<String>,
    recordings: Vec<RecordingCard>,
    can_retry: bool,
    retry: String,
    notice: Option<&'static str>,
    moments: Vec<Moment>,
    /// Entries that are left out.
    unseen: String,
    json: String,
}

struct Fact {
    name: &'static str,
    value: Value,
}

enum Value {
    Text(String),
    /// Something to be copied as it is.
    Code(String),
    Time(Stamp),
}

pub(super) async fn call(
    may: PageMay<ReadCalls>,
    State(state): State<WebState>,
    call_id: std::result::Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Response {
    shown(may.who(), page(&may, &state, call_id, query.as_deref()).await)
}

async fn page(
    may: &PageMay<ReadCalls>,
    state: &WebState,
    call_id: std::result::Result<Path<String>, PathRejection>,
    query: Option<&str>,
) -> Result<Response> {
    let Ok(Path(call_id)) = call_id else { return Err(no_such_call()) };
    let (call, records) = state.app.reading.call(&call_id).await?.ok_or_else(no_such_call)?;
    let mut page = CallPage::new(&call, &records, may.identity(), &Terms::of(state));
    page.notice = match query {
        Some("asked=again") => {
            Some("The recording will be fetched again. Reload this page in a moment to see what came of it.")
        }
        Some("asked=nothing") => Some("There was nothing to fetch again."),
        Some("reviewed=in_review") => Some("The flag is marked as being looked into."),
        Some("reviewed=cleared") => Some("The flag is cleared."),
        Some("reviewed=escalated") => Some("The flag is escalated."),
        _ => None,
    };
    Ok(html(StatusCode::OK, &page))
}

/// Has a failed recording fetched again, and shows the call.
pub(super) async fn retry(
    may: PageMay<RetryRecordings>,
    State(state): State<WebState>,
    call_id: std::result::Result<Path<String>, PathRejection>,
) -> Response {
    let asked = async {
        let Ok(Path(call_id)) = call_id else { return Err(no_such_call()) };
        let (app, actor) = (&state.app, may.identity().actor());
        let outcome = match archiver::retry(&app.db, &app.journal, &app.calls, &call_id, &actor).await? {
            RetryOutcome::Asked(_) | RetryOutcome::Hurried => "again",
            RetryOutcome::Nothing(_) => "nothing",
            RetryOutcome::NoSuchCall => return Err(no_such_call()),
        };
        Ok(Redirect::to(&format!("/calls/{}?asked={outcome}", segment(&call_id))).into_response())
    };
    shown(may.who(), asked.await)
}

pub(super) fn no_such_call() -> Error {
    Error::NotFound(
        "There is no call of this id. It may be mistyped; the search finds calls by a part of a name or number.".into(),
    )
}

impl<'a> Terms<'a> {
    pub(super) fn of(state: &'a WebState) -> Self {
        Self { tz: &state.app.config.timezone.0, region: &state.app.config.region }
    }
}

impl CallPage {
    fn new(call: &Call, records: &[Record], identity: &Identity, terms: &Terms<'_>) -> Self {
        let heading = heading(call, terms);
        let id = segment(&call.call_id);
        let (flags, own_call) = flags(call, identity, terms);
        let hidden = records.len().saturating_sub(MOST_MOMENTS);
        Self {
            shell: Shell::new(&heading, Some(identity.into()), "call"),
            number: customer_number(call).map(|number| phone(number, terms.region)).filter(|number| *number != heading),
            heading,
            direction: call.direction.as_deref().map_or("Unknown", words::direction),
            channel: words::channel(&call.channel),
            agent: call.agent.as_deref().map(|agent| phone(agent, terms.region)),
            status: words::status(&call.status),
            when: Stamp::new(call.started_at.or(call.ended_at).unwrap_or(call.first_seen_at), terms.tz),
            length: call.duration_seconds.map(length),
            zone: terms.tz.iana_name().unwrap_or("UTC").to_owned(),
            facts: facts(call, terms),
            flags,
            own_call,
            holds: call.holds.clone(),
            recordings: cards(call, terms),
            can_retry: identity.role.may(Permission::RetryRecordings)
                && std::iter::once(&call.recording)
                    .chain(&call.recordings)
                    .any(|view| view.state == RecordingState::Failed),
            retry: format!("/calls/{id}/retry"),
            notice: None,
            moments: records.iter().take(MOST_MOMENTS).map(|record| moment(record, terms)).collect(),
            unseen: if hidden == 0 { String::new() } else { grouped(hidden as u64) },
            json: format!("/api/v1/calls/{id}"),
            call_id: call.call_id.clone(),
        }
    }
}

/// Whom the call was with, as well as is known.
fn heading(call: &Call, terms: &Terms<'_>) -> String {
    let name = call.customer.name.clone().filter(|name| !name.trim().is_empty());
    let number = || customer_number(call).map(|number| phone(number, terms.region));
    name.or_else(number).unwrap_or_else(|| "Unknown customer".into())
}

/// Everything that is known, without what is not.
fn facts(call: &Call, terms: &Terms<'_>) -> Vec<Fact> {
    let time = |at: Option<jiff::Timestamp>| at.map(|at| Value::Time(Stamp::new(at, terms.tz)));
    let text = |value: &Option<String>| value.clone().map(Value::Text);
    let code = |value: &Option<String>| value.clone().map(Value::Code);
    let person = |value: &Option<String>| value.as_deref().map(|value| Value::Text(phone(value, terms.region)));
    let facts = [
        ("Call began", time(call.started_at)),
        ("Call ended", time(call.ended_at)),
        ("First heard of", time(Some(call.first_seen_at))),
        ("Length, as the sender says", call.duration_seconds.map(|seconds| Value::Text(length(seconds)))),
        ("Customer", text(&call.customer.name)),
        ("Customer's number", person(&call.customer.number)),
        ("Agent", person(&call.agent)),
        ("Ended by", person(&call.ended_by)),
        ("Rejected by", person(&call.rejected_by)),
        ("Why it failed", text(&call.failed_reason)),
        ("Business number", person(&call.waba_number)),
        ("Called from", person(&call.from)),
        ("Called to", person(&call.to)),
        ("Phone line", person(&call.channel_number)),
        ("Call id", Some(Value::Code(call.call_id.clone()))),
        ("Customer id", code(&call.customer.id)),
        ("Chat id", code(&call.chat_id)),
        ("Message id", code(&call.chat_message_id)),
        ("Device id", code(&call.device_id)),
    ];
    facts.into_iter().filter_map(|(name, value)| Some(Fact { name, value: value? })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;

    fn page(call: &Call, role: Role) -> String {
        let identity = Identity { name: "leela".into(), role, agent: None };
        let terms = Terms { tz: &jiff::tz::TimeZone::UTC, region: "IN" };
        CallPage::new(call, &[], &identity, &terms).render().unwrap()
    }

    #[test]
    fn values_are_text_whatever_they_hold() {
        let mut call = crate::calls::Facts::default().call();
        let hostile = Some("\"'><script>alert(1)</script><img src=x>".to_owned());
        call.call_id = "\"><script>".into();
        (call.customer.name, call.customer.id, call.agent) = (hostile.clone(), hostile.clone(), hostile.clone());
        (call.failed_reason, call.recording.last_error) = (hostile.clone(), hostile);
        let text = page(&call, Role::Officer);
        assert_eq!(text.matches("<script").count(), 1, "{text}");
        assert!(!text.contains("<img") && !text.contains("style="));
    }

    #[test]
    fn only_who_may_is_offered_another_try() {
        let mut call = crate::calls::Facts::default().call();
        call.recording.state = RecordingState::Failed;
        assert!(page(&call, Role::Officer).contains("Fetch again"));
        assert!(!page(&call, Role::Auditor).contains("Fetch again"));
        call.recording.state = RecordingState::Missing;
        assert!(!page(&call, Role::Admin).contains("Fetch again"));
    }

    #[test]
    fn whom_the_call_was_with() {
        let mut call = crate::calls::Facts::default().call();
        let terms = Terms { tz: &jiff::tz::TimeZone::UTC, region: "IN" };
        assert_eq!(heading(&call, &terms), "Unknown customer");
        (call.direction, call.from) = (Some("incoming".into()), Some("+919820011223".into()));
        assert_eq!(heading(&call, &terms), "+91 98200 11223");
        call.customer.name = Some("  ".into());
        assert_eq!(heading(&call, &terms), "+91 98200 11223");
        call.customer.name = Some("Ananya".into());
        assert_eq!(heading(&call, &terms), "Ananya");
    }
}
