//! Signing in by token or by a link that works once, and out again.

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, FromRequestParts, Path, RawQuery, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::shell::{Shell, error_page, html, shown};
use crate::access::{Identity, Permission, SESSION_LIFE};
use crate::web::WebState;
use crate::web::auth::{COOKIE, May, ReadCalls, same_origin, session_cookie};
use crate::web::body::Timely;
use crate::web::error::{Error, Result};

/// Longer addresses to come back to are forgotten.
const MAX_NEXT: usize = 4_000;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    shell: Shell,
    /// Where to go afterwards; empty for the search.
    next: String,
    problem: Option<&'static str>,
}

/// Shown for a moment after a link was used. The cookie is `SameSite=Strict`: on a redirect that began at another
/// site the browser would not send it, but a page of our own that leads on starts afresh.
#[derive(Template)]
#[template(path = "signed_in.html")]
struct SignedInPage {
    shell: Shell,
}

#[derive(Template)]
#[template(path = "used_link.html")]
struct UsedLinkPage {
    shell: Shell,
}

#[derive(Deserialize)]
pub(super) struct SignInForm {
    token: String,
    #[serde(default)]
    next: String,
}

fn sign_in_page(status: StatusCode, next: &str, problem: Option<&'static str>) -> Response {
    let next = safe_next(next).unwrap_or_default().to_owned();
    html(status, &SignInPage { shell: Shell::new("Sign in", None, ""), next, problem })
}

/// The form, or straight on for whoever is signed in.
pub(super) async fn form(State(state): State<WebState>, RawQuery(query): RawQuery, mut parts: Parts) -> Response {
    let query = query.unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let next = pairs.find(|(name, _)| name == "next").map(|(_, value)| value.into_owned()).unwrap_or_default();
    match May::<ReadCalls>::from_request_parts(&mut parts, &state).await {
        Ok(_) => Redirect::to(safe_next(&next).unwrap_or("/")).into_response(),
        Err(_) => sign_in_page(StatusCode::OK, &next, None),
    }
}

/// Opens a session for the holder of a token.
pub(super) async fn with_token(
    State(state): State<WebState>,
    headers: HeaderMap,
    form: Timely<Form<SignInForm>, FormRejection>,
) -> Response {
    if !from_our_page(&headers, &state) {
        return error_page(None, &Error::Forbidden("Sign in on this archive's own page."));
    }
    let Timely::Here(Form(form)) = form else {
        return sign_in_page(StatusCode::BAD_REQUEST, "", Some("Paste your token to sign in."));
    };
    let token = form.token.trim();
    if token.is_empty() {
        return sign_in_page(StatusCode::BAD_REQUEST, &form.next, Some("Paste your token to sign in."));
    }
    let identity = match state.app.access.authenticate(token).await {
        Ok(Some(identity)) => identity,
        Ok(None) => {
            let problem = "This token is not known, or it was revoked. Check that you pasted all of it, or ask your administrator for a new one.";
            return sign_in_page(StatusCode::UNAUTHORIZED, &form.next, Some(problem));
        }
        Err(error) => return error_page(None, &error.into()),
    };
    if !identity.role.may(Permission::ReadCalls) {
        let problem = "This token only delivers calls to the archive; it can't be used to look at them.";
        return sign_in_page(StatusCode::FORBIDDEN, &form.next, Some(problem));
    }
    let next = safe_next(&form.next).unwrap_or("/");
    let opened = open(&state, &identity, &headers, Redirect::to(next).into_response()).await;
    shown(None, opened)
}

/// Opens a session by a link that works once.
pub(super) async fn by_link(
    State(state): State<WebState>,
    Path(code): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    // Whatever only looks whether the link exists must not use it up.
    if method != Method::GET {
        return StatusCode::NO_CONTENT.into_response();
    }
    let identity = match state.app.access.redeem_sign_in_code(&code).await {
        Ok(identity) => identity,
        Err(error) => return error_page(None, &error.into()),
    };
    let Some(identity) = identity else {
        return html(
            StatusCode::GONE,
            &UsedLinkPage { shell: Shell::new("This link does not work any more", None, "") },
        );
    };
    if !identity.role.may(Permission::ReadCalls) {
        return error_page(None, &Error::Forbidden("The token behind this link can't be used to look at calls."));
    }
    let page = html(StatusCode::OK, &SignedInPage { shell: Shell::new("Signed in", None, "") });
    shown(None, open(&state, &identity, &headers, page).await)
}

/// Ends the session.
pub(super) async fn out(State(state): State<WebState>, headers: HeaderMap) -> Response {
    if !from_our_page(&headers, &state) {
        return error_page(None, &Error::Forbidden("Sign out on this archive's own page."));
    }
    if let Some(session) = session_cookie(&headers)
        && let Err(error) = state.app.access.close_session(&session).await
    {
        return error_page(None, &error.into());
    }
    shown(None, with_cookie(&state, Redirect::to("/sign-in").into_response(), "", 0))
}

/// Opens a session and has the browser keep it; the one it had before ends.
async fn open(state: &WebState, identity: &Identity, headers: &HeaderMap, response: Response) -> Result<Response> {
    if let Some(before) = session_cookie(headers) {
        state.app.access.close_session(&before).await?;
    }
    let session = state.app.access.open_session(identity).await?;
    with_cookie(state, response, &session, SESSION_LIFE.as_secs())
}

fn with_cookie(state: &WebState, mut response: Response, value: &str, seconds: u64) -> Result<Response> {
    let cookie = cookie(value, seconds, state.app.config.public_url.scheme() == "https");
    let cookie = HeaderValue::from_str(&cookie).map_err(|error| Error::Internal(error.to_string()))?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

fn cookie(value: &str, seconds: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}{secure}")
}

/// True where the browser says that the form stood on one of our pages. Old browsers leave `Origin` out on some posts:
/// then only `Sec-Fetch-Site`, which no page can set, will do.
fn from_our_page(headers: &HeaderMap, state: &WebState) -> bool {
    if headers.contains_key(header::ORIGIN) {
        return same_origin(headers, state);
    }
    fetched_by_ourselves(headers)
}

fn fetched_by_ourselves(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin" || site == "none")
}

/// The address to go on to, if it is one of this archive: a path, and nothing that a browser reads as another host.
fn safe_next(next: &str) -> Option<&str> {
    let local = next.len() <= MAX_NEXT
        && next.starts_with('/')
        && !next.starts_with("//")
        // Browsers leave out tabs and line ends, and read a backslash as a slash.
        && next.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && byte != b'\\')
        && !next.starts_with("/sign-");
    local.then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_addresses_follow() {
        for good in ["/", "/?q=a%20b&status=ended", "/calls/call_1", "/calls/a%2Fb?x=//y", "/docs/"] {
            assert_eq!(safe_next(good), Some(good));
        }
        let long = format!("/{}", "a".repeat(MAX_NEXT));
        for bad in [
            "",
            "calls",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "/a\r\nSet-Cookie: x=y",
            "https://evil.example/",
            "javascript:alert(1)",
            " /",
            "/é",
            "/sign-in?next=/",
            "/sign-out",
            &long,
        ] {
            assert_eq!(safe_next(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_cookie_says_all() {
        let expected = "callvault_session=abc; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200";
        assert_eq!(cookie("abc", 43200, false), expected);
        assert_eq!(cookie("abc", 43200, true), format!("{expected}; Secure"));
    }

    #[test]
    fn a_request_without_origin_is_foreign_unless_the_browser_vouches() {
        let headers = |site: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.extend(site.map(|site| (header::HeaderName::from_static("sec-fetch-site"), site.parse().unwrap())));
            headers
        };
        assert!(fetched_by_ourselves(&headers(Some("same-origin"))) && fetched_by_ourselves(&headers(Some("none"))));
        for foreign in [None, Some("cross-site"), Some("same-site"), Some("")] {
            assert!(!fetched_by_ourselves(&headers(foreign)), "{foreign:?}");
        }
    }

    #[test]
    fn what_follows_is_escaped_in_the_form() {
        let page = SignInPage { shell: Shell::new("Sign in", None, ""), next: "/?q=\"><script>".into(), problem: None };
        assert!(!page.render().unwrap().contains("<script>"));
    }
}
