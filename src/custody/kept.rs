//! What is kept, row by row: by which policy, until when, under how many bytes. Everything in a row but what the store was
//! told follows from the facts of a call and the policies in force.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::calls::{Facts, Field, FlagFacts, RecordingFacts, Values};
use crate::clock::from_micros;
use crate::db::ColumnType::{self, Bool, Int, Text};
use crate::db::{Arg, Result, Row, Rows};
use crate::journal::Entry;
use crate::retention::{Dates, Kept, PolicySet};

/// The source of the row of a call without a recording, and of a body in quarantine.
const NO_SOURCE: &str = "";

const INTO: &str = "insert into kept (call_seq, source, subject, last_seq, what, traits, ended_at, received_at, policy,
    policy_sha256, due_at, lock_wanted, locked_until, bytes, kept_since, held, held_in_store, disposition, destroyed_at)";
const TYPES: &[ColumnType] =
    &[Int, Text, Text, Int, Text, Text, Int, Int, Text, Text, Int, Int, Int, Int, Int, Bool, Bool, Text, Int];
// What the store was told of a hold stays as it is; and who comes late with older facts changes nothing.
const UPSERT: &str = "on conflict (call_seq, source) do update set subject = excluded.subject,
    last_seq = excluded.last_seq, what = excluded.what, traits = excluded.traits, ended_at = excluded.ended_at,
    received_at = excluded.received_at, policy = excluded.policy, policy_sha256 = excluded.policy_sha256,
    due_at = excluded.due_at, lock_wanted = excluded.lock_wanted, locked_until = excluded.locked_until,
    bytes = excluded.bytes, kept_since = excluded.kept_since, held = excluded.held, disposition = excluded.disposition,
    destroyed_at = excluded.destroyed_at
    where excluded.last_seq >= kept.last_seq";

/// The kind of thing that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A recording with its call record, and the call.
    Recording,
    /// A call without a recording: what the sender said of it.
    Call,
    /// A body that could not be understood.
    Quarantine,
}

impl What {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Call => "call",
            Self::Quarantine => "quarantine",
        }
    }
}

/// What policies ask about a call, in few words: many calls have the same.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Traits {
    #[serde(rename = "f", skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<Field, Values>,
    #[serde(rename = "g", skip_serializing_if = "BTreeSet::is_empty")]
    flags: BTreeSet<String>,
    #[serde(rename = "i", skip_serializing_if = "std::ops::Not::not")]
    imported: bool,
    #[serde(rename = "o", skip_serializing_if = "std::ops::Not::not")]
    open: bool,
}

/// The fields that policies can speak of.
const FIELDS: [Field; 10] = [
    Field::Channel,
    Field::Direction,
    Field::WabaNumber,
    Field::ChannelNumber,
    Field::Agent,
    Field::CustomerId,
    Field::CustomerNumber,
    Field::From,
    Field::To,
    Field::Duration,
];

impl Traits {
    fn of(facts: &Facts, dates: &Dates) -> Self {
        let fields = FIELDS.iter().filter_map(|field| Some((*field, facts.fields.get(field)?.clone())));
        let flags = facts.flags.keys().cloned().collect();
        Self { fields: fields.collect(), flags, imported: dates.imported, open: dates.open }
    }

    /// As much of the facts as policies need.
    #[must_use]
    pub fn into_facts(self) -> Facts {
        let flags = self.flags.into_iter().map(|flag| (flag, FlagFacts::default())).collect();
        Facts { fields: self.fields, flags, ..Facts::default() }
    }
}

/// A row of `kept`.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptRow {
    pub call_seq: i64,
    pub source: String,
    pub subject: String,
    pub last_seq: i64,
    pub what: What,
    pub traits: String,
    pub dates: Dates,
    pub policy: String,
    pub policy_sha256: String,
    pub due_at: i64,
    pub lock_wanted: Option<i64>,
    pub locked_until: Option<i64>,
    pub bytes: i64,
    pub kept_since: i64,
    pub held: bool,
    pub disposition: Option<String>,
    pub destroyed_at: Option<i64>,
}

impl KeptRow {
    /// The rows of a call: one for each recording that is archived, or was, else one for the call.
    ///
    /// # Errors
    /// What policies ask has no JSON form.
    pub fn all_of(facts: &Facts, set: &PolicySet, dates: &Dates) -> serde_json::Result<Vec<Self>> {
        let traits = if facts.destroyed.is_some() { Traits::default() } else { Traits::of(facts, dates) };
        let bare = Self {
            call_seq: facts.first_seq.cast_signed(),
            source: NO_SOURCE.into(),
            subject: crate::intake::call_key(&facts.call_id),
            last_seq: facts.last_seq.cast_signed(),
            what: What::Call,
            traits: serde_json::to_string(&traits)?,
            dates: dates.clone(),
            policy: String::new(),
            policy_sha256: String::new(),
            due_at: 0,
            lock_wanted: None,
            locked_until: None,
            bytes: 0,
            kept_since: facts.first_received,
            held: facts.held_by().next().is_some(),
            disposition: None,
            destroyed_at: None,
        };
        let kept = set.kept(facts, dates);
        let mut seen = BTreeSet::new();
        let rows: Vec<Self> = facts
            .recordings
            .iter()
            .filter_map(|(source, recording)| bare.for_recording(source, recording, &mut seen))
            .map(|row| row.judged(&kept).ended(facts))
            .collect();
        Ok(if rows.is_empty() { vec![bare.judged(&kept).ended(facts)] } else { rows })
    }

    /// The row of a recording that is archived, or was. Of two addresses that led to the same bytes one counts them.
    fn for_recording(&self, source: &str, recording: &RecordingFacts, seen: &mut BTreeSet<String>) -> Option<Self> {
        let row = |sha256: &str, size: u64, since: i64, until: i64, seen: &mut BTreeSet<String>| {
            let bytes = if seen.insert(sha256.to_owned()) { size.cast_signed() } else { 0 };
            let (what, locked_until) = (What::Recording, Some(until));
            Self { source: source.into(), what, bytes, kept_since: since, locked_until, ..self.clone() }
        };
        if let Some(gone) = &recording.destroyed {
            let (since, until) = (gone.received.as_microsecond(), gone.retain_until.as_microsecond());
            return Some(row(&gone.sha256, gone.size_bytes, since, until, seen));
        }
        let (_, at, receipt) = recording.receipt.as_ref()?;
        Some(row(&receipt.sha256, receipt.size_bytes, *at, recording.retain_until()?.as_microsecond(), seen))
    }

    /// With the date that policies ask for. What is locked for longer stays so.
    #[must_use]
    pub fn judged(mut self, kept: &Kept) -> Self {
        let until = self.locked_until.map_or(kept.until, |locked| kept.until.max(from_micros(locked))).as_microsecond();
        self.lock_wanted = self.locked_until.map(|_| until);
        self.due_at = if kept.open_ended { i64::MAX } else { until };
        self.policy.clone_from(&kept.policy);
        self.policy_sha256.clone_from(&kept.policy_sha256);
        self
    }

    fn ended(mut self, facts: &Facts) -> Self {
        self.disposition.clone_from(&facts.destroying);
        if let Some(end) = &facts.destroyed {
            self.lock_wanted = self.locked_until;
            self.due_at = self.locked_until.unwrap_or(end.at);
            self.policy.clone_from(&end.policy);
            self.policy_sha256.clone_from(&end.policy_sha256);
            self.disposition = Some(end.disposition.clone());
            self.destroyed_at = Some(end.at);
        }
        self
    }

    /// The row of a body in quarantine: nobody knows what it is about, so the policy for everything counts.
    #[must_use]
    pub fn of_quarantine(entry: &Entry, set: &PolicySet) -> Self {
        let dates = Dates { received: entry.received().max(entry.at), ..Dates::default() };
        let bare = Self {
            call_seq: entry.seq.cast_signed(),
            source: NO_SOURCE.into(),
            subject: String::new(),
            last_seq: entry.seq.cast_signed(),
            what: What::Quarantine,
            traits: "{}".into(),
            policy: String::new(),
            policy_sha256: String::new(),
            due_at: 0,
            lock_wanted: None,
            locked_until: None,
            bytes: 0,
            kept_since: entry.at.as_microsecond(),
            held: false,
            disposition: None,
            destroyed_at: None,
            dates,
        };
        let kept = set.kept_by(&[set.policies().0], &bare.dates);
        bare.judged(&kept)
    }

    fn into_args(self) -> Vec<Arg> {
        vec![
            self.call_seq.into(),
            self.source.into(),
            self.subject.into(),
            self.last_seq.into(),
            self.what.as_str().into(),
            self.traits.into(),
            self.dates.ended.map(jiff::Timestamp::as_microsecond).into(),
            self.dates.received.as_microsecond().into(),
            self.policy.into(),
            self.policy_sha256.into(),
            self.due_at.into(),
            self.lock_wanted.into(),
            self.locked_until.into(),
            self.bytes.into(),
            self.kept_since.into(),
            self.held.into(),
            false.into(),
            self.disposition.into(),
            self.destroyed_at.into(),
        ]
    }

    /// What puts rows into the table, in place of those that are there.
    #[must_use]
    pub fn write(rows: Vec<Self>) -> Rows {
        Rows { head: INTO, types: TYPES, rows: rows.into_iter().map(Self::into_args).collect(), tail: UPSERT }
    }

    /// What takes out the row of a call without a recording, once it has one.
    #[must_use]
    pub fn no_bare_row(call_seqs: Vec<i64>) -> Rows {
        Rows {
            head: "delete from kept where (call_seq, source) in (",
            types: &[Int, Text],
            rows: call_seqs.into_iter().map(|seq| vec![seq.into(), NO_SOURCE.into()]).collect(),
            tail: ")",
        }
    }
}

/// What of a row policies are to be asked again with.
#[derive(Clone, Debug)]
pub struct Judgeable {
    pub call_seq: i64,
    pub source: String,
    pub subject: String,
    pub what: String,
    pub traits: String,
    pub ended_at: Option<i64>,
    pub received_at: i64,
    pub due_at: i64,
    pub locked_until: Option<i64>,
    pub bytes: i64,
}

impl Judgeable {
    pub const COLUMNS: &str =
        "call_seq, source, subject, what, traits, ended_at, received_at, due_at, locked_until, bytes";

    /// The row as it is stored.
    ///
    /// # Errors
    /// A column is absent or of another type.
    pub fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            call_seq: row.int("call_seq")?,
            source: row.text("source")?,
            subject: row.text("subject")?,
            what: row.text("what")?,
            traits: row.text("traits")?,
            ended_at: row.opt_int("ended_at")?,
            received_at: row.int("received_at")?,
            due_at: row.int("due_at")?,
            locked_until: row.opt_int("locked_until")?,
            bytes: row.int("bytes")?,
        })
    }

    /// Its traits and dates, read back.
    ///
    /// # Errors
    /// They do not read back.
    pub fn read(&self) -> serde_json::Result<(Facts, Dates)> {
        let traits: Traits = serde_json::from_str(&self.traits)?;
        let dates = Dates {
            ended: self.ended_at.map(from_micros),
            received: from_micros(self.received_at),
            imported: traits.imported,
            open: traits.open,
            ..Dates::default()
        };
        Ok((traits.into_facts(), dates))
    }
}
