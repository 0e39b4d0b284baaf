//! The journal as it is, for auditors.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::intake::call_key;
use crate::journal::{Filter, Kind, Record};
use crate::web::WebState;
use crate::web::auth::{May, ReadJournal};
use crate::web::error::{Error, Problem, Refused, Result};

/// Entries on a page, if nothing is said.
const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 500;
/// Entries that are read at once; each may hold a body of 256 KiB.
const READ_AT_ONCE: u64 = 25;
/// A page ends early once its bodies come to this, in bytes.
const PAGE_BYTES: usize = 4 << 20;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().routes(routes!(journal)).routes(routes!(quarantine))
}

/// A page of the journal.
#[derive(Serialize, ToSchema)]
struct Entries {
    entries: Vec<EntryView>,
    /// Give it as `after` (in the quarantine: as `before`) for the next page; null on the last.
    next: Option<u64>,
}

/// An entry with what stands beside it.
#[derive(Serialize, ToSchema)]
struct EntryView {
    /// In RFC 8785 canonical form; its bytes are the Merkle tree's leaf.
    #[schema(value_type = Object)]
    entry: Box<RawValue>,
    /// SHA-256(0x00 ‖ entry), lower-case hex (RFC 6962).
    leaf: String,
    /// 16 bytes, lower-case hex; null once erased.
    salt: Option<String>,
    /// JSON where it is, else base64; null once erased.
    body: Option<Value>,
    /// The exact bytes in base64: SHA-256(salt ‖ bytes) is what the entry commits to; null once erased.
    body_bytes: Option<String>,
    /// Why it lies in quarantine, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "the description of what the handler reads by hand")]
struct JournalDoc {
    /// Entries with a greater `seq`; without it, from the first on.
    #[param(format = "uint64")]
    after: Option<u64>,
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u64>,
    /// A call id, or a subject as it stands in entries.
    subject: Option<String>,
    /// Such as `webhook.received`.
    kind: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "the description of what the handler reads by hand")]
struct QuarantineDoc {
    /// Entries with a smaller `seq`; without it, from the newest on.
    #[param(format = "uint64")]
    before: Option<u64>,
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u64>,
}

/// Entries in order.
#[utoipa::path(get, path = "/api/v1/journal", tag = "journal", params(JournalDoc), responses(
    (status = 200, description = "A page of the journal", body = Entries),
    (status = 400, description = "A parameter can't be read", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn journal(_: May<ReadJournal>, State(state): State<WebState>, uri: Uri) -> Result<Json<Entries>> {
    let (mut from, mut limit, mut filter) = (0, DEFAULT_LIMIT, Filter::default());
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match &*name {
            "after" => from = number(&name, &value)?.saturating_add(1),
            "limit" => limit = read_limit(&value)?,
            // A call id as the sender writes it, or a subject as entries have it: only one of them can exist.
            "subject" => filter.subjects = vec![call_key(&value), value.into_owned()],
            "kind" => filter.kind = Some(read_kind(&value)?),
            _ => {
                return Err(Error::BadRequest(format!(
                    "There is no parameter {name:?}; /docs lists those that there are."
                )));
            }
        }
    }
    let mut page = Page::of(limit);
    while let Some(wanted) = page.wants() {
        let records = state.app.reading.journal.read(from, wanted, &filter).await?;
        page.take(&records, wanted)?;
        from = records.last().map_or(from, |record| record.entry.seq + 1);
    }
    Ok(Json(page.entries()))
}

/// Bodies that could not be understood, newest first.
#[utoipa::path(get, path = "/api/v1/quarantine", tag = "journal", params(QuarantineDoc), responses(
    (status = 200, description = "A page of the quarantine", body = Entries),
    (status = 400, description = "A parameter can't be read", body = Problem, content_type = "application/problem+json"),
    Refused,
), security(("bearer" = [])))]
async fn quarantine(_: May<ReadJournal>, State(state): State<WebState>, uri: Uri) -> Result<Json<Entries>> {
    let (mut before, mut limit) = (u64::MAX, DEFAULT_LIMIT);
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match &*name {
            "before" => before = number(&name, &value)?,
            "limit" => limit = read_limit(&value)?,
            _ => {
                return Err(Error::BadRequest(format!(
                    "There is no parameter {name:?}; /docs lists those that there are."
                )));
            }
        }
    }
    let mut page = Page::of(limit);
    while let Some(wanted) = page.wants() {
        let records = state.app.reading.journal.quarantine(before, wanted).await?;
        page.take(&records, wanted)?;
        before = records.last().map_or(before, |record| record.entry.seq);
    }
    Ok(Json(page.entries()))
}

/// A page as it fills: until it holds enough entries or bytes, or there are no more.
struct Page {
    limit: u64,
    entries: Vec<EntryView>,
    bytes: usize,
    last: Option<u64>,
    ended: bool,
}

impl Page {
    fn of(limit: u64) -> Self {
        Self { limit, entries: Vec::new(), bytes: 0, last: None, ended: false }
    }

    /// How many entries to read next, if any.
    fn wants(&self) -> Option<u64> {
        let missing = self.limit - self.entries.len() as u64;
        (!self.ended && missing > 0 && self.bytes < PAGE_BYTES).then_some(missing.min(READ_AT_ONCE))
    }

    fn take(&mut self, records: &[Record], wanted: u64) -> Result<()> {
        for record in records {
            self.bytes += record.body.as_ref().map_or(0, |body| body.bytes.len());
            self.last = Some(record.entry.seq);
            self.entries.push(EntryView::of(record)?);
        }
        self.ended = (records.len() as u64) < wanted;
        Ok(())
    }

    fn entries(self) -> Entries {
        Entries { next: self.last.filter(|_| !self.ended), entries: self.entries }
    }
}

impl EntryView {
    fn of(record: &Record) -> Result<Self> {
        let entry =
            RawValue::from_string(record.entry.canonical()).map_err(|error| Error::Internal(error.to_string()))?;
        let body = record.body.as_ref();
        Ok(Self {
            entry,
            leaf: hex::encode(record.leaf),
            salt: body.map(|body| hex::encode(body.salt)),
            body: body.map(|body| {
                serde_json::from_slice(&body.bytes).unwrap_or_else(|_| Value::String(STANDARD.encode(&body.bytes)))
            }),
            body_bytes: body.map(|body| STANDARD.encode(&body.bytes)),
            reason: record.entry.reason.clone(),
        })
    }
}

fn number(name: &str, value: &str) -> Result<u64> {
    value.parse().map_err(|_| Error::BadRequest(format!("{name}: give a whole number.")))
}

fn read_limit(value: &str) -> Result<u64> {
    let limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| Error::BadRequest(format!("limit: give a number from 1 to {MAX_LIMIT}.")))
}

fn read_kind(value: &str) -> Result<Kind> {
    Kind::parse(value).ok_or_else(|| {
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        Error::BadRequest(format!("kind: there is no {value:?}; known are {}.", known.join(", ")))
    })
}
