//! Whether a bucket can be an archive: everything that is needed is tried once, and nothing is deleted.

use std::time::Instant;

use aws_sdk_s3::types::{BucketVersioningStatus, ObjectLockMode};
use bytes::Bytes;
use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};

use super::super::{Content, Diagnosis, ObjectKey, StoreError};
use super::S3Store;
use super::versions::Version;

/// What the object at [`ObjectKey::Probe`] holds, for as long as there is the bucket.
pub(super) const PROBE: &[u8] =
    b"callvault doctor tries with this object whether the bucket can be written, read and locked.\n";
/// For so long it is locked from each try on.
const LOCKED: SignedDuration = SignedDuration::from_hours(24);
/// A clock that is off by more makes dates wrong, and signatures before long.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(5);

impl S3Store {
    pub(super) async fn examine_set_up(&self, now: Timestamp) -> Diagnosis {
        let asked = Instant::now();
        let mut found = Diagnosis { notes: self.notes(), ..Diagnosis::default() };
        let tried = self.try_everything().await;
        let elapsed = SignedDuration::try_from(asked.elapsed()).unwrap_or_default();
        if let Some(skew) = self.0.clients.clock.now().map(|server| server.duration_since(now) - elapsed)
            && skew.abs() > MAX_SKEW
        {
            let (minutes, how) =
                ((skew.abs().as_secs() + 30) / 60, if skew.is_positive() { "behind" } else { "ahead of" });
            found.faults.push(format!(
                "this machine's clock is {minutes} minutes {how} the S3 server's: set the one that is wrong (NTP keeps it \
                 right)"
            ));
        }
        match tried {
            Ok(()) => found.fine = self.summary(),
            // What a wrong clock spoils works once it is right.
            Err(_) if !found.faults.is_empty() => {}
            Err(fault) => found.faults.push(fault),
        }
        found
    }

    fn summary(&self) -> String {
        let settings = &self.0.settings;
        let place = if settings.endpoint.is_empty() { &settings.region } else { &settings.endpoint };
        let lock = match self.mode() {
            Some(mode) => format!("Object Lock ({}), ", mode.as_str().to_lowercase()),
            None => String::new(),
        };
        format!("bucket {} at {place}: {lock}written and read back", settings.bucket)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match self.mode() {
            None => notes.push(
                "storage.s3.object_lock is off: whoever has the bucket's credentials can delete recordings".to_owned(),
            ),
            Some(ObjectLockMode::Governance) => notes.push(
                "storage.s3.object_lock is governance: whoever has the right to bypass it can delete recordings"
                    .to_owned(),
            ),
            Some(_) => {}
        }
        let endpoint = url::Url::parse(&self.0.settings.endpoint).ok();
        let near = |url: &url::Url| match url.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if endpoint.is_some_and(|url| url.scheme() == "http" && !near(&url)) {
            notes.push(
                "storage.s3.endpoint is http: recordings cross the network unencrypted; give an https address".into(),
            );
        }
        notes
    }

    /// Up to the first thing that does not work: what comes after it needs it.
    async fn try_everything(&self) -> Result<(), String> {
        let key = ObjectKey::Probe.path();
        let name = self.name(&key).map_err(|error| error.to_string())?;
        self.look(&name).await.map_err(told)?;
        if self.mode().is_some() {
            self.try_bucket().await?;
        }
        // By the server's clock, which has just been read.
        let until = self.0.clients.clock.now().map(|now| now + LOCKED).ok_or("the S3 server's answers bear no date")?;
        let probe = self.put(&key, &Content::Bytes(Bytes::from_static(PROBE)), until).await;
        let probe = probe.map_err(|error| match error {
            StoreError::Conflict(_) => {
                format!("somebody put another object at {name}: give the archive a prefix of its own")
            }
            error => format!("no object can be put and read back: {}", told(error)),
        })?;
        let version = Version { id: probe.version.unwrap_or_default(), size: probe.size, others: 0 };
        let read = async {
            self.stream(&key, Some(&version.id), None).await?.try_collect::<Vec<Bytes>>().await.map_err(StoreError::Io)
        };
        let read = read.await.map_err(|error| format!("what was put can't be read back: {}", told(error)))?;
        if read.concat() != PROBE {
            return Err("what was put reads back as other bytes: don't trust this store".into());
        }
        if let Some((mode, until)) = self.new_lock(until) {
            self.try_locks(&name, &version, &mode, until).await?;
        }
        self.try_upload(&name).await.map_err(|error| format!("no object can be put in parts: {}", told(error)))
    }

    async fn try_bucket(&self) -> Result<(), String> {
        let answer = self.0.clients.reader.get_bucket_versioning().bucket(self.bucket()).send().await;
        let answer = answer.map_err(|error| told(self.failed("s3:GetBucketVersioning", &error).into()))?;
        if answer.status() != Some(&BucketVersioningStatus::Enabled) {
            return Err(format!(
                "the bucket {} keeps no versions, which Object Lock needs: make another with Object Lock and set \
                 storage.s3.bucket to it",
                self.bucket()
            ));
        }
        self.demand_locks().await.map_err(told)
    }

    async fn try_locks(
        &self,
        name: &str,
        version: &Version,
        mode: &ObjectLockMode,
        until: Timestamp,
    ) -> Result<(), String> {
        let lock = self.ensure_lock(name, version, until).await.map_err(told)?;
        // A stronger mode than the configured one stays.
        let mode = lock.mode.as_ref().unwrap_or(mode);
        let until = lock.until.map_or(until, |found| found.max(until));
        let locks = async {
            self.set_retention(name, &version.id, mode, until).await?;
            self.set_hold(name, &version.id, false).await
        };
        locks.await.map_err(|error| format!("no lock can be set: {}", told(error)))
    }
}

fn told(error: StoreError) -> String {
    match error {
        StoreError::Io(error) => format!("{error}: check storage.s3.endpoint, the network and the server"),
        other => other.to_string(),
    }
}
