//! A call's recording: the audio, its waveform, another try.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::calls::no_such_call;
use crate::archiver::{RetryOutcome, retry as retry_recording};
use crate::calls::records::AnalysisRecord;
use crate::calls::{Facts, RecordingState, RecordingView};
use crate::intake::call_key;
use crate::web::WebState;
use crate::web::auth::{May, ReadCalls, RetryRecordings};
use crate::web::error::{Error, Problem, Refused, Result};

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().routes(routes!(audio)).routes(routes!(waveform)).routes(routes!(retry))
}

/// The shape of the sound.
#[derive(Serialize, ToSchema)]
struct Waveform {
    /// 1,000 numbers from 0 to 1: the loudest sample of each thousandth.
    peaks: Vec<f64>,
    seconds: f64,
    /// Share of silence, 0 to 1.
    silent_share: Option<f64>,
}

/// The state of a recording that will be fetched again.
#[derive(Serialize, ToSchema)]
struct Retrying {
    state: RecordingState,
}

#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "the description of what the handler reads by hand")]
struct AudioDoc {
    /// `1` for a download instead of playing.
    download: Option<String>,
    /// Which of several recordings, counted from 1.
    #[param(minimum = 1)]
    number: Option<usize>,
}

#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "the description of what the handler reads by hand")]
struct NumberDoc {
    /// Which of several recordings, counted from 1.
    #[param(minimum = 1)]
    number: Option<usize>,
}

/// The audio. Takes `Range`, `If-Range` and `If-None-Match`; the `ETag` is the SHA-256.
#[utoipa::path(get, path = "/api/v1/calls/{call_id}/recording", tag = "calls", params(("call_id" = String, Path), AudioDoc), responses(
    (status = 200, description = "The whole recording", body = Vec<u8>, content_type = "audio/mpeg"),
    (status = 206, description = "The range that was asked for", body = Vec<u8>, content_type = "audio/mpeg"),
    (status = 304, description = "What you have is right"),
    (status = 400, description = "A parameter can't be read", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such call, or no recording: its state", body = Problem, content_type = "application/problem+json"),
    (status = 412, description = "The recording is another one than `If-Match` says", body = Problem, content_type = "application/problem+json"),
    (status = 416, description = "The range lies outside", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn audio(
    _: May<ReadCalls>,
    State(state): State<WebState>,
    Path(call_id): Path<String>,
    uri: axum::http::Uri,
    method: Method,
    headers: HeaderMap,
) -> Result<Response> {
    let (download, number) = audio_params(uri.query().unwrap_or_default())?;
    let facts = state.app.calls.facts(&call_id).await?.ok_or_else(no_such_call)?;
    let view = view(&facts, number)?;
    let (Some(sha256), Some(key), Some(size)) = (&view.sha256, &view.object_key, view.size_bytes) else {
        return Err(Error::NoRecording(view.state.as_str()));
    };
    let etag = format!("\"{sha256}\"");
    if matches_etag(&headers, header::IF_NONE_MATCH, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    if headers.contains_key(header::IF_MATCH) && !matches_etag(&headers, header::IF_MATCH, &etag) {
        return Err(Error::PreconditionFailed);
    }
    // A range is defined for GET alone (RFC 9110, section 14.2).
    let range = if method == Method::GET { wanted_range(&headers, size, &etag)? } else { None };
    let (status, from, to) = match range {
        Some((from, to)) => (StatusCode::PARTIAL_CONTENT, from, to),
        None => (StatusCode::OK, 0, size),
    };
    let bytes = state.app.store.get(key, view.version.as_deref(), Some(from..to)).await?;
    let digest = STANDARD.encode(hex::decode(sha256).unwrap_or_default());
    let disposition = if download { "attachment" } else { "inline" };
    let name = file_name(&call_id, key);
    let headers = [
        (header::CONTENT_TYPE, view.media_type.unwrap_or_else(|| "application/octet-stream".into())),
        (header::CONTENT_LENGTH, (to - from).to_string()),
        (header::ACCEPT_RANGES, "bytes".into()),
        (header::ETAG, etag),
        (header::HeaderName::from_static("repr-digest"), format!("sha-256=:{digest}:")),
        (header::CONTENT_DISPOSITION, format!("{disposition}; filename=\"{name}\"")),
        (header::CACHE_CONTROL, "private, no-cache".into()),
    ];
    let mut response = (status, headers, Body::from_stream(bytes)).into_response();
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(value) = format!("bytes {from}-{}/{size}", to - 1).parse()
    {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

fn audio_params(query: &str) -> Result<(bool, usize)> {
    let wrong = || Error::BadRequest("number: give a whole number from 1.".into());
    let (mut download, mut number) = (false, 1);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "download" => download = !matches!(&*value, "" | "0" | "false"),
            "number" => {
                number = value.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
            }
            _ => {}
        }
    }
    Ok((download, number))
}

fn view(facts: &Facts, number: usize) -> Result<RecordingView> {
    let call = facts.call();
    match number {
        1 => Ok(call.recording),
        _ => call
            .recordings
            .into_iter()
            .nth(number.wrapping_sub(2))
            .ok_or_else(|| Error::NotFound("This call has no recording of that number.".into())),
    }
}

fn matches_etag(headers: &HeaderMap, name: header::HeaderName, etag: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}

/// The one range that is asked for, its end not included; several at once, or a form that nobody knows, mean the whole.
fn wanted_range(headers: &HeaderMap, size: u64, etag: &str) -> Result<Option<(u64, u64)>> {
    let Some(range) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else { return Ok(None) };
    if headers.contains_key(header::IF_RANGE) && !matches_etag(headers, header::IF_RANGE, etag) {
        return Ok(None);
    }
    // The last so many bytes of a recording that has fewer are all of it.
    let suffix = range.strip_prefix("bytes=-").and_then(|length| length.trim().parse::<u64>().ok());
    if suffix.is_some_and(|length| length >= size && size > 0) {
        return Ok(Some((0, size)));
    }
    let Ok(parsed) = http_range_header::parse_range_header(range) else { return Ok(None) };
    match parsed.validate(size) {
        Ok(ranges) if ranges.len() == 1 => Ok(Some((*ranges[0].start(), ranges[0].end() + 1))),
        Ok(_) => Ok(None),
        Err(_) => Err(Error::RangeNotSatisfiable(size)),
    }
}

/// A name that is safe in a header and on every disk.
fn file_name(call_id: &str, key: &str) -> String {
    let extension = key.rsplit('.').next().unwrap_or("audio");
    format!("{}.{extension}", call_key(call_id).replace(['%', '~'], "_"))
}

/// The waveform, once the recording is analysed.
#[utoipa::path(get, path = "/api/v1/calls/{call_id}/waveform", tag = "calls", params(("call_id" = String, Path), NumberDoc), responses(
    (status = 200, description = "The waveform", body = Waveform),
    (status = 400, description = "A parameter can't be read", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such call, or not analysed", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn waveform(
    _: May<ReadCalls>,
    State(state): State<WebState>,
    Path(call_id): Path<String>,
    uri: axum::http::Uri,
) -> Result<Json<Waveform>> {
    let (_, number) = audio_params(uri.query().unwrap_or_default())?;
    let facts = state.app.calls.facts(&call_id).await?.ok_or_else(no_such_call)?;
    let shown = view(&facts, number)?;
    let recording = shown.source.as_ref().and_then(|source| facts.recordings.get(source));
    let Some((seq, _)) = recording.and_then(|recording| recording.analysis.as_ref()) else {
        return Err(match shown.state {
            RecordingState::Archived => {
                Error::NotFound("This recording is not analysed yet: try again in a moment.".into())
            }
            state => Error::NoRecording(state.as_str()),
        });
    };
    let record = state.app.journal.entry(*seq).await?.and_then(|record| record.body);
    let analysis: Option<AnalysisRecord> = record.and_then(|body| serde_json::from_slice(&body.bytes).ok());
    let analysis = analysis.ok_or_else(|| Error::NotFound("The analysis of this recording is erased.".into()))?;
    let Some(peaks) = analysis.peaks.as_ref().and_then(|peaks| STANDARD.decode(peaks).ok()) else {
        let why = analysis.unavailable.unwrap_or_default();
        return Err(Error::NotFound(format!("This recording has no waveform: {why}.")));
    };
    let peaks = peaks.into_iter().map(|peak| (f64::from(peak) / 255.0 * 1000.0).round() / 1000.0).collect();
    Ok(Json(Waveform { peaks, seconds: analysis.seconds, silent_share: analysis.silent_share }))
}

/// Has a failed recording fetched again.
#[utoipa::path(post, path = "/api/v1/calls/{call_id}/recording/retry", tag = "calls", params(("call_id" = String, Path)), responses(
    (status = 202, description = "It will be fetched again", body = Retrying),
    (status = 404, description = "No such call", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "There is nothing to fetch again", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn retry(
    may: May<RetryRecordings>,
    State(state): State<WebState>,
    Path(call_id): Path<String>,
) -> Result<(StatusCode, Json<Retrying>)> {
    let app = &state.app;
    match retry_recording(&app.db, &app.journal, &app.calls, &call_id, &may.identity.actor()).await? {
        RetryOutcome::Asked(_) | RetryOutcome::Hurried => {
            Ok((StatusCode::ACCEPTED, Json(Retrying { state: RecordingState::Pending })))
        }
        RetryOutcome::Nothing(state) => {
            Err(Error::Conflict(format!("The recording is {}: there is nothing to fetch again.", state.as_str())))
        }
        RetryOutcome::NoSuchCall => Err(no_such_call()),
    }
}
