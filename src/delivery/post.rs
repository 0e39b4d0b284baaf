//! A POST that is tried again for as long as the other side may come back.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, StatusCode, redirect};
use tokio::time::Instant;
use url::{Host, Url};

use super::{Parcel, bearer};
use crate::config;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why a report was not taken. None of it shows the address, which may hold a secret.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    #[error("give an https address without user and password; http is for this machine alone")]
    Address,
    #[error("delivery.secret has characters that no header can have")]
    Secret,
    #[error("{host} answered {status}: see there what it wants")]
    Refused { host: String, status: u16 },
    #[error("{host} took nothing within {patience}, at last {why}")]
    Unreachable { host: String, patience: String, why: String },
    #[error("no client can be made: {0}")]
    Client(reqwest::Error),
}

/// Reads an address to which reports may go.
///
/// # Errors
/// It is none, or is plain http to another machine.
pub fn address(text: &str) -> Result<Url, PostError> {
    let url = Url::parse(text).map_err(|_| PostError::Address)?;
    let here = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => return Err(PostError::Address),
    };
    let sound = url.scheme() == "https" || (url.scheme() == "http" && here);
    if sound && url.username().is_empty() && url.password().is_none() { Ok(url) } else { Err(PostError::Address) }
}

/// Posts a report until it is taken, refused for good, or the time for trying is over.
pub(super) async fn post(
    parcel: &Parcel,
    url: &Url,
    sha256: &str,
    settings: &config::Delivery,
) -> Result<(), PostError> {
    let url = address(url.as_str())?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let client = client(settings)?;
    let digest = hex::decode(sha256).map(|bytes| format!("sha-256=:{}:", STANDARD.encode(bytes))).unwrap_or_default();
    let mut request = client
        .post(url)
        .header(CONTENT_TYPE, parcel.media_type)
        // RFC 9530; and a name by which a report that comes twice is known.
        .header("repr-digest", digest)
        .header("idempotency-key", format!("\"{sha256}\""))
        .header("content-disposition", format!("attachment; filename=\"{}\"", parcel.name));
    if let Some(secret) = bearer(&settings.secret) {
        let mut value = HeaderValue::from_str(&format!("Bearer {secret}")).map_err(|_| PostError::Secret)?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        let Some(attempt) = request.try_clone() else { return Err(PostError::Address) };
        let why = match attempt.body(parcel.bytes.clone()).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) if may_pass(answer.status()) => format!("it answered {}", answer.status().as_u16()),
            Ok(answer) => return Err(PostError::Refused { host, status: answer.status().as_u16() }),
            Err(error) if error.is_timeout() => "it did not answer in time".to_owned(),
            Err(error) if error.is_connect() => "it could not be reached".to_owned(),
            Err(_) => "the connection broke off".to_owned(),
        };
        if begun.elapsed() + pause > settings.give_up_after {
            let patience = humantime::format_duration(settings.give_up_after).to_string();
            return Err(PostError::Unreachable { host, patience, why });
        }
        tracing::warn!(host, why, pause = ?pause, "a report was not taken; it is posted again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn client(settings: &config::Delivery) -> Result<Client, PostError> {
    // Only one crypto provider is compiled in; a second installation is refused and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        // The secret is for the address that was configured.
        .redirect(redirect::Policy::none())
        .timeout(settings.timeout)
        .user_agent(concat!("callvault/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(PostError::Client)
}

/// Whether the same request may be taken later.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_go_out_by_https_alone() {
        for sound in ["https://reports.example/in?x=1", "http://127.0.0.1:8080/", "http://localhost/", "http://[::1]/"]
        {
            assert!(address(sound).is_ok(), "{sound}");
        }
        for refused in
            ["http://reports.example/", "https://user:password@reports.example/", "ftp://127.0.0.1/", "reports", ""]
        {
            let error = address(refused).unwrap_err().to_string();
            assert!(error.contains("https") && !error.contains("password@"), "{refused}: {error}");
        }
    }
}
