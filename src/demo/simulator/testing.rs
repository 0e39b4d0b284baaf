//! What the simulator's tests share: the documented key sets, an HTTP client and a receiver of webhooks.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::Value;

use super::sender::Sender;

/// The 19 fields of every call event.
pub const CALL: &str = "event callId chatMessageId chatId wabaNumber customerNumber customerName customerId callDirection \
    callStatus failedReason durationInSeconds callStartedAt callEndedAt pickedBy rejectedBy endedBy recordingUrl deviceId";

/// The 17 fields of the older help pages.
pub const CALL_17: &str = "event callId chatMessageId chatId wabaNumber customerPhoneNumber customerName customerId \
    callDirection callStatus durationInSeconds callStartedAt callEndedAt pickedBy endedBy recordingUrl deviceId";

/// What `CALL_MISSED` adds.
pub const MISSED: &str = "isNewCaller isChatAssigned";

/// What a PSTN call adds.
pub const PSTN: &str = "channel channelNumber from to";

pub const CHAT_ASSIGNED: &str = "chatId assignedUserId assignedUserName assignedUserPhone assignedUserEmail \
    assignedUserOrgRole assignedUserWabaRole assignedUserWabaNumber customerPhone dtCustomerId message";

/// What an assignment by a bot adds.
pub const BY_BOT: &str = "actorName actorType actionType";

pub const CHAT_UNASSIGNED: &str = "chatId customerPhone wabaNumber dtCustomerId";

pub const DISPOSITION: &str = "event callId disposition notes";

/// Whether a body has exactly the fields of these lists.
pub fn has_fields(body: &Value, lists: &[&str]) -> bool {
    let mut expected: Vec<&str> = lists.iter().flat_map(|list| list.split_whitespace()).collect();
    expected.sort_unstable();
    let mut fields: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    fields == expected
}

/// Whether a body is a call event in a documented shape; which one follows from the event and the channel.
pub fn is_call_event(body: &Value) -> bool {
    let base: &[&str] = match (body["event"].as_str(), body["channel"].as_str()) {
        (Some("CALL_MISSED"), None) => &[CALL, MISSED],
        (Some("CALL_MISSED"), Some(_)) => &[CALL, MISSED, PSTN],
        (Some(_), None) => &[CALL],
        (Some(_), Some(_)) => &[CALL, PSTN],
        (None, _) => return false,
    };
    has_fields(body, base) || (body["event"] == "CALL_ENDED" && has_fields(body, &[CALL_17]))
}

/// A client for plain HTTP. With `rustls-no-provider` a client can't be built before a provider is installed, even if
/// it never uses TLS; another test may have installed one already.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().build().unwrap()
}

/// Serves a router on a free port for as long as the test's runtime lives; returns its base URL.
pub async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[derive(Default)]
struct Received {
    requests: usize,
    bodies: Vec<Value>,
}

/// A webhook endpoint that answers as told and keeps what it acknowledged.
pub struct Receiver {
    url: String,
    received: Arc<Mutex<Received>>,
}

impl Receiver {
    const TOKEN: &str = "ingest-token";

    /// `answer` gives the status and the `Retry-After` for the n-th request.
    pub async fn start(answer: fn(usize) -> (u16, Option<&'static str>)) -> Self {
        let received = Arc::new(Mutex::new(Received::default()));
        let seen = Arc::clone(&received);
        let handler = move |headers: HeaderMap, body: String| async move {
            assert_eq!(headers[header::AUTHORIZATION], format!("Bearer {}", Self::TOKEN));
            assert_eq!(headers[header::CONTENT_TYPE], "application/json");
            let mut seen = seen.lock().unwrap();
            let (status, retry_after) = answer(seen.requests);
            seen.requests += 1;
            if status == 200 {
                seen.bodies.push(serde_json::from_str(&body).unwrap());
            }
            let headers = retry_after.map(|seconds| [(header::RETRY_AFTER, seconds)]);
            (StatusCode::from_u16(status).unwrap(), headers, "").into_response()
        };
        let url = serve(Router::new().route("/hook", post(handler))).await;
        Self { url, received }
    }

    pub fn sender(&self) -> Sender {
        Sender { client: client(), webhook_url: format!("{}/hook", self.url), token: Self::TOKEN.into() }
    }

    /// What was acknowledged, in order.
    pub fn bodies(&self) -> Vec<Value> {
        self.received.lock().unwrap().bodies.clone()
    }

    pub fn requests(&self) -> usize {
        self.received.lock().unwrap().requests
    }
}
