//! Several nodes on one database: the name of this one, and what only one of them does at a time.
//!
//! With the embedded database there is one node (`lock`), and everything is its turn. What is claimed piece by piece, such
//! as recordings, keeps its leases where it is claimed.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::db::{Db, Result};

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
        let micros = i64::try_from(TURN.as_micros()).unwrap_or(i64::MAX);
        let taken = self.node.db.execute(TAKE, &[self.what.into(), self.node.name().into(), micros.into()]).await;
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

/// Leases that no node can have written, by name, for verification: of something else, longer than a turn, or where there is
/// one node only.
///
/// # Errors
/// The database.
pub async fn impossible_leases(db: &Db) -> Result<Vec<String>> {
    let latest = match db.shared_clock().await? {
        Some(now) => now.saturating_add(i64::try_from(TURN.as_micros()).unwrap_or(i64::MAX)),
        None => i64::MIN,
    };
    let sql = "select name from leases where leased_until > $1 or name not in ('flags', 'analysis', 'second looks', 'retention') limit 100";
    db.fetch_all(sql, &[latest.into()]).await?.iter().map(|row| row.text("name")).collect()
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
