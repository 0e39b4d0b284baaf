//! The sets of policies that were ever in force: each is journaled with its texts, so that the journal alone says by what
//! every recording is kept.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::policy::{PolicyError, PolicySet};
use crate::clock::from_micros;
use crate::db::ColumnType::{Int, Text};
use crate::db::{Ask, Db, Error, Result, Row, Rows, Tx};
use crate::journal::{Appended, Journal, Kind, NewEntry, Projection, ProjectionError};

/// `policies.adopted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// Over the texts; lower-case hex.
    pub sha256: String,
    pub files: Vec<PolicyFile>,
}

/// One file of a set, as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFile {
    pub name: String,
    pub text: String,
}

impl Adoption {
    /// The record of a set.
    #[must_use]
    pub fn of(set: &PolicySet) -> Self {
        let file = |(name, text): &(String, String)| PolicyFile { name: name.clone(), text: text.clone() };
        Self { sha256: set.sha256().to_owned(), files: set.files().iter().map(file).collect() }
    }

    /// The set of a record.
    ///
    /// # Errors
    /// Its texts are no policies.
    pub fn set(self) -> Result<PolicySet, PolicyError> {
        PolicySet::adopted(self.files.into_iter().map(|file| (file.name, file.text)).collect())
    }
}

/// When which set came into force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Adopted {
    pub seq: u64,
    pub at: Timestamp,
    pub sha256: String,
}

/// Keeps the list of sets.
pub struct PolicyProjection;

#[async_trait]
impl Projection for PolicyProjection {
    fn ask(&self, _: &[NewEntry]) -> Option<Ask> {
        None
    }

    async fn apply(&self, _: &mut Tx, _: Vec<Row>, batch: &[Appended]) -> Result<Vec<Rows>, ProjectionError> {
        let mut rows = Vec::new();
        for appended in batch.iter().filter(|appended| appended.entry.kind == Kind::PoliciesAdopted) {
            let record: Adoption =
                serde_json::from_slice(&appended.body).map_err(|error| ProjectionError::Entry(error.to_string()))?;
            let (seq, at) = (appended.entry.seq.cast_signed(), appended.entry.at.as_microsecond());
            rows.push(vec![seq.into(), at.into(), record.sha256.into()]);
        }
        let head = "insert into policy_sets (adopted_seq, at, sha256)";
        Ok(vec![Rows { head, types: &[Int, Int, Text], rows, tail: "" }])
    }
}

/// Every set that was ever in force, the first one first.
///
/// # Errors
/// The database.
pub async fn adopted_sets(db: &Db) -> Result<Vec<Adopted>> {
    let rows = db.fetch_all("select adopted_seq, at, sha256 from policy_sets order by adopted_seq", &[]).await?;
    let adopted = |row: &Row| {
        let (seq, at) = (row.int("adopted_seq")?.cast_unsigned(), from_micros(row.int("at")?));
        Ok(Adopted { seq, at, sha256: row.text("sha256")? })
    };
    rows.iter().map(adopted).collect()
}

/// The set that was adopted with an entry, as the journal has it.
///
/// # Errors
/// The database, or the entry does not read back.
pub async fn adopted_with(journal: &Journal, seq: u64) -> Result<PolicySet> {
    let damaged = |why: String| Error::Damaged(format!("journal entry {seq}, the policies that were adopted: {why}"));
    let body = journal.entry(seq).await?.and_then(|record| record.body);
    let body = body.ok_or_else(|| damaged("it is missing".into()))?;
    let record: Adoption = serde_json::from_slice(&body.bytes).map_err(|error| damaged(error.to_string()))?;
    record.set().map_err(|error| damaged(error.to_string()))
}
