//! What is kept by which policy until when, what is held, due and destroyed, what failed, what changed, and how it grows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::chronicle::{Batch, Failures, Fixity, KindCount, PolicyChange};
use super::days::Days;
use super::document::Document;
use super::moment::{Moment, Source};
use super::stock::{AHEAD, Amount, Calendar, Group};
use super::{Report, ReportError};
use crate::custody::What;
use crate::db::Db;
use crate::retention::PolicySet;

/// Months of the past that the forecast rests on.
const RESTS_ON: usize = 6;
/// Who keeps the table `kept` in step, by the name of its cursor.
const CURSOR: &str = "retention";

/// The report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Retention {
    /// Always `retention`.
    pub report: String,
    /// The first day of the period about which it tells what was done.
    #[schema(value_type = String, format = Date)]
    pub from: Date,
    /// Its last day, included.
    #[schema(value_type = String, format = Date)]
    pub to: Date,
    pub timezone: String,
    #[schema(value_type = String, format = DateTime)]
    pub as_of: Timestamp,
    /// How many entries of the journal it takes in.
    pub entries: u64,
    /// Entries that the numbers on what is kept do not take in yet.
    pub behind: u64,
    pub needs_attention: bool,
    pub kept: Kept,
    /// By policy and by the year in which calls ended.
    pub policies: Vec<PolicyYear>,
    pub expiring: Expiring,
    pub expiring_by_year: Vec<YearAmount>,
    pub held: Amount,
    /// Held, though their time is over.
    pub held_and_due: Amount,
    /// Batches that are proposed or approved, and not executed.
    pub proposed: Vec<Batch>,
    /// In the period, by policy.
    pub destroyed: Vec<PolicyAmount>,
    /// Recordings that could not be archived, in the period.
    pub failures: Failures,
    /// In the period.
    pub fixity: Fixity,
    /// The policies in force, and those that were adopted in the period.
    pub policy_changes: Vec<PolicyChange>,
    /// What else was done in the period.
    pub done: Vec<KindCount>,
    /// Entries with bodies that are about no call.
    pub others: Vec<KindCount>,
    /// The last two years, month by month.
    pub growth: Vec<Month>,
    /// The year ahead; empty where there is nothing to go by.
    pub forecast: Vec<Ahead>,
}

/// What is kept, and not destroyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Kept {
    pub recordings: Amount,
    /// Calls without a recording: missed and rejected ones, gaps.
    pub other_calls: Amount,
    /// Bodies in quarantine.
    pub quarantine: Amount,
}

/// What is kept of one year by one policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyYear {
    pub policy: String,
    pub year: i16,
    pub recordings: u64,
    pub other_calls: u64,
    pub quarantine: u64,
    pub bytes: u64,
}

/// What is destroyed by one policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyAmount {
    pub policy: String,
    pub count: u64,
    pub bytes: u64,
}

/// When the time of what is kept is over. What is due may be destroyed, once somebody decides so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Expiring {
    /// Its time is over, and it is not held.
    pub due: Amount,
    /// In the next 30 days; what is held is counted too.
    pub in_30_days: Amount,
    /// In the next 90 days, the 30 among them.
    pub in_90_days: Amount,
    /// In the next 365 days, the 90 among them.
    pub in_365_days: Amount,
    pub later: Amount,
    /// The period waits for an event that nobody told of.
    pub open_ended: Amount,
}

/// What expires in a year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct YearAmount {
    pub year: i16,
    pub count: u64,
    pub bytes: u64,
}

/// What a month brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Month {
    /// Its first day.
    #[schema(value_type = String, format = Date)]
    pub month: Date,
    pub added: Amount,
    pub destroyed: Amount,
    /// Kept when it was over, or as of the report.
    pub kept: Amount,
}

/// What a month to come may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ahead {
    /// Its first day.
    #[schema(value_type = String, format = Date)]
    pub month: Date,
    /// Kept when it is over, if nothing is destroyed.
    pub kept: Amount,
    /// The same, if all that is due by then and not held is destroyed.
    pub kept_if_due_is_destroyed: Amount,
}

/// Where the report reads.
#[derive(Clone)]
pub struct RetentionSource {
    pub source: Source,
    pub db: Db,
    /// In force, as far as the journal does not say so.
    pub policies: Arc<PolicySet>,
}

impl RetentionSource {
    /// The ids of all policies that were in force once, and of those of the configuration.
    async fn policies_ever(&self, moment: Moment) -> Result<BTreeSet<String>, ReportError> {
        let (first, others) = self.policies.policies();
        let mut ids: BTreeSet<String> = std::iter::once(first).chain(others).map(|policy| policy.id.clone()).collect();
        for change in PolicyChange::read(&self.source, moment, &(0..moment.size)).await? {
            ids.extend(change.policies);
        }
        Ok(ids)
    }
}

impl Report for Retention {
    fn document(&self) -> Document {
        self.page()
    }

    fn needs_attention(&self) -> bool {
        self.needs_attention
    }

    fn name(&self) -> (&'static str, Date, Date) {
        ("retention", self.from, self.to)
    }
}

impl Retention {
    /// Makes the report as things are.
    ///
    /// # Errors
    /// The database, or entries that do not read back.
    pub async fn make(from: &RetentionSource, days: &Days, moment: Moment) -> Result<Self, ReportError> {
        let behind = moment.size.saturating_sub(from.source.journal.cursor(CURSOR).await?);
        Self::of_table(&from.db, behind, from, days, moment).await
    }

    /// Makes the report as things were: what was kept is folded from the journal into a table of its own.
    ///
    /// # Errors
    /// The database, or entries that do not read back; no room for the table.
    pub async fn make_as_of(from: &RetentionSource, days: &Days, moment: Moment) -> Result<Self, ReportError> {
        let scratch = super::scratch::Scratch::fold(from, moment).await?;
        let report = Self::of_table(scratch.db(), 0, from, days, moment).await;
        scratch.close().await;
        report
    }

    async fn of_table(
        db: &Db,
        behind: u64,
        from: &RetentionSource,
        days: &Days,
        moment: Moment,
    ) -> Result<Self, ReportError> {
        let calendar = Calendar::new(moment.as_of, days);
        let policies_known = from.policies_ever(moment).await?;
        let groups = calendar.count(db, &policies_known).await?;
        let period = moment.period(&from.source, days).await?;
        let failures = Failures::read(&from.source, moment, &period).await?;
        let fixity = Fixity::read(&from.source, &period).await?;
        let growth = growth(&calendar, &groups);
        let kept: Vec<&Group> = groups.iter().filter(|group| group.is_kept()).collect();
        let held_and_due = kept.iter().filter(|group| group.held && calendar.due_within(group, 0));
        let held_and_due = Amount::of(held_and_due.copied());
        let policy_changes = PolicyChange::read(&from.source, moment, &period).await?;
        Ok(Self {
            report: "retention".into(),
            from: days.from,
            to: days.to,
            timezone: days.tz().iana_name().unwrap_or("UTC").to_owned(),
            as_of: moment.as_of,
            entries: moment.size,
            behind,
            needs_attention: failures.standing > 0 || !fixity.failures.is_empty(),
            kept: Kept {
                recordings: of_kind(&kept, What::Recording),
                other_calls: of_kind(&kept, What::Call),
                quarantine: of_kind(&kept, What::Quarantine),
            },
            policies: by_policy(&kept),
            expiring: expiring(&calendar, &kept),
            expiring_by_year: by_year(&calendar, &kept),
            held: Amount::of(kept.iter().filter(|group| group.held).copied()),
            held_and_due,
            proposed: Batch::open(&from.source, moment).await?,
            destroyed: destroyed(&calendar, &groups, days),
            failures,
            fixity,
            policy_changes,
            done: KindCount::done(&from.source, &period).await?,
            others: KindCount::about_no_call(&from.source, moment).await?,
            forecast: forecast(&calendar, &kept, &growth),
            growth,
        })
    }
}

fn of_kind(kept: &[&Group], what: What) -> Amount {
    Amount::of(kept.iter().filter(|group| group.what == what).copied())
}

fn by_policy(kept: &[&Group]) -> Vec<PolicyYear> {
    let mut all: BTreeMap<(&str, i16), PolicyYear> = BTreeMap::new();
    for group in kept {
        let line = all.entry((&group.policy, group.year)).or_insert_with(|| PolicyYear {
            policy: group.policy.clone(),
            year: group.year,
            recordings: 0,
            other_calls: 0,
            quarantine: 0,
            bytes: 0,
        });
        let count = match group.what {
            What::Recording => &mut line.recordings,
            What::Call => &mut line.other_calls,
            What::Quarantine => &mut line.quarantine,
        };
        *count += group.amount.count;
        line.bytes += group.amount.bytes;
    }
    all.into_values().collect()
}

fn expiring(calendar: &Calendar, kept: &[&Group]) -> Expiring {
    let within = |days: i64| {
        let groups = kept.iter().filter(|g| calendar.due_within(g, days) && !calendar.due_within(g, 0));
        Amount::of(groups.copied())
    };
    let open_ended = |group: &&&Group| calendar.open_ended(group);
    Expiring {
        due: Amount::of(kept.iter().filter(|g| calendar.due_within(g, 0) && !g.held).copied()),
        in_30_days: within(30),
        in_90_days: within(90),
        in_365_days: within(365),
        later: Amount::of(kept.iter().filter(|g| !calendar.due_within(g, 365) && !calendar.open_ended(g)).copied()),
        open_ended: Amount::of(kept.iter().filter(open_ended).copied()),
    }
}

/// What expires in each year, from the first to the last in which anything does; what is due already left out.
fn by_year(calendar: &Calendar, kept: &[&Group]) -> Vec<YearAmount> {
    let mut years: Vec<YearAmount> = Vec::new();
    let mut counted = Amount::of(kept.iter().filter(|g| calendar.due_within(g, 0)).copied());
    for (year, next) in calendar.years_of_expiry() {
        let before = Amount::of(kept.iter().filter(|g| calendar.due_before(g, next)).copied());
        // What is due at the very end of the year may be due already.
        let (count, bytes) = (before.count.saturating_sub(counted.count), before.bytes.saturating_sub(counted.bytes));
        counted = Amount { count: counted.count.max(before.count), bytes: counted.bytes.max(before.bytes) };
        years.push(YearAmount { year, count, bytes });
    }
    let used: BTreeSet<usize> = years.iter().enumerate().filter(|(_, year)| year.count > 0).map(|(n, _)| n).collect();
    match (used.first(), used.last()) {
        (Some(first), Some(last)) => years[*first..=*last].to_vec(),
        _ => Vec::new(),
    }
}

/// By the policy whose time was over.
fn destroyed(calendar: &Calendar, groups: &[Group], days: &Days) -> Vec<PolicyAmount> {
    let mut all: BTreeMap<&str, Amount> = BTreeMap::new();
    for group in groups.iter().filter(|group| calendar.destroyed_within(group, days.begin(), days.end())) {
        all.entry(&group.policy).or_default().add(group.amount);
    }
    let line = |(policy, amount): (&str, Amount)| PolicyAmount {
        policy: policy.to_owned(),
        count: amount.count,
        bytes: amount.bytes,
    };
    all.into_iter().map(line).collect()
}

/// From the month in which anything was kept first.
fn growth(calendar: &Calendar, groups: &[Group]) -> Vec<Month> {
    let destroyed = calendar.destroyed_by_month(groups);
    let added = |place: usize| Amount::of(groups.iter().filter(|group| group.month == place));
    let less = |all: Amount, gone: Amount| Amount {
        count: all.count.saturating_sub(gone.count),
        bytes: all.bytes.saturating_sub(gone.bytes),
    };
    let gone = |place: usize| destroyed.get(place).copied().unwrap_or_default();
    let mut kept = less(added(0), gone(0));
    let mut months = Vec::new();
    for (place, month) in (1..).zip(&calendar.months) {
        kept.add(added(place));
        kept = less(kept, gone(place));
        months.push(Month { month: *month, added: added(place), destroyed: gone(place), kept });
    }
    let first = months.iter().position(|month| month.kept != Amount::default() || month.added != Amount::default());
    first.map_or_else(Vec::new, |first| months.split_off(first))
}

/// Every month to come brings what the last whole months brought on average.
fn forecast(calendar: &Calendar, kept: &[&Group], growth: &[Month]) -> Vec<Ahead> {
    let Some((now, past)) = growth.split_last() else { return Vec::new() };
    let past = &past[past.len().saturating_sub(RESTS_ON)..];
    if past.is_empty() {
        return Vec::new();
    }
    let mean = |all: u64| all / past.len() as u64;
    let (count, bytes) =
        (mean(past.iter().map(|m| m.added.count).sum()), mean(past.iter().map(|m| m.added.bytes).sum()));
    // What is left of the present month counts as a whole one, less what came already.
    let rest = |all: u64, came: u64| all.saturating_sub(came);
    let begun = Amount {
        count: now.kept.count + rest(count, now.added.count),
        bytes: now.kept.bytes + rest(bytes, now.added.bytes),
    };
    let ahead = |n: usize| {
        let months = n as u64 + 1;
        let all = Amount { count: begun.count + count * months, bytes: begun.bytes + bytes * months };
        let next = calendar.ahead.get(n + 1).copied()?;
        let due = Amount::of(kept.iter().filter(|g| !g.held && calendar.due_before(g, next)).copied());
        let left = Amount { count: all.count.saturating_sub(due.count), bytes: all.bytes.saturating_sub(due.bytes) };
        Some(Ahead { month: *calendar.ahead.get(n)?, kept: all, kept_if_due_is_destroyed: left })
    };
    (0..usize::try_from(AHEAD).unwrap_or_default()).filter_map(ahead).collect()
}
