//! `doctor`: one line for each part, and what to do where one is not well.

use super::{Found, Outcome, say};
use crate::access::Role;
use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;
use crate::db::{Complaint, Sight};
use crate::flags::Rule;
use crate::lock::{DataDirLock, LockError};
use crate::objects::{self, Diagnosis};
use crate::retention::PolicySet;

/// Less free space than this on the data directory's disk is a fault, in bytes.
const MIN_FREE: u64 = 1 << 30;

enum Verdict {
    Fine(String),
    /// Works, but somebody should know.
    Note(String),
    Bad(String),
}

use Verdict::{Bad, Fine, Note};

impl From<Complaint> for Verdict {
    fn from(Complaint { what, grave }: Complaint) -> Self {
        if grave { Bad(what) } else { Note(what) }
    }
}

pub(super) async fn doctor(config: Config) -> Outcome {
    let mut bad = false;
    let mut tell = |part: &str, verdict: Verdict| {
        let (mark, text) = match verdict {
            Fine(text) => ("ok  ", text),
            Note(text) => ("note", text),
            Bad(text) => {
                bad = true;
                ("FAIL", text)
            }
        };
        // Nobody reads any more: the exit code still tells.
        let _ = say(format!("{mark}  {part:<14} {text}"));
    };
    tell("configuration", Fine("every key is known and has a value that fits".into()));
    tell("data directory", data_dir(&config));
    tell("policies", policies(&config));
    tell("recordings", recordings(&config));
    for verdict in store(&config).await {
        tell("store", verdict);
    }
    tell("server", server(&config));
    match App::open_existing(config, Clock::system()).await {
        Err(error) => tell("database", Bad(error.to_string())),
        Ok(app) => {
            tell("database", database(&app).await);
            for complaint in complaints(&app).await {
                tell("database", complaint);
            }
            for verdict in replica(&app).await {
                tell("replica", verdict);
            }
            tell("tokens", tokens(&app).await);
            tell("search index", index(&app).await);
            tell("backlog", backlog(&app).await);
        }
    }
    Ok(if bad { Found::Wrong } else { Found::Nothing })
}

fn data_dir(config: &Config) -> Verdict {
    let dir = config.data_dir.display();
    let probe = match tempfile::tempfile_in(&config.data_dir) {
        Ok(probe) => probe,
        Err(error) => {
            return Bad(format!(
                "{dir} can't be written ({error}): run callvault serve once, or give this user the right to write there"
            ));
        }
    };
    drop(probe);
    match rustix::fs::statvfs(&config.data_dir) {
        Ok(stat) if stat.f_bavail * stat.f_frsize < MIN_FREE => {
            Bad(format!("{dir} has less than 1 GiB free: make room before webhooks are refused"))
        }
        Ok(stat) => Fine(format!("{dir} is writable, {} GiB free", (stat.f_bavail * stat.f_frsize) >> 30)),
        Err(error) => Bad(format!("the free space of {dir} can't be read: {error}")),
    }
}

fn policies(config: &Config) -> Verdict {
    match PolicySet::load(&config.retention.policies, &Rule::names()) {
        Ok(set) => {
            let (first, others) = set.policies();
            let titles: Vec<&str> = std::iter::once(first).chain(others).map(|policy| policy.title.as_str()).collect();
            Fine(titles.join("; "))
        }
        Err(error) => Bad(error.to_string()),
    }
}

fn recordings(config: &Config) -> Verdict {
    let recordings = &config.recordings;
    if recordings.hosts.is_empty() {
        return Bad("recordings.hosts is empty: nothing will ever be fetched".into());
    }
    if recordings.api_key.expose().is_empty() {
        return Note("recordings.api_key is empty: DoubleTick's recordings need the account's key".into());
    }
    if recordings.allow_private_addresses {
        return Note(
            "recordings.allow_private_addresses is on: a webhook can make the archive fetch from your own network"
                .into(),
        );
    }
    Fine(format!("fetched from {}", recordings.hosts.join(", ")))
}

/// A remote store is tried as an archive uses it.
async fn store(config: &Config) -> Vec<Verdict> {
    let store = match objects::open(config).await {
        Ok(store) => store,
        Err(error) => return vec![Bad(format!("{} can't be used: {error}", config.objects_dir().display()))],
    };
    let Diagnosis { fine, notes, faults } = store.diagnose(Clock::system().now()).await;
    let fine = if fine.is_empty() { None } else { Some(Fine(fine)) };
    fine.into_iter().chain(notes.into_iter().map(Note)).chain(faults.into_iter().map(Bad)).collect()
}

fn server(config: &Config) -> Verdict {
    match DataDirLock::check_free(&config.data_dir) {
        Ok(_) => Note("no server runs on this data directory".into()),
        Err(LockError::Held { holder, .. }) => Fine(format!("running: {holder}")),
        Err(error) => Bad(error.to_string()),
    }
}

async fn database(app: &App) -> Verdict {
    if let Err(error) = app.db.check_schema().await {
        return Bad(error.to_string());
    }
    match app.journal.frontier().await {
        Ok(frontier) => Fine(format!("{} journal entries", frontier.size())),
        Err(error) => Bad(format!("{error}: run callvault verify")),
    }
}

/// What speaks against a server of PostgreSQL.
async fn complaints(app: &App) -> Vec<Verdict> {
    match app.db.complaints(&app.clock).await {
        Ok(all) => all.into_iter().map(Verdict::from).collect(),
        Err(error) => vec![Bad(error.to_string())],
    }
}

/// The replica, if one is named.
async fn replica(app: &App) -> Vec<Verdict> {
    let (sight, complaints) = match app.db.replica_complaints().await {
        Ok(None) => return Vec::new(),
        Ok(Some(found)) => found,
        Err(error) => return vec![Bad(error.to_string())],
    };
    let sight = match sight {
        Sight::Follows { behind } => Fine(format!("it follows, {behind} journal entries behind")),
        Sight::Unsure { .. } => Bad("the primary can't be asked whether it is its replica".into()),
        Sight::Away(why) | Sight::Unfit(why) => Bad(format!("{why}; the primary is asked instead")),
    };
    std::iter::once(sight).chain(complaints.into_iter().map(Verdict::from)).collect()
}

async fn tokens(app: &App) -> Verdict {
    match app.access.tokens().await {
        Err(error) => Bad(error.to_string()),
        Ok(tokens) => {
            let in_force: Vec<_> = tokens.iter().filter(|token| token.revoked_at.is_none()).collect();
            let can_post = |role: &str| role == Role::Ingest.as_str() || role == Role::Admin.as_str();
            if in_force.iter().any(|token| can_post(&token.role)) {
                Fine(format!("{} in force", in_force.len()))
            } else {
                Note("none that may post webhooks: callvault token create NAME --role ingest".into())
            }
        }
    }
}

async fn index(app: &App) -> Verdict {
    match (app.search.searcher(), app.journal.size().await) {
        (Ok(searcher), Ok(size)) => {
            Fine(format!("{} calls, {} entries behind", searcher.num_calls(), size.saturating_sub(searcher.cursor())))
        }
        (Err(error), _) => Note(format!("{error}: callvault serve builds it")),
        (_, Err(error)) => Bad(error.to_string()),
    }
}

async fn backlog(app: &App) -> Verdict {
    match app.calls.backlog().await {
        Ok((pending, unanalysed)) => Fine(format!("{pending} recordings to fetch, {unanalysed} to analyse")),
        Err(error) => Bad(error.to_string()),
    }
}
