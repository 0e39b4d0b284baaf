//! Reports, in the formats that people and programs read, and explanations of calls that do not fit.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::calls::no_such_call;
use crate::reports::{
    self, CONTENT_SECURITY_POLICY, Class, Completeness, Day, Days, DaysError, Explained, Format, MOST_CHARS, Moment,
    Report, ReportError, Retention,
};
use crate::web::WebState;
use crate::web::auth::{ExplainGaps, May, ReadCalls};
use crate::web::body::Timely;
use crate::web::error::{Error, Problem, Refused, Result};

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().routes(routes!(completeness)).routes(routes!(retention)).routes(routes!(explanation))
}

#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "the description of what the handler reads by hand")]
struct DayDoc {
    /// One day, such as 2026-03-09, `today` or `yesterday`, in the configured time zone; without any, the last one that is over.
    day: Option<String>,
}

#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "the description of what the handlers read by hand")]
struct ReportDoc {
    /// The first day.
    from: Option<String>,
    /// The last day, included.
    to: Option<String>,
    /// As it was at a moment: RFC 3339, or a date for its end.
    as_of: Option<String>,
    /// json, csv, xlsx or html.
    format: Option<String>,
}

/// What the parameters of a report say.
#[derive(Default)]
struct Asked {
    day: Option<Day>,
    from: Option<Day>,
    to: Option<Day>,
    as_of: Option<String>,
    format: Option<Format>,
}

impl Asked {
    fn read(uri: &Uri, one_day: bool) -> Result<Self> {
        let mut asked = Self::default();
        for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            let day = || value.parse::<Day>().map_err(unreadable);
            match &*name {
                "day" if one_day => asked.day = Some(day()?),
                "from" => asked.from = Some(day()?),
                "to" => asked.to = Some(day()?),
                "as_of" => asked.as_of = Some(value.into_owned()),
                "format" => match value.parse() {
                    Ok(format) if format != Format::Text => asked.format = Some(format),
                    _ => return Err(Error::BadRequest("format: give json, csv, xlsx or html.".into())),
                },
                _ => {
                    return Err(Error::BadRequest(format!(
                        "There is no parameter {name:?}; /docs lists those that there are."
                    )));
                }
            }
        }
        if asked.day.is_some() && (asked.from.is_some() || asked.to.is_some()) {
            return Err(Error::BadRequest("Give either day, or from and to.".into()));
        }
        Ok(asked)
    }

    async fn moment(&self, state: &WebState) -> Result<Moment> {
        let (app, source) = (&state.app, state.app.report_source());
        let Some(text) = &self.as_of else { return Ok(Moment::now(&source, &app.clock).await?) };
        let as_of = reports::moment(text, app.clock.now(), &app.config.timezone.0).map_err(unreadable)?;
        Ok(Moment::at(&source, as_of).await?)
    }

    fn answer(&self, report: &impl Report) -> Result<Response> {
        let format = self.format.unwrap_or(Format::Json);
        let bytes = format.write(report, str::to_owned)?;
        let shown = if matches!(format, Format::Json | Format::Html) { "inline" } else { "attachment" };
        let name = format!("{shown}; filename=\"{}\"", report.file_name(format));
        let headers = [(header::CONTENT_TYPE, format.media_type().to_owned()), (header::CONTENT_DISPOSITION, name)];
        let mut response = (headers, bytes).into_response();
        if format == Format::Html
            && let Ok(policy) = CONTENT_SECURITY_POLICY.parse()
        {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        Ok(response)
    }
}

fn unreadable(error: DaysError) -> Error {
    Error::BadRequest(format!("{error}."))
}

impl From<ReportError> for Error {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::Db(error) => error.into(),
            ReportError::Append(error) => error.into(),
            other => Self::Internal(other.to_string()),
        }
    }
}

/// Whether every call that was first heard of on some days is accounted for.
///
/// Each call is in exactly one class; those that do not fit are named. Long ones about the past are better made by the
/// command `callvault completeness`.
#[utoipa::path(get, path = "/api/v1/completeness", tag = "reports", params(DayDoc, ReportDoc), responses(
    (status = 200, description = "The report", body = Completeness),
    (status = 400, description = "A parameter can't be read", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn completeness(_: May<ReadCalls>, State(state): State<WebState>, uri: Uri) -> Result<Response> {
    let asked = Asked::read(&uri, true)?;
    let (moment, tz) = (asked.moment(&state).await?, &state.app.config.timezone.0);
    let (from, to) = match &asked.day {
        Some(day) => (Some(day), Some(day)),
        None => (asked.from.as_ref(), asked.to.as_ref()),
    };
    let days = Days::asked(from, to, moment.as_of, tz).map_err(unreadable)?;
    let report = Completeness::make(&state.app.report_source(), &days, moment).await?;
    asked.answer(&report)
}

/// What is kept by which policy until when, and what was done in a period: without from and to the last twelve months.
///
/// Long ones about the past are better made by the command `callvault retention report`.
#[utoipa::path(get, path = "/api/v1/retention/report", tag = "reports", params(ReportDoc), responses(
    (status = 200, description = "The report", body = Retention),
    (status = 400, description = "A parameter can't be read", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn retention(_: May<ReadCalls>, State(state): State<WebState>, uri: Uri) -> Result<Response> {
    let asked = Asked::read(&uri, false)?;
    let (moment, tz) = (asked.moment(&state).await?, &state.app.config.timezone.0);
    let days = Days::year(asked.from.as_ref(), asked.to.as_ref(), moment.as_of, tz).map_err(unreadable)?;
    let source = state.app.retention_source();
    let report = match asked.as_of {
        None => Retention::make(&source, &days, moment).await?,
        Some(_) => Retention::make_as_of(&source, &days, moment).await?,
    };
    asked.answer(&report)
}

/// Why a call is no gap.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Explanation {
    /// In words, at most 2,000 characters.
    #[schema(min_length = 1, max_length = 2000)]
    reason: String,
}

/// An explanation that is kept.
#[derive(Serialize, ToSchema)]
struct ExplanationKept {
    /// Number of the journal entry.
    seq: u64,
    class: Class,
}

/// Says why a call that does not fit is no gap; it is kept in the journal, with who said so.
#[utoipa::path(post, path = "/api/v1/calls/{call_id}/explanation", tag = "reports", params(("call_id" = String, Path)),
    request_body = Explanation, responses(
    (status = 201, description = "It is kept", body = ExplanationKept),
    (status = 400, description = "The body is no explanation", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such call", body = Problem, content_type = "application/problem+json"),
    (status = 408, description = "The body took too long", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "There is nothing to explain", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn explanation(
    may: May<ExplainGaps>,
    State(state): State<WebState>,
    Path(call_id): Path<String>,
    body: Timely<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<ExplanationKept>)> {
    let no_reason = || Error::BadRequest(format!("Give {{\"reason\": …}} with 1 to {MOST_CHARS} characters."));
    let body = match body {
        Timely::Here(body) => body,
        Timely::Unreadable(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return Err(Error::TooLarge);
        }
        Timely::Unreadable(_) => return Err(no_reason()),
        Timely::Late => return Err(Error::TooSlow),
    };
    let said: Explanation = serde_json::from_slice(&body).map_err(|_| no_reason())?;
    let (app, actor) = (&state.app, may.identity.actor());
    match reports::explain(&app.report_source(), &app.clock, &call_id, &said.reason, &actor).await? {
        Explained::Journaled { seq, .. } => {
            Ok((StatusCode::CREATED, Json(ExplanationKept { seq, class: Class::Explained })))
        }
        Explained::NoGap(class) => Err(Error::Conflict(format!(
            "There is nothing to explain, the call is no gap: {}.",
            class.title().to_lowercase()
        ))),
        Explained::NoReason => Err(no_reason()),
        Explained::NoSuchCall => Err(no_such_call()),
    }
}
