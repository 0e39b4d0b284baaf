//! The way to the server: credentials, signatures, patience, and what time it is there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, ConfigBag, Intercept, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    RuntimeComponents, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::BoxError;
use aws_smithy_http_client::tls;
use jiff::{SignedDuration, Timestamp};

use crate::{config, fault};

/// To be connected.
const CONNECT: Duration = Duration::from_secs(5);
/// To the first byte of an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// A request that only reads, with all its attempts: whoever waits for an answer of ours waits for this too.
const READ: Duration = Duration::from_secs(14);
/// A stream in which nothing moves.
const STALLED: Duration = Duration::from_secs(10);
const READ_ATTEMPTS: u32 = 3;
/// A way on which less gets through in a second, in bytes, is no way.
const SLOWEST: u64 = 64 << 10;

/// Two clients for the same server: what reads is tried again by itself. What writes is not: whoever writes has to look
/// first what became of the attempt before.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    pub(super) reader: Client,
    pub(super) writer: Client,
    pub(super) clock: ServerClock,
}

impl Clients {
    pub(super) async fn new(settings: &config::S3) -> Self {
        let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        let http = aws_smithy_http_client::Builder::new().tls_provider(provider).build_https();
        let region = Region::new(settings.region.clone());
        // Where credentials come from is the environment's business; everything else stands in the configuration.
        let environment = ProviderConfig::without_region()
            .with_region(Some(region.clone()))
            .with_behavior_version(Some(BehaviorVersion::latest()))
            .with_http_client(http.clone());
        let credentials =
            DefaultCredentialsChain::builder().configure(environment).region(region.clone()).build().await;
        let clock = ServerClock::default();
        let mut builder = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .region(region)
            .credentials_provider(credentials)
            .force_path_style(settings.force_path_style)
            // Some servers refuse the checksums that are added by default; ours are given with each request.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .stalled_stream_protection(
                StalledStreamProtectionConfig::enabled()
                    .upload_enabled(true)
                    .download_enabled(true)
                    .grace_period(fault::patience(STALLED))
                    .build(),
            )
            .interceptor(clock.clone());
        if !settings.endpoint.is_empty() {
            builder = builder.endpoint_url(&settings.endpoint);
        }
        let answer = fault::patience(ANSWER);
        let once = patience(0);
        let often = once.to_builder().read_timeout(answer).operation_timeout(fault::patience(READ)).build();
        let retries = RetryConfig::standard().with_max_attempts(READ_ATTEMPTS);
        let reader = builder.clone().retry_config(retries).timeout_config(often).build();
        let writer = builder.retry_config(RetryConfig::disabled()).timeout_config(once).build();
        Self { reader: Client::from_conf(reader), writer: Client::from_conf(writer), clock }
    }
}

/// How long a single attempt may take that sends so many bytes.
pub(super) fn patience(bytes: u64) -> TimeoutConfig {
    let whole = fault::patience(ANSWER) + Duration::from_secs(bytes / SLOWEST);
    TimeoutConfig::builder().connect_timeout(CONNECT).read_timeout(whole).operation_attempt_timeout(whole).build()
}

/// Settings for one request that sends so many bytes.
pub(super) fn sending(bytes: u64) -> Builder {
    Builder::new().timeout_config(patience(bytes))
}

/// Signs a request with the SHA-256 of its body (lower-case hex), which is known before the body is read. Without it a
/// file goes out unsigned, and a server that checks nothing else keeps whatever arrives.
#[derive(Debug)]
pub(super) struct SignedPayload(pub(super) String);

impl Intercept for SignedPayload {
    fn name(&self) -> &'static str {
        "SignedPayload"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().store_put(PayloadSigningOverride::Precomputed(self.0.clone()));
        Ok(())
    }
}

/// The server's time, as its last answer told it: the lock's clock is the server's, not ours.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerClock(Arc<Mutex<Option<(Timestamp, Instant)>>>);

impl ServerClock {
    /// `None` before the first answer, and where answers bear no date.
    pub(super) fn now(&self) -> Option<Timestamp> {
        let (told, at) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        told.checked_add(SignedDuration::try_from(at.elapsed()).ok()?).ok()
    }
}

impl Intercept for ServerClock {
    fn name(&self) -> &'static str {
        "ServerClock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let told = context.response().headers().get("date").and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        if let Some(told) = told {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((told.timestamp(), Instant::now()));
        }
        Ok(())
    }
}
