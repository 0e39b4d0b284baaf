//! Locks as the server keeps them: a mode, a date, a hold.

use std::io;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    ObjectLockEnabled, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode,
};
use jiff::Timestamp;

use super::super::{ObjectInfo, StoreError};
use super::S3Store;
use super::versions::Version;
use crate::config::ObjectLock;

/// What keeps a version from being deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) mode: Option<ObjectLockMode>,
    pub(super) until: Option<Timestamp>,
    held: bool,
}

/// A date for the server, which counts in seconds, as some do: never earlier than asked.
pub(super) fn whole_second(until: Timestamp) -> Timestamp {
    let up = i64::from(until.subsec_nanosecond() > 0);
    Timestamp::from_second(until.as_second().saturating_add(up)).unwrap_or(until)
}

pub(super) fn date(until: Timestamp) -> DateTime {
    DateTime::from_secs(until.as_second())
}

impl Lock {
    fn of(mode: Option<&ObjectLockMode>, until: Option<&DateTime>, hold: Option<&ObjectLockLegalHoldStatus>) -> Self {
        let until = until.and_then(|until| {
            Timestamp::new(until.secs(), i32::try_from(until.subsec_nanos()).unwrap_or_default()).ok()
        });
        Self { mode: mode.cloned(), until, held: hold == Some(&ObjectLockLegalHoldStatus::On) }
    }

    pub(super) fn of_answer(answer: &GetObjectOutput) -> Self {
        Self::of(
            answer.object_lock_mode(),
            answer.object_lock_retain_until_date(),
            answer.object_lock_legal_hold_status(),
        )
    }

    fn of_head(answer: &HeadObjectOutput) -> Self {
        Self::of(
            answer.object_lock_mode(),
            answer.object_lock_retain_until_date(),
            answer.object_lock_legal_hold_status(),
        )
    }

    pub(super) fn info(&self, key: &str, version: &Version) -> ObjectInfo {
        ObjectInfo {
            key: key.to_owned(),
            size: version.size,
            version: Some(version.id.clone()),
            retain_until: self.until,
            legal_hold: self.held,
            others: version.others,
        }
    }
}

impl S3Store {
    /// In which mode objects are locked; `None` where they are not.
    pub(super) fn mode(&self) -> Option<ObjectLockMode> {
        match self.0.settings.object_lock {
            ObjectLock::Compliance => Some(ObjectLockMode::Compliance),
            ObjectLock::Governance => Some(ObjectLockMode::Governance),
            ObjectLock::Off => None,
        }
    }

    /// The lock that an object gets which is to be kept until a date. None where that has passed: no server takes it.
    /// The server's clock decides, which our own must not talk out of a lock.
    pub(super) fn new_lock(&self, until: Timestamp) -> Option<(ObjectLockMode, Timestamp)> {
        let until = whole_second(until);
        let past = self.0.clients.clock.now().is_some_and(|now| until <= now);
        self.mode().filter(|_| !past).map(|mode| (mode, until))
    }

    /// `None` if the version is not there.
    pub(super) async fn lock_of(&self, name: &str, version: &Version) -> Result<Option<Lock>, StoreError> {
        let head = self.0.clients.reader.head_object().bucket(self.bucket()).key(name).version_id(&version.id);
        match head.send().await {
            Ok(answer) => Ok(Some(Lock::of_head(&answer))),
            Err(error) => {
                let failed = self.failed("s3:GetObjectVersion", &error);
                if failed.is_gone() { Ok(None) } else { Err(failed.into()) }
            }
        }
    }

    /// Sees to it that a version is locked until a date at least, in the mode that is configured or a stronger one;
    /// returns the lock. A lock of the weaker mode can't be made stronger without a right that could also break it.
    pub(super) async fn ensure_lock(
        &self,
        name: &str,
        version: &Version,
        until: Timestamp,
    ) -> Result<Lock, StoreError> {
        let gone = || StoreError::Io(io::Error::other("a version went away while its lock was read"));
        let known = self.lock_of(name, version).await?.ok_or_else(gone)?;
        let Some((mode, until)) = self.new_lock(until) else { return Ok(known) };
        if known.until.is_some_and(|known| known >= until) {
            return Ok(known);
        }
        let mode = known.mode.clone().unwrap_or(mode);
        self.set_retention(name, &version.id, &mode, until).await?;
        let lock = self.lock_of(name, version).await?.ok_or_else(gone)?;
        // Some servers take what they don't keep.
        if lock.mode.as_ref() == Some(&mode) && lock.until.is_some_and(|found| found >= until) {
            return Ok(lock);
        }
        Err(StoreError::SetUp(format!(
            "the S3 server took a lock for an object in the bucket {} and does not show it: give these credentials the \
             rights s3:GetObjectRetention and s3:GetObjectLegalHold, or use a server that keeps locks",
            self.bucket()
        )))
    }

    pub(super) async fn set_retention(
        &self,
        name: &str,
        version: &str,
        mode: &ObjectLockMode,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let mode = ObjectLockRetentionMode::from(mode.as_str());
        let retention = ObjectLockRetention::builder().mode(mode).retain_until_date(date(until)).build();
        let request = self.0.clients.writer.put_object_retention().bucket(self.bucket()).key(name).version_id(version);
        match request.retention(retention).send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let failed = self.failed("s3:PutObjectRetention", &error);
                if failed.is_unwanted() {
                    self.demand_locks().await?;
                }
                Err(failed.into())
            }
        }
    }

    /// # Errors
    /// The bucket keeps no locks.
    pub(super) async fn demand_locks(&self) -> Result<(), StoreError> {
        if self.bucket_locks().await? {
            return Ok(());
        }
        Err(StoreError::SetUp(format!(
            "the bucket {} has no Object Lock, which keeps recordings from being deleted: make another with Object Lock \
             and set storage.s3.bucket to it (or set storage.s3.object_lock to \"off\" and go without)",
            self.bucket()
        )))
    }

    async fn bucket_locks(&self) -> Result<bool, StoreError> {
        match self.0.clients.reader.get_object_lock_configuration().bucket(self.bucket()).send().await {
            Ok(answer) => {
                let configuration = answer.object_lock_configuration();
                let enabled = configuration.and_then(|configuration| configuration.object_lock_enabled());
                Ok(enabled == Some(&ObjectLockEnabled::Enabled))
            }
            Err(error) => {
                let failed = self.failed("s3:GetBucketObjectLockConfiguration", &error);
                if failed.code() == "ObjectLockConfigurationNotFoundError" { Ok(false) } else { Err(failed.into()) }
            }
        }
    }

    pub(super) async fn extend(&self, key: &str, version: Option<&str>, until: Timestamp) -> Result<(), StoreError> {
        let name = self.name(key)?;
        self.must_lock()?;
        let gone = || StoreError::NotFound(key.to_owned());
        let version = self.version(&name, key, version).await?.ok_or_else(gone)?;
        let known = self.lock_of(&name, &version).await?.ok_or_else(gone)?;
        match known.until {
            Some(known) if until < known => Err(StoreError::Shortened { key: key.to_owned(), until: known }),
            _ => self.ensure_lock(&name, &version, until).await.map(drop),
        }
    }

    pub(super) async fn hold(&self, key: &str, version: Option<&str>, on: bool) -> Result<(), StoreError> {
        let name = self.name(key)?;
        self.must_lock()?;
        let version = self.version(&name, key, version).await?;
        let version = version.ok_or_else(|| StoreError::NotFound(key.to_owned()))?;
        self.set_hold(&name, &version.id, on).await
    }

    /// Deletes one version for ever, if nothing keeps it any more; the server has the last word.
    pub(super) async fn delete_version(
        &self,
        key: &str,
        version: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let name = self.name(key)?;
        let kept = |why: String| Err(StoreError::Kept { key: key.to_owned(), why });
        let versions = self.look(&name).await?;
        let found = version.map_or_else(|| versions.first(), |id| versions.with_id(id));
        let Some(version) = found else { return Ok(()) };
        let Some(lock) = self.lock_of(&name, version).await? else { return Ok(()) };
        if lock.held {
            return kept("a legal hold is on it".into());
        }
        if let Some(until) = lock.until.filter(|until| *until > now) {
            return kept(format!("it is kept until {until}"));
        }
        let request = self.0.clients.writer.delete_object().bucket(self.bucket()).key(&name).version_id(&version.id);
        if let Err(error) = request.send().await {
            let failed = self.failed("s3:DeleteObjectVersion", &error);
            return match failed.status() {
                403 => kept(
                    "the S3 server refuses: its own clock or policy keeps the version, or these credentials lack the right \
                     s3:DeleteObjectVersion"
                        .into(),
                ),
                _ if failed.is_gone() => Ok(()),
                _ => Err(failed.into()),
            };
        }
        match self.lock_of(&name, version).await? {
            None => Ok(()),
            Some(_) => kept("the S3 server said that it is deleted, and has it still".into()),
        }
    }

    fn must_lock(&self) -> Result<(), StoreError> {
        match self.mode() {
            Some(_) => Ok(()),
            None => Err(StoreError::SetUp("storage.s3.object_lock is off: the bucket keeps no locks".into())),
        }
    }

    pub(super) async fn set_hold(&self, name: &str, version: &str, on: bool) -> Result<(), StoreError> {
        let status = if on { ObjectLockLegalHoldStatus::On } else { ObjectLockLegalHoldStatus::Off };
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let request = self.0.clients.writer.put_object_legal_hold().bucket(self.bucket()).key(name).version_id(version);
        match request.legal_hold(hold).send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let failed = self.failed("s3:PutObjectLegalHold", &error);
                if failed.is_unwanted() {
                    self.demand_locks().await?;
                }
                Err(failed.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_lock_ends_too_early() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(whole_second(at("2031-03-09T05:15:41Z")), at("2031-03-09T05:15:41Z"));
        assert_eq!(whole_second(at("2031-03-09T05:15:41.000001Z")), at("2031-03-09T05:15:42Z"));
        assert_eq!(whole_second(at("1969-12-31T23:59:58.5Z")), at("1969-12-31T23:59:59Z"));
    }
}
