//! `flags list | evaluate | sample | review | review-found`.

use anyhow::bail;
use clap::{Args, Subcommand};

use super::calls::{FilterArgs, local};
use super::terminal::visible;
use super::{Found, Outcome, say};
use crate::app::App;
use crate::calls::FlagFilter;
use crate::calls::records::ReviewState;
use crate::clock::from_micros;
use crate::config::thresholds_with;
use crate::flags::{Again, Change, Listed, Preview, ReviewError, Reviewer, Rule, Rules, Verdict, review};
use crate::flags::{History, draw, subject};
use crate::search::moment;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Flags that somebody has to look at, those of the latest calls first.
    List(ListArgs),
    /// Evaluate the rules again over past calls, with the thresholds of the configuration: says first what that changes.
    Evaluate(EvaluateArgs),
    /// How far the samples are, week by week; with a week, the calls that it was drawn from.
    Sample(SampleArgs),
    /// Say what is to be thought of a flag.
    Review {
        call_id: String,
        /// The flag's rule, such as short_call.
        rule: String,
        #[command(flatten)]
        verdict: VerdictArgs,
    },
    /// Say the same of all flags that a search finds: those that --flag and --flag-state name, else all that can be reviewed.
    ReviewFound(Box<FoundArgs>),
}

#[derive(Args)]
pub(super) struct FoundArgs {
    #[command(flatten)]
    filters: FilterArgs,
    #[command(flatten)]
    verdict: VerdictArgs,
    /// As JSON.
    #[arg(long)]
    json: bool,
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
pub(super) struct EvaluateArgs {
    /// Only calls from a date or a time on.
    #[arg(long, value_name = "DATE")]
    since: Option<String>,
    /// Say what would change and leave it at that.
    #[arg(long)]
    dry_run: bool,
    /// Another threshold, such as short_call_seconds=30, to see what it would do; nothing is journaled then.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    changed: Vec<String>,
    /// As JSON: an object for what would change, and one for what was.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct SampleArgs {
    /// Weeks of each sample to show at most.
    #[arg(long, default_value_t = 13, value_parser = clap::value_parser!(u16).range(1..=520))]
    weeks: u16,
    /// Show the population of one week instead: a part and a call's key in each line, as the drawing orders them.
    #[arg(long, value_name = "WEEK", requires = "name")]
    population: Option<String>,
    /// The sample of that population.
    #[arg(long)]
    name: Option<String>,
    /// As JSON, one object a line.
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
        Command::Evaluate(args) => evaluate(app, args).await,
        Command::Sample(args) => sample(app, args).await,
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
        Command::ReviewFound(args) => {
            let FoundArgs { filters, verdict, json } = *args;
            review_found(app, &filters, verdict.verdict()?, json).await
        }
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

async fn evaluate(app: &App, args: EvaluateArgs) -> Outcome {
    let zone = app.config.timezone.0.clone();
    let since = args.since.as_deref().map(|text| moment(text, false, &zone)).transpose();
    let since = since.map_err(|why| anyhow::anyhow!("--since: {why}"))?.map(from_micros);
    let thresholds = thresholds_with(&app.config.flags, &args.changed)?;
    let again = Again {
        journal: &app.journal,
        calls: &app.calls,
        clock: &app.clock,
        policies: &app.policies,
        rules: Rules { thresholds, zone },
        since,
    };
    told(&again.preview().await?, false, args.json)?;
    // What is journaled carries the threshold that is in force: another one goes into the configuration first.
    if args.dry_run || !args.changed.is_empty() {
        return Ok(Found::Nothing);
    }
    told(&again.raise("cli").await?, true, args.json)?;
    Ok(Found::Nothing)
}

/// What would change, or, once it is `done`, what did.
fn told(preview: &Preview, done: bool, json: bool) -> anyhow::Result<()> {
    if json {
        let listed = |listed: &Listed| serde_json::json!({"total": listed.total, "calls": listed.call_ids});
        let change = |(rule, change): (&Rule, &Change)| {
            let change = serde_json::json!({"raise": listed(&change.raise), "resolve": listed(&change.resolve),
                "no_longer": listed(&change.no_longer)});
            (rule.as_str().to_owned(), change)
        };
        let rules: serde_json::Map<_, _> = preview.rules.iter().map(change).collect();
        let line =
            serde_json::json!({"done": done, "calls": preview.calls, "unreadable": preview.unreadable, "rules": rules});
        return Ok(say(line.to_string())?);
    }
    let sum = |which: fn(&Change) -> &Listed| preview.rules.values().map(|change| which(change).total).sum::<u64>();
    let (raised, resolved) = (sum(|change| &change.raise), sum(|change| &change.resolve));
    if done {
        return Ok(say(format!("Journaled: {raised} flags raised, {resolved} resolved."))?);
    }
    say(format!("{} calls, {} that can't be read", preview.calls, preview.unreadable))?;
    say(format!("{:<22} {:>8} {:>8} {:>10}", "rule", "raise", "resolve", "no longer"))?;
    for (rule, change) in &preview.rules {
        let (raise, resolve, stale) = (&change.raise, &change.resolve, &change.no_longer);
        say(format!("{:<22} {:>8} {:>8} {:>10}", rule.as_str(), raise.total, resolve.total, stale.total))?;
    }
    for (rule, change) in &preview.rules {
        named(&format!("{} would be raised on", rule.as_str()), &change.raise)?;
        named(&format!("{} would be resolved on", rule.as_str()), &change.resolve)?;
        named(&format!("{} would not be raised any more, and stays, on", rule.as_str()), &change.no_longer)?;
    }
    Ok(())
}

fn named(what: &str, listed: &Listed) -> anyhow::Result<()> {
    if listed.total > 0 {
        let rest = listed.total - listed.call_ids.len() as u64;
        let more = if rest == 0 { String::new() } else { format!(" and {rest} more") };
        say(format!("{what}: {}{more}", visible(&listed.call_ids.join(", "))))?;
    }
    Ok(())
}

async fn sample(app: &App, args: SampleArgs) -> Outcome {
    if let (Some(week), Some(name)) = (&args.population, &args.name) {
        return population(app, name, week, args.json).await;
    }
    let (plans, zone) = (&app.config.review.samples, &app.config.timezone.0);
    let weeks = app.samples().weeks(plans, app.clock.now(), zone, usize::from(args.weeks)).await?;
    for week in &weeks {
        if args.json {
            say(serde_json::to_string(week)?)?;
            continue;
        }
        let count = |state: &str| week.flags.get(state).copied().unwrap_or_default();
        let how = match (week.seeded_seq, week.drawn_seq) {
            (_, Some(_)) => format!(
                "{} of {} drawn: {} open, {} in review, {} escalated, {} cleared",
                week.drawn,
                week.population,
                count("open"),
                count("in_review"),
                count("escalated"),
                count("cleared")
            ),
            (Some(_), None) => "seeded, not drawn yet".into(),
            (None, None) => "no seed came before the week's end: it has no sample".into(),
        };
        say(format!("{:<20} {}  {:<24} {how}", week.sample, week.week, week.plan))?;
    }
    if plans.is_empty() && !args.json {
        say("There is no sample: name one in the configuration, under [[review.samples]].")?;
    }
    Ok(Found::Nothing)
}

/// What a week's sample is drawn from, as the archive knows it now; where it was drawn, the journal has its hash.
async fn population(app: &App, name: &str, week: &str, json: bool) -> Outcome {
    let source = app.samples();
    let history = History::of(&app.journal.about(&subject(name), u64::MAX).await?);
    let known = history.0.get(week).and_then(|known| Some((known.seeded.as_ref()?, known.drawn.as_ref())));
    let Some(((seq, seeded), drawn)) = known else {
        bail!("the sample {name} has no seed of {week}: callvault flags sample shows the weeks that have one")
    };
    let population = source.population(seeded).await?;
    for (part, keys) in &population {
        for key in keys {
            let line =
                if json { serde_json::json!({"part": part, "key": key}).to_string() } else { format!("{part}\t{key}") };
            say(visible_line(&line, json))?;
        }
    }
    let differs = drawn.is_some_and(|(_, drawn)| draw(seeded, *seq, &population) != *drawn);
    if differs {
        eprintln!("callvault: this is not what the sample was drawn from: calls changed or were destroyed since");
    }
    Ok(if differs { Found::Wrong } else { Found::Nothing })
}

/// A line of JSON escapes what a terminal must not get by itself.
fn visible_line(line: &str, json: bool) -> String {
    if json { line.to_owned() } else { line.split('\t').map(visible).collect::<Vec<_>>().join("\t") }
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
