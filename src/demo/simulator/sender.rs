//! Posts webhooks as DoubleTick would, only more patiently: the real one may never come back after an error, but a demo
//! that lost a call to a restart would tell nothing.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use tokio::time::sleep;

use super::past::PastCall;

/// Attempts after a network error or a 5xx other than 503.
const ATTEMPTS: u32 = 5;
/// How often a 503 is believed. At one second each this outlasts any backlog that a demo can build up.
const PATIENCE: u32 = 300;
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Why a webhook was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("the webhook was answered with {0}")]
    Refused(StatusCode),
    #[error("the webhook could not be posted")]
    Unreachable(#[source] reqwest::Error),
}

/// Where the webhooks go. Cheap to clone.
#[derive(Clone)]
pub struct Sender {
    pub client: reqwest::Client,
    pub webhook_url: String,
    /// Sent as `Authorization: Bearer …`.
    pub token: String,
}

/// The token stays out of logs.
impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("webhook_url", &self.webhook_url).finish_non_exhaustive()
    }
}

impl Sender {
    /// Posts one body until it is acknowledged. Waits as long as a 503 asks for, tries a few times more after other
    /// failures.
    ///
    /// # Errors [`SendError::Refused`] for any 4xx at once and for a 5xx that stays; [`SendError::Unreachable`] if no
    /// answer comes.
    pub async fn send(&self, body: &Value) -> Result<(), SendError> {
        let bytes = bytes::Bytes::from(body.to_string());
        let (mut failures, mut busy) = (0, 0);
        loop {
            let answer = self
                .client
                .post(&self.webhook_url)
                .bearer_auth(&self.token)
                .header(CONTENT_TYPE, "application/json")
                .body(bytes.clone())
                .send()
                .await;
            let error = match answer {
                Ok(response) if response.status().is_success() => return Ok(()),
                Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE && busy < PATIENCE => {
                    busy += 1;
                    sleep(retry_after(&response)).await;
                    continue;
                }
                Ok(response) if response.status().is_server_error() => SendError::Refused(response.status()),
                Ok(response) => return Err(SendError::Refused(response.status())),
                // Without the URL: it is known, and an error ends up in logs.
                Err(error) => SendError::Unreachable(error.without_url()),
            };
            failures += 1;
            if failures >= ATTEMPTS {
                return Err(error);
            }
            sleep(Duration::from_millis(200) * 2_u32.pow(failures)).await;
        }
    }
}

fn retry_after(response: &Response) -> Duration {
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1)).clamp(Duration::from_millis(50), LONGEST_WAIT)
}

/// Posts the calls of the past, `concurrency` calls at a time; the events of one call stay in order. Returns how many
/// events were acknowledged.
///
/// # Errors The first event that can't be delivered ends it.
pub async fn replay_past(
    sender: &Sender,
    calls: impl IntoIterator<Item = PastCall>,
    concurrency: usize,
) -> Result<usize, SendError> {
    stream::iter(calls)
        .map(|call| async move {
            for body in &call.events {
                sender.send(body).await?;
            }
            Ok(call.events.len())
        })
        .buffer_unordered(concurrency.max(1))
        .try_fold(0, async |sent, events| Ok(sent + events))
        .await
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::past::past_calls;
    use super::super::testing::{Receiver, client};
    use super::*;

    #[tokio::test]
    async fn the_past_arrives_completely_and_in_order_although_the_receiver_pushes_back() {
        let receiver = Receiver::start(|n| match n % 10 {
            3 => (503, Some("0")),
            7 => (500, None),
            _ => (200, None),
        })
        .await;
        let calls: Vec<PastCall> = past_calls(1, "2026-03-10T09:30:00Z".parse().unwrap(), 40, "http://x").collect();
        let expected: HashMap<String, Vec<Value>> =
            calls.iter().map(|call| (call.call_id.clone(), call.events.clone())).collect();
        let sender = receiver.sender();
        // Spawned, as the demo does it: the future has to be Send.
        let replay = tokio::spawn(async move { replay_past(&sender, calls, 8).await });
        let sent = replay.await.unwrap().unwrap();
        let mut arrived: HashMap<String, Vec<Value>> = HashMap::new();
        for body in receiver.bodies() {
            arrived.entry(body["callId"].as_str().unwrap().to_owned()).or_default().push(body);
        }
        assert_eq!(sent, expected.values().map(Vec::len).sum::<usize>());
        assert_eq!(arrived, expected);
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_an_absent_receiver_an_error() {
        let receiver = Receiver::start(|_| (401, None)).await;
        let refused = receiver.sender().send(&Value::Null).await;
        assert!(matches!(refused, Err(SendError::Refused(StatusCode::UNAUTHORIZED))), "{refused:?}");
        assert_eq!(receiver.requests(), 1);
        let nobody = Sender { client: client(), webhook_url: "http://127.0.0.1:1/".into(), token: "secret".into() };
        let failed = nobody.send(&Value::Null).await;
        assert!(matches!(failed, Err(SendError::Unreachable(_))), "{failed:?}");
        assert!(!format!("{nobody:?}").contains("secret"));
    }
}
