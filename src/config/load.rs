//! Puts the layers together and turns what is wrong with them into one sentence.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

use super::{Config, DEFAULT_TOML, FlagThresholds};

/// The prefix of every environment variable that is read; `__` stands between levels.
const ENV_PREFIX: &str = "CALLVAULT_";
/// Read from the working directory when no file is named.
const DEFAULT_FILE: &str = "callvault.toml";

/// The section whose tables have names of their own.
const SCHEDULE: &str = "schedule";
/// What such a table may say, with a value of its type.
static SCHEDULED: LazyLock<[(&str, toml::Value); 6]> = LazyLock::new(|| {
    let text = || toml::Value::String(String::new());
    [
        ("cron", text()),
        ("job", text()),
        ("args", toml::Value::Array(Vec::new())),
        ("out", text()),
        ("to_bucket", toml::Value::Boolean(false)),
        ("post", text()),
    ]
});

/// What is wrong with the configuration, in one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("unknown configuration key {key} in {origin}{}", nearest(.key))]
    UnknownKey { key: String, origin: String },
    #[error("configuration key {key}: {why}")]
    Value { key: String, why: String },
    #[error("configuration: {0}")]
    Invalid(String),
}

/// The settings that every command takes as flags; they win over file and environment.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub listen: Option<String>,
    pub data_dir: Option<PathBuf>,
}

/// Reads the configuration; `env` is the process's environment.
///
/// # Errors
/// A file that can't be read, an unknown key, or a value that doesn't fit.
pub fn load(flags: &Flags, env: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    let known = known_keys();
    let mut figment = Figment::from(Toml::string(DEFAULT_TOML));
    if let Some((path, text)) = read_file(flags.config.as_deref())? {
        check_file(&known, &path, &text)?;
        figment = figment.merge(Named { name: path.display().to_string(), data: toml_dict(&text)? });
    }
    figment = figment.merge(Named { name: "environment".into(), data: env_dict(&known, env)? });
    if let Some(listen) = &flags.listen {
        figment = figment.merge(Serialized::default("listen", listen));
    }
    if let Some(data_dir) = &flags.data_dir {
        figment = figment.merge(Serialized::default("data_dir", data_dir));
    }
    let config: Config = figment.extract().map_err(|error| describe(&error))?;
    check(&config)?;
    Ok(config)
}

/// The defaults with some values of our own, and nothing from file or environment.
///
/// # Errors
/// A value that doesn't fit.
pub fn with_defaults(overrides: &impl serde::Serialize) -> Result<Config, ConfigError> {
    let figment = Figment::from(Toml::string(DEFAULT_TOML)).merge(Serialized::defaults(overrides));
    let config: Config = figment.extract().map_err(|error| describe(&error))?;
    check(&config)?;
    Ok(config)
}

/// What types alone can't say.
fn check(config: &Config) -> Result<(), ConfigError> {
    let invalid = |key: &str, why: &str| Err(ConfigError::Value { key: key.into(), why: why.into() });
    if config.recordings.concurrency == 0 {
        return invalid("recordings.concurrency", "at least 1 fetch at a time is needed");
    }
    if config.recordings.max_bytes == 0 {
        return invalid("recordings.max_bytes", "must be above 0");
    }
    if config.recordings.hosts.iter().any(|host| host.contains('/') || host.is_empty() || host == "*") {
        return invalid(
            "recordings.hosts",
            "give host names such as media.example.com, *.example.com or 10.0.0.7:8443",
        );
    }
    let known = config.region.parse::<phonenumber::country::Id>().is_ok();
    if !known || config.region.len() != 2 || !config.region.bytes().all(|b| b.is_ascii_uppercase()) {
        return invalid("region", "there is no such country: give a two-letter ISO 3166 country code such as IN");
    }
    check_flags(&config.flags)?;
    if let Some(why) = config.review.flaw() {
        return invalid("review.samples", &why);
    }
    let is_postgres = |url: &str| url.starts_with("postgres://") || url.starts_with("postgresql://");
    let (url, replica) = (config.database.url.expose(), config.database.replica_url.expose());
    if url != "sqlite" && !is_postgres(url) {
        return invalid("database.url", "give sqlite or postgres://user:password@host/database");
    }
    if !replica.is_empty() && !is_postgres(replica) {
        return invalid("database.replica_url", "give postgres://user:password@host/database, or leave it empty");
    }
    if !replica.is_empty() && !is_postgres(url) {
        return invalid("database.replica_url", "only PostgreSQL has replicas: name the primary in database.url");
    }
    if config.fixity.every < Duration::from_secs(3600) {
        return invalid("fixity.every", "at least 1h is needed: every object is read each time");
    }
    if config.delivery.timeout.is_zero() {
        return invalid("delivery.timeout", "must be above 0");
    }
    config.storage.check()?;
    config.bootstrap.parse().map(drop)
}

fn check_flags(flags: &FlagThresholds) -> Result<(), ConfigError> {
    let invalid = |key: &str, why: &str| Err(ConfigError::Value { key: key.into(), why: why.into() });
    if flags.short_call_seconds > flags.long_call_seconds {
        return invalid("flags.short_call_seconds", "must not be above flags.long_call_seconds");
    }
    if flags.repeated_short_calls.count == 1 {
        return invalid(
            "flags.repeated_short_calls.count",
            "one call is no pattern: give 2 or more, or 0 to switch it off",
        );
    }
    Ok(())
}

/// Thresholds with some of them changed, as `KEY=VALUE` below `flags`: to see what they would do.
///
/// # Errors
/// An unknown key, or a value that doesn't fit.
pub fn thresholds_with(thresholds: &FlagThresholds, changes: &[String]) -> Result<FlagThresholds, ConfigError> {
    let known = known_keys();
    let mut dict = Dict::new();
    for change in changes {
        let (key, text) = change.split_once('=').map(|(key, text)| (key.trim(), text.trim())).ok_or_else(|| {
            ConfigError::Invalid(format!("{change:?} changes nothing: give KEY=VALUE such as short_call_seconds=30"))
        })?;
        let key = format!("flags.{}", key.strip_prefix("flags.").unwrap_or(key));
        let Some(default) = known.get(&key) else {
            return Err(ConfigError::UnknownKey { key, origin: "what is to be changed".into() });
        };
        let value = typed(&key, default, text)?;
        insert(&mut dict, key.trim_start_matches("flags."), value);
    }
    let figment = Figment::from(Serialized::defaults(thresholds)).merge(Named { name: "--set".into(), data: dict });
    let changed = figment.extract().map_err(|error| describe(&error))?;
    check_flags(&changed)?;
    Ok(changed)
}

fn read_file(named: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let path = named.unwrap_or_else(|| Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::File { path: path.to_owned(), source }),
    }
}

fn parse_toml(text: &str) -> Result<toml::Table, ConfigError> {
    text.parse().map_err(|error: toml::de::Error| {
        // The error's own text repeats the line, which may hold a secret.
        let place = error.span().and_then(|span| text.get(..span.start)).map_or_else(String::new, |before| {
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            format!("line {}, column {column}: ", before.matches('\n').count() + 1)
        });
        ConfigError::Invalid(format!("{place}{}", error.message().replace('\n', " ")))
    })
}

/// Every key with its default, by its dotted path.
fn known_keys() -> BTreeMap<String, toml::Value> {
    fn walk(prefix: &str, table: &toml::Table, into: &mut BTreeMap<String, toml::Value>) {
        for (key, value) in table {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                toml::Value::Table(inner) => walk(&path, inner, into),
                _ => drop(into.insert(path, value.clone())),
            }
        }
    }
    let mut known = BTreeMap::new();
    // The embedded file parses: a test reads it.
    walk("", &DEFAULT_TOML.parse().unwrap_or_default(), &mut known);
    known
}

/// The field of a run in the schedule that a key names: `schedule.NAME.FIELD`.
fn schedule_field(key: &str) -> Option<&str> {
    let (name, field) = key.strip_prefix(SCHEDULE)?.strip_prefix('.')?.split_once('.')?;
    (!name.is_empty()).then_some(field)
}

fn unknown_in_schedule(runs: &toml::Table) -> Option<String> {
    runs.iter().find_map(|(name, run)| {
        let unknown = |field: &&String| !SCHEDULED.iter().any(|(known, _)| known == field);
        match run.as_table() {
            Some(fields) => fields.keys().find(unknown).map(|field| format!("{SCHEDULE}.{name}.{field}")),
            None => Some(format!("{SCHEDULE}.{name}")),
        }
    })
}

fn nearest(key: &str) -> String {
    let mut known = known_keys();
    if let Some(rest) = key.strip_prefix(SCHEDULE).and_then(|rest| rest.strip_prefix('.')) {
        let name = rest.split('.').next().unwrap_or_default();
        known =
            SCHEDULED.iter().map(|(field, default)| (format!("{SCHEDULE}.{name}.{field}"), default.clone())).collect();
    }
    let leaf = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let score = |candidate: &str| {
        strsim::jaro_winkler(key, candidate).max(strsim::jaro_winkler(&leaf(key), &leaf(candidate)) * 0.98)
    };
    known
        .keys()
        .max_by(|a, b| score(a).total_cmp(&score(b)))
        .map(|best| format!("; did you mean {best}?"))
        .unwrap_or_default()
}

fn check_file(known: &BTreeMap<String, toml::Value>, path: &Path, text: &str) -> Result<(), ConfigError> {
    fn walk(known: &BTreeMap<String, toml::Value>, prefix: &str, table: &toml::Table) -> Option<String> {
        table.iter().find_map(|(key, value)| {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            let section = format!("{path}.");
            if prefix.is_empty() && key == SCHEDULE {
                return value.as_table().and_then(unknown_in_schedule);
            }
            match value {
                // Of a section that nobody knows its first key is named: that is nearer to what was meant.
                toml::Value::Table(inner) if !inner.is_empty() || known.keys().any(|k| k.starts_with(&section)) => {
                    walk(known, &path, inner)
                }
                _ => (!known.contains_key(&path)).then_some(path),
            }
        })
    }
    match walk(known, "", &parse_toml(text)?) {
        Some(key) => Err(ConfigError::UnknownKey { key, origin: path.display().to_string() }),
        None => Ok(()),
    }
}

fn toml_dict(text: &str) -> Result<Dict, ConfigError> {
    let unreadable = |_| ConfigError::Invalid("the file is no TOML: compare it with the defaults".into());
    let data = Toml::string(text).data().map_err(unreadable)?;
    Ok(data.into_values().next().unwrap_or_default())
}

/// Variables as a nested dictionary; each value takes the type of its key's default, so that an API key made of
/// digits stays a text.
fn env_dict(
    known: &BTreeMap<String, toml::Value>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Dict, ConfigError> {
    let mut dict = Dict::new();
    for (name, text) in env {
        let Some(rest) = name.strip_prefix(ENV_PREFIX) else { continue };
        let key = rest.to_ascii_lowercase().replace("__", ".");
        let of_schedule = schedule_field(&key).and_then(|field| SCHEDULED.iter().find(|(name, _)| *name == field));
        let Some(default) = known.get(&key).or(of_schedule.map(|(_, default)| default)) else {
            return Err(ConfigError::UnknownKey { key, origin: format!("the environment variable {name}") });
        };
        insert(&mut dict, &key, typed(&key, default, &text)?);
    }
    Ok(dict)
}

fn typed(key: &str, default: &toml::Value, text: &str) -> Result<Value, ConfigError> {
    let wrong = |what: &str| ConfigError::Value { key: key.to_owned(), why: format!("this is no {what}") };
    Ok(match default {
        toml::Value::Integer(_) => Value::from(text.trim().parse::<i64>().map_err(|_| wrong("whole number"))?),
        toml::Value::Boolean(_) => Value::from(text.trim().parse::<bool>().map_err(|_| wrong("true or false"))?),
        toml::Value::Array(_) => {
            let list = text.trim().trim_start_matches('[').trim_end_matches(']');
            let items = list.split(',').map(|item| item.trim().trim_matches('"')).filter(|item| !item.is_empty());
            Value::from(items.map(Value::from).collect::<Vec<_>>())
        }
        _ => Value::from(text),
    })
}

fn insert(dict: &mut Dict, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(dict.insert(key.to_owned(), value)),
        Some((section, rest)) => {
            let entry = dict.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = entry {
                insert(inner, rest, value);
            }
        }
    }
}

/// A layer that says in errors where a value came from.
struct Named {
    name: String,
    data: Dict,
}

impl Provider for Named {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }
    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.data.clone())]))
    }
}

fn describe(error: &figment::Error) -> ConfigError {
    let origin = error.metadata.as_ref().map_or(String::new(), |m| format!(" (from {})", m.name));
    let key = error.path.join(".");
    // The kind alone: figment's own text for a wrong type repeats the value, which may be a secret.
    let why = match &error.kind {
        figment::error::Kind::InvalidType(_, expected) => format!("expected {expected}{origin}"),
        kind => format!("{kind}{origin}"),
    };
    ConfigError::Value { key, why }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
