//! Reads the configuration: the defaults, then a TOML file, then `CALLVAULT_…` variables, then flags.
//!
//! `default.toml` beside this file is both the defaults and their documentation. An unknown key is an error that
//! names the nearest known one. It only reads and checks values: it opens no database, store or socket.

mod bootstrap;
mod load;
mod roles;
mod storage;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use bootstrap::{BootstrapToken, ROLES};
pub use load::{ConfigError, Flags, load, with_defaults};
pub use roles::{Roles, UnknownRole};
pub use storage::{ObjectLock, S3, Storage, StorageKind};

/// The default configuration file, with every key.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// Everything that can be set; `default.toml` says what each key means.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub listen: SocketAddr,
    pub public_url: url::Url,
    pub data_dir: PathBuf,
    pub timezone: TimeZone,
    pub region: String,
    pub metrics_public: bool,
    pub database: Database,
    pub storage: Storage,
    pub recordings: Recordings,
    pub flags: FlagThresholds,
    pub retention: Retention,
    pub spool: Spool,
    pub bootstrap: Bootstrap,
    /// What this node does; from the command line, since all nodes share the file.
    #[serde(skip)]
    pub roles: Roles,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub url: Secret,
    /// A streaming replica that may answer what need not be the latest; empty: there is none.
    pub replica_url: Secret,
    /// Whether `serve` and the commands bring the schema up to date; else `callvault migrate` does.
    pub migrate: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recordings {
    pub hosts: Vec<String>,
    pub api_key: Secret,
    pub allow_private_addresses: bool,
    pub max_bytes: u64,
    #[serde(with = "humantime_text")]
    pub timeout: Duration,
    pub concurrency: usize,
    #[serde(with = "humantime_text")]
    pub give_up_after: Duration,
    #[serde(with = "humantime_text")]
    pub retry_base: Duration,
}

/// The thresholds of the flag rules; they are written into every flag that they raise.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FlagThresholds {
    pub short_call_seconds: u64,
    pub long_call_seconds: u64,
    #[serde(with = "humantime_text")]
    pub call_overdue: Duration,
    #[serde(with = "humantime_text")]
    pub recording_overdue: Duration,
    pub duration_tolerance_seconds: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    pub policies: String,
    /// Nothing is ever destroyed unless this is on.
    pub disposition: bool,
    /// Between approval and execution.
    #[serde(with = "humantime_text")]
    pub grace: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spool {
    pub max_bytes: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    pub tokens: Secret,
}

/// A value that never shows itself in logs or errors.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "(empty)" } else { "(secret)" })
    }
}

/// An IANA time zone.
#[derive(Clone, Debug)]
pub struct TimeZone(pub jiff::tz::TimeZone);

impl TimeZone {
    /// As the IANA database names it.
    #[must_use]
    pub fn name(&self) -> String {
        self.0.iana_name().unwrap_or("UTC").to_owned()
    }
}

impl<'de> Deserialize<'de> for TimeZone {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        jiff::tz::TimeZone::get(&name)
            .map(Self)
            .map_err(|_| serde::de::Error::custom(format!("{name:?} is no IANA time zone such as Asia/Kolkata")))
    }
}

impl Config {
    /// The embedded database, when no other is named.
    #[must_use]
    pub fn sqlite_path(&self) -> PathBuf {
        self.data_dir.join("callvault.db")
    }
    #[must_use]
    pub fn objects_dir(&self) -> PathBuf {
        self.data_dir.join("objects")
    }
    #[must_use]
    pub fn index_dir(&self) -> PathBuf {
        self.data_dir.join("index")
    }
    #[must_use]
    pub fn spool_dir(&self) -> PathBuf {
        self.data_dir.join("spool")
    }
}

/// Durations as people write them: `5s`, `4h`, `72h`.
mod humantime_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map_err(|why| serde::de::Error::custom(format!("{text:?} is no duration such as 5s, 10m or 72h: {why}")))
    }

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*value))
    }
}
