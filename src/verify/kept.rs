//! The rows of `kept` against the facts that they follow from and the policies in force.

use super::{Run, STEP, VerifyError};
use crate::app::App;
use crate::calls::Facts;
use crate::custody::KeptRow;
use crate::journal::{Filter, Kind};
use crate::retention::{Dates, adopted_sets, client_events};

/// What is wrong with the rows of a call, in words. `followed` is how far the journal was taken in when the check began:
/// what came later may be lacking.
pub(super) async fn flaw(app: &App, facts: &Facts, followed: u64) -> Result<Option<String>, VerifyError> {
    let Some(why) = readable(compared(app, facts, followed).await)? else { return Ok(None) };
    // It was read after its call: it may say what is journaled in between.
    match app.calls.facts(&facts.call_id).await {
        Ok(Some(now)) if now.last_seq > facts.last_seq => readable(compared(app, &now, followed).await),
        _ => Ok(Some(why)),
    }
}

/// What can't be read is wrong.
fn readable(compared: Result<Option<String>, VerifyError>) -> Result<Option<String>, VerifyError> {
    match compared {
        Err(VerifyError::Db(error)) if error.is_damage() => Ok(Some(format!("its row of kept can't be read: {error}"))),
        other => other,
    }
}

async fn compared(app: &App, facts: &Facts, followed: u64) -> Result<Option<String>, VerifyError> {
    let policies = app.policies.current();
    let mut dates = Dates::of(facts, None);
    if policies.waits_for_events() {
        dates.events = client_events(&app.db, facts).await?;
    }
    let unreadable = |error: serde_json::Error| crate::db::Error::Damaged(error.to_string());
    let mut expected = KeptRow::all_of(facts, &policies, &dates).map_err(unreadable)?;
    expected.sort_by(|a, b| a.source.cmp(&b.source));
    let stored = app.custody().kept_rows(facts.first_seq).await?;
    let mut lagging = facts.last_seq >= followed;
    for row in &stored {
        lagging &= row.int("last_seq")? < facts.last_seq.cast_signed();
    }
    if lagging {
        return Ok(None);
    }
    if stored.len() != expected.len() {
        return Ok(Some(format!("{} rows of kept belong to it, there should be {}", stored.len(), expected.len())));
    }
    let known = adopted_sets(&app.db).await?;
    for (row, expected) in stored.iter().zip(&expected) {
        let sha256 = row.text("policy_sha256")?;
        if !sha256.is_empty() && !known.iter().any(|set| set.sha256 == sha256) {
            return Ok(Some("its row of kept names policies that nobody adopted".into()));
        }
        if let Some(column) = expected.differs(row)? {
            return Ok(Some(format!("its row of kept does not say what the journal says: {column}")));
        }
    }
    Ok(None)
}

/// How far retention has followed the journal.
pub(super) async fn followed(app: &App) -> Result<u64, VerifyError> {
    Ok(app.journal.cursor("retention").await?)
}

impl Run<'_> {
    /// The rows of bodies in quarantine.
    pub(super) async fn quarantine_kept(&mut self, followed: u64) -> Result<(), VerifyError> {
        let (policies, mut from) = (self.app.policies.current(), 0);
        let filter = Filter { kind: Some(Kind::WebhookQuarantined), ..Filter::default() };
        let (mut journaled, known) = (0_u64, adopted_sets(&self.app.db).await?);
        loop {
            let page = match self.app.journal.read(from, STEP, &filter).await {
                Ok(page) => page,
                // Said already when the journal was read.
                Err(error) if error.is_damage() => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let Some(last) = page.last() else { break };
            from = last.entry.seq + 1;
            for record in page.iter().filter(|record| record.entry.seq < followed) {
                journaled += 1;
                let expected = KeptRow::of_quarantine(&record.entry, &policies);
                let stored = self.app.custody().kept_rows(record.entry.seq).await?;
                let column = match stored.first() {
                    None => Some("it is missing"),
                    Some(row)
                        if !known.iter().any(|set| set.sha256 == row.text("policy_sha256").unwrap_or_default()) =>
                    {
                        Some("policy_sha256")
                    }
                    Some(row) => expected.differs(row).unwrap_or(Some("it can't be read")),
                };
                if let Some(column) = column {
                    let what = format!("kept row of journal entry {}", record.entry.seq);
                    self.damage(what, format!("it does not say what the journal says: {column}"));
                }
            }
        }
        let stored = self.app.custody().kept_in_quarantine(followed).await?;
        if stored != journaled {
            self.damage("kept", format!("{stored} rows are about bodies in quarantine, {journaled} are journaled"));
        }
        Ok(())
    }
}
