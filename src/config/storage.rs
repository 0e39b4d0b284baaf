//! Where recordings are kept.

use serde::Deserialize;

use super::ConfigError;

/// The longest that a key may be in S3, in bytes; what a prefix takes of it is lost for the rest.
const MAX_PREFIX: usize = 200;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    pub kind: StorageKind,
    pub s3: S3,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    Filesystem,
    S3,
}

/// A bucket; credentials come from the AWS default chain and never from here.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    pub bucket: String,
    /// Stands before every key; with or without a slash at its end.
    pub prefix: String,
    pub region: String,
    /// Empty for AWS itself.
    pub endpoint: String,
    pub force_path_style: bool,
    pub object_lock: ObjectLock,
}

/// In which mode objects are locked until their retain-until date.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ObjectLock {
    /// Nobody can delete, nobody can shorten.
    Compliance,
    /// Whoever has a right of its own for it can.
    Governance,
    /// Nothing is locked.
    Off,
}

impl Storage {
    /// # Errors
    /// A value that no bucket, prefix, region or endpoint can have. What is not in use may be empty.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let s3 = &self.s3;
        let invalid =
            |key: &str, why: &str| Err(ConfigError::Value { key: format!("storage.s3.{key}"), why: why.into() });
        let plain = |text: &str, more: &[u8]| text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b));
        if !plain(&s3.bucket, b".-_") || (!s3.bucket.is_empty() && !(3..=63).contains(&s3.bucket.len())) {
            return invalid("bucket", "give a bucket's name: 3 to 63 letters, digits, dots and hyphens");
        }
        let sound = |part: &str| !part.is_empty() && !part.starts_with('.') && plain(part, b"_-.~");
        let prefix = s3.prefix.strip_suffix('/').unwrap_or(&s3.prefix);
        if !s3.prefix.is_empty() && (prefix.len() > MAX_PREFIX || !prefix.split('/').all(sound)) {
            return invalid(
                "prefix",
                "give names of letters, digits, _ - . ~ with a / between them, none at the beginning, such as archive/calls",
            );
        }
        if !plain(&s3.region, b"-_") {
            return invalid("region", "give a region's name such as ap-south-1");
        }
        if !s3.endpoint.is_empty() && !is_endpoint(&s3.endpoint) {
            return invalid(
                "endpoint",
                "give http:// or https:// and a host, with a port or without, and nothing more",
            );
        }
        if self.kind == StorageKind::S3 {
            if s3.bucket.is_empty() {
                return invalid("bucket", "storage.kind is s3, which needs a bucket: give its name");
            }
            if s3.region.is_empty() {
                return invalid(
                    "region",
                    "storage.kind is s3, which needs a region: us-east-1 where the server has none",
                );
            }
        }
        Ok(())
    }
}

fn is_endpoint(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::super::load::{Flags, load};
    use super::*;

    fn with(settings: &[(&str, &str)]) -> Result<S3, String> {
        let all = settings.iter().map(|(key, value)| (format!("CALLVAULT_STORAGE__{key}"), (*value).to_owned()));
        load(&Flags::default(), all).map(|config| config.storage.s3).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bucket_as_documented() {
        let s3 = with(&[
            ("KIND", "s3"),
            ("S3__BUCKET", "calls.example-1"),
            ("S3__PREFIX", "archive/calls/"),
            ("S3__REGION", "ap-south-1"),
            ("S3__ENDPOINT", "https://s3.example.com:7480"),
            ("S3__FORCE_PATH_STYLE", "true"),
            ("S3__OBJECT_LOCK", "governance"),
        ]);
        let s3 = s3.unwrap();
        assert_eq!((s3.bucket.as_str(), s3.prefix.as_str()), ("calls.example-1", "archive/calls/"));
        assert!(s3.force_path_style);
        assert_eq!(s3.object_lock, ObjectLock::Governance);
        let defaults = with(&[]).unwrap();
        assert_eq!((defaults.region.as_str(), defaults.object_lock), ("us-east-1", ObjectLock::Compliance));
    }

    #[test]
    fn what_no_bucket_can_have_is_refused_by_its_key() {
        for (key, value) in [
            ("S3__BUCKET", ""),
            ("S3__BUCKET", "ab"),
            ("S3__BUCKET", "a/b"),
            ("S3__BUCKET", "arn:aws:s3:::calls"),
            ("S3__PREFIX", "/calls"),
            ("S3__PREFIX", "calls//x"),
            ("S3__PREFIX", "../calls"),
            ("S3__PREFIX", "my calls"),
            ("S3__PREFIX", "/"),
            ("S3__REGION", ""),
            ("S3__REGION", "eu west"),
            ("S3__ENDPOINT", "s3.example.com"),
            ("S3__ENDPOINT", "ftp://s3.example.com"),
            ("S3__ENDPOINT", "https://user:hunter2@s3.example.com"),
            ("S3__ENDPOINT", "https://s3.example.com/bucket"),
            ("S3__OBJECT_LOCK", "on"),
        ] {
            let mut settings = vec![("KIND", "s3"), ("S3__BUCKET", "calls")];
            settings.retain(|(name, _)| *name != key);
            settings.push((key, value));
            let error = with(&settings).unwrap_err();
            let named = format!("storage.s3.{}", key.trim_start_matches("S3__").to_lowercase());
            assert!(error.contains(&named) && !error.contains("hunter2"), "{key}={value}: {error}");
        }
        assert!(with(&[("KIND", "tape")]).unwrap_err().contains("storage.kind"));
        with(&[("S3__BUCKET", "")]).unwrap();
    }
}
