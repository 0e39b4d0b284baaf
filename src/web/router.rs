//! All routes, and what holds for every one of them.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tower_http::set_header::SetResponseHeaderLayer;

use super::error::Error;
use super::{WebState, api, openapi, pages, system, webhooks};
use crate::intake::MAX_BODY_BYTES;

/// Nothing from outside, nothing inline, no frames.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    media-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// No request waits longer for the head of its answer, whatever hangs behind it. It may have been carried out: whoever
/// asks again must be able to. Longer than a body may take (`body.rs`).
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// The whole application, as far as this node serves it.
pub fn router(state: WebState) -> Router {
    let roles = state.app.config.roles;
    let mut parts = vec![system::router()];
    parts.extend(roles.intake.then(webhooks::router));
    parts.extend(roles.web.then(api::router));
    let (documented, document) = openapi::documented(parts);
    let mut all = documented.merge(openapi::router(document));
    if roles.web {
        all = all.merge(pages::router());
    }
    let all = all.fallback(pages::nothing_here).method_not_allowed_fallback(pages::not_with_this_method);
    ruled(all).with_state(state)
}

/// What holds for every route: limits, time, headers, and a count of what it took.
pub fn ruled(routes: Router<WebState>) -> Router<WebState> {
    routes
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(answer_in_time))
        .layer(middleware::from_fn(measure))
        .layer(middleware::from_fn(survive))
        .layer(fixed_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(fixed_header(header::REFERRER_POLICY, "same-origin"))
        .layer(fixed_header(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
        .layer(SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
}

fn fixed_header(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

/// A fault of ours costs one request, not the server.
async fn survive(request: Request, next: Next) -> Response {
    let page = pages::wants_page(request.uri().path(), request.headers());
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| pages::broken(page))
}

async fn answer_in_time(request: Request, next: Next) -> Response {
    let late = |_| Error::Busy("A part of the archive does not answer in time.".into()).into_response();
    tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await.unwrap_or_else(late)
}

/// Time to answer, by route (never by address: those hold ids) and status class.
async fn measure(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = request.method().as_str().to_owned();
    let start = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let class = format!("{}xx", status / 100);
    metrics::histogram!("callvault_http_seconds", "route" => route.clone(), "status" => class).record(start.elapsed());
    tracing::debug!(method, route, status, micros = elapsed_micros(start), "request answered");
    response
}

fn elapsed_micros(start: Instant) -> u64 {
    u64::try_from(Duration::as_micros(&start.elapsed())).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    #[tokio::test]
    async fn a_panic_costs_one_request_and_is_told_in_its_form() {
        async fn broken() {
            panic!("of this test")
        }
        let router: Router = Router::new().route("/calls/x", get(broken)).route("/api/v1/x", get(broken));
        let router = router.layer(middleware::from_fn(survive));
        for (path, accept, expected) in [
            ("/calls/x", "text/html", "text/html; charset=utf-8"),
            ("/calls/x", "*/*", "application/problem+json"),
            ("/api/v1/x", "text/html", "application/problem+json"),
        ] {
            let request = Request::get(path).header("accept", accept).body(Body::empty()).unwrap();
            let answer = TowerToHyperService::new(router.clone()).call(request).await.unwrap();
            assert_eq!(answer.status().as_u16(), 500, "{path}");
            assert_eq!(answer.headers()["content-type"], expected, "{path}");
        }
    }
}
