//! Bodies that come in time: a request whose body drips in is broken off, so that slow senders hold nothing for long.

use std::time::Duration;

use axum::extract::{FromRequest, Request};

/// How long a body may take. The largest has 256 KiB.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of reading a body: it, why it is none, or `Late`.
#[derive(Debug)]
pub(super) enum Timely<T, R> {
    Here(T),
    Unreadable(R),
    Late,
}

impl<T: FromRequest<S, Rejection = R>, R, S: Send + Sync> FromRequest<S> for Timely<T, R> {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        Ok(match tokio::time::timeout(PATIENCE, T::from_request(request, state)).await {
            Ok(Ok(body)) => Self::Here(body),
            Ok(Err(rejection)) => Self::Unreadable(rejection),
            Err(_) => Self::Late,
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};
    use axum::extract::rejection::BytesRejection;
    use futures_util::stream;

    use super::*;

    /// One byte a second, so many of them.
    async fn dripping(bytes: usize) -> Timely<Bytes, BytesRejection> {
        let drip = stream::unfold(bytes, |left| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            (left > 0).then(|| (Ok::<_, std::io::Error>(Bytes::from_static(b"x")), left - 1))
        });
        let Ok(read) = Timely::from_request(Request::new(Body::from_stream(drip)), &()).await;
        read
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_slow_but_not_for_ever() {
        assert!(matches!(dripping(5).await, Timely::Here(body) if body == "x".repeat(5)));
        let start = tokio::time::Instant::now();
        assert!(matches!(dripping(100_000).await, Timely::Late));
        assert_eq!(start.elapsed(), PATIENCE);
    }
}
