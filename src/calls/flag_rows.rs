//! The table `flags`: a row for each flag of each call, which follows from the call's facts in the transaction that appends.
//! It is what lists and counts of flags are read from, and what a pattern over the calls of one agent is looked up in.

use super::facts::{Facts, FlagFacts};
use super::person::person_key;
use super::read::Calls;
use super::stated::Field;
use crate::db::ColumnType::{self, Int, Text};
use crate::db::{Arg, Error, Result, Row, Rows};
use crate::intake::call_key;

/// The columns in their order; those of [`FlagRow::from_row`].
pub(super) const COLUMNS: &str = "call_seq, rule, call_id, subject, state, agent, agent_key, at, raised_seq, review_seq, review, reviewer, reviewed_at, outcome";

/// One flag of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagRow {
    pub call_seq: i64,
    pub rule: String,
    pub call_id: String,
    /// The call's key.
    pub subject: String,
    /// As [`FlagFacts::state`] says it.
    pub state: String,
    /// As shown.
    pub agent: Option<String>,
    /// By which the agent is found again, however it was written.
    pub agent_key: Option<String>,
    /// When the call was: what calls are sorted by, microseconds.
    pub at: i64,
    /// The entry that raised it last.
    pub raised_seq: i64,
    /// The latest review, whether or not the flag was raised anew after it.
    pub reviewed: Option<ReviewColumns>,
}

/// The latest review of a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewColumns {
    pub seq: i64,
    /// What the reviewer said: `in_review`, `cleared` or `escalated`.
    pub state: String,
    /// As it stands in the journal.
    pub reviewer: String,
    /// Microseconds.
    pub at: i64,
    pub outcome: Option<String>,
}

impl FlagRow {
    /// The rows that these facts give, in the order of their rules.
    #[must_use]
    pub fn all_of(facts: &Facts, subject: &str) -> Vec<Self> {
        let agent = facts.text(Field::Agent);
        let agent_key = agent.as_deref().map(person_key).filter(|key| !key.is_empty());
        let row = |(rule, flag): (&String, &FlagFacts)| {
            let (raised, _) = flag.raised.as_ref()?;
            let reviewed = flag.reviewed.as_ref().map(|(seq, review)| ReviewColumns {
                seq: seq.cast_signed(),
                state: review.state.as_str().to_owned(),
                reviewer: review.by.clone(),
                at: review.at,
                outcome: review.outcome.clone(),
            });
            Some(Self {
                call_seq: facts.first_seq.cast_signed(),
                rule: rule.clone(),
                call_id: facts.call_id.clone(),
                subject: subject.to_owned(),
                state: flag.state().to_owned(),
                agent: agent.clone(),
                agent_key: agent_key.clone(),
                at: facts.sort_at().as_microsecond(),
                raised_seq: raised.cast_signed(),
                reviewed,
            })
        };
        facts.flags.iter().filter_map(row).collect()
    }

    /// The row as it is stored.
    ///
    /// # Errors
    /// A column is absent or of another type.
    pub fn from_row(row: &Row) -> Result<Self> {
        let (seq, at) = (row.opt_int("review_seq")?, row.opt_int("reviewed_at")?);
        let texts = (row.opt_text("review")?, row.opt_text("reviewer")?, row.opt_text("outcome")?);
        let reviewed = match (seq, at, texts) {
            (None, None, (None, None, None)) => None,
            (Some(seq), Some(at), (Some(state), Some(reviewer), outcome)) => {
                Some(ReviewColumns { seq, state, reviewer, at, outcome })
            }
            _ => return Err(Error::Damaged("half a review stands in a row of flags: run callvault verify".into())),
        };
        Ok(Self {
            call_seq: row.int("call_seq")?,
            rule: row.text("rule")?,
            call_id: row.text("call_id")?,
            subject: row.text("subject")?,
            state: row.text("state")?,
            agent: row.opt_text("agent")?,
            agent_key: row.opt_text("agent_key")?,
            at: row.int("at")?,
            raised_seq: row.int("raised_seq")?,
            reviewed,
        })
    }

    fn args(self) -> Vec<Arg> {
        let reviewed = self.reviewed;
        let (seq, at) = (reviewed.as_ref().map(|r| r.seq), reviewed.as_ref().map(|r| r.at));
        let (state, reviewer) =
            (reviewed.as_ref().map(|r| r.state.clone()), reviewed.as_ref().map(|r| r.reviewer.clone()));
        vec![
            self.call_seq.into(),
            self.rule.into(),
            self.call_id.into(),
            self.subject.into(),
            self.state.into(),
            self.agent.into(),
            self.agent_key.into(),
            self.at.into(),
            self.raised_seq.into(),
            seq.into(),
            state.into(),
            reviewer.into(),
            at.into(),
            reviewed.and_then(|r| r.outcome).into(),
        ]
    }
}

const INTO: &str =
    "insert into flags (call_seq, rule, call_id, subject, state, agent, agent_key, at, raised_seq, review_seq,
    review, reviewer, reviewed_at, outcome)";
const UPSERT: &str = "on conflict (call_seq, rule) do update set state = excluded.state, agent = excluded.agent,
                agent_key = excluded.agent_key, at = excluded.at, raised_seq = excluded.raised_seq,
                review_seq = excluded.review_seq, review = excluded.review, reviewer = excluded.reviewer,
                reviewed_at = excluded.reviewed_at, outcome = excluded.outcome";
const TYPES: &[ColumnType] = &[Int, Text, Text, Text, Text, Text, Text, Int, Int, Int, Text, Text, Int, Text];
/// The cursor of [`Calls::fill_flags`]; it is there only while rows are lacking.
const FILLING: &str = "flag rows";
/// Calls that are read at once.
const STEP: u64 = 500;

impl Calls {
    /// Writes the rows of calls that were there before the table was, where a migration says so. Interrupted, it goes on
    /// where it was; rows that entries wrote meanwhile stand.
    ///
    /// # Errors
    /// The database.
    pub async fn fill_flags(&self) -> Result<()> {
        let sql = "select next_seq from cursors where name = $1";
        while let Some(row) = self.db.fetch_optional(sql, &[FILLING.into()]).await? {
            let stretch = self.facts_after(row.int("next_seq")? - 1, STEP).await?;
            let key = |facts: &Facts| call_key(&facts.call_id);
            let found = stretch.readable.facts.iter().flat_map(|facts| FlagRow::all_of(facts, &key(facts)));
            let tail = "on conflict (call_seq, rule) do nothing";
            let rows = Rows { head: INTO, types: TYPES, rows: found.map(FlagRow::args).collect(), tail };
            let mut tx = self.db.begin().await?;
            tx.write(vec![rows]).await?;
            match stretch.last {
                Some(last) => {
                    let sql = "update cursors set next_seq = $2 where name = $1";
                    tx.execute(sql, &[FILLING.into(), (last + 1).into()]).await?
                }
                None => tx.execute("delete from cursors where name = $1", &[FILLING.into()]).await?,
            };
            tx.commit().await?;
        }
        Ok(())
    }
}

/// What writes the flags of these calls, and what takes those of destroyed calls out.
pub(super) fn rows<'a>(touched: impl Iterator<Item = (&'a Facts, &'a str)>) -> [Rows; 2] {
    let (mut flags, mut gone) = (Vec::new(), Vec::new());
    for (facts, subject) in touched {
        match facts.destroyed {
            None => flags.extend(FlagRow::all_of(facts, subject).into_iter().map(FlagRow::args)),
            Some(_) => gone.push(vec![facts.first_seq.cast_signed().into()]),
        }
    }
    [
        Rows { head: INTO, types: TYPES, rows: flags, tail: UPSERT },
        Rows { head: "delete from flags where call_seq in (", types: &[Int], rows: gone, tail: ")" },
    ]
}
