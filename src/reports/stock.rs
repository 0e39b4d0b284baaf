//! What is kept, counted by SQL in one pass over the table `kept`: what kind, by which policy, since which month, of which
//! year, until when. No facts are read.

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::ReportError;
use super::days::{begin, day_of};
use super::slots::Slots;
use crate::custody::What;
use crate::db::{Arg, Db, Row, Sql};

/// Months of growth that are told apart.
const MONTHS: i32 = 24;
/// Months that are forecast.
pub(super) const AHEAD: i32 = 12;
/// Years of calls, and of expiry, that are told apart.
const YEARS: i16 = 30;

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
    pub(super) due: usize,
    pub(super) held: bool,
    pub(super) gone: bool,
    pub(super) amount: Amount,
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
}

impl Calendar {
    pub(super) fn new(as_of: Timestamp, tz: &TimeZone) -> Self {
        let this_month = day_of(as_of, tz).first_of_month();
        let month = |n: i32| this_month.checked_add(n.months()).unwrap_or(this_month);
        let months: Vec<Date> = (1 - MONTHS..=0).map(month).collect();
        // What becomes due in a month is known once the next one begins.
        let ahead: Vec<Date> = (1..=AHEAD + 1).map(month).collect();
        let micros = |day: Date| begin(day, tz).as_microsecond();
        let year = this_month.year();
        let years = |from: i16| (0..YEARS).map(move |n| micros(date(from.saturating_add(n).clamp(-9999, 9999), 1, 1)));
        let days = [0, 30, 90, 365].map(|days| in_days(as_of, days));
        let due = days.into_iter().chain(ahead.iter().map(|day| micros(*day))).chain(years(year + 1));
        Self {
            as_of,
            tz: tz.clone(),
            since: Slots::new(months.iter().map(|day| micros(*day)).collect()),
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

    /// Counts all rows.
    pub(super) async fn count(&self, db: &Db) -> Result<Vec<Group>, ReportError> {
        let mut params = Vec::new();
        let month = self.since.sql("kept_since", &mut params);
        // The sender chooses the end; where it can't be true, the receipt tells the year.
        params.push(Arg::Int(begin(date(1990, 1, 1), &self.tz).as_microsecond()));
        params.push(Arg::Int(in_days(self.as_of, 1)));
        let (least, most) = (params.len() - 1, params.len());
        let when = format!("case when ended_at >= ${least} and ended_at <= ${most} then ended_at else received_at end");
        let year = self.years.sql("at", &mut params);
        let due = self.due.sql("due_at", &mut params);
        let sql = format!(
            "select what, policy, month, year, due, held, gone, count(*) as n, cast(sum(bytes) as bigint) as bytes
             from (select what, policy, {month} as month, {year} as year, {due} as due,
                          case when held then 1 else 0 end as held,
                          case when destroyed_at is null then 0 else 1 end as gone, bytes
                   from (select what, policy, kept_since, {when} as at, due_at, held, destroyed_at, bytes from kept) k) t
             group by what, policy, month, year, due, held, gone
             order by what, policy, month, year, due, held, gone"
        );
        db.fetch_all(Sql::Owned(sql), &params).await?.iter().map(|row| self.group(row)).collect()
    }

    fn group(&self, row: &Row) -> Result<Group, ReportError> {
        let what = match row.text("what")?.as_str() {
            "recording" => What::Recording,
            "quarantine" => What::Quarantine,
            _ => What::Call,
        };
        let place = |name: &str| row.int(name).map(|n| usize::try_from(n).unwrap_or_default());
        // Slot 1 begins with the first year that is told apart; what is older counts for the year before it.
        let years = i16::try_from(place("year")?).unwrap_or_default();
        Ok(Group {
            what,
            policy: row.text("policy")?,
            month: place("month")?,
            year: self.first_year + 1 - YEARS + years,
            due: place("due")?,
            held: row.int("held")? == 1,
            gone: row.int("gone")? == 1,
            amount: amount(row)?,
        })
    }

    /// What was destroyed from one moment to another, by policy.
    pub(super) async fn destroyed(db: &Db, from: i64, to: i64) -> Result<Vec<(String, Amount)>, ReportError> {
        let sql = "select policy, count(*) as n, cast(sum(bytes) as bigint) as bytes from kept
                   where destroyed_at >= $1 and destroyed_at < $2 group by policy order by policy";
        let rows = db.fetch_all(sql, &[Arg::Int(from), Arg::Int(to)]).await?;
        rows.iter().map(|row| Ok((row.text("policy")?, amount(row)?))).collect()
    }

    /// What was destroyed in each of the months that are told apart; what was destroyed before them stands first.
    pub(super) async fn destroyed_by_month(&self, db: &Db) -> Result<Vec<Amount>, ReportError> {
        let mut params = Vec::new();
        let month = self.since.sql("destroyed_at", &mut params);
        let sql = format!(
            "select month, count(*) as n, cast(sum(bytes) as bigint) as bytes
             from (select {month} as month, bytes from kept where destroyed_at is not null) t group by month"
        );
        let mut months = vec![Amount::default(); self.months.len() + 1];
        for row in db.fetch_all(Sql::Owned(sql), &params).await? {
            let place = usize::try_from(row.int("month")?).unwrap_or_default();
            if let Some(month) = months.get_mut(place) {
                *month = amount(&row)?;
            }
        }
        Ok(months)
    }
}

fn amount(row: &Row) -> Result<Amount, ReportError> {
    let number = |name: &str| row.int(name).map(|n| u64::try_from(n).unwrap_or_default());
    Ok(Amount { count: number("n")?, bytes: number("bytes")? })
}

/// The first moment that is not within so many days, in microseconds.
fn in_days(as_of: Timestamp, days: i64) -> i64 {
    as_of.as_microsecond().saturating_add(days * 24 * 3_600_000_000).saturating_add(1)
}
