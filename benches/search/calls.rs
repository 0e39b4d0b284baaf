//! Generated calls: five years of a firm with 200 agents and half a million customers. The n-th call is always the same.
//!
//! A call is made as its facts in JSON, as the projection holds them, so that building the index takes the product's
//! own way from there.

use std::fmt::Write as _;

/// The first call, microseconds: 2021-03-01T00:00:00Z.
pub const BEGIN: i64 = 1_614_556_800_000_000;
pub const SPAN: i64 = 5 * 365 * 86_400_000_000;

const AGENTS: u64 = 200;
const CUSTOMERS: u64 = 500_000;

pub const FIRST_NAMES: &[&str] = &[
    "Ananya",
    "Aarav",
    "Asha",
    "Vikram",
    "Priya",
    "Rahul",
    "Deepa",
    "Sanjay",
    "Meera",
    "Arjun",
    "Kavita",
    "Rohan",
    "Sunita",
    "Amit",
    "Lakshmi",
    "Suresh",
    "Pooja",
    "Rajesh",
    "Neha",
    "Manoj",
    "Divya",
    "Anil",
    "Shreya",
    "Karthik",
    "Nandini",
    "Vijay",
    "Ritu",
    "Ashok",
    "Swati",
    "Harish",
    "Ishita",
    "Naveen",
    "Farah",
    "Imran",
    "Zoya",
    "Salman",
    "Gurpreet",
    "Harjit",
    "Simran",
    "Tenzin",
    "Maria",
    "Joseph",
    "Thomas",
    "Fatima",
    "Ahmed",
    "Chen",
    "Olga",
    "José",
    "मीरा",
    "राहुल",
    "प्रिया",
    "সুমন",
];
pub const LAST_NAMES: &[&str] = &[
    "Kulkarni",
    "Sharma",
    "Rao",
    "Deshmukh",
    "Singh",
    "Patel",
    "Iyer",
    "Nair",
    "Gupta",
    "Verma",
    "Reddy",
    "Menon",
    "Joshi",
    "Chatterjee",
    "Banerjee",
    "Mukherjee",
    "Das",
    "Bose",
    "Sen",
    "Ghosh",
    "Khan",
    "Ansari",
    "Sheikh",
    "Qureshi",
    "Pillai",
    "Krishnan",
    "Subramaniam",
    "Venkatesan",
    "Raman",
    "Bhat",
    "Hegde",
    "Shetty",
    "Kamath",
    "Pai",
    "Naik",
    "Gill",
    "Sandhu",
    "Dhillon",
    "Chopra",
    "Kapoor",
    "Malhotra",
    "Khanna",
    "Mehta",
    "Shah",
    "Desai",
    "Fernandes",
    "D'Souza",
    "Pereira",
    "Müller",
    "Schmidt",
    "García",
    "O'Brien",
    "Wang",
    "Okafor",
    "शर्मा",
    "वर्मा",
    "রায়",
];

/// Numbers that look random and are always the same (SplitMix64).
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// From 0 to below 1.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len() as u64) as usize]
    }

    /// Below `end`, the small ones more often.
    fn skewed(&mut self, end: u64) -> u64 {
        (self.share().powi(2) * end as f64) as u64
    }
}

/// One in four is only known by number.
pub fn agent(number: u64) -> String {
    let mut dice = Dice::new(number ^ 0xA6E7);
    match number % 4 {
        0 => format!("9198333{number:05}"),
        _ => format!("{} {}", dice.pick(FIRST_NAMES), dice.pick(LAST_NAMES)),
    }
}

pub fn any_agent(dice: &mut Dice) -> String {
    agent(dice.skewed(AGENTS))
}

/// Name and number of a customer.
fn customer(number: u64) -> (String, String) {
    let mut dice = Dice::new(number ^ 0xC057);
    let name = format!("{} {}", dice.pick(FIRST_NAMES), dice.pick(LAST_NAMES));
    let digits = match dice.below(20) {
        0 => format!("4479{:08}", dice.below(100_000_000)),
        1 => format!("1415{:07}", 2_000_000 + dice.below(8_000_000)),
        _ => format!("91{}{:08}", 70 + dice.below(30), dice.below(100_000_000)),
    };
    (name, digits)
}

/// The number of a customer who may have called.
pub fn any_number(dice: &mut Dice) -> String {
    customer(dice.skewed(CUSTOMERS)).1
}

/// What one call is like, before it is written down.
struct Made {
    number: u64,
    started: i64,
    duration: u64,
    status: &'static str,
    recorded: bool,
    archived: bool,
    flags: Vec<(&'static str, bool)>,
}

impl Made {
    fn new(number: u64, of: u64, dice: &mut Dice) -> Self {
        let step = SPAN / of.cast_signed();
        // Calls are heard of in another order than they began.
        let started = BEGIN + number.cast_signed() * step + dice.below(3_600_000_000).cast_signed();
        let status = match dice.below(1000) {
            0..780 => "ended",
            780..930 => "missed",
            930..970 => "rejected",
            970..999 => "failed",
            _ => "in_progress",
        };
        let duration = if status == "ended" { (-(1.0 - dice.share()).ln() * 180.0) as u64 } else { 0 };
        let recorded = status == "ended" && dice.below(1000) < 985;
        let archived = recorded && dice.below(1000) < 985;
        let mut flags = Vec::new();
        let open = |dice: &mut Dice| dice.below(3) == 0;
        if status == "ended" && duration < 20 && dice.below(4) == 0 {
            flags.push(("short_call", open(dice)));
        }
        if status == "ended" && duration > 900 {
            flags.push(("long_call", open(dice)));
        }
        if status == "ended" && !recorded {
            flags.push(("recording_missing", open(dice)));
        }
        if archived && dice.below(200) == 0 {
            flags.push(("silent_recording", open(dice)));
        }
        Self { number, started, duration, status, recorded, archived, flags }
    }
}

/// The facts of call `number` of `of`, in JSON.
pub fn facts(number: u64, of: u64) -> String {
    let mut dice = Dice::new(number);
    let made = Made::new(number, of, &mut dice);
    let Made { started, duration, status, .. } = made;
    let (id, who) = (dice.next(), dice.skewed(CUSTOMERS));
    let agent = any_agent(&mut dice);
    let (name, digits) = customer(who);
    let incoming = dice.below(10) < 6;
    let waba = format!("9122400012{:02}", dice.below(8));
    let ended = started + duration.cast_signed() * 1_000_000;
    let mut fields = String::new();
    let mut text = |field: &str, value: &str| {
        let _ = write!(fields, r#""{field}":[{{"rank":4,"value":"{value}"}}],"#);
    };
    text("channel", if dice.below(7) > 0 { "whatsapp" } else { "pstn" });
    text("direction", if incoming { "incoming" } else { "outgoing" });
    text("waba_number", &waba);
    text("chat_id", &format!("chat_{who:010}"));
    text("chat_message_id", &format!("msg_{id:016x}"));
    text("device_id", &format!("device_{:02}", who % 40));
    text("customer_id", &format!("customer_{who:010}"));
    text("customer_name", &name);
    text("customer_number", &digits);
    text("from", if incoming { &digits } else { &waba });
    text("to", if incoming { &waba } else { &digits });
    if matches!(status, "ended" | "rejected" | "in_progress") {
        text("agent", &agent);
    }
    if status == "ended" {
        text("ended_by", if dice.below(2) == 0 { &agent } else { &digits });
    }
    let _ = write!(
        fields,
        r#""started_at":[{{"rank":4,"value":{started}}}],"ended_at":[{{"rank":4,"value":{ended}}}],"duration":[{{"rank":4,"value":{duration}}}]"#
    );
    let (seq, last) = (number * 4, number * 4 + 3);
    let statuses = if status == "ended" { r#""in_progress","ended""# } else { &format!(r#""{status}""#) };
    format!(
        r#"{{"call_id":"call_{id:016x}","first_seq":{seq},"last_seq":{last},"first_received":{started},"accepted_received":null,"final_received":{ended},"imported":false,"statuses":[{statuses}],"fields":{{{fields}}},"recordings":{{{}}},"flags":{{{}}}}}"#,
        recording(&made, id),
        flags(&made)
    )
}

fn recording(made: &Made, id: u64) -> String {
    if !made.recorded {
        return String::new();
    }
    let sha = format!("{id:016x}").repeat(4);
    let call_id = format!("call_{id:016x}");
    let (seq, at) = (made.number * 4, made.started);
    let audio = format!(
        r#"{{"media_type":"audio/mpeg","seconds":{}.2,"bit_rate":64000,"channels":1,"sample_rate":16000,"complete":true}}"#,
        made.duration
    );
    let key = format!("recordings/2024/03/09/{call_id}/{sha}.mp3");
    let kept = format!(
        r#""call_id":"{call_id}","source":"{sha}","object_key":"{key}","sha256":"{sha}","size_bytes":{},"audio":{audio},"retain_until":"2031-03-09T05:15:41Z","policy":"default","policy_sha256":"{sha}","vcon_key":"{key}.vcon.json""#,
        made.duration * 8000
    );
    let archived = match made.archived {
        true => format!(
            r#","intent":[{},{{{kept},"sha512":"{sha}{sha}","vcon_uuid":"0195a0c0-0000-8000-8000-{:012x}","vcon_created_at":"2026-03-09T05:15:41Z","url":"http://127.0.0.1:8470/api/v1/calls/{call_id}/recording","last_seq":{seq}}}],"receipt":[{},{at},{{{kept},"vcon_sha256":"{sha}","attempts":1}}]"#,
            seq + 1,
            id & 0xffff_ffff_ffff,
            seq + 2
        ),
        false => String::new(),
    };
    format!(r#""{sha}":{{"url":"https://files.doubletick.io/{sha}.mp3","received":{at},"first_seq":{seq}{archived}}}"#)
}

fn flags(made: &Made) -> String {
    let one = |(rule, open): &(&str, bool)| {
        let resolved = if *open {
            "null".to_owned()
        } else {
            format!(r#"[{},"the recording came after all"]"#, made.number * 4 + 3)
        };
        format!(r#""{rule}":{{"raised":[{},"9 s, below 20 s"],"resolved":{resolved}}}"#, made.number * 4 + 2)
    };
    made.flags.iter().map(one).collect::<Vec<_>>().join(",")
}
