//! Streams one recording into the spool, once: through both hashes, the size limit and the walk over its frames.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, Response, StatusCode, redirect};
use sha2::{Digest, Sha256, Sha512};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use url::Url;

use super::failure::FetchError;
use super::resolve::CheckedResolver;
use super::rules::Rules;
use super::spool::{Room, Spool};
use crate::audio::{AudioFacts, FrameWalk};
use crate::clock::Clock;
use crate::config::Recordings;
use crate::fault::{self, operation};

/// Redirects that are followed for one recording.
const MAX_HOPS: usize = 5;
/// Written and read at once, in bytes.
const BLOCK: usize = 256 * 1024;
/// Removing a file takes no time, or the disk hangs.
const REMOVE_PATIENCE: Duration = Duration::from_secs(30);

/// A complete recording in the spool.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) path: PathBuf,
    pub(super) sha256: [u8; 32],
    pub(super) sha512: [u8; 64],
    pub(super) size: u64,
    pub(super) audio: AudioFacts,
    /// Held until the file is gone.
    pub(super) _room: Room,
}

/// Fetches from the sender's hosts and nowhere else.
pub(super) struct Fetcher {
    client: Client,
    rules: Rules,
    settings: Recordings,
    clock: Clock,
}

impl Fetcher {
    pub(super) fn new(settings: &Recordings, clock: Clock) -> reqwest::Result<Self> {
        let rules = Rules::new(&settings.hosts, settings.allow_private_addresses);
        let client = Client::builder()
            // Every hop is checked here, not in the client; and a proxy would dial addresses that nobody checked.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(CheckedResolver::new(rules.clone()))
            // What is archived is what the sender keeps, not some packing of it.
            .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]))
            .connect_timeout(settings.timeout.min(std::time::Duration::from_secs(20)))
            .user_agent(concat!("callvault/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, rules, settings: settings.clone(), clock })
    }

    /// Fetches a recording into `path`.
    ///
    /// # Errors
    /// The address is refused, the sender does not answer with audio, or the spool can't take it; what was written of
    /// it is removed then.
    pub(super) async fn fetch(&self, url: &str, path: &Path, spool: &Spool) -> Result<Staged, FetchError> {
        let mut unfinished = Unfinished(Some(path.to_owned()));
        let work = self.stream(url, path, spool);
        let outcome = match tokio::time::timeout(self.settings.timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(FetchError::passing("the sender took too long")),
        };
        if outcome.is_ok() {
            unfinished.0 = None;
        }
        outcome
    }

    async fn stream(&self, url: &str, path: &Path, spool: &Spool) -> Result<Staged, FetchError> {
        if spool.is_full() {
            return Err(spool_is_full());
        }
        let response = self.open(self.rules.check(url)?).await?;
        let expected = response.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        let max = self.settings.max_bytes;
        if expected.is_some_and(|expected| expected > max) {
            return Err(too_large(max));
        }
        // Never into a file that is there: an interrupted run may have linked it into the store already.
        remove(path).await.map_err(spool_error)?;
        let file = operation("spool.create", File::create_new(path)).await.map_err(spool_error)?;
        let mut writer = BufWriter::with_capacity(BLOCK, file);
        let mut intake = Intake::new(spool.room());
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| FetchError::of_client(&error))?;
            if intake.size + chunk.len() as u64 > max {
                return Err(too_large(max));
            }
            if !intake.take(&chunk) {
                return Err(spool_is_full());
            }
            operation("spool.write", writer.write_all(&chunk)).await.map_err(spool_error)?;
            fault::point("archiver.streaming");
        }
        if expected.is_some_and(|expected| expected != intake.size) {
            return Err(FetchError::passing("the recording broke off on its way"));
        }
        operation("spool.flush", writer.flush()).await.map_err(spool_error)?;
        intake.finish(path.to_owned())
    }

    /// Follows redirects by the same rules as the first address.
    async fn open(&self, mut url: Url) -> Result<Response, FetchError> {
        for _ in 0..=MAX_HOPS {
            let response = self.client.get(self.with_key(&url)).send().await.map_err(|e| FetchError::of_client(&e))?;
            let status = response.status();
            if status == StatusCode::OK {
                if response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
                    return Err(FetchError::passing("the sender compressed the recording, which was not asked for"));
                }
                return Ok(response);
            }
            if !status.is_redirection() {
                return Err(FetchError::of_status(status, response.headers(), &self.clock));
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            let next = next.ok_or_else(|| FetchError::passing("the sender redirects to nowhere"))?;
            self.rules.check_hop(&url, &next)?;
            url = next;
        }
        Err(FetchError::passing(format!("the sender redirects more than {MAX_HOPS} times")))
    }

    /// The address with the account's key. Every address that comes here is on an allow-listed host.
    fn with_key(&self, url: &Url) -> Url {
        let mut url = url.clone();
        let key = self.settings.api_key.expose();
        if !key.is_empty() {
            let others: Vec<(String, String)> = url
                .query_pairs()
                .filter(|(name, _)| name != "token")
                .map(|(k, v)| (k.into_owned(), v.into_owned()))
                .collect();
            if others.len() == url.query_pairs().count() {
                // Nothing is rewritten of a query that the address has already: a signature may cover it.
                url.query_pairs_mut().append_pair("token", key);
            } else {
                url.query_pairs_mut().clear().extend_pairs(others).append_pair("token", key);
            }
        }
        url
    }
}

/// A file that is of no use until it is whole: removed also where the fetch is dropped in the middle, by a stop.
struct Unfinished(Option<PathBuf>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.as_ref().map(std::fs::remove_file)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a spool file could not be removed; the next start does it");
        }
    }
}

/// What the bytes run through on their way to the disk.
struct Intake {
    sha256: Sha256,
    sha512: Sha512,
    walk: FrameWalk,
    size: u64,
    room: Room,
}

impl Intake {
    fn new(room: Room) -> Self {
        Self { sha256: Sha256::new(), sha512: Sha512::new(), walk: FrameWalk::new(), size: 0, room }
    }

    /// `false` where the spool has no room for it.
    fn take(&mut self, bytes: &[u8]) -> bool {
        self.sha256.update(bytes);
        self.sha512.update(bytes);
        self.walk.feed(bytes);
        self.size += bytes.len() as u64;
        self.room.grow(bytes.len() as u64)
    }

    fn finish(self, path: PathBuf) -> Result<Staged, FetchError> {
        let audio = self.walk.finish().map_err(|why| FetchError::passing(why.to_string()))?;
        Ok(Staged {
            path,
            sha256: self.sha256.finalize().into(),
            sha512: self.sha512.finalize().into(),
            size: self.size,
            audio,
            _room: self.room,
        })
    }
}

/// Reads a file that an earlier run left in the spool; `None` where there is none or it is no complete recording.
pub(super) async fn restage(path: &Path, spool: &Spool) -> std::io::Result<Option<Staged>> {
    let mut file = match operation("spool.open", File::open(path)).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (mut intake, mut block) = (Intake::new(spool.room()), vec![0; BLOCK]);
    loop {
        match file.read(&mut block).await? {
            0 => return Ok(intake.finish(path.to_owned()).ok()),
            n => drop(intake.take(&block[..n])),
        }
    }
}

/// Removes a spool file, if it is there. The recording is in the store by then: a disk that hangs must not hold up others.
pub(super) async fn remove(path: &Path) -> std::io::Result<()> {
    let removed = operation("spool.remove", tokio::fs::remove_file(path));
    let late =
        |_| Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "a file of the spool could not be removed in time"));
    match tokio::time::timeout(fault::patience(REMOVE_PATIENCE), removed).await.unwrap_or_else(late) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn too_large(max: u64) -> FetchError {
    FetchError::Final(format!("the recording is larger than recordings.max_bytes ({max})"))
}

fn spool_is_full() -> FetchError {
    FetchError::Own("the spool is full: recordings wait until the store takes them".into())
}

fn spool_error(error: std::io::Error) -> FetchError {
    FetchError::Own(format!("the spool can't be written: {error}"))
}
