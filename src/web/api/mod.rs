//! The JSON API, a file for each resource.

mod calls;
mod journal;
mod live;
mod params;
mod recording;
mod reports;
mod retention;
mod reviews;

use utoipa_axum::router::OpenApiRouter;

use super::WebState;

pub(super) use calls::{SearchAnswer, find};
pub(super) use params::SearchParams;
pub(super) use reviews::{ReviewItem, Reviews, find as find_reviews};

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .merge(calls::router())
        .merge(recording::router())
        .merge(reviews::router())
        .merge(live::router())
        .merge(journal::router())
        .merge(reports::router())
        .merge(retention::router())
}
