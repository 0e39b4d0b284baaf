//! `flags list | review | review-found`.

use anyhow::bail;
use clap::{Args, Subcommand};

use super::calls::{FilterArgs, local};
use super::terminal::visible;
use super::{Found, Outcome, say};
use crate::app::App;
use crate::calls::FlagFilter;
use crate::calls::records::ReviewState;
use crate::clock::from_micros;
use crate::flags::{ReviewError, Reviewer, Verdict, review};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Flags that somebody has to look at, those of the latest calls first.
    List(ListArgs),
    /// Say what is to be thought of a flag.
    Review {
        call_id: String,
        /// The flag's rule, such as short_call.
        rule: String,
        #[command(flatten)]
        verdict: VerdictArgs,
    },
    /// Say the same of all flags that a search finds: those that --flag and --flag-state name, else all that can be reviewed.
    ReviewFound {
        #[command(flatten)]
        filters: FilterArgs,
        #[command(flatten)]
        verdict: VerdictArgs,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(super) struct ListArgs {
    /// A flag's rule; repeated, any of them.
    #[arg(long)]
    rule: Vec<String>,
    /// open, in_review, cleared, escalated or resolved; without it open, in_review and escalated.
    #[arg(long)]
    state: Vec<String>,
    /// Number or name.
    #[arg(long)]
    agent: Option<String>,
    /// Who reviewed it last: a token's name.
    #[arg(long)]
    reviewer: Option<String>,
    /// Flags to show at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct VerdictArgs {
    /// in_review, cleared or escalated.
    #[arg(long = "as", value_parser = state)]
    state: ReviewState,
    /// One of the firm's own words, such as "no breach".
    #[arg(long)]
    outcome: Option<String>,
    #[arg(long)]
    note: Option<String>,
}

fn state(text: &str) -> Result<ReviewState, String> {
    let all = [ReviewState::InReview, ReviewState::Cleared, ReviewState::Escalated];
    let known = all.into_iter().find(|state| state.as_str() == text);
    known.ok_or_else(|| "give in_review, cleared or escalated".into())
}

impl VerdictArgs {
    fn verdict(self) -> Result<Verdict, ReviewError> {
        Verdict::new(self.state, self.outcome, self.note)
    }
}

/// Whoever runs commands is nobody's agent as far as the archive knows; the journal says that it was done here.
fn reviewer() -> Reviewer {
    Reviewer { actor: "cli".into(), names: Vec::new() }
}

pub(super) async fn flags(app: &App, command: Command) -> Outcome {
    match command {
        Command::List(args) => list(app, args).await,
        Command::Review { call_id, rule, verdict } => {
            let verdict = verdict.verdict()?;
            match review(&app.journal, &app.calls, (&call_id, &rule), &verdict, &reviewer()).await {
                Ok(_) => say(format!("{} is {} now.", visible(&rule), verdict.state.as_str()))?,
                Err(ReviewError::NoSuchCall) => {
                    bail!("there is no call {call_id:?}: callvault search finds calls by name, number and date")
                }
                Err(error) => return Err(error.into()),
            }
            Ok(Found::Nothing)
        }
        Command::ReviewFound { filters, verdict, json } => review_found(app, &filters, verdict.verdict()?, json).await,
    }
}

async fn list(app: &App, args: ListArgs) -> Outcome {
    let known = ["open", "in_review", "cleared", "escalated", "resolved"];
    if let Some(state) = args.state.iter().find(|state| !known.contains(&state.as_str())) {
        bail!("there is no flag state {state:?}: give one of {}", known.join(", "));
    }
    let unsettled = || ["open", "in_review", "escalated"].map(str::to_owned).to_vec();
    let filter = FlagFilter {
        rules: args.rule,
        states: if args.state.is_empty() { unsettled() } else { args.state },
        agent: args.agent,
        reviewer: args.reviewer,
        ..FlagFilter::default()
    };
    let flags = app.calls.flags(&filter, u64::from(args.limit)).await?;
    for flag in &flags {
        let reviewed = flag.reviewed.as_ref();
        if args.json {
            let line = serde_json::json!({"call_id": flag.call_id, "rule": flag.rule, "state": flag.state,
                "agent": flag.agent, "at": from_micros(flag.at), "reviewer": reviewed.map(|review| &review.reviewer),
                "reviewed_at": reviewed.map(|review| from_micros(review.at)),
                "outcome": reviewed.and_then(|review| review.outcome.as_ref())});
            say(line.to_string())?;
        } else {
            say(visible(&format!(
                "{}  {:<10} {:<21} {:<24}  {}  {}",
                local(app, from_micros(flag.at)),
                flag.state,
                flag.rule,
                flag.agent.as_deref().unwrap_or_default(),
                flag.call_id,
                reviewed.map_or("", |review| review.reviewer.as_str()),
            )))?;
        }
    }
    if !args.json {
        let more = if flags.len() == usize::from(args.limit) { ", perhaps more: see --limit" } else { "" };
        say(format!("{} flags{more}", flags.len()))?;
    }
    Ok(Found::Nothing)
}

async fn review_found(app: &App, filters: &FilterArgs, verdict: Verdict, json: bool) -> Outcome {
    let done = app.review_found(&filters.filters(), &verdict, &reviewer(), u64::MAX).await?;
    let skipped: u64 = done.skipped.values().sum();
    if json {
        let examples: Vec<_> = done
            .examples
            .iter()
            .map(|(call_id, rule, why)| serde_json::json!({"call_id": call_id, "rule": rule, "why": why}))
            .collect();
        let answer = serde_json::json!({"changed": done.changed, "skipped": skipped, "reasons": done.skipped,
            "examples": examples});
        say(answer.to_string())?;
        return Ok(Found::Nothing);
    }
    say(format!("{} flags are {} now, {skipped} left as they are.", done.changed, verdict.state.as_str()))?;
    for (why, count) in &done.skipped {
        say(format!("{count:>8}  {why}"))?;
    }
    Ok(Found::Nothing)
}
