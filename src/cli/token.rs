//! `token create | list | revoke`.

use clap::Subcommand;

use super::terminal::visible;
use super::{Found, Outcome, say};
use crate::access::Role;
use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a token; its secret is printed once and kept nowhere.
    Create {
        name: String,
        /// ingest, officer, auditor or admin.
        #[arg(long)]
        role: Role,
        /// The agent to whom it belongs, by number or name as calls have it: nobody reviews their own calls.
        #[arg(long)]
        agent: Option<String>,
    },
    /// All tokens that ever were.
    List {
        /// As JSON, one a line.
        #[arg(long)]
        json: bool,
    },
    /// Take a token out of force.
    Revoke { name: String },
}

pub(super) async fn token(config: Config, command: Command) -> Outcome {
    // The first token is made before the first server runs.
    let app = App::open(config, Clock::system()).await?;
    match command {
        Command::Create { name, role, agent } => {
            say(&app.access.create_token_for(&name, role, agent.as_deref(), "cli").await?)?;
        }
        Command::List { json: true } => {
            for token in app.access.tokens().await? {
                say(serde_json::to_string(&token)?)?;
            }
        }
        Command::List { json: false } => {
            for token in app.access.tokens().await? {
                let state = token.revoked_at.map_or("in force".to_owned(), |at| format!("revoked {at:.0}"));
                let agent = token.agent.map_or_else(String::new, |agent| format!("  agent {}", visible(&agent)));
                say(format!("{:<32} {:<8} {:.0}  {state}{agent}", token.name, token.role, token.created_at))?;
            }
        }
        Command::Revoke { name } => {
            app.access.revoke_token(&name, "by hand", "cli").await?;
            eprintln!("Revoked {name}; a running server refuses it within 5 seconds.");
        }
    }
    Ok(Found::Nothing)
}
