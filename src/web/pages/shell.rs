//! What all pages share: the frame, who may see them, and how errors look.

use askama::Template;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};

use super::{assets, format};
use crate::access::Identity;
use crate::web::WebState;
use crate::web::auth::{May, Needs, ReadCalls};
use crate::web::error::{Error, Result};

/// Whose page it is, for the navigation bar.
#[derive(Clone, Debug)]
pub(super) struct Who {
    pub(super) name: String,
    pub(super) role: &'static str,
}

impl From<&Identity> for Who {
    fn from(identity: &Identity) -> Self {
        Self { name: identity.name.clone(), role: identity.role.as_str() }
    }
}

/// The frame around every page.
pub(super) struct Shell {
    pub(super) title: String,
    pub(super) who: Option<Who>,
    /// Which entry of the navigation bar this is.
    pub(super) here: &'static str,
    pub(super) css: String,
    pub(super) js: String,
    pub(super) icon: String,
}

impl Shell {
    pub(super) fn new(title: &str, who: Option<Who>, here: &'static str) -> Self {
        Self {
            title: format::undirected(&format::shortened(title, 80)),
            who,
            here,
            css: assets::address("callvault.css"),
            js: assets::address("callvault.js"),
            icon: assets::address("icon.svg"),
        }
    }
}

/// A rendered page.
pub(super) fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => Error::Internal(format!("a page can't be rendered: {error}")).into_response(),
    }
}

/// The page, or the error as one.
pub(super) fn shown(who: Option<Who>, page: Result<Response>) -> Response {
    page.unwrap_or_else(|error| error_page(who, &error))
}

/// A page that says one thing.
#[derive(Template)]
#[template(path = "message.html")]
struct Message {
    shell: Shell,
    heading: &'static str,
    text: String,
    status: u16,
}

/// An error in the look of the pages.
pub(super) fn error_page(who: Option<Who>, error: &Error) -> Response {
    if let Error::Internal(why) = error {
        tracing::error!(why, "page failed");
    }
    let (status, heading, text) = error.parts();
    let shell = Shell::new(heading, who, "");
    let mut response = html(status, &Message { shell, heading, text, status: status.as_u16() });
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// [`May`] for pages: the same permissions, but who is not signed in is asked to, and who may not is told so on a page.
pub(super) struct PageMay<P: Needs>(pub(super) May<P>);

impl<P: Needs> PageMay<P> {
    pub(super) fn identity(&self) -> &Identity {
        &self.0.identity
    }

    pub(super) fn who(&self) -> Option<Who> {
        Some(self.identity().into())
    }
}

impl<P: Needs> FromRequestParts<WebState> for PageMay<P> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> std::result::Result<Self, Response> {
        match May::<P>::from_request_parts(parts, state).await {
            Ok(may) => Ok(Self(may)),
            Err(Error::Unauthorized) => Err(to_sign_in(parts)),
            Err(error) => Err(error_page(signed_in(parts, state).await, &error)),
        }
    }
}

/// Whoever is signed in and may see pages.
async fn signed_in(parts: &Parts, state: &WebState) -> Option<Who> {
    // A copy that reads only: the request itself may have been refused for its method's sake.
    let mut copy = parts.clone();
    copy.method = Method::GET;
    let may = May::<ReadCalls>::from_request_parts(&mut copy, state).await.ok()?;
    Some((&may.identity).into())
}

fn to_sign_in(parts: &Parts) -> Response {
    let here = parts.uri.path_and_query().map_or("/", axum::http::uri::PathAndQuery::as_str);
    if parts.method != Method::GET || here == "/" {
        return Redirect::to("/sign-in").into_response();
    }
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("next", here).finish();
    Redirect::to(&format!("/sign-in?{query}")).into_response()
}

/// For addresses that lead nowhere: a page for people, a problem for programs.
pub(in crate::web) async fn nothing_here(State(state): State<WebState>, parts: Parts) -> Response {
    told(&state, &parts, &Error::NotFound("There is nothing at this address.".into())).await
}

/// For methods that an address does not take, in the same way.
pub(in crate::web) async fn not_with_this_method(State(state): State<WebState>, parts: Parts) -> Response {
    told(&state, &parts, &Error::MethodNotAllowed).await
}

async fn told(state: &WebState, parts: &Parts, error: &Error) -> Response {
    if !wants_page(parts.uri.path(), &parts.headers) {
        return error.to_problem();
    }
    error_page(signed_in(parts, state).await, error)
}

/// For a fault of ours: says so as a page, or as a problem, without asking any other part.
pub(in crate::web) fn broken(page: bool) -> Response {
    let error = Error::Internal("a handler panicked".into());
    if page { error_page(None, &error) } else { error.to_problem() }
}

/// Whether whoever asks is a person with a browser.
pub(in crate::web) fn wants_page(path: &str, headers: &HeaderMap) -> bool {
    !path.starts_with("/api/") && !path.starts_with("/webhooks/") && reads_html(headers)
}

fn reads_html(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.contains("text/html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_pages_and_escaped() {
        let who = Some(Who { name: "<i>x".into(), role: "officer" });
        let page = Message {
            shell: Shell::new("<script>", who, ""),
            heading: "Not found",
            text: "\"><script>alert(1)</script>".into(),
            status: 404,
        };
        let text = page.render().unwrap();
        assert!(!text.contains("<script>alert") && !text.contains("<i>x") && !text.contains("<title><script>"));
        assert!(text.contains("Not found") && text.contains("<html lang=\"en\""));
    }
}
