//! What a failed request means, in words of our own: a server's text may quote what must not be shown.

use std::error::Error;
use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::super::StoreError;
use super::S3Store;

/// A request that did not do what it was to do.
#[derive(Debug)]
pub(super) struct Failed {
    /// 0 where no answer came.
    status: u16,
    code: String,
    error: StoreError,
}

impl Failed {
    /// There is no such key, version or upload. By a request that has no answer but a status, a missing bucket looks the
    /// same.
    pub(super) fn is_gone(&self) -> bool {
        (self.status == 404 && self.code != "NoSuchBucket") || (self.status == 405 && self.code == "MethodNotAllowed")
    }

    /// Something is there already, or is being written at the moment.
    pub(super) fn is_taken(&self) -> bool {
        self.status == 412 || (self.status == 409 && self.code == "ConditionalRequestConflict")
    }

    /// The server did not want what was asked.
    pub(super) fn is_unwanted(&self) -> bool {
        self.status == 400 || self.status == 409
    }

    /// Of the answer; 0 where none came.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// What the server calls it; empty where it says nothing.
    pub(super) fn code(&self) -> &str {
        &self.code
    }
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

impl S3Store {
    /// `right` is the one that the request needs, as a bucket's policy calls it.
    pub(super) fn failed<E>(&self, right: &str, error: &SdkError<E, HttpResponse>) -> Failed
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let Some(answer) = error.raw_response() else {
            return Failed { status: 0, code: String::new(), error: unanswered(error) };
        };
        let status = answer.status().as_u16();
        let metadata = error.as_service_error().map(ProvideErrorMetadata::meta);
        let code = plain(metadata.and_then(|metadata| metadata.code()).unwrap_or_default());
        let header = answer.headers().get("x-amz-bucket-region");
        let region = region(header, metadata.and_then(|metadata| metadata.message()));
        let error = match set_up(self.bucket(), right, status, &code, region.as_deref()) {
            Some(why) => StoreError::SetUp(why),
            None => StoreError::Io(io::Error::other(answered(right, status, &code))),
        };
        Failed { status, code, error }
    }
}

/// Where the bucket is: AWS says it in a header, and where it refuses a signature, in its text.
fn region(header: Option<&str>, message: Option<&str>) -> Option<String> {
    let expected = || Some(message?.split_once("expecting '")?.1.split_once('\'')?.0);
    let told = header.or_else(expected)?;
    let plain = told.len() <= 40 && told.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    plain.then(|| told.to_owned())
}

fn answered(right: &str, status: u16, code: &str) -> String {
    let code = if code.is_empty() { String::new() } else { format!(" ({code})") };
    format!("the S3 server answered {right} with {status}{code}")
}

/// A code as servers write them, and nothing that they might put there instead.
fn plain(code: &str) -> String {
    if code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric()) { code.to_owned() } else { String::new() }
}

/// What whoever set the bucket up has to mend; `None` for what passes.
fn set_up(bucket: &str, right: &str, status: u16, code: &str, region: Option<&str>) -> Option<String> {
    Some(match code {
        "NoSuchBucket" => {
            format!("there is no bucket {bucket}: make it, with Object Lock, or set storage.s3.bucket to the right one")
        }
        "InvalidBucketName" => format!("{bucket} is no bucket's name to this server: set storage.s3.bucket"),
        "InvalidAccessKeyId" => {
            "the S3 server does not know the access key: give another in AWS_ACCESS_KEY_ID or where the credentials come \
             from"
                .into()
        }
        "SignatureDoesNotMatch" => {
            "the secret access key does not belong to the access key: give the right one in AWS_SECRET_ACCESS_KEY or \
             where the credentials come from"
                .into()
        }
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            "the session token of the credentials is expired or wrong: renew them".into()
        }
        "RequestTimeTooSkewed" => {
            "this machine's clock differs too much from the S3 server's: set the one that is wrong".into()
        }
        _ => match (status, region) {
            (_, Some(region)) if elsewhere(status, code) => {
                format!("the bucket {bucket} lies in the region {region}: set storage.s3.region to it")
            }
            _ if elsewhere(status, code) => format!(
                "the bucket {bucket} lies in another region than storage.s3.region says: set it, and \
                 storage.s3.endpoint where one is set"
            ),
            (401 | 403, _) => format!(
                "these credentials may not do {right} in the bucket {bucket}: give them that right, in the bucket's \
                 policy or in theirs"
            ),
            (501, _) => format!("the S3 server does not know {right}, which an archive needs: use another server"),
            _ => return None,
        },
    })
}

fn elsewhere(status: u16, code: &str) -> bool {
    status == 301
        || matches!(code, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException")
}

/// No answer came: out of reach, too late, or the request could not even be made.
fn unanswered<E: Error + 'static>(error: &SdkError<E, HttpResponse>) -> StoreError {
    for cause in causes(error) {
        if let Some(credentials) = cause.downcast_ref::<CredentialsError>() {
            return no_credentials(credentials);
        }
        if let Some(rustls::Error::InvalidCertificate(why)) = tls(cause) {
            return StoreError::SetUp(format!(
                "the S3 server's certificate is not trusted ({why:?}): install the certificate of its authority on this \
                 machine, or set storage.s3.endpoint to the name that it stands for"
            ));
        }
    }
    let late = matches!(error, SdkError::TimeoutError(_))
        || matches!(error, SdkError::DispatchFailure(failure) if failure.is_timeout());
    if late {
        return StoreError::Io(io::Error::new(io::ErrorKind::TimedOut, "the S3 server does not answer in time"));
    }
    let cause =
        causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().filter(|io| io.raw_os_error().is_some()));
    match cause {
        Some(io) => StoreError::Io(io::Error::new(io.kind(), format!("the S3 server can't be reached: {io}"))),
        None if matches!(error, SdkError::ConstructionFailure(_)) => {
            StoreError::SetUp("no request can be made from the settings in storage.s3: check them".into())
        }
        None => StoreError::Io(io::Error::other("the S3 server can't be reached, or the connection to it broke off")),
    }
}

fn no_credentials(error: &CredentialsError) -> StoreError {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => StoreError::SetUp(
            "there are no credentials for the S3 server: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this \
             machine a profile or a role"
                .into(),
        ),
        CredentialsError::InvalidConfiguration(_) => StoreError::SetUp(
            "the AWS profile of this user can't be used for credentials: check its config and credentials files".into(),
        ),
        _ => StoreError::Io(io::Error::other("the credentials for the S3 server can't be fetched at the moment")),
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// An I/O error may hold one of TLS, which is not its source.
fn tls<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let inner = || cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>();
    cause.downcast_ref::<rustls::Error>().or_else(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, code: &str, region: Option<&str>) -> Option<String> {
        set_up("calls", "s3:GetObject", status, code, region)
    }

    #[test]
    fn what_somebody_has_to_mend_says_how() {
        for (status, code, region, says) in [
            (404, "NoSuchBucket", None, "there is no bucket calls: make it"),
            (403, "InvalidAccessKeyId", None, "does not know the access key"),
            (403, "SignatureDoesNotMatch", None, "AWS_SECRET_ACCESS_KEY"),
            (400, "ExpiredToken", None, "renew"),
            (403, "RequestTimeTooSkewed", None, "clock"),
            (403, "AccessDenied", None, "may not do s3:GetObject in the bucket calls"),
            // What AWS sends with every answer about a bucket is no reason to doubt the region.
            (403, "AccessDenied", Some("eu-west-1"), "may not do s3:GetObject"),
            (403, "", None, "may not do s3:GetObject"),
            (301, "PermanentRedirect", Some("eu-west-1"), "lies in the region eu-west-1: set storage.s3.region"),
            (301, "", Some("eu-west-1"), "lies in the region eu-west-1"),
            (301, "PermanentRedirect", None, "another region"),
            (400, "AuthorizationHeaderMalformed", Some("ap-south-1"), "lies in the region ap-south-1"),
            (400, "IllegalLocationConstraintException", None, "another region"),
            (501, "NotImplemented", None, "does not know s3:GetObject"),
        ] {
            let why = told(status, code, region).unwrap_or_default();
            assert!(why.contains(says), "{status} {code}: {why}");
        }
    }

    #[test]
    fn what_passes_is_tried_again() {
        for (status, code) in [
            (500, "InternalError"),
            (503, "SlowDown"),
            (429, ""),
            (404, "NoSuchKey"),
            (400, "InvalidArgument"),
            (409, ""),
        ] {
            assert_eq!(told(status, code, Some("eu-west-1")), None, "{status} {code}");
        }
    }

    #[test]
    fn where_a_bucket_is() {
        let malformed = "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'";
        assert_eq!(region(None, Some(malformed)).as_deref(), Some("eu-west-1"));
        assert_eq!(region(Some("ap-south-1"), Some(malformed)).as_deref(), Some("ap-south-1"));
        assert_eq!(region(None, Some("expecting '<b>evil</b>'")), None);
        assert_eq!(region(None, Some("no")), None);
    }

    #[test]
    fn a_server_does_not_write_our_messages() {
        assert_eq!(plain("SlowDown"), "SlowDown");
        assert_eq!(plain("\u{1b}[31mgo to https://evil.example"), "");
        assert_eq!(plain(&"x".repeat(65)), "");
    }
}
