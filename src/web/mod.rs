//! HTTP: the webhook's door, the JSON API with its description, the pages.
//!
//! Handlers translate: they check the permission (an extractor in their signature), call one of the modules before,
//! and shape the answer. No SQL, no rule about calls, no file is touched here.

mod api;
mod auth;
mod body;
mod connections;
mod error;
mod gauges;
mod openapi;
mod pages;
mod router;
mod system;
mod webhooks;

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;

use crate::app::App;
use crate::intake::Intake;
use gauges::Gauges;
use system::LastReadiness;

pub use connections::{Limits, serve};
pub use router::{router, ruled};

/// What every handler can reach; cheap to clone.
#[derive(Clone)]
pub struct WebState {
    pub app: Arc<App>,
    pub metrics: PrometheusHandle,
    pub intake: Arc<Intake>,
    readiness: LastReadiness,
    gauges: Gauges,
}

impl WebState {
    #[must_use]
    pub fn new(app: Arc<App>, metrics: PrometheusHandle, intake: Intake) -> Self {
        let (readiness, gauges) = (LastReadiness::default(), Gauges::default());
        Self { app, metrics, intake: Arc::new(intake), readiness, gauges }
    }
}
