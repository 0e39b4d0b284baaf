//! Bodies that come in time: a request whose body drips in is broken off, so that slow senders hold nothing for long.

use std::time::Duration;

use axum::extract::{FromRequest, Request};

use super::WebState;

/// How long a body may take. The largest has 256 KiB.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came of reading a body as `T`: it, why it is none, or `Late`.
pub(super) enum Timely<T: FromRequest<WebState>> {
    Here(T),
    Unreadable(T::Rejection),
    Late,
}

impl<T: FromRequest<WebState>> FromRequest<WebState> for Timely<T> {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, state: &WebState) -> Result<Self, Self::Rejection> {
        Ok(match tokio::time::timeout(PATIENCE, T::from_request(request, state)).await {
            Ok(Ok(body)) => Self::Here(body),
            Ok(Err(rejection)) => Self::Unreadable(rejection),
            Err(_) => Self::Late,
        })
    }
}
