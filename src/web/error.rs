//! The one place where errors become answers: `application/problem+json` (RFC 9457).

use std::io::ErrorKind;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use crate::access::OutOfReach;
use crate::app::BulkError;
use crate::archiver::ArchiveError;
use crate::db::Error as DbError;
use crate::flags::ReviewError;
use crate::intake::{IntakeError, SpoolError};
use crate::journal::AppendError;
use crate::objects::StoreError;
use crate::search::{Error as SearchError, QueryError};

/// An error as the API shows it (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem; `about:blank` where the status says all.
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    /// What is wrong and what to do.
    detail: String,
    /// The recording's state, where a recording was asked for that is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

/// The answers to a request that could be read but not carried out; every documented route has them.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "the description of what Error answers")]
pub(super) enum Refused {
    /// No valid token.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] Problem),
    /// The token's role does not allow it.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] Problem),
    /// A part is out of reach or being built; try again after `Retry-After`.
    #[response(status = 503, content_type = "application/problem+json")]
    Busy(#[to_schema] Problem),
}

/// Everything that can go wrong with a request.
#[derive(Debug)]
pub enum Error {
    BadRequest(String),
    Unauthorized,
    Forbidden(&'static str),
    NotFound(String),
    /// There is no recording; its state.
    NoRecording(&'static str),
    Conflict(String),
    MethodNotAllowed,
    TooLarge,
    /// The body did not come in time.
    TooSlow,
    RangeNotSatisfiable(u64),
    PreconditionFailed,
    /// Try again in a second; nothing was taken.
    Busy(String),
    Internal(String),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Status, title and detail: what a problem or a page says.
    pub(super) fn parts(&self) -> (StatusCode, &'static str, String) {
        match self {
            Self::BadRequest(detail) => (StatusCode::BAD_REQUEST, "The request can't be read", detail.clone()),
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                "Sign in first",
                "Send a valid token in the Authorization header, or sign in on the page.".into(),
            ),
            Self::Forbidden(why) => (StatusCode::FORBIDDEN, "Not allowed", (*why).into()),
            Self::NotFound(detail) => (StatusCode::NOT_FOUND, "Not found", detail.clone()),
            Self::NoRecording(state) => {
                let detail = match *state {
                    "none" => "Nobody answered, so there was nothing to record: the state is none.".into(),
                    "missing" => "There was a conversation, but the sender named no recording: it is missing.".into(),
                    state => format!("The recording of this call is {state}."),
                };
                (StatusCode::NOT_FOUND, "There is no recording", detail)
            }
            Self::Conflict(detail) => (StatusCode::CONFLICT, "Not possible now", detail.clone()),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "Not with this method",
                "This address does not take this method; /docs lists what it takes.".into(),
            ),
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "The body is too large", "A webhook has at most 256 KiB.".into())
            }
            Self::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "The body took too long",
                "Nothing was taken: send it again, all at once.".into(),
            ),
            Self::PreconditionFailed => (
                StatusCode::PRECONDITION_FAILED,
                "Not what you have",
                "The recording is another one than If-Match says: fetch it without.".into(),
            ),
            Self::RangeNotSatisfiable(size) => (
                StatusCode::RANGE_NOT_SATISFIABLE,
                "The range lies outside",
                format!("The recording has {size} bytes: ask for a range within them."),
            ),
            Self::Busy(detail) => (StatusCode::SERVICE_UNAVAILABLE, "Try again in a moment", detail.clone()),
            Self::Internal(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something is broken here",
                "The archive could not do this; its operator finds the reason in the log.".into(),
            ),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        self.to_problem()
    }
}

impl Error {
    /// The answer for programs.
    pub(super) fn to_problem(&self) -> Response {
        if let Self::Internal(why) = self {
            tracing::error!(why, "request failed");
        }
        let (status, title, detail) = self.parts();
        let state = if let Self::NoRecording(state) = self { Some(*state) } else { None };
        let problem = Problem { kind: "about:blank", title, status: status.as_u16(), detail, state };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self {
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"callvault\""));
            }
            Self::Busy(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::RangeNotSatisfiable(size) => {
                if let Ok(value) = HeaderValue::from_str(&format!("bytes */{size}")) {
                    headers.insert(header::CONTENT_RANGE, value);
                }
            }
            _ => {}
        }
        response
    }
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        if error.is_outage() {
            tracing::error!(%error, "database out of reach");
            Self::Busy("The database is out of reach: try again in a moment.".into())
        } else {
            Self::Internal(error.to_string())
        }
    }
}

impl From<OutOfReach> for Error {
    fn from(_: OutOfReach) -> Self {
        Self::Busy("The database is out of reach, and with it the tokens: try again in a moment.".into())
    }
}

impl From<AppendError> for Error {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Refused(why) => Self::Conflict(why),
            AppendError::QueueFull => {
                Self::Busy("Too many events wait to be journaled; nothing was taken: send it again.".into())
            }
            AppendError::Unavailable(_) => {
                Self::Busy("The journal can't be written at the moment; send it again.".into())
            }
            AppendError::Stopped => Self::Busy("The archive is about to stop; send it again in a moment.".into()),
        }
    }
}

impl From<IntakeError> for Error {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Append(error) => error.into(),
            IntakeError::Spool(SpoolError::Stopped) => AppendError::Stopped.into(),
            IntakeError::Spool(SpoolError::Full | SpoolError::Io(_)) => Self::Busy(
                "The database is out of reach and nothing more can be put by; nothing was taken: send it again.".into(),
            ),
        }
    }
}

impl From<ReviewError> for Error {
    fn from(error: ReviewError) -> Self {
        match error {
            ReviewError::NoSuchCall => Self::NotFound("There is no call of this id.".into()),
            ReviewError::OwnCall => Self::Forbidden("This is your own call: somebody else has to review it."),
            ReviewError::NotNow(why) => Self::Conflict(in_a_sentence(&why)),
            ReviewError::TooLong { .. } => Self::BadRequest(in_a_sentence(&error.to_string())),
            ReviewError::Db(error) => error.into(),
            ReviewError::Append(error) => error.into(),
            ReviewError::Json(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<BulkError> for Error {
    fn from(error: BulkError) -> Self {
        match error {
            BulkError::TooMany { .. } => Self::Conflict(in_a_sentence(&error.to_string())),
            BulkError::Search(error) => error.into(),
            BulkError::Review(error) => error.into(),
        }
    }
}

fn in_a_sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

impl From<QueryError> for Error {
    fn from(error: QueryError) -> Self {
        Self::BadRequest(error.to_string())
    }
}

impl From<SearchError> for Error {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Query(error) => error.into(),
            // The follower was told and builds it again.
            SearchError::Missing | SearchError::Damaged(_) => {
                Self::Busy("The search index is being built; nothing is lost: search again in a moment.".into())
            }
            SearchError::Busy => Self::Busy("Too many searches run at the same time.".into()),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::ConnectionRefused) => {
                tracing::error!(%error, "store out of reach");
                Self::Busy("The store of the recordings is out of reach: try again in a moment.".into())
            }
            error => Self::Internal(error.to_string()),
        }
    }
}

impl From<ArchiveError> for Error {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Db(error) => error.into(),
            ArchiveError::Append(error) => error.into(),
            other => Self::Internal(other.to_string()),
        }
    }
}
