//! The pages: rendered here, complete without a script, quicker with one.
//!
//! A page is a handler that asks the same modules as the API, a view that says in words what they answered, and a
//! template. Templates stand in `templates/`, stylesheet and script in `assets/`; nothing comes from outside and
//! nothing is inline, as the content security policy demands. Nothing is decided here about calls or permissions.

mod assets;
mod call;
mod evidence;
mod facets;
mod flags;
mod format;
mod query;
mod reviews;
mod rows;
mod search;
mod shell;
mod sign_in;
mod timeline;
mod words;

use axum::Router;
use axum::routing::{get, post};

use super::WebState;

pub(super) use shell::{broken, not_with_this_method, nothing_here, wants_page};

pub(super) fn router() -> Router<WebState> {
    Router::new()
        .route("/", get(search::search))
        .route("/calls/{call_id}", get(call::call))
        .route("/calls/{call_id}/retry", post(call::retry))
        .route("/calls/{call_id}/flags/{rule}/review", post(flags::take))
        .route("/reviews", get(reviews::reviews))
        .route("/sign-in", get(sign_in::form).post(sign_in::with_token))
        .route("/sign-in/{code}", get(sign_in::by_link))
        .route("/sign-out", post(sign_in::out))
        .route("/assets/{name}", get(assets::serve))
}
