//! The door for webhooks.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::WebState;
use super::auth::{May, PostWebhooks};
use super::body::Timely;
use super::error::{Error, Problem, Refused, Result};
use crate::fault;
use crate::intake::Acknowledgement;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().routes(routes!(doubletick))
}

/// What the sender is told once the event is durable.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Acknowledged {
    Journaled {
        /// Number of the journal entry.
        seq: u64,
        /// Why the body could not be understood; it is kept all the same.
        #[serde(skip_serializing_if = "Option::is_none")]
        quarantined: Option<&'static str>,
        /// `destroyed`: the call's time is over; that the webhook came is kept, what it says is not.
        #[serde(skip_serializing_if = "Option::is_none")]
        ignored: Option<&'static str>,
    },
    /// It is on this node's disk, and is journaled in order once the database is back.
    Spooled { spooled: bool },
}

impl From<Acknowledgement> for Acknowledged {
    fn from(done: Acknowledgement) -> Self {
        match done {
            Acknowledgement::Journaled { seq, quarantined, ignored } => Self::Journaled { seq, quarantined, ignored },
            Acknowledgement::Spooled => Self::Spooled { spooled: true },
        }
    }
}

/// Takes one event of DoubleTick; 200 means that it is durable.
///
/// A JSON object, or a form with the same fields; anything else is kept too, and listed as quarantined. Accepts a Bearer token or Basic credentials with the secret as
/// password. Anything else than 200 means that nothing was taken: send it again.
#[utoipa::path(
    post, path = "/webhooks/doubletick", tag = "webhooks",
    request_body(content = inline(Option<serde_json::Value>), content_type = "application/json"),
    responses(
        (status = 200, description = "Durable: journaled, or spooled while the database is away", body = Acknowledged),
        (status = 400, description = "The body broke off", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body took too long", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Over 256 KiB", body = Problem, content_type = "application/problem+json"),
        Refused,
    ),
    security(("bearer" = []), ("basic" = [])),
)]
async fn doubletick(
    may: May<PostWebhooks>,
    State(state): State<WebState>,
    body: Timely<Bytes, BytesRejection>,
) -> Result<Json<Acknowledged>> {
    let body = match body {
        Timely::Here(body) => body,
        Timely::Unreadable(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return Err(Error::TooLarge);
        }
        Timely::Unreadable(_) => {
            return Err(Error::BadRequest("The body broke off on its way; nothing was taken: send it again.".into()));
        }
        Timely::Late => return Err(Error::TooSlow),
    };
    fault::point("webhook.read");
    let done = state.intake.receive(&may.identity.actor(), &body).await.inspect_err(|_| {
        metrics::counter!("callvault_webhooks_pushed_back_total").increment(1);
    })?;
    fault::point("webhook.answer");
    Ok(Json(done.into()))
}
