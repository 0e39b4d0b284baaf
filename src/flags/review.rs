//! Working flags off: who may say what of which flag, and the entry that says it.
//!
//! Whether a flag can still be reviewed is decided where the entry is appended (`calls/project.rs`), so that of two who are
//! at it at the same time one is told. Whose permission is needed is said where the request is handled.

use std::collections::BTreeMap;

use crate::calls::records::{ReviewRecord, ReviewState};
use crate::calls::{Calls, Facts, is_same_person};
use crate::db::Error as DbError;
use crate::intake::call_key;
use crate::journal::{AppendError, Body, Journal, Kind, NewEntry};

/// Characters of an outcome and of a note at most.
const MOST_OUTCOME: usize = 100;
const MOST_NOTE: usize = 4000;

/// What somebody says of a flag.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub state: ReviewState,
    /// One of the firm's own words, such as "no breach".
    pub outcome: Option<String>,
    pub note: Option<String>,
}

/// Who reviews.
#[derive(Clone, Debug)]
pub struct Reviewer {
    /// As it stands in the journal.
    pub actor: String,
    /// The name, and the agent if it belongs to one.
    pub names: Vec<String>,
}

/// Why a flag was not reviewed.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    #[error("there is no call of this id")]
    NoSuchCall,
    #[error("this is your own call: somebody else has to review it")]
    OwnCall,
    /// The flag is not there, or done with.
    #[error("{0}")]
    NotNow(String),
    #[error("{what} is too long: give at most {most} characters")]
    TooLong { what: &'static str, most: usize },
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Append(AppendError),
    #[error("a review has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<AppendError> for ReviewError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Refused(why) => Self::NotNow(why),
            error => Self::Append(error),
        }
    }
}

impl Verdict {
    /// With what is only spaces left out.
    ///
    /// # Errors
    /// [`ReviewError::TooLong`].
    pub fn new(state: ReviewState, outcome: Option<String>, note: Option<String>) -> Result<Self, ReviewError> {
        let tidy = |text: Option<String>, what, most| match text.map(|text| text.trim().to_owned()) {
            Some(text) if text.chars().count() > most => Err(ReviewError::TooLong { what, most }),
            text => Ok(text.filter(|text| !text.is_empty())),
        };
        Ok(Self {
            state,
            outcome: tidy(outcome, "the outcome", MOST_OUTCOME)?,
            note: tidy(note, "the note", MOST_NOTE)?,
        })
    }
}

impl Reviewer {
    /// True where the call is one of theirs.
    #[must_use]
    pub fn took_part(&self, facts: &Facts) -> bool {
        facts.agents().any(|agent| self.is_any(agent))
    }

    /// Whether an agent, as a call names them, is this reviewer.
    #[must_use]
    pub fn is_any(&self, agent: &str) -> bool {
        self.names.iter().any(|name| is_same_person(name, agent))
    }
}

/// Says something of one flag of one call; returns its entry.
///
/// # Errors
/// There is no such call or flag, it is done with, or it is the reviewer's own call.
pub async fn review(
    journal: &Journal,
    calls: &Calls,
    (call_id, rule): (&str, &str),
    verdict: &Verdict,
    reviewer: &Reviewer,
) -> Result<u64, ReviewError> {
    let facts = calls.facts(call_id).await?.ok_or(ReviewError::NoSuchCall)?;
    if reviewer.took_part(&facts) {
        return Err(ReviewError::OwnCall);
    }
    if let Some(why) = facts.not_reviewable(rule) {
        return Err(ReviewError::NotNow(why.into()));
    }
    let receipts = journal.append(vec![entry(&facts, rule, verdict, reviewer)?]).await?;
    Ok(receipts.first().map_or(0, |receipt| receipt.seq))
}

fn entry(facts: &Facts, rule: &str, verdict: &Verdict, reviewer: &Reviewer) -> Result<NewEntry, ReviewError> {
    let record = ReviewRecord {
        call_id: facts.call_id.clone(),
        rule: rule.to_owned(),
        state: verdict.state,
        outcome: verdict.outcome.clone(),
        note: verdict.note.clone(),
    };
    let (subject, body) = (Some(call_key(&facts.call_id)), Body::of_json(&record)?);
    Ok(NewEntry::new(Kind::FlagReviewed, reviewer.actor.clone(), subject, body))
}

/// Which flags of the calls a review of many is for; what is empty means any.
#[derive(Clone, Debug, Default)]
pub struct Which {
    pub rules: Vec<String>,
    pub states: Vec<String>,
}

/// What came of a review of many.
#[derive(Clone, Debug, Default)]
pub struct Reviewed {
    pub changed: u64,
    /// By reason.
    pub skipped: BTreeMap<String, u64>,
    /// The first of them: call, rule, reason.
    pub examples: Vec<(String, Option<String>, String)>,
}

impl Reviewed {
    /// Skipped flags and calls that are named; the others are only counted.
    const EXAMPLES: usize = 100;

    /// Takes down what was left out.
    pub fn skip(&mut self, call_id: &str, rule: Option<&str>, why: &str) {
        *self.skipped.entry(why.to_owned()).or_default() += 1;
        if self.examples.len() < Self::EXAMPLES {
            self.examples.push((call_id.to_owned(), rule.map(str::to_owned), why.to_owned()));
        }
    }
}

/// Says the same of many flags. A flag that can't be reviewed holds up no other.
///
/// # Errors
/// Database or journal; what was journaled until then stays.
pub async fn review_many(
    journal: &Journal,
    calls: &[impl AsRef<Facts>],
    which: &Which,
    verdict: &Verdict,
    reviewer: &Reviewer,
    reviewed: &mut Reviewed,
) -> Result<(), ReviewError> {
    let (mut entries, mut about) = (Vec::new(), Vec::new());
    for facts in calls.iter().map(AsRef::as_ref) {
        let call_id = facts.call_id.as_str();
        if reviewer.took_part(facts) {
            reviewed.skip(call_id, None, "it is the reviewer's own call");
            continue;
        }
        let mut none = true;
        for (rule, flag) in &facts.flags {
            let any = |list: &[String], value: &str| list.is_empty() || list.iter().any(|known| known == value);
            // Without rules what is done with is nobody's business; asked for by name, it is told.
            let wanted = any(&which.rules, rule) && any(&which.states, flag.state());
            if !wanted || (which.rules.is_empty() && facts.not_reviewable(rule).is_some()) {
                continue;
            }
            none = false;
            match facts.not_reviewable(rule) {
                Some(why) => reviewed.skip(call_id, Some(rule), why),
                None if flag.state() == verdict.state.as_str() => {
                    reviewed.skip(call_id, Some(rule), "it is in this state already")
                }
                None => {
                    entries.push(entry(facts, rule, verdict, reviewer)?);
                    about.push((call_id, rule));
                }
            }
        }
        if none {
            reviewed.skip(call_id, None, "it has no such flag to review");
        }
    }
    // Each by itself: one that was overtaken must not take the others with it. The writer commits them together.
    let appended = futures_util::future::join_all(entries.into_iter().map(|entry| journal.append(vec![entry]))).await;
    for (outcome, (call_id, rule)) in appended.into_iter().zip(about) {
        match outcome {
            Ok(_) => reviewed.changed += 1,
            Err(AppendError::Refused(why)) => reviewed.skip(call_id, Some(rule), &why),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
