//! What is kept, counted by SQL in one pass over the table `kept`: what kind, by which policy, since which month, of which
//! year, until when. No facts are read.

use std::collections::BTreeSet;

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::ReportError;
use super::days::{Days, begin, day_of};
use super::slots::Slots;
use crate::custody::What;
use crate::db::{Arg, Db, Error as DbError, Row, Sql};

/// Months of growth that are told apart.
const MONTHS: i32 = 24;
/// Months that are forecast.
pub(super) const AHEAD: i32 = 12;
/// Years of calls, and of expiry, that are told apart.
const YEARS: i16 = 30;
/// Slots of one kind at most, less those that no date falls into, and kinds of things: parts of a row's number.
const SLOTS: u64 = 64;
const WHATS: u64 = 4;

/// So many things of so many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Amount {
    pub count: u64,
    pub bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
    }

    /// The sum of some groups.
    pub(super) fn of<'a>(groups: impl Iterator<Item = &'a Group>) -> Self {
        groups.fold(Self::default(), |mut sum, group| {
            sum.add(group.amount);
            sum
        })
    }
}

/// Rows that are alike in all that the report asks about.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) what: What,
    pub(super) policy: String,
    /// A place in [`Calendar::months`], from 1 on; 0 for what is older.
    pub(super) month: usize,
    /// The year of the call.
    pub(super) year: i16,
    due: usize,
    pub(super) held: bool,
    /// The slot in which it was destroyed.
    destroyed: Option<usize>,
    pub(super) amount: Amount,
}

impl Group {
    pub(super) fn is_kept(&self) -> bool {
        self.destroyed.is_none()
    }
}

/// The dates by which the report counts.
pub(super) struct Calendar {
    pub(super) as_of: Timestamp,
    pub(super) tz: TimeZone,
    /// The first days of the months that are told apart, the present one last.
    pub(super) months: Vec<Date>,
    /// The first days of the months ahead.
    pub(super) ahead: Vec<Date>,
    /// The first year in which something is told to expire.
    pub(super) first_year: i16,
    since: Slots,
    years: Slots,
    due: Slots,
    destroyed: Slots,
}

impl Calendar {
    pub(super) fn new(as_of: Timestamp, days: &Days) -> Self {
        let tz = days.tz();
        let this_month = day_of(as_of, tz).first_of_month();
        let month = |n: i32| this_month.checked_add(n.months()).unwrap_or(this_month);
        let months: Vec<Date> = (1 - MONTHS..=0).map(month).collect();
        // What becomes due in a month is known once the next one begins.
        let ahead: Vec<Date> = (1..=AHEAD + 1).map(month).collect();
        let micros = |day: Date| begin(day, tz).as_microsecond();
        let year = this_month.year();
        let years = |from: i16| (0..YEARS).map(move |n| micros(date(from.saturating_add(n).clamp(-9999, 9999), 1, 1)));
        let soon = [0, 30, 90, 365].map(|days| in_days(as_of, days));
        let due = soon.into_iter().chain(ahead.iter().map(|day| micros(*day))).chain(years(year + 1));
        let month_bounds: Vec<i64> = months.iter().map(|day| micros(*day)).collect();
        let others = [days.begin(), days.end(), Timestamp::MAX].map(Timestamp::as_microsecond);
        Self {
            as_of,
            tz: tz.clone(),
            destroyed: Slots::new(month_bounds.iter().copied().chain(others).collect()),
            since: Slots::new(month_bounds),
            years: Slots::new(years(year + 2 - YEARS).collect()),
            due: Slots::new(due.chain([i64::MAX]).collect()),
            months,
            ahead,
            first_year: year,
        }
    }

    /// Whether a group is due within so many days.
    pub(super) fn due_within(&self, group: &Group, days: i64) -> bool {
        group.due < self.due.before(in_days(self.as_of, days))
    }

    /// Whether a group is due before a day begins.
    pub(super) fn due_before(&self, group: &Group, day: Date) -> bool {
        group.due < self.due.before(begin(day, &self.tz).as_microsecond())
    }

    /// Whether a group waits for an event that nobody told of.
    pub(super) fn open_ended(&self, group: &Group) -> bool {
        group.due >= self.due.before(i64::MAX)
    }

    /// The years of expiry that are told apart, each with the first day of the next.
    pub(super) fn years_of_expiry(&self) -> impl Iterator<Item = (i16, Date)> {
        (0..YEARS).map(|n| (self.first_year + n, date(self.first_year + n + 1, 1, 1)))
    }

    /// Whether a group was destroyed from one moment to another: beginnings of months, of the period, or of all.
    pub(super) fn destroyed_within(&self, group: &Group, from: Timestamp, to: Timestamp) -> bool {
        let place = |at: Timestamp| self.destroyed.before(at.as_microsecond());
        group.destroyed.is_some_and(|slot| place(from) <= slot && slot < place(to))
    }

    /// What was destroyed in each of the months that are told apart; what was destroyed before them stands first.
    pub(super) fn destroyed_by_month(&self, groups: &[Group]) -> Vec<Amount> {
        let starts = self.months.iter().map(|day| begin(*day, &self.tz));
        let bounds: Vec<Timestamp> =
            std::iter::once(Timestamp::MIN).chain(starts).chain(std::iter::once(Timestamp::MAX)).collect();
        let within = |from, to| Amount::of(groups.iter().filter(|group| self.destroyed_within(group, from, to)));
        bounds.windows(2).map(|pair| within(pair[0], pair[1])).collect()
    }

    /// Counts all rows. `policies` are those that there may be; where there are others, it takes longer.
    ///
    /// # Errors
    /// The database.
    pub(super) async fn count(&self, db: &Db, policies: &BTreeSet<String>) -> Result<Vec<Group>, ReportError> {
        let known: Vec<String> = policies.iter().cloned().collect();
        if let Some(groups) = self.count_known(db, &known).await? {
            return Ok(groups);
        }
        let rows = db.fetch_all("select distinct policy from kept order by policy", &[]).await?;
        let all = rows.iter().map(|row| row.text("policy")).collect::<Result<Vec<String>, _>>()?;
        let groups = self.count_known(db, &all).await?;
        // Between the two statements another may have come.
        groups.ok_or_else(|| ReportError::Db(DbError::Damaged("policies changed: make the report again".into())))
    }

    /// `None` where there are rows of other policies. All that is asked for is one number of each row, so that the
    /// database has little to sort.
    async fn count_known(&self, db: &Db, policies: &[String]) -> Result<Option<Vec<Group>>, ReportError> {
        let mut params = Vec::new();
        let month = self.since.sql("kept_since", &mut params);
        // The sender chooses the end; where it can't be true, the receipt tells the year.
        params.push(Arg::Int(begin(date(1990, 1, 1), &self.tz).as_microsecond()));
        params.push(Arg::Int(in_days(self.as_of, 1)));
        let (least, most) = (params.len() - 1, params.len());
        let when = format!("case when ended_at >= ${least} and ended_at <= ${most} then ended_at else received_at end");
        let year = self.years.sql("at", &mut params);
        let due = self.due.sql("due_at", &mut params);
        let destroyed = self.destroyed.sql("destroyed_at", &mut params);
        let mut policy = String::from("case");
        for (place, name) in policies.iter().enumerate() {
            params.push(Arg::Text(name.clone()));
            policy.push_str(&format!(" when policy = ${} then {place}", params.len()));
        }
        let policy = if policies.is_empty() { "0".into() } else { format!("{policy} else {} end", policies.len()) };
        let sql = format!(
            "select k, count(*) as n, cast(sum(bytes) as bigint) as bytes from (
                select ((((((cast({policy} as bigint) * {WHATS}
                    + case what when 'recording' then 0 when 'call' then 1 else 2 end) * {SLOTS}
                    + {month}) * {SLOTS} + {year}) * {SLOTS} + {due}) * {SLOTS}
                    + case when destroyed_at is null then 0 else 1 + {destroyed} end) * 2
                    + case when held then 1 else 0 end) as k, bytes
                from (select policy, what, kept_since, {when} as at, due_at, held, destroyed_at, bytes from kept) r) t
             group by k order by k"
        );
        let rows = db.fetch_all(Sql::Owned(sql), &params).await?;
        rows.iter().map(|row| self.group(row, policies)).collect()
    }

    /// `None` where its policy is not among those.
    fn group(&self, row: &Row, policies: &[String]) -> Result<Option<Group>, ReportError> {
        let number = |name: &str| row.int(name).map(|n| u64::try_from(n).unwrap_or_default());
        let mut key = number("k")?;
        let mut part = |of: u64| {
            let place = usize::try_from(key % of).unwrap_or_default();
            key /= of;
            place
        };
        let (held, destroyed, due, years, month) = (part(2) == 1, part(SLOTS), part(SLOTS), part(SLOTS), part(SLOTS));
        let what = match part(WHATS) {
            0 => What::Recording,
            1 => What::Call,
            _ => What::Quarantine,
        };
        let Some(policy) = policies.get(part(u64::MAX)) else { return Ok(None) };
        Ok(Some(Group {
            what,
            policy: policy.clone(),
            month,
            // Slot 1 begins with the first year that is told apart; what is older counts for the year before it.
            year: self.first_year + 1 - YEARS + i16::try_from(years).unwrap_or_default(),
            due,
            held,
            destroyed: destroyed.checked_sub(1),
            amount: Amount { count: number("n")?, bytes: number("bytes")? },
        }))
    }
}

/// The first moment that is not within so many days, in microseconds.
fn in_days(as_of: Timestamp, days: i64) -> i64 {
    as_of.as_microsecond().saturating_add(days * 24 * 3_600_000_000).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_have_room_in_the_number_of_a_row() {
        let day = date(2026, 3, 9);
        for (as_of, zone) in [("2026-03-09T12:00:00Z", "UTC"), ("2024-02-29T23:59:59Z", "Asia/Kolkata")] {
            let days = Days::new(day, day, TimeZone::get(zone).unwrap()).unwrap();
            let calendar = Calendar::new(as_of.parse().unwrap(), &days);
            for slots in [&calendar.since, &calendar.years, &calendar.due, &calendar.destroyed] {
                assert!(slots.before(i64::MAX) as u64 + 1 < SLOTS);
            }
        }
        // With more policies than anybody has.
        let most = i64::MAX.unsigned_abs() / (WHATS * SLOTS.pow(4) * 2);
        assert!(most > 100_000, "{most}");
    }
}
