//! Several nodes on one database: the name of this one, and what only one of them does at a time.
//!
//! With the embedded database there is one node (`lock`), and everything is its turn. Jobs are another matter: a command
//! and a server may do the same one, so a [`JobLock`] holds between processes on either database. What is claimed piece by
//! piece, such as recordings, keeps its leases where it is claimed.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::db::{Db, Result, Sql};

/// How long a turn lasts unless it is renewed: so long a node that died holds others up.
const TURN: Duration = Duration::from_secs(15);
/// It is renewed when this much of it is over.
const RENEWED_AFTER: Duration = Duration::from_secs(5);
/// Whoever waits for a turn asks this often.
const ASKED_EVERY: Duration = Duration::from_secs(2);

// The database's clock decides: those of the nodes may differ.
const TAKE: &str = "insert into leases (name, owner, leased_until)
    values ($1, $2, (extract(epoch from clock_timestamp()) * 1000000)::bigint + $3)
    on conflict (name) do update set owner = excluded.owner, leased_until = excluded.leased_until
    where leases.owner = excluded.owner
       or leases.leased_until < (extract(epoch from clock_timestamp()) * 1000000)::bigint";

// The machine's clock, which is the same for all processes that share the file.
const TAKE_JOB: Sql = Sql::Split {
    sqlite: "insert into leases (name, owner, leased_until)
        values ($1, $2, cast(unixepoch('subsec') * 1000000 as integer) + $3)
        on conflict (name) do update set owner = excluded.owner, leased_until = excluded.leased_until
        where leases.owner = excluded.owner
           or leases.leased_until < cast(unixepoch('subsec') * 1000000 as integer)",
    postgres: TAKE,
};

/// Before the name of a job among the leases.
const JOB: &str = "job:";

/// One process of several that share a database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Node {
    name: Arc<str>,
    db: Db,
}

impl Node {
    /// The node of a data directory: it has the same name after a restart.
    ///
    /// # Errors
    /// The file with its name can't be read or written.
    pub fn of(data_dir: &Path, db: Db) -> std::io::Result<Self> {
        Ok(Self { name: name_in(data_dir)?.into(), db })
    }

    /// The name under which it holds leases.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What only one node does at a time.
    #[must_use]
    pub fn turn(&self, what: &'static str) -> Turn {
        Turn { node: self.clone(), what, state: State::default() }
    }

    /// Takes a job that one process does at a time, whichever node that is on; [`Taken::Elsewhere`] where another does it.
    ///
    /// # Errors
    /// The database.
    pub async fn job(&self, job: &str) -> Result<Taken> {
        let name = format!("{JOB}{job}");
        // Two runs in one process are two.
        let owner = format!("process {} on node {} {}", std::process::id(), self.name, uuid::Uuid::now_v7());
        let lock = JobLock { db: self.db.clone(), name, owner, lost: CancellationToken::new(), renewing: None };
        let asked = Instant::now();
        if lock.take().await? {
            return Ok(Taken::Here(lock.renewed_from(asked)));
        }
        let row =
            self.db.fetch_optional("select owner from leases where name = $1", &[lock.name.as_str().into()]).await?;
        let owner = row.map(|row| row.text("owner")).transpose()?.unwrap_or_default();
        Ok(Taken::Elsewhere { by: owner.rsplit_once(' ').map_or(owner.clone(), |(who, _)| who.to_owned()) })
    }
}

/// What came of taking a job.
#[derive(Debug)]
pub enum Taken {
    Here(JobLock),
    /// Another process does it; in words which.
    Elsewhere {
        by: String,
    },
}

/// A job that this process alone does. It is renewed by itself until it is released or dropped; what is dropped others can
/// take some seconds later.
#[derive(Debug)]
pub struct JobLock {
    db: Db,
    name: String,
    owner: String,
    lost: CancellationToken,
    renewing: Option<tokio::task::JoinHandle<()>>,
}

impl JobLock {
    /// Cancelled once it may be another's: whoever works must stop then.
    #[must_use]
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Gives it to whoever asks next.
    ///
    /// # Errors
    /// The database; then it ends by itself.
    pub async fn release(self) -> Result<()> {
        if let Some(renewing) = &self.renewing {
            renewing.abort();
        }
        let sql = "delete from leases where name = $1 and owner = $2";
        self.db.execute(sql, &[self.name.as_str().into(), self.owner.as_str().into()]).await.map(drop)
    }

    async fn take(&self) -> Result<bool> {
        take_job(&self.db, &self.name, &self.owner).await
    }

    fn renewed_from(mut self, taken: Instant) -> Self {
        let (db, name, owner, lost) = (self.db.clone(), self.name.clone(), self.owner.clone(), self.lost.clone());
        let renew = async move {
            let mut sure = taken;
            // It counts from before the question, and a moment earlier than the database's.
            while sure.elapsed() < TURN - Duration::from_secs(2) {
                tokio::time::sleep(TURN / 4).await;
                let asked = Instant::now();
                match tokio::time::timeout(RENEWED_AFTER, take_job(&db, &name, &owner)).await {
                    Ok(Ok(true)) => sure = asked,
                    Ok(Ok(false)) => break,
                    Ok(Err(_)) | Err(_) => {}
                }
            }
            tracing::warn!(job = name, "this process can't be sure of a job any more, and stops it");
            lost.cancel();
        };
        self.renewing = Some(tokio::spawn(renew));
        self
    }
}

impl Drop for JobLock {
    fn drop(&mut self) {
        if let Some(renewing) = &self.renewing {
            renewing.abort();
        }
    }
}

async fn take_job(db: &Db, name: &str, owner: &str) -> Result<bool> {
    Ok(db.execute(TAKE_JOB, &[name.into(), owner.into(), micros(TURN).into()]).await? == 1)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// A node's turn at something, if it is its turn.
#[derive(Debug)]
pub struct Turn {
    node: Node,
    what: &'static str,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    mine: bool,
    asked: Option<Instant>,
}

impl Turn {
    /// Whether it is this node's turn now; takes it where it is nobody's, and keeps it while this is asked often.
    ///
    /// # Errors
    /// The database: then it is not known, and nothing should be done.
    pub async fn is_mine(&mut self) -> Result<bool> {
        if !self.node.db.is_shared() {
            return Ok(true);
        }
        let again = if self.state.mine { RENEWED_AFTER } else { ASKED_EVERY };
        if self.state.asked.is_some_and(|asked| asked.elapsed() < again) {
            return Ok(self.state.mine);
        }
        // It counts from before the question: the answer may have been on its way for long.
        let asked = Instant::now();
        let micros = micros(TURN).into();
        let taken = self.node.db.execute(TAKE, &[self.what.into(), self.node.name().into(), micros]).await;
        self.state = State { mine: matches!(taken, Ok(1)), asked: Some(asked) };
        taken.map(|_| self.state.mine)
    }

    /// Gives it to whoever asks next.
    ///
    /// # Errors
    /// The database; then it ends by itself.
    pub async fn let_go(&mut self) -> Result<()> {
        if std::mem::take(&mut self.state).mine {
            let sql = "delete from leases where name = $1 and owner = $2";
            self.node.db.execute(sql, &[self.what.into(), self.node.name().into()]).await?;
        }
        Ok(())
    }
}

/// Leases that no node can have written, by name, for verification: of something else, longer than a turn, or, but for jobs,
/// where there is one node only.
///
/// # Errors
/// The database.
pub async fn impossible_leases(db: &Db) -> Result<Vec<String>> {
    let latest = match db.shared_clock().await? {
        Some(now) => now.saturating_add(micros(TURN)),
        None => i64::MIN,
    };
    let sql = Sql::Split {
        sqlite: "select name from leases where case when name like 'job:%'
                then leased_until > cast(unixepoch('subsec') * 1000000 as integer) + $2
                else leased_until > $1 or name not in ('flags', 'analysis', 'second looks', 'retention', 'samples') end limit 100",
        postgres: "select name from leases where case when name like 'job:%'
                then leased_until > (extract(epoch from clock_timestamp()) * 1000000)::bigint + $2
                else leased_until > $1 or name not in ('flags', 'analysis', 'second looks', 'retention', 'samples') end limit 100",
    };
    db.fetch_all(sql, &[latest.into(), micros(TURN).into()]).await?.iter().map(|row| row.text("name")).collect()
}

fn name_in(data_dir: &Path) -> std::io::Result<String> {
    let path = data_dir.join("node-id");
    match std::fs::read_to_string(&path) {
        Ok(name) if !name.trim().is_empty() => Ok(name.trim().to_owned()),
        Ok(_) => write_name(&path),
        // What is no text is no name of ours; leases that were held under another run out.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => write_name(&path),
        Err(error) => Err(error),
    }
}

fn write_name(path: &Path) -> std::io::Result<String> {
    let name = uuid::Uuid::now_v7().to_string();
    std::fs::write(path, &name)?;
    Ok(name)
}
