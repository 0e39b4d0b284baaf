//! Runs jobs when the configuration says so (`[schedule]`), for those who have no cron: on one node at a time, and what
//! was missed while no server ran once at the next start.
//!
//! It does not know what jobs do (`jobs`), nor how reports travel (`delivery`).

mod ledger;
mod times;
mod worker;

use crate::config::{Config, ConfigError, Scheduled};
use crate::delivery::{self, Targets};
use crate::jobs::{self, Job};

pub use times::{Times, TimesError};
pub use worker::Scheduler;

/// The longest name of a run, in bytes.
const LONGEST_NAME: usize = 64;

/// A run of a job, checked.
pub struct Entry {
    pub name: String,
    /// As it was written: where it is changed, what was missed before does not count.
    pub cron: String,
    pub times: Times,
    pub job: &'static dyn Job,
    pub args: Vec<String>,
    pub targets: Targets,
}

/// All runs that the configuration asks for.
#[derive(Default)]
pub struct Plan {
    pub entries: Vec<Entry>,
}

impl Plan {
    /// Reads the schedule of a configuration.
    ///
    /// # Errors
    /// What can't be read, or names no job; with the key.
    pub fn of(config: &Config) -> Result<Self, ConfigError> {
        delivery::keep(config).map_err(|error| ConfigError::Invalid(error.to_string()))?;
        let entries = config.schedule.iter().map(|(name, run)| entry(config, name, run));
        Ok(Self { entries: entries.collect::<Result<_, _>>()? })
    }
}

fn entry(config: &Config, name: &str, run: &Scheduled) -> Result<Entry, ConfigError> {
    let wrong = |key: &str, why: String| ConfigError::Value { key: format!("schedule.{name}.{key}"), why };
    let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(sound) {
        let why = "a name has small letters, digits, - and _, 64 at most".to_owned();
        return Err(ConfigError::Value { key: format!("schedule.{name}"), why });
    }
    let times = Times::parse(&run.cron, config.timezone.0.clone()).map_err(|why| wrong("cron", why.to_string()))?;
    let Some(job) = jobs::named(&run.job) else {
        let known: Vec<&str> = jobs::ALL.iter().map(|job| job.name()).collect();
        return Err(wrong("job", format!("there is no job {:?}: give one of {}", run.job, known.join(", "))));
    };
    job.accepts(&run.args).map_err(|why| wrong("args", why))?;
    let post = run.post.expose();
    let url = (!post.is_empty()).then(|| delivery::address(post)).transpose();
    let targets = Targets {
        folder: (!run.out.as_os_str().is_empty()).then(|| run.out.clone()),
        bucket: run.to_bucket,
        url: url.map_err(|why| wrong("post", why.to_string()))?,
    };
    Ok(Entry { name: name.to_owned(), cron: run.cron.clone(), times, job, args: run.args.clone(), targets })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn plan(run: serde_json::Value) -> Result<Plan, String> {
        let config =
            config::with_defaults(&serde_json::json!({"timezone": "Europe/Berlin", "schedule": {"nightly": run}}));
        Plan::of(&config.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
    }

    #[test]
    fn a_fault_is_named_with_its_key() {
        let plan_of = |cron: &str, job: &str, args: &[&str], post: &str| {
            plan(serde_json::json!({"cron": cron, "job": job, "args": args, "post": post}))
                .map(|plan| plan.entries.len())
        };
        assert_eq!(plan_of("0 6 * * *", "fixity", &["--all"], "https://reports.example/?key=hunter2"), Ok(1));
        for (cron, job, args, post, key, why) in [
            ("0 6 * *", "fixity", &[][..], "", "schedule.nightly.cron", "five fields"),
            ("0 6 * * *", "fixty", &[], "", "schedule.nightly.job", "fixity, verify"),
            ("0 6 * * *", "verify", &["--all"], "", "schedule.nightly.args", "but none"),
            ("0 6 * * *", "verify", &[], "http://reports.example/?key=hunter2", "schedule.nightly.post", "https"),
        ] {
            let error = plan_of(cron, job, args, post).unwrap_err();
            assert!(error.contains(key) && error.contains(why) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn nothing_is_scheduled_by_default() {
        let config = config::with_defaults(&serde_json::json!({})).unwrap();
        assert_eq!(Plan::of(&config).unwrap().entries.len(), 0);
    }
}
