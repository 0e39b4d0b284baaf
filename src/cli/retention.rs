//! `retention report | due | propose | approve | cancel | execute | certificate | policies | event`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use jiff::Timestamp;
use jiff::civil::Date;

use super::person::actor;
use super::reports::RetentionReportArgs;
use super::terminal::visible;
use super::{Found, Outcome, say};
use crate::access::Permission;
use crate::app::App;
use crate::custody::{Certificate, CustodyError, Difference, Disposition, Moved, certificate_page};
use crate::flags::Rule;
use crate::journal::{Body, Kind, NewEntry};
use crate::retention::{ClientEvent, PolicySet, adopted_sets};

#[derive(Subcommand)]
pub(super) enum Command {
    /// What is kept by policy and year, held, due and expiring, and what failed, changed and was destroyed in a period;
    /// without --from and --to the last twelve months. Ends with 1 where checks failed or recordings are not archived.
    Report(RetentionReportArgs),
    /// What is over and not held, the longest over first.
    Due {
        #[arg(long, default_value_t = 100)]
        limit: u64,
        /// As JSON, one a line.
        #[arg(long)]
        json: bool,
    },
    /// Propose what is due for destruction.
    Propose {
        /// Calls at most; never more than 10,000.
        #[arg(long, default_value_t = 10_000)]
        limit: u64,
    },
    /// Approve a proposal: somebody else than who proposed it.
    Approve { id: String },
    /// Cancel a disposition before it is executed.
    Cancel {
        id: String,
        #[arg(long)]
        reason: Option<String>,
    },
    /// Destroy what was approved and whose time of grace is over; without an id, all of it.
    Execute {
        id: Option<String>,
        /// Destroy once more what a certificate names, where the store was restored from before.
        #[arg(long, value_name = "FILE", conflicts_with = "id")]
        certificate: Option<PathBuf>,
    },
    /// All dispositions, the newest first.
    List {
        /// As JSON, one a line.
        #[arg(long)]
        json: bool,
    },
    /// The certificate of destruction.
    Certificate {
        id: String,
        /// As a page that prints.
        #[arg(long)]
        html: bool,
    },
    /// The policies in force, and what others would change.
    #[command(subcommand)]
    Policies(Policies),
    /// Tell of a dated event with a customer, from which a policy's period runs.
    Event {
        /// As the policy calls it, such as relationship_end.
        event: String,
        /// The customer's id or number, as the sender states it.
        #[arg(long)]
        customer: String,
        #[arg(long)]
        date: Date,
    },
}

#[derive(Subcommand)]
pub(super) enum Policies {
    /// Those in force.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write the policies that come with the program into a new folder.
    Copy { folder: PathBuf },
    /// Which recordings the policies of a folder would keep longer, or for less; exit 1 where for less.
    Diff {
        folder: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Bring the policies of a folder into force, unless they would keep anything for less.
    Adopt { folder: String },
}

pub(super) async fn retention(app: &App, command: Command) -> Outcome {
    let custody = app.custody();
    match command {
        Command::Report(args) => return super::reports::retention(app, args).await,
        Command::Due { limit, json } => {
            for item in custody.due(limit).await? {
                match json {
                    true => say(serde_json::to_string(&item)?)?,
                    false => say(visible(&format!(
                        "{:.0}  {:<28} {:>12} bytes  {}",
                        item.due_at,
                        item.policy,
                        item.bytes,
                        item.call_id.unwrap_or_else(|| format!("quarantine, journal entry {}", item.seq))
                    )))?,
                }
            }
        }
        Command::Propose { limit } => {
            let proposed = custody.propose(limit, &actor(app, Permission::Dispose).await?).await?;
            eprintln!("{} calls and messages are proposed; somebody else has to approve:", proposed.items.len());
            say(proposed.id)?;
        }
        Command::Approve { id } => {
            let approved = custody.approve(&id, &actor(app, Permission::Dispose).await?).await?;
            let from = approved.from(custody.terms).map_or_else(String::new, |from| format!("{from:.0}"));
            eprintln!("{id} is approved; it can be executed from {from} on, and cancelled until then.");
        }
        Command::Cancel { id, reason } => {
            custody.cancel(&id, reason, &actor(app, Permission::Dispose).await?).await?;
            eprintln!("{id} is cancelled.");
        }
        Command::Execute { certificate: Some(file), .. } => return apply_again(app, &file).await,
        Command::Execute { id, certificate: None } => return execute(app, id).await,
        Command::List { json } => {
            for one in custody.dispositions().await? {
                list_one(&one, json)?;
            }
        }
        Command::Certificate { id, html } => {
            let bytes = custody.certificate(&id).await?;
            match html {
                true => {
                    use sha2::Digest;
                    let sha256 = hex::encode(sha2::Sha256::digest(&bytes));
                    say(certificate_page(&serde_json::from_slice(&bytes)?, &sha256)?)?;
                }
                false => say(std::str::from_utf8(&bytes)?)?,
            }
        }
        Command::Policies(command) => return policies(app, command).await,
        Command::Event { event, customer, date } => {
            let actor = actor(app, Permission::PlaceHolds).await?;
            let date = date.to_zoned(app.config.timezone.0.clone())?.timestamp();
            let body = Body::of_json(&ClientEvent { customer, event: event.clone(), date })?;
            app.journal.append(vec![NewEntry::new(Kind::ClientEvent, actor, None, body)]).await?;
            custody.catch_up().await?;
            eprintln!("{event} is noted.");
        }
    }
    Ok(Found::Nothing)
}

fn list_one(one: &Disposition, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(say(serde_json::to_string(one)?)?);
    }
    let approved = one.approved_by.as_ref().map_or_else(String::new, |by| format!(", approved by {by}"));
    let (id, state, many) = (&one.id, one.state.as_str(), one.items.len());
    let said = format!("{id}  {state:<10} {many:>6} items  proposed by {}{approved}", one.proposed_by);
    Ok(say(visible(&said))?)
}

async fn execute(app: &App, id: Option<String>) -> Outcome {
    let custody = app.custody();
    let _ = actor(app, Permission::Dispose).await?;
    let bar = super::terminal::bar();
    let progress = |done: u64, total: u64| match &bar {
        Some(bar) => {
            bar.set_message("destroying");
            bar.set_length(total);
            bar.set_position(done);
        }
        None => eprintln!("destroyed {done} of {total} calls"),
    };
    let ready = match &id {
        Some(id) => vec![id.clone()],
        None => custody.ready().await?,
    };
    let mut found = Found::Nothing;
    for id in ready {
        match custody.execute(&id, &progress).await {
            Ok(done) => {
                let (gone, kept) =
                    (done.certificate.calls.len() + done.certificate.entries.len(), done.certificate.skipped.len());
                eprintln!(
                    "{id}: {gone} destroyed, {kept} kept; the certificate is {} (SHA-256 {}).",
                    done.key, done.sha256
                );
                for skipped in &done.certificate.skipped {
                    found = Found::Wrong;
                    let what = skipped.call_id.clone().unwrap_or_else(|| format!("journal entry {}", skipped.seq));
                    say(visible(&format!("kept {what}: {}", skipped.why)))?;
                }
            }
            Err(error) => return Err(anyhow::Error::from(error).context(format!("{id} is not executed to its end"))),
        }
    }
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    Ok(found)
}

async fn apply_again(app: &App, file: &std::path::Path) -> Outcome {
    let text = std::fs::read(file).with_context(|| format!("{} can't be read", file.display()))?;
    let certificate: Certificate = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no certificate of destruction", file.display()))?;
    let skipped = app.custody().apply_again(&certificate).await?;
    for one in &skipped {
        say(visible(&format!("kept {}: {}", one.call_id.clone().unwrap_or_default(), one.why)))?;
    }
    eprintln!("What {} names is destroyed.", certificate.id);
    Ok(if skipped.is_empty() { Found::Nothing } else { Found::Wrong })
}

async fn policies(app: &App, command: Policies) -> Outcome {
    let custody = app.custody();
    match command {
        Policies::List { json } => {
            custody.catch_up().await?;
            let set = custody.policies.current();
            let since = adopted_sets(&app.db).await?.pop().map(|adopted| adopted.at);
            list_policies(&set, since, json)?;
        }
        Policies::Copy { folder } => {
            std::fs::create_dir(&folder).with_context(|| format!("{} can't be made anew", folder.display()))?;
            for (name, text) in PolicySet::shipped() {
                std::fs::write(folder.join(name), text)?;
            }
            eprintln!(
                "{} policies are in {}: keep those that apply to the firm.",
                PolicySet::shipped().len(),
                folder.display()
            );
        }
        Policies::Diff { folder, json } => {
            let found = custody.difference(&PolicySet::load(&folder, &Rule::names())?).await?;
            match json {
                true => say(serde_json::to_string(&found)?)?,
                false => tell(&found)?,
            }
            return Ok(if found.shorter > 0 { Found::Wrong } else { Found::Nothing });
        }
        Policies::Adopt { folder } => {
            let actor = actor(app, Permission::Dispose).await?;
            match custody.adopt(PolicySet::load(&folder, &Rule::names())?, &actor).await {
                Ok(found) => {
                    tell(&found)?;
                    eprintln!(
                        "They are in force. Set retention.policies to this folder, so that the next start finds the same."
                    );
                }
                Err(CustodyError::Shortens(found)) => {
                    tell(&found)?;
                    return Err(CustodyError::Shortens(found).into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(Found::Nothing)
}

fn list_policies(set: &PolicySet, since: Option<Timestamp>, json: bool) -> anyhow::Result<()> {
    let (first, others) = set.policies();
    let all: Vec<_> = std::iter::once(first).chain(others).collect();
    if json {
        let policy = |policy: &&crate::retention::Policy| serde_json::json!({"id": policy.id, "title": policy.title, "period": policy.period.to_string(), "citation": policy.citation});
        let policies: Vec<_> = all.iter().map(policy).collect();
        say(serde_json::json!({"sha256": set.sha256(), "since": since, "policies": policies}).to_string())?;
        return Ok(());
    }
    for policy in all {
        say(visible(&format!("{:<28} {:<8} {}", policy.id, policy.period.to_string(), policy.title)))?;
        say(visible(&format!("{:<28} {:<8} {}", "", "", policy.citation)))?;
    }
    let since = since.map_or_else(String::new, |at| format!(", in force since {at:.0}"));
    Ok(say(format!("SHA-256 {}{since}", set.sha256()))?)
}

fn tell(found: &Difference) -> anyhow::Result<()> {
    let line = |moved: &Moved| {
        let to = moved.to.map_or_else(|| "an event".into(), |to| format!("{to:.0}"));
        visible(&format!("  {}  {:.0} → {to}  {}", moved.what, moved.from, moved.policy))
    };
    say(format!("{} of {} would be kept longer", found.longer, found.compared))?;
    for moved in &found.longer_named {
        say(line(moved))?;
    }
    if found.longer > found.longer_named.len() as u64 {
        say(format!("  and {} more", found.longer - found.longer_named.len() as u64))?;
    }
    say(format!(
        "That is {:.0} days more for all together, and {:.3} GB-years of storage.",
        found.days,
        found.byte_days / 365.25 / 1e9
    ))?;
    if found.shorter > 0 {
        say(format!("{} would be kept for less, so these policies can't come into force:", found.shorter))?;
        for moved in &found.shorter_named {
            say(line(moved))?;
        }
    }
    Ok(())
}
