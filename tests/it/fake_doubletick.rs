//! The host that recordings are fetched from: real MP3s behind the account's key, and every way in which they may not
//! come. It remembers every request.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

/// The key of the account, without which nothing is given out.
pub const API_KEY: &str = "dt-account-key-9c1f7a52e0";

/// What one request gets.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The recording.
    Audio(Vec<u8>),
    /// The same in small pieces, with pauses.
    Drip(Vec<u8>),
    /// Announces the whole length and hangs up after half.
    CutOff(Vec<u8>),
    /// Announces about half the length, up to the middle of a frame, and gives that.
    WrongLength(Vec<u8>),
    /// Without a length: what comes is all there is.
    Chunked(Vec<u8>),
    /// Nothing but a status.
    Status(u16),
    /// 503 with `Retry-After`.
    Late { seconds: u64 },
    /// An error page that calls itself a success.
    Html,
    /// 200 and nothing.
    Empty,
    /// 302 to an address.
    Redirect(String),
    /// Without a length and without an end; the audio again and again.
    Endless(Vec<u8>),
    /// The bytes one by one, ten a second, without an end in sight.
    ByteByByte(Vec<u8>),
    /// The recording, under a header more.
    Labelled(&'static str, &'static str, Vec<u8>),
    /// So many megabytes of nothing before the recording, behind a head.
    Behind { head: Vec<u8>, megabytes: usize, audio: Vec<u8> },
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
}

#[derive(Default)]
struct Host {
    replies: Mutex<HashMap<String, Vec<Reply>>>,
    asked: Mutex<Vec<Asked>>,
    /// Gives out to anybody, without the key.
    open: bool,
}

/// A running host.
pub struct FakeDoubleTick {
    host: Arc<Host>,
    /// `127.0.0.1:PORT`, as it stands in `recordings.hosts`.
    pub address: String,
}

impl FakeDoubleTick {
    pub async fn start() -> Self {
        Self::with(Host::default()).await
    }

    /// A host that does not ask for the key: somebody else's.
    pub async fn start_open() -> Self {
        Self::with(Host { open: true, ..Host::default() }).await
    }

    async fn with(host: Host) -> Self {
        let host = Arc::new(host);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&host));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { host, address }
    }

    /// The address of a path on this host.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Has a path answer with these, one after the other; the last stays. Returns its address.
    pub fn on(&self, path: &str, replies: impl IntoIterator<Item = Reply>) -> String {
        self.host.replies.lock().unwrap().insert(path.to_owned(), replies.into_iter().collect());
        self.url(path)
    }

    /// Has a path give a recording.
    pub fn audio(&self, path: &str, bytes: &[u8]) -> String {
        self.on(path, [Reply::Audio(bytes.to_vec())])
    }

    /// Every request for a path.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        self.host.asked.lock().unwrap().iter().filter(|asked| asked.path == path).cloned().collect()
    }

    /// Every request.
    pub fn all_asked(&self) -> Vec<Asked> {
        self.host.asked.lock().unwrap().clone()
    }

    /// How often anything was asked for.
    pub fn requests(&self) -> usize {
        self.host.asked.lock().unwrap().len()
    }
}

async fn answer(State(host): State<Arc<Host>>, request: Request) -> Response {
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    host.asked.lock().unwrap().push(Asked {
        path: path.clone(),
        query: query.clone(),
        headers: request.headers().clone(),
    });
    if !host.open && !query.split('&').any(|pair| pair == format!("token={API_KEY}")) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let reply = {
        let mut replies = host.replies.lock().unwrap();
        match replies.get_mut(&path) {
            None => Reply::Status(404),
            Some(replies) if replies.len() > 1 => replies.remove(0),
            Some(replies) => replies[0].clone(),
        }
    };
    reply.into_response()
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        const MP3: (header::HeaderName, &str) = (header::CONTENT_TYPE, "audio/mpeg");
        let length = |bytes: usize| (header::CONTENT_LENGTH, bytes.to_string());
        match self {
            Self::Audio(bytes) => ([MP3], bytes).into_response(),
            Self::Drip(bytes) => ([MP3], [length(bytes.len())], Body::from_stream(drip(bytes))).into_response(),
            Self::CutOff(bytes) => {
                let half = bytes[..bytes.len() / 2].to_vec();
                let sent = stream::iter([Ok(Bytes::from(half)), Err(std::io::Error::other("hung up"))]);
                ([MP3], [length(bytes.len())], Body::from_stream(sent)).into_response()
            }
            Self::WrongLength(bytes) => ([MP3], bytes[..bytes.len() / 2 + 50].to_vec()).into_response(),
            Self::Chunked(bytes) => {
                let all = stream::iter([Ok::<_, Infallible>(Bytes::from(bytes))]);
                ([MP3], Body::from_stream(all)).into_response()
            }
            Self::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
            Self::Late { seconds } => {
                (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, seconds.to_string())]).into_response()
            }
            Self::Html => {
                axum::response::Html("<!doctype html><title>Sign in</title><p>Please sign in.").into_response()
            }
            Self::Empty => ([MP3], Vec::new()).into_response(),
            Self::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
            Self::Endless(bytes) => {
                let again = stream::repeat(Bytes::from(bytes)).map(Ok::<_, Infallible>);
                ([MP3], Body::from_stream(again)).into_response()
            }
            Self::ByteByByte(bytes) => {
                let one_by_one = stream::iter(bytes).then(|byte| async move {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Ok::<_, Infallible>(Bytes::from(vec![byte]))
                });
                ([MP3], Body::from_stream(one_by_one)).into_response()
            }
            Self::Labelled(name, value, bytes) => ([MP3], [(name, value)], bytes).into_response(),
            Self::Behind { head, megabytes, audio } => {
                let nothing = stream::repeat(Bytes::from(vec![0; 1 << 20])).take(megabytes);
                let all = stream::iter([Bytes::from(head)]).chain(nothing).chain(stream::iter([Bytes::from(audio)]));
                ([MP3], Body::from_stream(all.map(Ok::<_, Infallible>))).into_response()
            }
        }
    }
}

fn drip(bytes: Vec<u8>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let pieces: Vec<Bytes> = bytes.chunks(bytes.len().div_ceil(10)).map(Bytes::copy_from_slice).collect();
    stream::iter(pieces).then(|piece| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(piece)
    })
}
