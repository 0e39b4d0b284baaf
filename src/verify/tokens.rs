//! The table of tokens against the journal: a token that nobody made opens every door.

use std::collections::BTreeMap;

use super::{Run, STEP, VerifyError};
use crate::access::TokenRow;
use crate::journal::{Filter, Kind};

impl Run<'_> {
    pub(super) async fn tokens(&mut self) -> Result<(), VerifyError> {
        let stored = self.app.access.token_rows().await?;
        let mut expected: BTreeMap<String, TokenRow> = BTreeMap::new();
        for kind in [Kind::TokenCreated, Kind::TokenRevoked] {
            let (mut from, filter) = (0, Filter { kind: Some(kind), ..Filter::default() });
            loop {
                let records = self.app.journal.read(from, STEP, &filter).await;
                let records = match records {
                    Ok(records) => records,
                    // Said already when the journal was read.
                    Err(crate::db::Error::Damaged(_)) => return Ok(()),
                    Err(error) => return Err(error.into()),
                };
                let Some(last) = records.last() else { break };
                from = last.entry.seq + 1;
                for record in &records {
                    TokenRow::fold(&mut expected, record);
                }
            }
        }
        for (name, row) in &expected {
            match stored.get(name) {
                None => self.damage(format!("token {name}"), "journaled, but missing from the tokens"),
                Some(found) if found.as_ref() != Some(row) => {
                    self.damage(format!("token {name}"), "its row does not say what the journal says")
                }
                Some(_) => {}
            }
        }
        for name in stored.keys().filter(|name| !expected.contains_key(*name)) {
            self.damage(format!("token {name}"), "the journal knows nothing of it");
        }
        Ok(())
    }
}
