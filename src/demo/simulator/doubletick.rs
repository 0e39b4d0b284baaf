//! The host that DoubleTick's recordings are fetched from: `GET /recordings/{call id}.mp3?token=API_KEY`, with the
//! troubles that [`super::recording`] chose for each. Remembers only how often, and since when, it was asked for a
//! troubled one.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use tokio::time::{Instant, sleep};

use super::recording::{Recording, Trouble};

struct Host {
    api_key: String,
    asked: Mutex<HashMap<String, Asked>>,
}

#[derive(Clone, Copy)]
struct Asked {
    first: Instant,
    /// Before this request.
    times: u32,
}

/// The recording host's routes. Without `?token=` and this key everything is 401.
pub fn router(api_key: impl Into<String>) -> Router {
    let host = Host { api_key: api_key.into(), asked: Mutex::default() };
    Router::new().route("/recordings/{file}", get(serve)).with_state(Arc::new(host))
}

async fn serve(
    State(host): State<Arc<Host>>,
    Path(file): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if query.get("token") != Some(&host.api_key) {
        return (StatusCode::UNAUTHORIZED, "the token is missing or wrong\n").into_response();
    }
    let Some(call_id) = file.strip_suffix(".mp3").filter(|id| is_call_id(id)) else {
        return not_found();
    };
    let recording = Recording::of(call_id);
    match recording.trouble {
        Trouble::None => {}
        Trouble::SlowStart(delay) => sleep(delay).await,
        Trouble::Never => return not_found(),
        Trouble::NotFoundYet { times } => {
            if host.ask(call_id).times < times {
                return not_found();
            }
        }
        Trouble::Busy { times } => {
            if host.ask(call_id).times < times {
                return unavailable(Duration::from_secs(2));
            }
        }
        Trouble::Late(after) => {
            let waited = host.ask(call_id).first.elapsed();
            if waited < after {
                return unavailable(after - waited);
            }
        }
    }
    audio(&recording)
}

impl Host {
    fn ask(&self, call_id: &str) -> Asked {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = asked.entry(call_id.to_owned()).or_insert_with(|| Asked { first: Instant::now(), times: 0 });
        let before = *entry;
        entry.times = entry.times.saturating_add(1);
        before
    }
}

/// Only the ids that the simulator gives out have a recording.
fn is_call_id(id: &str) -> bool {
    id.strip_prefix("call_")
        .is_some_and(|rest| rest.len() == 10 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn audio(recording: &Recording) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "audio/mpeg".to_owned()), (header::CONTENT_LENGTH, recording.bytes().to_string())];
    let chunks = stream::iter(recording.chunks().map(Ok::<_, Infallible>));
    (headers, Body::from_stream(chunks)).into_response()
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "no such recording\n").into_response()
}

fn unavailable(wait: Duration) -> Response {
    let seconds = wait.as_millis().div_ceil(1000).to_string();
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, seconds)], "not ready yet\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{client, serve as listen};
    use super::*;

    struct Fetch {
        base: String,
        client: reqwest::Client,
    }

    impl Fetch {
        async fn start() -> Self {
            Self { base: listen(router("key")).await, client: client() }
        }

        async fn get(&self, path: &str) -> reqwest::Response {
            self.client.get(format!("{}{path}", self.base)).send().await.unwrap()
        }

        async fn status(&self, call_id: &str) -> u16 {
            self.get(&format!("/recordings/{call_id}.mp3?token=key")).await.status().as_u16()
        }
    }

    fn call_with(wanted: impl Fn(&Trouble) -> bool) -> String {
        (0..).map(|n| format!("call_{n:010}")).find(|id| wanted(&Recording::of(id).trouble)).unwrap()
    }

    #[tokio::test]
    async fn a_recording_needs_the_key_and_comes_whole() {
        let fetch = Fetch::start().await;
        let call_id = call_with(|trouble| *trouble == Trouble::None);
        for query in ["", "?token=", "?token=other", "?v=2"] {
            let answer = fetch.get(&format!("/recordings/{call_id}.mp3{query}")).await;
            assert_eq!(answer.status(), 401, "{query}");
        }
        let answer = fetch.get(&format!("/recordings/{call_id}.mp3?v=2&token=key")).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "audio/mpeg");
        let recording = Recording::of(&call_id);
        assert_eq!(answer.content_length(), Some(recording.bytes()));
        let expected: Vec<u8> = recording.chunks().flatten().collect();
        assert!(answer.bytes().await.unwrap() == expected, "other bytes than the recording's");
    }

    #[tokio::test]
    async fn only_call_ids_have_recordings() {
        let fetch = Fetch::start().await;
        for path in ["/recordings/other.mp3?token=key", "/recordings/call_0000000000?token=key", "/?token=key"] {
            assert_eq!(fetch.get(path).await.status(), 404, "{path}");
        }
    }

    #[tokio::test]
    async fn some_are_not_there_at_first_and_some_never() {
        let fetch = Fetch::start().await;
        let yet = call_with(|trouble| *trouble == Trouble::NotFoundYet { times: 2 });
        assert_eq!([fetch.status(&yet).await, fetch.status(&yet).await, fetch.status(&yet).await], [404, 404, 200]);
        let busy = call_with(|trouble| *trouble == Trouble::Busy { times: 1 });
        assert_eq!([fetch.status(&busy).await, fetch.status(&busy).await], [503, 200]);
        let never = call_with(|trouble| *trouble == Trouble::Never);
        for _ in 0..5 {
            assert_eq!(fetch.status(&never).await, 404);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_one_says_how_long_to_wait_and_then_comes() {
        let fetch = Fetch::start().await;
        let late = call_with(|trouble| *trouble == Trouble::Late(Duration::from_secs(20)));
        let answer = fetch.get(&format!("/recordings/{late}.mp3?token=key")).await;
        assert_eq!(answer.status(), 503);
        let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=20).contains(&wait), "{wait}");
        tokio::time::advance(Duration::from_secs(wait)).await;
        assert_eq!(fetch.status(&late).await, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_lets_wait() {
        let fetch = Fetch::start().await;
        let slow = call_with(|trouble| matches!(trouble, Trouble::SlowStart(_)));
        let begun = Instant::now();
        assert_eq!(fetch.status(&slow).await, 200);
        assert!(matches!(Recording::of(&slow).trouble, Trouble::SlowStart(delay) if begun.elapsed() >= delay));
    }
}
