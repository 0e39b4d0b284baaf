//! Where the report of a command goes, beside the terminal.

use std::path::PathBuf;

use clap::Args;

use crate::app::App;
use crate::delivery::{Courier, DeliveryError, Parcel, Targets, address};

/// Flags of every command that makes a report.
#[derive(Args)]
pub(super) struct Deliver {
    /// Write the report as a new file into this folder, which must be there.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Keep the report in the store, under reports/, for as long as delivery.keep says.
    #[arg(long)]
    to_bucket: bool,
    /// Post the report to this https address, with delivery.secret as a bearer token.
    #[arg(long, value_name = "URL", value_parser = |text: &str| address(text))]
    post: Option<url::Url>,
}

/// Targets of a report beside the file that it is written to.
#[derive(Args)]
pub(super) struct Send {
    /// Keep the report in the store, under reports/, for as long as delivery.keep says.
    #[arg(long)]
    to_bucket: bool,
    /// Post the report to this https address, with delivery.secret as a bearer token.
    #[arg(long, value_name = "URL", value_parser = |text: &str| address(text))]
    post: Option<url::Url>,
}

impl Send {
    pub(super) fn is_nowhere(&self) -> bool {
        !self.to_bucket && self.post.is_none()
    }

    /// The same, for whoever writes the file itself.
    pub(super) fn deliver(self) -> Deliver {
        Deliver { out: None, to_bucket: self.to_bucket, post: self.post }
    }
}

impl Deliver {
    /// Takes a report where the flags say, if they say anything.
    pub(super) async fn deliver(self, app: &App, parcel: &Parcel) -> Result<(), DeliveryError> {
        let targets = Targets { folder: self.out, bucket: self.to_bucket, url: self.post };
        if targets.is_nowhere() {
            return Ok(());
        }
        let courier = Courier {
            journal: &app.journal,
            store: app.store.as_ref(),
            clock: &app.clock,
            settings: &app.config.delivery,
        };
        courier.deliver(parcel, None, &targets).await.map(drop)
    }
}
