//! How far each run of the schedule is.

use std::collections::BTreeMap;

use crate::db::{Db, Result, Row};

const INTO: &str = "insert into schedule (name, cron, done_until) values ($1, $2, $3)
    on conflict (name) do update set cron = excluded.cron, done_until = excluded.done_until";
const BEGAN: &str = "update schedule set began_at = $2 where name = $1";
/// What the last one came to stands until one comes to something else.
const LEFT: &str = "update schedule set done_until = $2 where name = $1";
const ENDED: &str =
    "update schedule set done_until = $2, began_at = $2, ended_at = $3, outcome = $4, why = $5 where name = $1";

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Fine,
    /// Something needs somebody's attention.
    Attention,
    /// It, or the delivery of its report, went wrong.
    Failed,
    /// Another process was at it.
    Left,
}

impl Outcome {
    pub const ALL: [Self; 4] = [Self::Fine, Self::Attention, Self::Failed, Self::Left];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Attention => "attention",
            Self::Failed => "failed",
            Self::Left => "left",
        }
    }
}

/// How far one is.
#[derive(Clone, Debug)]
pub struct State {
    pub cron: String,
    /// What was due until then is done; microseconds, like all times here.
    pub done_until: i64,
    pub began_at: Option<i64>,
    pub ended_at: Option<i64>,
    pub outcome: Option<Outcome>,
    /// In words, where it was not fine.
    pub why: Option<String>,
}

/// An ended run.
pub struct Ended {
    pub began_at: i64,
    pub ended_at: i64,
    pub outcome: Outcome,
    pub why: Option<String>,
}

/// All that there are, by their names.
///
/// # Errors
/// The database.
pub async fn states(db: &Db) -> Result<BTreeMap<String, State>> {
    let sql = "select name, cron, done_until, began_at, ended_at, outcome, why from schedule";
    db.fetch_all(sql, &[]).await?.iter().map(|row| Ok((row.text("name")?, state(row)?))).collect()
}

/// Has one begin: nothing before a moment counts as missed.
///
/// # Errors
/// The database.
pub async fn begin(db: &Db, name: &str, cron: &str, done_until: i64) -> Result<()> {
    db.execute(INTO, &[name.into(), cron.into(), done_until.into()]).await.map(drop)
}

/// Takes note of a run that begins.
///
/// # Errors
/// The database.
pub async fn began(db: &Db, name: &str, at: i64) -> Result<()> {
    db.execute(BEGAN, &[name.into(), at.into()]).await.map(drop)
}

/// Takes note of a run that ended.
///
/// # Errors
/// The database; it is run again then.
pub async fn ended(db: &Db, name: &str, run: &Ended) -> Result<()> {
    if run.outcome == Outcome::Left {
        return db.execute(LEFT, &[name.into(), run.began_at.into()]).await.map(drop);
    }
    let (outcome, why) = (run.outcome.as_str(), run.why.clone());
    let params = [name.into(), run.began_at.into(), run.ended_at.into(), outcome.into(), why.into()];
    db.execute(ENDED, &params).await.map(drop)
}

fn state(row: &Row) -> Result<State> {
    let outcome = row.opt_text("outcome")?;
    Ok(State {
        cron: row.text("cron")?,
        done_until: row.int("done_until")?,
        began_at: row.opt_int("began_at")?,
        ended_at: row.opt_int("ended_at")?,
        outcome: outcome.and_then(|name| Outcome::ALL.into_iter().find(|one| one.as_str() == name)),
        why: row.opt_text("why")?,
    })
}
