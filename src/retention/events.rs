//! Dated events with customers, such as the end of the relationship, from which periods may run: told by people, kept in
//! a table that follows from the journal.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::calls::{Facts, Field};
use crate::clock::from_micros;
use crate::db::ColumnType::{Int, Text};
use crate::db::{Ask, Db, Result, Row, Rows, Tx};
use crate::journal::{Appended, Kind, NewEntry, Projection, ProjectionError};

/// `client.event`. Of several with one name the latest date counts: what was told once is never kept for less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientEvent {
    /// The customer's id or number, as the sender states it.
    pub customer: String,
    /// As a policy's `start` names it.
    pub event: String,
    pub date: Timestamp,
}

/// Keeps the table of events.
pub struct EventProjection;

#[async_trait]
impl Projection for EventProjection {
    fn ask(&self, _: &[NewEntry]) -> Option<Ask> {
        None
    }

    async fn apply(&self, _: &mut Tx, _: Vec<Row>, batch: &[Appended]) -> Result<Vec<Rows>, ProjectionError> {
        let mut latest = BTreeMap::new();
        for appended in batch.iter().filter(|appended| appended.entry.kind == Kind::ClientEvent) {
            let told: ClientEvent =
                serde_json::from_slice(&appended.body).map_err(|error| ProjectionError::Entry(error.to_string()))?;
            let known = latest.entry((told.customer, told.event)).or_insert((i64::MIN, 0));
            *known = (*known).max((told.date.as_microsecond(), appended.entry.seq.cast_signed()));
        }
        let row = |((customer, event), (date, seq)): ((String, String), (i64, i64))| {
            vec![customer.into(), event.into(), date.into(), seq.into()]
        };
        Ok(vec![Rows {
            head: "insert into client_events (customer, event, date, seq)",
            types: &[Text, Text, Int, Int],
            rows: latest.into_iter().map(row).collect(),
            tail: "on conflict (customer, event) do update set date = excluded.date, seq = excluded.seq
                   where excluded.date > client_events.date",
        }])
    }
}

/// The events with a call's customer, by name.
///
/// # Errors
/// The database.
pub async fn client_events(db: &Db, facts: &Facts) -> Result<BTreeMap<String, Timestamp>> {
    let names = [Field::CustomerId, Field::CustomerNumber].into_iter().flat_map(|field| facts.texts(field));
    let keys: Vec<_> = names.map(Into::into).collect();
    let mut events = BTreeMap::new();
    for row in db.fetch_in("select event, date from client_events where customer", &keys).await? {
        let (event, date) = (row.text("event")?, from_micros(row.int("date")?));
        let latest = events.entry(event).or_insert(date);
        *latest = date.max(*latest);
    }
    Ok(events)
}
