//! Permissions as extractors: a handler that needs one names it in its signature, or it does not get to know who asks.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::WebState;
use super::error::{Error, Result};
use crate::access::{Identity, Permission};

/// The session cookie's name.
pub(super) const COOKIE: &str = "callvault_session";

/// A permission as a type.
pub(super) trait Needs: Send + Sync + 'static {
    const PERMISSION: Permission;
}

macro_rules! permissions {
    ($($name:ident => $permission:ident),* $(,)?) => { $(
        pub(super) struct $name;
        impl Needs for $name {
            const PERMISSION: Permission = Permission::$permission;
        }
    )* };
}

permissions! {
    PostWebhooks => PostWebhooks,
    ReadCalls => ReadCalls,
    ReadJournal => ReadJournal,
    RetryRecordings => RetryRecordings,
    ExplainGaps => ExplainGaps,
    PlaceHolds => PlaceHolds,
    Dispose => Dispose,
    ReviewFlags => ReviewFlags,
    ReadMetrics => ReadMetrics,
}

/// Proof that whoever asks may do what `P` says.
pub(super) struct May<P: Needs> {
    pub(super) identity: Identity,
    _permission: PhantomData<P>,
}

impl<P: Needs> FromRequestParts<WebState> for May<P> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self> {
        let identity = identify(parts, state, P::PERMISSION == Permission::PostWebhooks).await?;
        if identity.role.may(P::PERMISSION) {
            Ok(Self { identity, _permission: PhantomData })
        } else {
            Err(Error::Forbidden("This token's role does not allow it."))
        }
    }
}

/// Who asks: by the Authorization header, else by the session cookie. Basic credentials count for webhooks only.
async fn identify(parts: &Parts, state: &WebState, basic: bool) -> Result<Identity> {
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        let text = value.to_str().map_err(|_| Error::Unauthorized)?;
        let secret = secret(text, basic).ok_or(Error::Unauthorized)?;
        return state.app.access.authenticate(&secret).await?.ok_or(Error::Unauthorized);
    }
    let cookie = session_cookie(&parts.headers).ok_or(Error::Unauthorized)?;
    if !matches!(parts.method, Method::GET | Method::HEAD) && !same_origin(&parts.headers, state) {
        return Err(Error::Forbidden("A request by cookie must come from this archive's own pages."));
    }
    state.app.access.session(&cookie).await?.ok_or(Error::Unauthorized)
}

fn secret(authorization: &str, basic: bool) -> Option<String> {
    let (scheme, value) = authorization.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Some(value.trim().to_owned())
    } else if basic && scheme.eq_ignore_ascii_case("basic") {
        let pair = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
        pair.split_once(':').map(|(_, password)| password.to_owned())
    } else {
        None
    }
}

pub(super) fn session_cookie(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value.to_owned())
}

/// True where `Origin` names the host that the request was sent to, or the configured public address.
pub(super) fn same_origin(headers: &HeaderMap, state: &WebState) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else { return false };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_some_and(|host| text(header::HOST) == Some(host))
        || origin == state.app.config.public_url.origin().ascii_serialization()
}
