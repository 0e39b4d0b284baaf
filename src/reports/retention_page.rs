//! The retention report as a document. Pure.

use jiff::tz::TimeZone;

use super::document::{
    Cell, Column, Document, Figure, Line, Plot, Section, Series, Shade, Table, Tone, Unit, counted, grouped, long_day,
    size,
};
use super::retention::Retention;
use super::stock::Amount;

/// So many entries may be on their way into the numbers without a word.
const BEHIND: u64 = 1000;

impl Retention {
    /// The report for people.
    pub(super) fn page(&self) -> Document {
        let tz = TimeZone::get(&self.timezone).unwrap_or(TimeZone::UTC);
        let mut basis = vec![
            ("As of", Cell::Time(self.as_of)),
            ("Days are those of", self.timezone.as_str().into()),
            ("Journal entries", Cell::Count(self.entries)),
        ];
        if self.behind > 0 {
            basis.push(("Entries not taken in", Cell::Count(self.behind)));
        }
        Document {
            title: "Retention",
            subtitle: format!("{} to {}", long_day(self.from), long_day(self.to)),
            verdict: self.verdict(),
            basis,
            figures: self.figures(),
            sections: vec![
                self.policies_section(),
                self.kinds_section(),
                self.expiring_section(),
                self.years_section(),
                self.growth_section(),
                self.forecast_section(),
                self.failures_section(),
                self.fixity_section(),
                self.batches_section(),
                self.destroyed_section(),
                self.changes_section(),
                self.done_section(),
                self.others_section(),
            ],
            tz,
        }
    }

    fn verdict(&self) -> (Tone, String) {
        let mut wrong = Vec::new();
        if !self.fixity.failures.is_empty() {
            wrong.push(counted(self.fixity.failed, "fixity check failed", "fixity checks failed"));
        }
        if self.failures.standing > 0 {
            let said = ("recording could not be archived", "recordings could not be archived");
            wrong.push(counted(self.failures.standing, said.0, said.1));
        }
        if !wrong.is_empty() {
            return (Tone::Bad, format!("{}.", wrong.join("; ")));
        }
        if self.behind > BEHIND {
            let said = format!(
                "The numbers on what is kept lack {} journal entries: see that callvault serve runs, and make the report again.",
                grouped(self.behind)
            );
            return (Tone::Warn, said);
        }
        (Tone::Good, "Every check was passed, and nothing is left that could not be archived.".into())
    }

    fn figures(&self) -> Vec<Figure> {
        let figure = |label, amount: Amount, note: String| Figure {
            label,
            value: Cell::Count(amount.count),
            note,
            tone: Tone::Plain,
        };
        let all = self.all();
        vec![
            Figure {
                label: "Kept",
                value: Cell::Bytes(all.bytes),
                note: counted(self.kept.recordings.count, "recording", "recordings"),
                tone: Tone::Plain,
            },
            figure("Expiring", self.expiring.in_90_days, "in the next 90 days".into()),
            figure("Due", self.expiring.due, size(self.expiring.due.bytes)),
            figure("Held", self.held, size(self.held.bytes)),
            Figure {
                label: "Not archived",
                value: Cell::Count(self.failures.standing),
                note: format!("of {}", counted(self.failures.failures, "failure", "failures")),
                tone: if self.failures.standing > 0 { Tone::Bad } else { Tone::Plain },
            },
        ]
    }

    /// Everything that is kept.
    fn all(&self) -> Amount {
        let mut all = self.kept.recordings;
        all.add(self.kept.other_calls);
        all.add(self.kept.quarantine);
        all
    }

    fn policies_section(&self) -> Section {
        let columns = vec![
            Column::middle("Policy"),
            Column::narrow("Year of call"),
            Column::narrow("Recordings"),
            Column::narrow("Size"),
            Column::narrow("Calls without"),
            Column::narrow("Quarantine"),
        ];
        let mut rows = Vec::new();
        let mut sums = [0u64; 4];
        for line in &self.policies {
            let numbers = [line.recordings, line.bytes, line.other_calls, line.quarantine];
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
            rows.push(Line::new(policy_cells(&line.policy, line.year.to_string().into(), numbers)));
        }
        if !rows.is_empty() {
            rows.push(Line::total(policy_cells("All", Cell::Nothing, sums)));
        }
        Section {
            name: "policies",
            title: "Kept by policy and year",
            note: "Each recording, call and quarantined body counts under the policy that keeps it longest, in the year in \
                   which the call ended. Calls without a recording are missed, rejected and open ones, and gaps."
                .into(),
            plot: self.policy_plot(),
            table: Table { columns, rows },
            nothing: "Nothing is kept yet.",
        }
    }

    fn kinds_section(&self) -> Section {
        let row = |name: &str, amount: Amount| {
            Line::new(vec![name.into(), Cell::Count(amount.count), Cell::Bytes(amount.bytes)])
        };
        let mut rows = vec![
            row("Recordings with their calls", self.kept.recordings),
            row("Calls without a recording", self.kept.other_calls),
            row("Bodies in quarantine", self.kept.quarantine),
        ];
        let all = self.all();
        rows.push(Line::total(vec!["All".into(), Cell::Count(all.count), Cell::Bytes(all.bytes)]));
        Section {
            name: "kinds",
            title: "Kept by kind",
            note: "Sizes are those of recordings.".into(),
            plot: None,
            table: Table { columns: amount_columns("Kind"), rows },
            nothing: "",
        }
    }

    fn expiring_section(&self) -> Section {
        let expiring = &self.expiring;
        let row = |name: &str, amount: Amount| {
            Line::new(vec![name.into(), Cell::Count(amount.count), Cell::Bytes(amount.bytes)])
        };
        Section {
            name: "expiring",
            title: "Held, due and expiring",
            note: "What is due may be destroyed once two people decide so; what is held may not, whatever its date. Those in \
                   90 days take in those in 30, and so on."
                .into(),
            plot: None,
            table: Table {
                columns: amount_columns("When"),
                rows: vec![
                    row("Held", self.held),
                    row("Held, though its time is over", self.held_and_due),
                    row("Due now", expiring.due),
                    row("In 30 days", expiring.in_30_days),
                    row("In 90 days", expiring.in_90_days),
                    row("In 365 days", expiring.in_365_days),
                    row("Later", expiring.later),
                    row("Waits for an event", expiring.open_ended),
                ],
            },
            nothing: "",
        }
    }

    fn years_section(&self) -> Section {
        let years = &self.expiring_by_year;
        let series = Series {
            name: "recordings, calls and bodies whose time is over".into(),
            shade: Shade::First,
            values: years.iter().map(|year| Some(year.count)).collect(),
        };
        let labels = years.iter().map(|year| year.year.to_string()).collect();
        let row = |year: &super::retention::YearAmount| {
            Line::new(vec![year.year.to_string().into(), Cell::Count(year.count), Cell::Bytes(year.bytes)])
        };
        Section {
            name: "years",
            title: "Expiring by year",
            note: "As the policies in force say; what is due already, or waits for an event, is left out.".into(),
            plot: (years.len() > 1).then_some(Plot::Bars { unit: Unit::Calls, labels, series: vec![series] }),
            table: Table { columns: amount_columns("Year"), rows: years.iter().map(row).collect() },
            nothing: "Nothing expires.",
        }
    }

    fn growth_section(&self) -> Section {
        let row = |month: &super::retention::Month| {
            Line::new(vec![
                month.month.strftime("%b %Y").to_string().into(),
                Cell::Count(month.added.count),
                Cell::Bytes(month.added.bytes),
                Cell::Count(month.destroyed.count),
                Cell::Count(month.kept.count),
                Cell::Bytes(month.kept.bytes),
            ])
        };
        Section {
            name: "growth",
            title: "Growth by month",
            note: "Up to two years; the last month goes on. The dashed line says how it goes on if every month brings what \
                   the last six whole ones brought; the dotted one, if all that is due is destroyed in time."
                .into(),
            plot: self.growth_plot(),
            table: Table {
                columns: vec![
                    Column::narrow("Month"),
                    Column::narrow("Added"),
                    Column::narrow("Size added"),
                    Column::narrow("Destroyed"),
                    Column::narrow("Kept"),
                    Column::narrow("Size kept"),
                ],
                rows: self.growth.iter().map(row).collect(),
            },
            nothing: "Nothing was kept yet.",
        }
    }

    fn forecast_section(&self) -> Section {
        let row = |month: &super::retention::Ahead| {
            Line::new(vec![
                month.month.strftime("%b %Y").to_string().into(),
                Cell::Count(month.kept.count),
                Cell::Bytes(month.kept.bytes),
                Cell::Count(month.kept_if_due_is_destroyed.count),
                Cell::Bytes(month.kept_if_due_is_destroyed.bytes),
            ])
        };
        Section {
            name: "forecast",
            title: "Forecast",
            note: "At the end of each month: if nothing is destroyed, and if all that is due and not held is.".into(),
            plot: None,
            table: Table {
                columns: vec![
                    Column::narrow("Month"),
                    Column::narrow("Kept"),
                    Column::narrow("Size"),
                    Column::narrow("Kept, less due"),
                    Column::narrow("Size, less due"),
                ],
                rows: self.forecast.iter().map(row).collect(),
            },
            nothing: "A forecast needs a whole month to go by.",
        }
    }

    fn failures_section(&self) -> Section {
        let row = |reason: &super::chronicle::FailureReason| {
            let tone = if reason.standing > 0 { Tone::Bad } else { Tone::Plain };
            let cells = vec![reason.reason.as_str().into(), Cell::Count(reason.failures), Cell::Count(reason.standing)];
            Line::toned(cells, tone)
        };
        let mut rows: Vec<Line> = self.failures.reasons.iter().map(row).collect();
        if !rows.is_empty() {
            let sums =
                vec!["All reasons".into(), Cell::Count(self.failures.failures), Cell::Count(self.failures.standing)];
            rows.push(Line::total(sums));
        }
        Section {
            name: "failures",
            title: "Failures to archive",
            note: "In the period. A failure stands while its recording is not archived and nobody explained it; callvault \
                   completeness names the calls."
                .into(),
            plot: None,
            table: Table {
                columns: vec![Column::wide("Reason"), Column::narrow("Failures"), Column::narrow("Standing")],
                rows,
            },
            nothing: "No recording was given up or refused in the period.",
        }
    }

    fn fixity_section(&self) -> Section {
        let fixity = &self.fixity;
        let mut rows: Vec<Line> = fixity
            .failures
            .iter()
            .map(|failure| {
                let cells = vec![Cell::Time(failure.at), failure.what.as_str().into(), failure.why.as_str().into()];
                Line::toned(cells, Tone::Bad)
            })
            .collect();
        if let Some(last) = fixity.last_check {
            let objects = counted(fixity.objects, "object was what it should be", "objects were what they should be");
            rows.push(Line::total(vec![Cell::Time(last), objects.into(), size(fixity.bytes).into()]));
        }
        Section {
            name: "fixity",
            title: "Fixity checks",
            note: "In the period: objects that were read again and compared with their hashes.".into(),
            plot: None,
            table: Table {
                columns: vec![Column::narrow("At"), Column::wide("Object"), Column::wide("What was found")],
                rows,
            },
            nothing: "No object was read again in the period.",
        }
    }

    fn batches_section(&self) -> Section {
        let row = |batch: &super::chronicle::Batch| {
            Line::new(vec![
                batch.disposition.as_str().into(),
                batch.state.as_str().into(),
                Cell::Time(batch.proposed_at),
                batch.proposed_by.as_str().into(),
                Cell::Count(batch.items),
                Cell::Bytes(batch.bytes),
            ])
        };
        Section {
            name: "proposed",
            title: "Proposed to be destroyed",
            note: String::new(),
            plot: None,
            table: Table {
                columns: vec![
                    Column::middle("Disposition"),
                    Column::narrow("State"),
                    Column::narrow("Proposed"),
                    Column::middle("By"),
                    Column::narrow("Number"),
                    Column::narrow("Size"),
                ],
                rows: self.proposed.iter().map(row).collect(),
            },
            nothing: "Nothing is proposed to be destroyed.",
        }
    }

    fn destroyed_section(&self) -> Section {
        let row = |line: &super::retention::PolicyAmount| {
            Line::new(vec![line.policy.as_str().into(), Cell::Count(line.count), Cell::Bytes(line.bytes)])
        };
        Section {
            name: "destroyed",
            title: "Destroyed in the period",
            note: "By the policy whose time was over; certificates of destruction name what it was.".into(),
            plot: None,
            table: Table { columns: amount_columns("Policy"), rows: self.destroyed.iter().map(row).collect() },
            nothing: "Nothing was destroyed in the period.",
        }
    }

    fn changes_section(&self) -> Section {
        let row = |change: &super::chronicle::PolicyChange| {
            Line::new(vec![
                Cell::Time(change.at),
                change.by.as_str().into(),
                change.policies.join(", ").into(),
                change.sha256.chars().take(12).collect::<String>().into(),
                if change.in_force { "in force" } else { "replaced" }.into(),
            ])
        };
        Section {
            name: "policy_changes",
            title: "Policy changes",
            note: "The set in force, and those that were adopted in the period.".into(),
            plot: None,
            table: Table {
                columns: vec![
                    Column::narrow("Adopted"),
                    Column::middle("By"),
                    Column::wide("Policies"),
                    Column::middle("SHA-256 begins"),
                    Column::narrow("State"),
                ],
                rows: self.policy_changes.iter().map(row).collect(),
            },
            nothing: "No set of policies was adopted yet: those of the configuration are in force.",
        }
    }

    fn done_section(&self) -> Section {
        let done = self.done.iter().filter(|count| count.entries > 0);
        let rows = done.map(|count| Line::new(vec![words(&count.kind).into(), Cell::Count(count.entries)])).collect();
        Section {
            name: "done",
            title: "Holds, extensions, dispositions",
            note: "Journal entries of the period.".into(),
            plot: None,
            table: Table { columns: vec![Column::middle("What"), Column::narrow("Entries")], rows },
            nothing: "Nothing was held, extended or disposed of in the period.",
        }
    }

    fn others_section(&self) -> Section {
        let row = |count: &super::chronicle::KindCount| {
            Line::new(vec![words(&count.kind).into(), Cell::Count(count.entries)])
        };
        Section {
            name: "others",
            title: "Other bodies in the journal",
            note: "Entries about no call, with their bodies, by kind: kept with the journal, under the policy for everything."
                .into(),
            plot: None,
            table: Table {
                columns: vec![Column::middle("Kind"), Column::narrow("Entries")],
                rows: self.others.iter().map(row).collect(),
            },
            nothing: "There are none.",
        }
    }
}

fn amount_columns(of: &'static str) -> Vec<Column> {
    vec![Column::middle(of), Column::narrow("Number"), Column::narrow("Size")]
}

/// Recordings, bytes, calls without, quarantine.
fn policy_cells(policy: &str, year: Cell, [recordings, bytes, others, quarantine]: [u64; 4]) -> Vec<Cell> {
    vec![policy.into(), year, Cell::Count(recordings), Cell::Bytes(bytes), Cell::Count(others), Cell::Count(quarantine)]
}

/// A kind of entry in words.
fn words(kind: &str) -> String {
    kind.replace(['.', '_'], " ")
}
