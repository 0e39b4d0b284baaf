//! What the journal says was done in a period: failures to archive, fixity checks, changes of policies, batches that are to
//! be destroyed, and the rest by kind.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::days::Days;
use super::moment::{Moment, Source};
use super::{ReportError, completeness_page::who};
use crate::calls::records::FailureRecord;
use crate::calls::{Facts, RecordingState};
use crate::clock::from_micros;
use crate::intake::call_key;
use crate::journal::{Filter, Kind, Record};
use crate::retention::{Adoption, PolicySet};

/// Entries that are read at once.
const STEP: u64 = 500;
/// Reasons that are told apart; those with the fewest failures are told together.
const REASONS: usize = 40;
/// Failed checks that are listed.
const LISTED: usize = 1000;

/// Entries that count, by their numbers.
pub(super) type Period = Range<u64>;

impl Moment {
    /// The entries of some days, as far as they count.
    pub(super) async fn period(&self, source: &Source, days: &Days) -> Result<Period, ReportError> {
        let before = |at: Timestamp| from_micros(at.as_microsecond().saturating_sub(1));
        let from = source.journal.size_at(before(days.begin())).await?;
        let to = source.journal.size_at(before(days.end())).await?.min(self.size);
        Ok(from.min(to)..to)
    }
}

/// Hands every entry of a kind within a range to `take`.
async fn each(source: &Source, kind: Kind, range: &Period, mut take: impl FnMut(&Record)) -> Result<(), ReportError> {
    let (mut from, filter) = (range.start, Filter { kind: Some(kind), ..Filter::default() });
    while from < range.end {
        let page = source.journal.read(from, STEP, &filter).await?;
        page.iter().filter(|record| record.entry.seq < range.end).for_each(&mut take);
        let Some(last) = page.last() else { break };
        from = last.entry.seq + 1;
    }
    Ok(())
}

/// The body of an entry, where it is there and is JSON.
fn body(record: &Record) -> Value {
    record.body.as_ref().and_then(|body| serde_json::from_slice(&body.bytes).ok()).unwrap_or_default()
}

/// How often an entry says that something was done; once where it gives no number.
fn number(body: &Value, name: &str) -> Option<u64> {
    match &body[name] {
        Value::Array(all) => Some(all.len() as u64),
        value => value.as_u64(),
    }
}

/// Recordings that were given up or refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failures {
    pub failures: u64,
    /// Those whose recording is not archived all the same, and that nobody explained.
    pub standing: u64,
    pub reasons: Vec<FailureReason>,
}

/// Failures for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailureReason {
    /// In words.
    pub reason: String,
    pub failures: u64,
    pub standing: u64,
}

impl Failures {
    pub(super) async fn read(source: &Source, moment: Moment, period: &Period) -> Result<Self, ReportError> {
        let mut found: Vec<(u64, FailureRecord)> = Vec::new();
        let (mut from, mut reasons) = (period.start, BTreeMap::<String, (u64, u64)>::new());
        let filter = Filter { kind: Some(Kind::RecordingFailed), ..Filter::default() };
        while from < period.end {
            let page = source.journal.read(from, STEP, &filter).await?;
            let Some(last) = page.last() else { break };
            from = last.entry.seq + 1;
            for record in page.iter().filter(|record| record.entry.seq < period.end) {
                if let Some(failure) = record.body.as_ref().and_then(|body| serde_json::from_slice(&body.bytes).ok()) {
                    found.push((record.entry.seq, failure));
                }
            }
            Self::judge(source, moment, std::mem::take(&mut found), &mut reasons).await?;
        }
        Ok(Self::of(reasons))
    }

    async fn judge(
        source: &Source,
        moment: Moment,
        found: Vec<(u64, FailureRecord)>,
        reasons: &mut BTreeMap<String, (u64, u64)>,
    ) -> Result<(), ReportError> {
        let mut subjects: Vec<String> = found.iter().map(|(_, failure)| call_key(&failure.call_id)).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let mut calls = BTreeMap::new();
        for facts in source.calls.facts_of(&subjects).await?.facts {
            if let Some(then) = moment.then(&source.journal, &facts).await? {
                calls.insert(then.call_id.clone(), then);
            }
        }
        for (seq, failure) in found {
            let counts = reasons.entry(failure.reason.clone()).or_default();
            counts.0 += 1;
            counts.1 += u64::from(calls.get(&failure.call_id).is_some_and(|facts| stands(facts, seq, &failure.source)));
        }
        Ok(())
    }

    fn of(reasons: BTreeMap<String, (u64, u64)>) -> Self {
        let (failures, standing) =
            reasons.values().fold((0, 0), |(f, s), (failures, standing)| (f + failures, s + standing));
        let reason = |(reason, (failures, standing))| FailureReason { reason, failures, standing };
        let mut reasons: Vec<FailureReason> = reasons.into_iter().map(reason).collect();
        reasons.sort_by(|one, other| (other.failures, &one.reason).cmp(&(one.failures, &other.reason)));
        if reasons.len() > REASONS {
            let rest = reasons.split_off(REASONS - 1);
            let sum = |of: fn(&FailureReason) -> u64| rest.iter().map(of).sum();
            let (failures, standing) = (sum(|one| one.failures), sum(|one| one.standing));
            reasons.push(FailureReason { reason: format!("{} other reasons", rest.len()), failures, standing });
        }
        Self { failures, standing, reasons }
    }
}

/// Whether a failure is the last word on its recording.
fn stands(facts: &Facts, seq: u64, source: &str) -> bool {
    let explained = facts.explained.as_ref().is_some_and(|(explained, _)| *explained > seq);
    let recording = facts.recordings.get(source).filter(|_| !explained && !facts.is_gone());
    recording.is_some_and(|recording| {
        recording.state() == RecordingState::Failed && recording.failure.as_ref().is_some_and(|(last, _)| *last == seq)
    })
}

/// Objects that were read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fixity {
    /// Objects that were what they should be.
    pub objects: u64,
    pub bytes: u64,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_check: Option<Timestamp>,
    pub failed: u64,
    /// The first 1,000 of them.
    pub failures: Vec<FixityFailure>,
}

/// An object that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FixityFailure {
    pub seq: u64,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The object's key, or what the entry is about.
    pub what: String,
    pub why: String,
}

impl Fixity {
    pub(super) async fn read(source: &Source, period: &Period) -> Result<Self, ReportError> {
        let mut all = Self::default();
        each(source, Kind::FixityChecked, period, |record| {
            let said = body(record);
            all.objects += ["count", "objects"].iter().find_map(|name| number(&said, name)).unwrap_or(1);
            all.bytes += number(&said, "bytes").unwrap_or(0);
            all.last_check = Some(record.entry.at);
        })
        .await?;
        each(source, Kind::FixityFailed, period, |record| {
            all.failed += 1;
            let said = body(record);
            let text = |names: &[&str]| names.iter().find_map(|name| said[*name].as_str()).map(str::to_owned);
            if all.failures.len() < LISTED {
                all.failures.push(FixityFailure {
                    seq: record.entry.seq,
                    at: record.entry.at,
                    what: text(&["object_key", "key", "object"]).or(record.entry.subject.clone()).unwrap_or_default(),
                    why: text(&["why", "reason"]).unwrap_or_default(),
                });
            }
        })
        .await?;
        Ok(all)
    }
}

/// Policies that came into force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyChange {
    pub seq: u64,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    pub by: String,
    /// Over the texts, lower-case hex.
    pub sha256: String,
    /// Their ids.
    pub policies: Vec<String>,
    pub in_force: bool,
}

fn adoption(record: &Record) -> Option<Adoption> {
    record.body.as_ref().and_then(|body| serde_json::from_slice(&body.bytes).ok())
}

impl PolicyChange {
    pub(super) async fn read(source: &Source, moment: Moment, period: &Period) -> Result<Vec<Self>, ReportError> {
        let mut changes: Vec<Self> = Vec::new();
        each(source, Kind::PoliciesAdopted, &(0..moment.size), |record| {
            let Some(adoption) = adoption(record) else { return };
            let sha256 = adoption.sha256.clone();
            let ids = adoption.set().map_or_else(
                |_| Vec::new(),
                |set| {
                    let (first, others) = set.policies();
                    std::iter::once(first).chain(others).map(|policy| policy.id.clone()).collect()
                },
            );
            let by = who(&record.entry.actor).to_owned();
            let (seq, at) = (record.entry.seq, record.entry.at);
            changes.iter_mut().for_each(|change| change.in_force = false);
            changes.push(Self { seq, at, by, sha256, policies: ids, in_force: true });
        })
        .await?;
        changes.retain(|change| change.in_force || period.contains(&change.seq));
        Ok(changes)
    }
}

/// The policies in force at a moment, as the journal says; `None` where it says nothing.
pub(super) async fn policies_then(source: &Source, moment: Moment) -> Result<Option<PolicySet>, ReportError> {
    let mut last = None;
    each(source, Kind::PoliciesAdopted, &(0..moment.size), |record| {
        last = adoption(record).and_then(|adoption| adoption.set().ok()).or(last.take());
    })
    .await?;
    Ok(last)
}

/// Bodies in quarantine that were destroyed, with the disposition and when it was carried out.
pub(super) async fn destroyed_bodies(
    source: &Source,
    moment: Moment,
) -> Result<Vec<(String, Timestamp, Vec<u64>)>, ReportError> {
    let (all, mut decided, mut destroyed) = (0..moment.size, BTreeMap::<String, Vec<u64>>::new(), Vec::new());
    each(source, Kind::DispositionDecided, &all, |record| {
        let said = body(record);
        let entries = said["entries"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        decided.insert(said["id"].as_str().unwrap_or_default().to_owned(), entries);
    })
    .await?;
    each(source, Kind::DispositionExecuted, &all, |record| {
        let id = body(record)["id"].as_str().unwrap_or_default().to_owned();
        if let Some(entries) = decided.remove(&id) {
            destroyed.push((id, record.entry.at, entries));
        }
    })
    .await?;
    Ok(destroyed)
}

/// Something that is to be destroyed, and is not yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Batch {
    pub disposition: String,
    /// `proposed`, `approved` or `decided`.
    pub state: String,
    #[schema(value_type = String, format = DateTime)]
    pub proposed_at: Timestamp,
    pub proposed_by: String,
    /// Calls, and bodies in quarantine.
    pub items: u64,
    pub bytes: u64,
}

impl Batch {
    pub(super) async fn open(source: &Source, moment: Moment) -> Result<Vec<Self>, ReportError> {
        let (all, mut batches) = (0..moment.size, BTreeMap::<String, Self>::new());
        let id = |record: &Record| body(record)["id"].as_str().unwrap_or_default().to_owned();
        each(source, Kind::DispositionProposed, &all, |record| {
            let (id, said) = (id(record), body(record));
            let items = said["items"].as_array().into_iter().flatten();
            let batch = Self {
                disposition: id.clone(),
                state: "proposed".into(),
                proposed_at: record.entry.at,
                proposed_by: who(&record.entry.actor).to_owned(),
                items: number(&said, "items").unwrap_or(0),
                bytes: items.map(|item| item["bytes"].as_u64().unwrap_or(0)).sum(),
            };
            batches.insert(id, batch);
        })
        .await?;
        for (kind, state) in [
            (Kind::DispositionApproved, Some("approved")),
            (Kind::DispositionDecided, Some("decided")),
            (Kind::DispositionCancelled, None),
            (Kind::DispositionExecuted, None),
        ] {
            each(source, kind, &all, |record| match (state, batches.get_mut(&id(record))) {
                (Some(state), Some(batch)) => batch.state = state.into(),
                (None, Some(_)) => drop(batches.remove(&id(record))),
                (_, None) => {}
            })
            .await?;
        }
        let mut open: Vec<Self> = batches.into_values().collect();
        open.sort_by(|one, other| (one.proposed_at, &one.disposition).cmp(&(other.proposed_at, &other.disposition)));
        Ok(open)
    }
}

/// How many entries of a kind there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KindCount {
    /// As entries have it.
    pub kind: String,
    pub entries: u64,
}

impl KindCount {
    /// What was done with what is kept, as far as it is not told elsewhere.
    pub(super) async fn done(source: &Source, period: &Period) -> Result<Vec<Self>, ReportError> {
        const KINDS: [Kind; 10] = [
            Kind::RetentionExtended,
            Kind::HoldPlaced,
            Kind::HoldCaught,
            Kind::HoldReleased,
            Kind::HoldLifted,
            Kind::DispositionProposed,
            Kind::DispositionApproved,
            Kind::DispositionCancelled,
            Kind::DispositionExecuted,
            Kind::CallDestroyed,
        ];
        Self::count(source, &KINDS, period).await
    }

    /// Entries of kinds that are about no call, but for webhooks.
    pub(super) async fn about_no_call(source: &Source, moment: Moment) -> Result<Vec<Self>, ReportError> {
        let kinds: Vec<Kind> = Kind::ALL.iter().copied().filter(|kind| !kind.concerns_call()).collect();
        let mut counts = Self::count(source, &kinds, &(0..moment.size)).await?;
        counts.retain(|count| count.entries > 0 && count.kind != Kind::WebhookQuarantined.as_str());
        Ok(counts)
    }

    async fn count(source: &Source, kinds: &[Kind], range: &Period) -> Result<Vec<Self>, ReportError> {
        let mut counts = Vec::with_capacity(kinds.len());
        for kind in kinds {
            let entries = source.journal.count_of_kind(*kind, range.start, range.end).await?;
            counts.push(Self { kind: kind.as_str().to_owned(), entries });
        }
        Ok(counts)
    }
}
