//! Where reports go: into a folder, into the store under a lock, or to an address on the net. Nothing that is there is ever
//! written over.
//!
//! It takes bytes and a name, and journals that the report was made, before it goes anywhere, and where it got. It does not
//! know what a report says.

mod folder;
mod post;

use std::path::PathBuf;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

use crate::clock::Clock;
use crate::config::{self, Config, Secret};
use crate::fault;
use crate::journal::{AppendError, Body, Journal, Kind, NewEntry};
use crate::objects::{Content, ObjectKey, ObjectStore, StoreError};
use crate::retention::Period;

pub use post::{PostError, address};

/// Keys that are tried where somebody has taken one, or names where a file is there.
const BESIDE: usize = 8;

/// A report as it is sent.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// The job that made it, such as `fixity`.
    pub report: String,
    /// The name of its file.
    pub name: String,
    pub media_type: &'static str,
    pub bytes: Bytes,
}

/// Where a report goes; nowhere by default.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// A folder, which must be there.
    pub folder: Option<PathBuf>,
    pub bucket: bool,
    /// An address that takes a POST.
    pub url: Option<Url>,
}

/// `report.made`: what a report is, and where it is about to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRecord {
    pub report: String,
    /// The entry of the configuration's schedule that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    pub name: String,
    pub media_type: String,
    /// Lower-case hex.
    pub sha256: String,
    pub size_bytes: u64,
    pub made_at: Timestamp,
    /// Where it goes in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_key: Option<String>,
}

/// `report.delivered`: where a report got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveredRecord {
    pub report: String,
    pub name: String,
    pub sha256: String,
    /// It lies in a folder, under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<StoredReport>,
    /// The host that took it; the address itself may hold a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A report in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReport {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub size_bytes: u64,
    pub retain_until: Timestamp,
}

/// Why a report did not get everywhere it should; where it could, it did.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("the report {name} was not written to {folder}: {source}")]
    Folder { name: String, folder: String, source: std::io::Error },
    #[error("the report {name} was not stored: {source}")]
    Store { name: String, source: StoreError },
    #[error("the report {name} was not posted: {source}")]
    Post { name: String, source: PostError },
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("an entry has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{} (and {more} more)", .first)]
    Several { first: Box<Self>, more: usize },
}

/// A setting that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("delivery.keep: {0:?} is no ISO 8601 period such as P5Y")]
pub struct KeepError(String);

/// Takes reports where they go.
pub struct Courier<'a> {
    pub journal: &'a Journal,
    pub store: &'a dyn ObjectStore,
    pub clock: &'a Clock,
    pub settings: &'a config::Delivery,
}

/// For how long reports are kept in the store.
///
/// # Errors
/// The configuration names no period.
pub fn keep(config: &Config) -> Result<Period, KeepError> {
    Period::parse(&config.delivery.keep).map_err(|_| KeepError(config.delivery.keep.clone()))
}

impl Targets {
    #[must_use]
    pub fn is_nowhere(&self) -> bool {
        self.folder.is_none() && !self.bucket && self.url.is_none()
    }
}

/// The name of a report's file: what it is, and when it was made.
#[must_use]
pub fn file_name(report: &str, made_at: Timestamp, extension: &str) -> String {
    format!("{report}-{}.{extension}", made_at.strftime("%Y-%m-%dT%H%M%SZ"))
}

impl Courier<'_> {
    /// Journals that a report was made, and takes it to every target.
    ///
    /// # Errors
    /// It could not be journaled, or did not get somewhere; the other targets have it then.
    pub async fn deliver(
        &self,
        parcel: &Parcel,
        schedule: Option<&str>,
        targets: &Targets,
    ) -> Result<DeliveredRecord, DeliveryError> {
        let made_at = self.clock.now();
        let sha256 = hex::encode(Sha256::digest(&parcel.bytes));
        let key = ObjectKey::Report { day: made_at.to_zoned(TimeZone::UTC).date(), name: parcel.name.clone() };
        let made = ReportRecord {
            report: parcel.report.clone(),
            schedule: schedule.map(str::to_owned),
            name: parcel.name.clone(),
            media_type: parcel.media_type.to_owned(),
            sha256: sha256.clone(),
            size_bytes: parcel.bytes.len() as u64,
            made_at,
            object_key: targets.bucket.then(|| key.path()),
        };
        self.append(Kind::ReportMade, &parcel.report, &made).await?;
        fault::point("report.made");
        let mut delivered =
            DeliveredRecord { report: made.report, name: made.name, sha256, ..DeliveredRecord::default() };
        let mut failures = Vec::new();
        if let Some(folder) = &targets.folder {
            match self.write(parcel, folder).await {
                Ok(name) => delivered.file = Some(name),
                Err(error) => failures.push(error),
            }
        }
        if targets.bucket {
            match self.store(parcel, key, made_at).await {
                Ok(stored) => delivered.object = Some(stored),
                Err(source) => failures.push(DeliveryError::Store { name: parcel.name.clone(), source }),
            }
        }
        if let Some(url) = &targets.url {
            match post::post(parcel, url, &delivered.sha256, self.settings).await {
                Ok(()) => delivered.host = url.host_str().map(str::to_owned),
                Err(source) => failures.push(DeliveryError::Post { name: parcel.name.clone(), source }),
            }
        }
        if delivered.file.is_some() || delivered.object.is_some() || delivered.host.is_some() {
            self.append(Kind::ReportDelivered, &parcel.report, &delivered).await?;
        }
        let more = failures.len().saturating_sub(1);
        match failures.into_iter().next() {
            None => Ok(delivered),
            Some(first) if more == 0 => Err(first),
            Some(first) => Err(DeliveryError::Several { first: Box::new(first), more }),
        }
    }

    async fn append(&self, kind: Kind, report: &str, record: &impl Serialize) -> Result<(), DeliveryError> {
        let entry = NewEntry::new(kind, "system", Some(format!("report:{report}")), Body::of_json(record)?);
        self.journal.append(vec![entry]).await?;
        Ok(())
    }

    async fn write(&self, parcel: &Parcel, folder: &std::path::Path) -> Result<String, DeliveryError> {
        let (to, name, bytes) = (folder.to_owned(), parcel.name.clone(), parcel.bytes.clone());
        let written = tokio::task::spawn_blocking(move || folder::write(&to, &name, &bytes)).await;
        written.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(|source| DeliveryError::Folder {
            name: parcel.name.clone(),
            folder: folder.display().to_string(),
            source,
        })
    }

    async fn store(&self, parcel: &Parcel, key: ObjectKey, made_at: Timestamp) -> Result<StoredReport, StoreError> {
        let keep = Period::parse(&self.settings.keep).map_err(|error| StoreError::SetUp(error.to_string()))?;
        let retain_until = keep.after(made_at);
        let mut key = key;
        for _ in 0..BESIDE {
            match self.store.put_new(&key, Content::Bytes(parcel.bytes.clone()), retain_until).await {
                Ok(info) => {
                    return Ok(StoredReport {
                        key: info.key,
                        version: info.version,
                        size_bytes: info.size,
                        retain_until,
                    });
                }
                Err(StoreError::Conflict(taken)) => key = ObjectKey::Journaled(ObjectKey::beside(&taken)),
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict(key.path()))
    }
}

/// Nothing of it shows in errors or logs.
fn bearer(secret: &Secret) -> Option<&str> {
    let secret = secret.expose();
    (!secret.is_empty()).then_some(secret)
}
