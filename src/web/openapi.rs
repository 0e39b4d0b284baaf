//! The description of the API, and a page to read and try it.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::Modify;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use super::WebState;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "callvault",
        description = "The compliance archive for recorded calls. Times are RFC 3339 in UTC; errors are RFC 9457 problems.",
    ),
    modifiers(&Schemes),
    tags(
        (name = "webhooks", description = "Where DoubleTick posts its events"),
        (name = "calls", description = "Search, one call, its recording"),
        (name = "reviews", description = "Flags, and what was said of them"),
        (name = "reports", description = "What is accounted for, and what is kept until when"),
        (name = "journal", description = "Every fact, in order"),
        (name = "system", description = "Health and metrics"),
    ),
)]
struct Api;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        components.add_security_scheme("basic", SecurityScheme::Http(Http::new(HttpAuthScheme::Basic)));
    }
}

/// The routes of all parts, and the document that describes them.
pub(super) fn documented(parts: Vec<OpenApiRouter<WebState>>) -> (Router<WebState>, Document) {
    let start = OpenApiRouter::with_openapi(<Api as utoipa::OpenApi>::openapi());
    parts.into_iter().fold(start, OpenApiRouter::merge).split_for_parts()
}

/// `/openapi.json` and `/docs`. The page's library sets styles by script, which the strict policy of the other pages
/// forbids; nothing of it comes from outside.
pub(super) fn router(document: Document) -> Router<WebState> {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
        connect-src 'self'; frame-ancestors 'none'; base-uri 'none'";
    let page: Router<WebState> = SwaggerUi::new("/docs").url("/openapi.json", document).into();
    page.layer(SetResponseHeaderLayer::overriding(header::CONTENT_SECURITY_POLICY, |_: &Response| {
        Some(HeaderValue::from_static(POLICY))
    }))
}
