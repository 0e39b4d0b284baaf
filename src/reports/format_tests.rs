use std::collections::BTreeMap;
use std::io::Read;

use jiff::civil::date;
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;

use super::*;
use crate::reports::document::{Cell, Column, Line, Section, Table, Tone};
use crate::reports::{
    Ahead, Amount, Batch, CallLine, Class, ClassCount, Completeness, DayCount, Expiring, FailureReason, Failures,
    Fixity, FixityFailure, Kept, KindCount, Month, PolicyAmount, PolicyChange, PolicyYear, QuarantineLine, Retention,
    Standing, YearAmount,
};

/// What senders may call themselves, and spreadsheets, browsers and terminals may take for something else.
const HOSTILE: [&str; 5] =
    ["=cmd|' /C calc'!A0", "<script>alert(1)</script>", "+91 98200 11223", "a\u{1b}[2Jb\u{202e}c", "&L&\"Arial\"&P"];

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn amount(count: u64, bytes: u64) -> Amount {
    Amount { count, bytes }
}

/// A month with some of everything, the same each time.
fn completeness() -> Completeness {
    let mut days = Vec::new();
    let mut sums = BTreeMap::<Class, u64>::new();
    for (n, day) in (0u64..).zip(date(2026, 10, 1).series(1.day()).take(31)) {
        let weekend = matches!(day.weekday().to_monday_one_offset(), 6 | 7);
        let busy = if weekend { 20 } else { 140 + n * 37 % 60 };
        let mut classes = BTreeMap::from([
            (Class::Archived, busy),
            (Class::NotAnswered, busy / 6),
            (Class::Rejected, busy / 19),
            (Class::NotConnected, n % 2),
        ]);
        if n % 9 == 4 {
            classes.extend([(Class::Missing, 2), (Class::Explained, 1)]);
        }
        if n == 30 {
            classes.extend([(Class::OnItsWay, 9), (Class::InProgress, 2), (Class::CallOverdue, 1), (Class::Failed, 1)]);
        }
        classes.retain(|_, calls| *calls > 0);
        classes.iter().for_each(|(class, calls)| *sums.entry(*class).or_default() += calls);
        days.push(DayCount { day, calls: classes.values().sum(), classes });
    }
    let line = |n: usize, class: Class, why: &str| CallLine {
        call_id: format!("call_{n}Qm2Xk9sVb"),
        agent: Some(HOSTILE[n % HOSTILE.len()].to_owned()),
        first_seen_at: time("2026-10-05T05:15:42.120934Z") + (n as i64 * 31).hours(),
        started_at: n.is_multiple_of(2).then(|| time("2026-10-05T05:12:07Z") + (n as i64 * 31).hours()),
        class,
        otherwise: (class == Class::Explained).then_some(Class::Missing),
        why: why.to_owned(),
        explained_by: (class == Class::Explained).then(|| "token:meera".to_owned()),
    };
    let missing = "the sender named no recording of this conversation, as it does where recording is off";
    let mut gaps: Vec<CallLine> = (0..6).map(|n| line(n, Class::Missing, missing)).collect();
    gaps.push(line(8, Class::CallOverdue, "accepted more than 4h ago and never ended"));
    gaps.push(line(9, Class::Failed, "given up after 72h: the sender answered 404 Not Found"));
    let count =
        |class: Class| ClassCount { class, standing: class.standing(), calls: sums.get(&class).copied().unwrap_or(0) };
    Completeness {
        report: "completeness".into(),
        from: date(2026, 10, 1),
        to: date(2026, 10, 31),
        timezone: "Asia/Kolkata".into(),
        as_of: time("2026-11-01T00:30:00Z"),
        entries: 1_234_567,
        complete: false,
        total: sums.values().sum(),
        classes: Class::ALL.into_iter().map(count).collect(),
        days,
        gaps,
        explained: (0..3).map(|n| line(n + 20, Class::Explained, "recording is off for this number")).collect(),
        under_way: (0..11).map(|n| line(n + 40, Class::OnItsWay, "the recording is being fetched")).collect(),
        quarantined: 1,
        quarantine: vec![QuarantineLine {
            seq: 1_200_001,
            received_at: time("2026-10-17T11:00:00Z"),
            reason: "not_an_object".into(),
        }],
        unreadable: Vec::new(),
    }
}

fn retention() -> Retention {
    let months: Vec<_> = date(2024, 12, 1).series(1.month()).take(24).collect();
    let mut kept = amount(180_000, 230_000_000_000);
    let mut growth = Vec::new();
    for (n, month) in (0u64..).zip(months) {
        let added = amount(9_000 + n * 170 + n * 31 % 900, 12_000_000_000 + n * 210_000_000 + n * 7 % 5 * 900_000_000);
        let destroyed = if n > 20 { amount(1200, 1_500_000_000) } else { Amount::default() };
        kept = amount(kept.count + added.count - destroyed.count, kept.bytes + added.bytes - destroyed.bytes);
        growth.push(Month { month, added, destroyed, kept });
    }
    let ahead = |n: u64| Ahead {
        month: date(2026, 12, 1) + (n as i64).months(),
        kept: amount(kept.count + n * 12_800, kept.bytes + n * 17_000_000_000),
        kept_if_due_is_destroyed: amount(kept.count + n * 9_100, kept.bytes + n * 9_000_000_000),
    };
    let mut policies = Vec::new();
    for (policy, first, size) in
        [("default", 2021, 9), ("mifid-ii", 2022, 21), ("sec-17a-4", 2023, 30), ("hold-desk", 2025, 4)]
    {
        for year in first..=2026i16 {
            let n = u64::from(year.unsigned_abs() - 2019) * size;
            policies.push(PolicyYear {
                policy: policy.into(),
                year,
                recordings: n * 400,
                other_calls: n * 90,
                quarantine: n / 50,
                bytes: n * 400 * 1_300_000,
            });
        }
    }
    let reason = |reason: &str, failures, standing| FailureReason { reason: reason.into(), failures, standing };
    let year =
        |n: u64| YearAmount { year: 2026 + n as i16, count: 3000 + n * 8200, bytes: (3000 + n * 8200) * 1_200_000 };
    Retention {
        report: "retention".into(),
        from: date(2025, 12, 1),
        to: date(2026, 11, 22),
        timezone: "Asia/Kolkata".into(),
        as_of: time("2026-11-22T04:30:00Z"),
        entries: 3_210_987,
        behind: 0,
        needs_attention: true,
        kept: Kept { recordings: kept, other_calls: amount(81_233, 0), quarantine: amount(41, 0) },
        policies,
        expiring: Expiring {
            due: amount(2411, 3_100_000_000),
            in_30_days: amount(812, 1_050_000_000),
            in_90_days: amount(2950, 3_800_000_000),
            in_365_days: amount(14_021, 18_200_000_000),
            later: amount(420_000, 540_000_000_000),
            open_ended: amount(311, 402_000_000),
        },
        expiring_by_year: (0..7).map(year).collect(),
        held: amount(1204, 1_600_000_000),
        held_and_due: amount(17, 20_000_000),
        proposed: vec![Batch {
            disposition: "2026-11-03-a".into(),
            state: "approved".into(),
            proposed_at: time("2026-11-03T09:00:00Z"),
            proposed_by: "meera".into(),
            items: 1200,
            bytes: 1_500_000_000,
        }],
        destroyed: vec![PolicyAmount { policy: "default".into(), count: 3600, bytes: 4_500_000_000 }],
        failures: Failures {
            failures: 61,
            standing: 4,
            reasons: vec![
                reason("given up after 72h: the sender answered 404 Not Found", 40, 4),
                reason("the address is not one of recordings.hosts", 20, 0),
                reason(HOSTILE[0], 1, 0),
            ],
        },
        fixity: Fixity {
            objects: 421_000,
            bytes: 548_000_000_000,
            last_check: Some(time("2026-11-21T21:10:00Z")),
            failed: 1,
            failures: vec![FixityFailure {
                seq: 3_000_111,
                at: time("2026-09-02T02:00:00Z"),
                what: "recordings/2024/05/06/call_7Qm2Xk9sVb/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08.mp3".into(),
                why: "the bytes have another SHA-256 than the receipt says".into(),
            }],
        },
        policy_changes: vec![PolicyChange {
            seq: 2_000_000,
            at: time("2026-04-01T06:00:00Z"),
            by: "meera".into(),
            sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
            policies: ["default", "mifid-ii", "sec-17a-4", "hold-desk"].map(String::from).to_vec(),
            in_force: true,
        }],
        done: vec![KindCount { kind: "hold.placed".into(), entries: 3 }],
        others: vec![KindCount { kind: "report.made".into(), entries: 365 }],
        growth,
        forecast: (1..=12).map(ahead).collect(),
    }
}

fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Every format of a report; where somebody wants to look at them (`CALLVAULT_REPORT_SAMPLES=FOLDER`) they are left there.
fn written(report: &impl Report) -> BTreeMap<&'static str, Vec<u8>> {
    let all = [Format::Text, Format::Json, Format::Csv, Format::Xlsx, Format::Html];
    let write = |format: Format| {
        let bytes = format.write(report, visible).unwrap();
        if let Ok(folder) = std::env::var("CALLVAULT_REPORT_SAMPLES") {
            std::fs::write(std::path::Path::new(&folder).join(report.file_name(format)), &bytes).unwrap();
        }
        (format.extension(), bytes)
    };
    all.into_iter().map(write).collect()
}

fn sheets(bytes: &[u8]) -> String {
    let mut book = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let mut all = String::new();
    for n in 0..book.len() {
        let mut file = book.by_index(n).unwrap();
        if file.name().unwrap().ends_with(".xml") {
            file.read_to_string(&mut all).unwrap();
        }
    }
    all
}

#[test]
fn no_format_runs_what_senders_write() {
    for files in [written(&completeness()), written(&retention())] {
        let text = |format: &str| String::from_utf8(files[format].clone()).unwrap();
        assert!(!text("txt").contains('\u{1b}'));
        let page = text("html");
        assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
        assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("url("), "nothing from outside");
        let mut csv = csv::ReaderBuilder::new().has_headers(false).from_reader(&files["csv"][..]);
        for record in csv.records() {
            for cell in &record.unwrap() {
                assert!(!cell.starts_with(['=', '+', '@', '|']), "{cell:?}");
            }
        }
        let xml = sheets(&files["xlsx"]);
        assert!(xml.contains("<t>=cmd|' /C calc'!A0</t>") && !xml.contains("<f>"), "texts, and no formulas");
        assert!(xml.contains("state=\"frozen\"") && xml.contains("yyyy\\-mm\\-dd") || xml.contains("yyyy-mm-dd"));
    }
}

#[test]
fn json_reads_back_and_every_number_is_in_every_format() {
    let report = completeness();
    let files = written(&report);
    assert_eq!(serde_json::from_slice::<Completeness>(&files["json"]).unwrap(), report);
    let text = |format: &str| String::from_utf8(files[format].clone()).unwrap();
    for line in report.gaps.iter().chain(&report.explained).chain(&report.under_way) {
        for format in ["txt", "csv", "html"] {
            assert!(text(format).contains(&line.call_id), "{format}: {}", line.call_id);
        }
        assert!(sheets(&files["xlsx"]).contains(&line.call_id));
    }
    let by_standing = |standing| report.classes.iter().filter(|c| c.standing == standing).map(|c| c.calls).sum::<u64>();
    assert_eq!(by_standing(Standing::Gap), report.gaps.len() as u64, "the sample itself adds up");
    let retention = retention();
    let files = written(&retention);
    assert_eq!(serde_json::from_slice::<Retention>(&files["json"]).unwrap(), retention);
    let csv = String::from_utf8(files["csv"].clone()).unwrap();
    assert!(csv.contains("growth,Nov 2026,") && csv.contains("expiring,In 90 days,2950,3800000000"), "{csv}");
    let widths: Vec<usize> = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(csv.as_bytes())
        .records()
        .map(|record| record.unwrap().len())
        .collect();
    assert!(widths.iter().all(|width| *width == widths[0]));
}

/// A report of one cell.
#[derive(Serialize)]
struct One(String);

impl Report for One {
    fn document(&self) -> Document {
        let rows = vec![Line::new(vec![Cell::Text(self.0.clone()), Cell::Time(Timestamp::MIN), Cell::Count(u64::MAX)])];
        let columns = vec![Column::middle("Text"), Column::narrow("Time"), Column::narrow("Count")];
        Document {
            title: "One",
            subtitle: self.0.clone(),
            verdict: (Tone::Warn, self.0.clone()),
            basis: vec![("Text", self.0.as_str().into())],
            figures: Vec::new(),
            sections: vec![Section {
                name: "one",
                title: "One",
                note: String::new(),
                plot: None,
                table: Table { columns, rows },
                nothing: "",
            }],
            tz: jiff::tz::TimeZone::UTC,
        }
    }

    fn needs_attention(&self) -> bool {
        false
    }

    fn name(&self) -> (&'static str, Date, Date) {
        ("one", Date::MIN, Date::MAX)
    }
}

proptest! {
    #[test]
    fn any_text_is_written_in_any_format(text: String) {
        for format in [Format::Text, Format::Json, Format::Csv, Format::Xlsx, Format::Html] {
            let bytes = format.write(&One(text.clone()), visible).unwrap();
            prop_assert!(!bytes.is_empty());
        }
    }
}
