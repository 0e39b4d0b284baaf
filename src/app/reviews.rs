//! Reviewing all flags that a search finds.

use super::App;
use crate::db::Error as DbError;
use crate::flags::{ReviewError, Reviewed, Reviewer, Verdict, Which, review_many};
use crate::intake::call_key;
use crate::search::{Error as SearchError, Filters, Page, QueryError, compile};

/// Calls that are looked at at once.
const STEP: usize = 500;

/// Why the flags of a search were not reviewed, or not all.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    #[error("{found} calls match, which is more than {most} at once: narrow the search down, to a month for example")]
    TooMany { found: u64, most: u64 },
    #[error(transparent)]
    Search(#[from] SearchError),
    #[error(transparent)]
    Review(#[from] ReviewError),
}

impl From<QueryError> for BulkError {
    fn from(error: QueryError) -> Self {
        Self::Search(error.into())
    }
}

impl From<DbError> for BulkError {
    fn from(error: DbError) -> Self {
        Self::Review(error.into())
    }
}

impl App {
    /// Says the same of all flags that a search finds: those of the rules and states that its filters name, else all that
    /// can be reviewed. Nothing is reviewed where more than `most` calls match.
    ///
    /// # Errors
    /// The search, database or journal; what was journaled until then stays.
    pub async fn review_found(
        &self,
        filters: &Filters,
        verdict: &Verdict,
        reviewer: &Reviewer,
        most: u64,
    ) -> Result<Reviewed, BulkError> {
        let context = self.query_context();
        let expr = compile(filters, &context)?;
        let mut found: Vec<String> = Vec::new();
        let mut cursor = None;
        // All of them before the first is reviewed: a review changes what is found.
        loop {
            let page = Page { limit: STEP, cursor, count: found.is_empty(), ..Page::default() };
            let page = self.search.search(expr.clone(), page, context.clone()).await?;
            match page.total {
                Some(total) if total > most => return Err(BulkError::TooMany { found: total, most }),
                _ => found.extend(page.call_ids),
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let given =
            |values: &[String]| values.iter().map(|value| value.trim().to_owned()).filter(|v| !v.is_empty()).collect();
        let which = Which { rules: given(&filters.flag), states: given(&filters.flag_state) };
        let mut reviewed = Reviewed::default();
        for call_ids in found.chunks(STEP) {
            let keys: Vec<String> = call_ids.iter().map(|call_id| call_key(call_id)).collect();
            let readable = self.calls.facts_of(&keys).await?;
            review_many(&self.journal, &readable.facts, &which, verdict, reviewer, &mut reviewed).await?;
            readable
                .skipped
                .iter()
                .for_each(|key| reviewed.skip(key, None, "its row does not read back: run callvault verify"));
        }
        Ok(reviewed)
    }
}
