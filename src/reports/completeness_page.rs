//! The completeness report as a document. Pure.

use jiff::tz::TimeZone;

use super::class::{Class, Standing};
use super::completeness::{CallLine, Completeness};
use super::document::{
    Cell, Column, Document, Figure, Line, Plot, Section, Series, Shade, Table, Tone, Unit, counted, grouped, long_day,
};

impl Completeness {
    /// The report for people.
    pub(super) fn page(&self) -> Document {
        let tz = TimeZone::get(&self.timezone).unwrap_or(TimeZone::UTC);
        let mut sections = vec![self.classes_section()];
        if self.days.len() > 1 {
            sections.push(self.days_section());
        }
        sections.push(lines(
            "gaps",
            "Calls that do not fit",
            "Each needs somebody: find the call by its id, have the recording fetched again, or say why there is none with \
             callvault completeness explain.",
            "No call is a gap.",
            &self.gaps,
            Tone::Bad,
        ));
        sections.push(self.explained_section());
        sections.push(lines(
            "under_way",
            "Under way",
            "Too early to tell: these calls go on, or their recordings are being fetched.",
            "Nothing is under way.",
            &self.under_way,
            Tone::Plain,
        ));
        sections.push(self.quarantine_section());
        if !self.unreadable.is_empty() {
            sections.push(self.unreadable_section());
        }
        Document {
            title: "Completeness",
            subtitle: self.span(),
            verdict: self.verdict(),
            basis: vec![
                ("As of", Cell::Time(self.as_of)),
                ("Days are those of", self.timezone.as_str().into()),
                ("Journal entries", Cell::Count(self.entries)),
            ],
            figures: self.figures(),
            sections,
            tz,
        }
    }

    fn span(&self) -> String {
        if self.from == self.to {
            long_day(self.from)
        } else {
            format!("{} to {}", long_day(self.from), long_day(self.to))
        }
    }

    fn in_standing(&self, standing: Standing) -> u64 {
        self.classes.iter().filter(|count| count.standing == standing).map(|count| count.calls).sum()
    }

    fn verdict(&self) -> (Tone, String) {
        let mut wrong = Vec::new();
        let gaps = self.in_standing(Standing::Gap);
        if gaps > 0 {
            wrong.push(counted(gaps, "call does not fit", "calls do not fit"));
        }
        if self.quarantined > 0 {
            wrong.push(counted(self.quarantined, "webhook lies in quarantine", "webhooks lie in quarantine"));
        }
        if !self.unreadable.is_empty() {
            let said = counted(self.unreadable.len() as u64, "call can't be read", "calls can't be read");
            wrong.push(format!("{said}: run callvault verify"));
        }
        if !wrong.is_empty() {
            return (Tone::Bad, format!("{}.", wrong.join("; ")));
        }
        let under_way = match self.in_standing(Standing::UnderWay) {
            0 => String::new(),
            count => format!("; {} under way", grouped(count)),
        };
        match self.total {
            0 => (Tone::Plain, "No call was first heard of in this time.".into()),
            1 => (Tone::Good, format!("The one call is accounted for{under_way}.")),
            total => (Tone::Good, format!("All {} calls are accounted for{under_way}.", grouped(total))),
        }
    }

    fn figures(&self) -> Vec<Figure> {
        let (gaps, archived) = (self.in_standing(Standing::Gap), self.calls_in(Class::Archived));
        let share = match Cell::share(archived, self.total) {
            Cell::Nothing => String::new(),
            share => format!("{} of all", share.shown(&TimeZone::UTC)),
        };
        let bad_if = |wrong: bool| if wrong { Tone::Bad } else { Tone::Plain };
        vec![
            Figure { label: "Calls", value: Cell::Count(self.total), note: "first heard of".into(), tone: Tone::Plain },
            Figure { label: "Archived", value: Cell::Count(archived), note: share, tone: Tone::Plain },
            Figure { label: "Gaps", value: Cell::Count(gaps), note: "need somebody".into(), tone: bad_if(gaps > 0) },
            Figure {
                label: "Under way",
                value: Cell::Count(self.in_standing(Standing::UnderWay)),
                note: "too early to tell".into(),
                tone: Tone::Plain,
            },
            Figure {
                label: "In quarantine",
                value: Cell::Count(self.quarantined),
                note: "webhooks".into(),
                tone: bad_if(self.quarantined > 0),
            },
        ]
    }

    fn classes_section(&self) -> Section {
        let row = |class: Class| {
            let calls = self.calls_in(class);
            let tone = if class.standing() == Standing::Gap && calls > 0 { Tone::Bad } else { Tone::Plain };
            let cells = vec![
                class.title().into(),
                Cell::Count(calls),
                Cell::share(calls, self.total),
                standing(class.standing()).into(),
            ];
            Line::toned(cells, tone)
        };
        let mut rows: Vec<Line> = Class::ALL.into_iter().map(row).collect();
        rows.push(Line::total(vec![
            "All calls".into(),
            Cell::Count(self.total),
            Cell::share(self.total, self.total),
            Cell::Nothing,
        ]));
        let columns =
            vec![Column::middle("Class"), Column::narrow("Calls"), Column::narrow("Share"), Column::middle("Standing")];
        Section {
            name: "classes",
            title: "Every call in one class",
            note: "Each call counts once, on the day on which anything was first heard of it.".into(),
            plot: None,
            table: Table { columns, rows },
            nothing: "",
        }
    }

    fn days_section(&self) -> Section {
        let groups = [
            ("Archived", Shade::First),
            ("No recording, and why", Shade::Second),
            ("Explained or destroyed", Shade::Third),
            ("Under way", Shade::Forecast),
            ("Gaps", Shade::Bad),
        ];
        let sums: Vec<[u64; 5]> = self.days.iter().map(|day| grouped_classes(day.classes.iter())).collect();
        let series = groups.iter().enumerate().map(|(place, (name, shade))| Series {
            name: (*name).to_owned(),
            shade: *shade,
            values: sums.iter().map(|sums| Some(sums[place])).collect(),
        });
        let labels = self.days.iter().map(|day| day.day.strftime("%-d %b").to_string()).collect();
        let plot = Plot::Bars { unit: Unit::Calls, labels, series: series.collect() };
        let mut columns = vec![Column::narrow("Day"), Column::narrow("Calls")];
        columns.extend(groups.map(|(name, _)| Column::narrow(name)));
        let row = |(day, sums): (&super::completeness::DayCount, &[u64; 5])| {
            let mut cells = vec![Cell::Day(day.day), Cell::Count(day.calls)];
            cells.extend(sums.map(Cell::Count));
            Line::toned(cells, if sums[4] > 0 { Tone::Bad } else { Tone::Plain })
        };
        let mut rows: Vec<Line> = self.days.iter().zip(&sums).map(row).collect();
        let mut total = vec!["All days".into(), Cell::Count(self.total)];
        total.extend((0..groups.len()).map(|place| Cell::Count(sums.iter().map(|sums| sums[place]).sum())));
        rows.push(Line::total(total));
        Section {
            name: "days",
            title: "Classes by day",
            note: String::new(),
            plot: Some(plot),
            table: Table { columns, rows },
            nothing: "",
        }
    }

    fn explained_section(&self) -> Section {
        let row = |line: &CallLine| {
            Line::new(vec![
                line.call_id.as_str().into(),
                Cell::opt(line.agent.as_deref()),
                Cell::Time(line.first_seen_at),
                line.otherwise.map_or(Cell::Nothing, |class| class.title().into()),
                Cell::opt(line.explained_by.as_deref().map(who)),
                line.why.as_str().into(),
            ])
        };
        Section {
            name: "explained",
            title: "Explained",
            note: "These would be gaps, had nobody said why they are none.".into(),
            plot: None,
            table: Table {
                columns: vec![
                    Column::middle("Call"),
                    Column::middle("Agent"),
                    Column::narrow("First heard of"),
                    Column::middle("Otherwise"),
                    Column::middle("Explained by"),
                    Column::wide("Explanation"),
                ],
                rows: self.explained.iter().map(row).collect(),
            },
            nothing: "No call is explained.",
        }
    }

    fn quarantine_section(&self) -> Section {
        let more = self.quarantined.saturating_sub(self.quarantine.len() as u64);
        let more = if more > 0 { format!(" {} more are not listed.", grouped(more)) } else { String::new() };
        let rows = self.quarantine.iter().map(|line| {
            let cells = vec![
                Cell::Text(line.seq.to_string()),
                Cell::Time(line.received_at),
                line.reason.replace('_', " ").into(),
            ];
            Line::toned(cells, Tone::Bad)
        });
        Section {
            name: "quarantine",
            title: "Quarantine",
            note: format!(
                "Webhooks that could not be understood; they may be about calls that nobody sees. An auditor reads them in \
                 /api/v1/quarantine.{more}"
            ),
            plot: None,
            table: Table {
                columns: vec![Column::narrow("Entry"), Column::narrow("Received"), Column::middle("Reason")],
                rows: rows.collect(),
            },
            nothing: "Every webhook was understood.",
        }
    }

    fn unreadable_section(&self) -> Section {
        let rows = self.unreadable.iter().map(|key| Line::toned(vec![key.as_str().into()], Tone::Bad)).collect();
        Section {
            name: "unreadable",
            title: "Not readable",
            note: "The rows of these calls do not read back; they are in no class. Run callvault verify.".into(),
            plot: None,
            table: Table { columns: vec![Column::middle("Call")], rows },
            nothing: "",
        }
    }
}

fn lines(
    name: &'static str,
    title: &'static str,
    note: &str,
    nothing: &'static str,
    lines: &[CallLine],
    tone: Tone,
) -> Section {
    let row = |line: &CallLine| {
        let cells = vec![
            line.call_id.as_str().into(),
            Cell::opt(line.agent.as_deref()),
            Cell::Time(line.first_seen_at),
            line.started_at.map_or(Cell::Nothing, Cell::Time),
            line.class.title().into(),
            line.why.as_str().into(),
        ];
        Line::toned(cells, tone)
    };
    Section {
        name,
        title,
        note: note.to_owned(),
        plot: None,
        table: Table {
            columns: vec![
                Column::middle("Call"),
                Column::middle("Agent"),
                Column::narrow("First heard of"),
                Column::narrow("Started"),
                Column::middle("Class"),
                Column::wide("Why"),
            ],
            rows: lines.iter().map(row).collect(),
        },
        nothing,
    }
}

/// What the plot and its table show together: archived, none, explained or destroyed, under way, gaps.
fn grouped_classes<'a>(classes: impl Iterator<Item = (&'a Class, &'a u64)>) -> [u64; 5] {
    let mut sums = [0; 5];
    for (class, calls) in classes {
        let place = match (class, class.standing()) {
            (Class::Archived, _) => 0,
            (Class::NotAnswered | Class::Rejected | Class::NotConnected, _) => 1,
            (_, Standing::Accounted) => 2,
            (_, Standing::UnderWay) => 3,
            (_, Standing::Gap) => 4,
        };
        sums[place] += calls;
    }
    sums
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Accounted => "accounted for",
        Standing::UnderWay => "under way",
        Standing::Gap => "gap",
    }
}

/// Whoever acted, as people know them.
pub(super) fn who(actor: &str) -> &str {
    actor.strip_prefix("token:").unwrap_or(actor)
}
