//! Reading the table of flags: lists, counts, and what verification compares.

use super::flag_rows::{COLUMNS, FlagRow};
use super::person::person_key;
use super::read::Calls;
use crate::db::{Arg, Result, Row, Sql, text_safe};

/// Which flags; what is empty asks for nothing.
#[derive(Clone, Debug, Default)]
pub struct FlagFilter {
    pub rules: Vec<String>,
    /// Of the flag as it stands.
    pub states: Vec<String>,
    /// As the latest reviewer left it.
    pub review_states: Vec<String>,
    /// However it is written.
    pub agent: Option<String>,
    /// A token's name, or an actor as it stands in the journal.
    pub reviewer: Option<String>,
    /// Reviewed at or after, microseconds.
    pub from: Option<i64>,
    /// Reviewed before, microseconds.
    pub until: Option<i64>,
    /// Only these calls, by their keys.
    pub subjects: Option<Vec<String>>,
}

/// How many flags somebody has in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagCount {
    /// By what counts of the same are known.
    pub key: String,
    /// An agent as shown, or a reviewer as it stands in the journal; `None` where no agent is known.
    pub who: Option<String>,
    pub state: String,
    pub count: u64,
}

/// A condition as it grows.
#[derive(Default)]
struct Where {
    conditions: Vec<String>,
    params: Vec<Arg>,
}

impl Where {
    fn of(filter: &FlagFilter) -> Self {
        let mut all = Self::default();
        all.any_of("rule", &filter.rules);
        all.any_of("state", &filter.states);
        all.any_of("review", &filter.review_states);
        if let Some(agent) = &filter.agent {
            all.any_of("agent_key", &[person_key(agent)]);
        }
        if let Some(reviewer) = &filter.reviewer {
            all.any_of("reviewer", &[reviewer.clone(), format!("token:{reviewer}")]);
        }
        if let Some(from) = filter.from {
            all.compare("reviewed_at >=", from);
        }
        if let Some(until) = filter.until {
            all.compare("reviewed_at <", until);
        }
        if let Some(subjects) = &filter.subjects {
            all.any_of("subject", subjects);
        }
        all
    }

    fn any_of(&mut self, column: &str, values: &[String]) {
        if !values.is_empty() {
            let places: Vec<String> = values.iter().map(|value| self.place(text_safe(value).into_owned())).collect();
            self.conditions.push(format!("{column} in ({})", places.join(", ")));
        }
    }

    fn compare(&mut self, what: &str, value: i64) {
        let place = self.place(value);
        self.conditions.push(format!("{what} {place}"));
    }

    fn place(&mut self, value: impl Into<Arg>) -> String {
        self.params.push(value.into());
        format!("${}", self.params.len())
    }

    fn text(&self) -> String {
        if self.conditions.is_empty() { String::new() } else { format!("where {}", self.conditions.join(" and ")) }
    }
}

impl Calls {
    /// Reviews, the latest first, each flag with its latest one; at most `limit`, of entries before `before`.
    ///
    /// # Errors
    /// The database.
    pub async fn reviews(&self, filter: &FlagFilter, before: u64, limit: u64) -> Result<Vec<FlagRow>> {
        let mut all = Where::of(filter);
        all.compare("review_seq <", i64::try_from(before).unwrap_or(i64::MAX));
        self.flag_rows(&all, "review_seq desc", limit).await
    }

    /// Flags of the latest calls first, at most `limit`.
    ///
    /// # Errors
    /// The database.
    pub async fn flags(&self, filter: &FlagFilter, limit: u64) -> Result<Vec<FlagRow>> {
        self.flag_rows(&Where::of(filter), "at desc, call_seq desc, rule", limit).await
    }

    async fn flag_rows(&self, all: &Where, order: &str, limit: u64) -> Result<Vec<FlagRow>> {
        let sql = format!("select {COLUMNS} from flags {} order by {order} limit {limit}", all.text());
        self.db.fetch_all(Sql::Owned(sql), &all.params).await?.iter().map(FlagRow::from_row).collect()
    }

    /// How many flags of each state every agent has.
    ///
    /// # Errors
    /// The database.
    pub async fn flags_by_agent(&self, filter: &FlagFilter) -> Result<Vec<FlagCount>> {
        self.flag_counts(&Where::of(filter), "coalesce(agent_key, '')", "max(agent)", "state").await
    }

    /// How many flags every reviewer left in each state.
    ///
    /// # Errors
    /// The database.
    pub async fn flags_by_reviewer(&self, filter: &FlagFilter) -> Result<Vec<FlagCount>> {
        let mut all = Where::of(filter);
        all.conditions.push("review_seq is not null".into());
        self.flag_counts(&all, "reviewer", "reviewer", "review").await
    }

    async fn flag_counts(&self, all: &Where, by: &str, shown: &str, state: &str) -> Result<Vec<FlagCount>> {
        let sql = format!(
            "select {by} as who_key, {shown} as who, {state} as state, count(*) as count from flags {}
             group by {by}, {state} order by {by}, {state}",
            all.text()
        );
        let count = |row: &Row| {
            let count = row.int("count")?.cast_unsigned();
            Ok(FlagCount { key: row.text("who_key")?, who: row.opt_text("who")?, state: row.text("state")?, count })
        };
        self.db.fetch_all(Sql::Owned(sql), &all.params).await?.iter().map(count).collect()
    }

    /// The flags of one call, in the order of their rules: for verification.
    ///
    /// # Errors
    /// The database, or a row that does not read back.
    pub async fn flags_of(&self, call_seq: i64) -> Result<Vec<FlagRow>> {
        let sql = format!("select {COLUMNS} from flags where call_seq = $1");
        let rows = self.db.fetch_all(Sql::Owned(sql), &[call_seq.into()]).await?;
        let mut rows = rows.iter().map(FlagRow::from_row).collect::<Result<Vec<_>>>()?;
        // Not by the database: its order of texts may be another.
        rows.sort_by(|one, other| one.rule.cmp(&other.rule));
        Ok(rows)
    }

    /// Rows of `flags` that belong to no call, by call number and rule; at most `limit`.
    ///
    /// # Errors
    /// The database.
    pub async fn flags_of_nobody(&self, limit: u64) -> Result<Vec<(i64, String)>> {
        let sql = "select f.call_seq, f.rule from flags f left join calls c on c.first_seq = f.call_seq
                   where c.first_seq is null limit $1";
        let rows = self.db.fetch_all(sql, &[Arg::Int(limit.cast_signed())]).await?;
        rows.iter().map(|row| Ok((row.int("call_seq")?, row.text("rule").unwrap_or_default()))).collect()
    }

    /// Flags of one rule that one agent has on calls of a time (microseconds, both ends included), in the order of the calls.
    ///
    /// # Errors
    /// The database.
    pub async fn flags_of_agent(&self, agent_key: &str, rule: &str, from: i64, to: i64) -> Result<Vec<FlagRow>> {
        let sql = format!(
            "select {COLUMNS} from flags where agent_key = $1 and rule = $2 and at >= $3 and at <= $4 order by at, call_seq"
        );
        let params = [agent_key.into(), rule.into(), Arg::Int(from), Arg::Int(to)];
        let rows = self.db.fetch_all(Sql::Owned(sql), &params).await?;
        rows.iter().map(FlagRow::from_row).collect()
    }
}
