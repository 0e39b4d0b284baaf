//! `hold place | close | release | list`.

use clap::{Args, Subcommand};

use super::calls::FilterArgs;
use super::person::actor;
use super::terminal::visible;
use super::{Found, Outcome, say};
use crate::access::Permission;
use crate::app::App;
use crate::custody::{HoldQuery, HoldState, NewHold};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Hold calls: those named with --call, or all that a query is about, those still to come too.
    Place(Box<PlaceArgs>),
    /// Let a hold catch no new calls; those that it has, it keeps.
    Close { name: String },
    /// Ask for the release of a hold; run by a second person, agree to it.
    Release { name: String },
    /// All holds, the newest first.
    List {
        /// As JSON, one a line.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(super) struct PlaceArgs {
    name: String,
    /// The case or the request.
    #[arg(long)]
    matter: String,
    #[arg(long)]
    reason: String,
    /// Who answers for it.
    #[arg(long)]
    custodian: String,
    /// A call, by its id; may be given many times.
    #[arg(long = "call", value_name = "CALL_ID")]
    calls: Vec<String>,
    #[command(flatten)]
    filters: FilterArgs,
}

pub(super) async fn hold(app: &App, command: Command) -> Outcome {
    let custody = app.custody();
    match command {
        Command::Place(args) => {
            let actor = actor(app, Permission::PlaceHolds).await?;
            let filters = args.filters.filters();
            let query = (filters != Default::default()).then(|| HoldQuery {
                filters,
                timezone: app.config.timezone.name(),
                region: app.config.region.clone(),
            });
            let PlaceArgs { name, matter, reason, custodian, calls, .. } = *args;
            custody.place(&NewHold { name: name.clone(), matter, reason, custodian, calls, query }, &actor).await?;
            custody.catch_up().await?;
            let held = custody.calls_held(&name).await?.len();
            eprintln!("{name} is placed; it holds {held} calls.");
        }
        Command::Close { name } => {
            custody.close_hold(&name, &actor(app, Permission::PlaceHolds).await?).await?;
            eprintln!("{name} catches no new calls any more.");
        }
        Command::Release { name } => {
            let state = custody.release_hold(&name, &actor(app, Permission::PlaceHolds).await?).await?;
            custody.catch_up().await?;
            eprintln!(
                "{}",
                match state {
                    HoldState::Released => format!("{name} is released."),
                    _ => format!("The release of {name} is asked for; somebody else has to run the same to agree."),
                }
            );
        }
        Command::List { json } => {
            for hold in custody.holds().await? {
                let calls = custody.calls_held(&hold.placed.name).await?.len();
                if json {
                    let mut value = serde_json::to_value(&hold)?;
                    value["held"] = calls.into();
                    say(value.to_string())?;
                    continue;
                }
                let state = serde_json::to_value(hold.state)?;
                say(visible(&format!(
                    "{:<24} {:<18} {calls:>7} calls  {}  {}",
                    hold.placed.name,
                    state.as_str().unwrap_or_default(),
                    hold.placed.custodian,
                    hold.placed.matter
                )))?;
            }
        }
    }
    Ok(Found::Nothing)
}
