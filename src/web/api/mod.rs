//! The JSON API, a file for each resource.

mod calls;
mod journal;
mod live;
mod params;
mod recording;
mod reports;
mod retention;

use utoipa_axum::router::OpenApiRouter;

use super::WebState;

pub(super) use calls::{SearchAnswer, find};
pub(super) use params::SearchParams;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .merge(calls::router())
        .merge(recording::router())
        .merge(live::router())
        .merge(journal::router())
        .merge(reports::router())
        .merge(retention::router())
}
