//! How far those who follow the journal have come, for those whose place in it is kept in the database.

use super::Journal;
use crate::db::{Arg, ColumnType, Db, Error, Result, Rows};

/// Who follows the journal with a cursor in the database.
pub const CURSORS: [&str; 4] = ["flags", "second look", "last look", "retention"];

const ADVANCE: &str = "insert into cursors (name, next_seq) values ($1, $2)
    on conflict (name) do update set next_seq = excluded.next_seq";

impl Journal {
    /// The first entry that a follower has not taken in. A cursor that it can't have left counts as lost: it begins anew.
    ///
    /// # Errors
    /// The database.
    pub async fn cursor(&self, name: &'static str) -> Result<u64> {
        let Some(stored) = stored(&self.db, name).await? else { return Ok(0) };
        match u64::try_from(stored) {
            Ok(cursor) if cursor <= self.size().await? => Ok(cursor),
            _ => {
                tracing::error!(name, cursor = stored, "a cursor lies outside the journal; beginning anew");
                Ok(0)
            }
        }
    }

    /// Says how far a follower has come.
    ///
    /// # Errors
    /// The database.
    pub async fn set_cursor(&self, name: &'static str, next: u64) -> Result<()> {
        self.db.execute(ADVANCE, &[name.into(), Arg::Int(next.cast_signed())]).await.map(drop)
    }
}

/// The row that says how far a follower has come, for its own transaction..
#[must_use]
pub fn advanced(name: &'static str, next: u64) -> Rows {
    Rows {
        head: "insert into cursors (name, next_seq)",
        types: &[ColumnType::Text, ColumnType::Int],
        rows: vec![vec![name.into(), Arg::Int(next.cast_signed())]],
        tail: "on conflict (name) do update set next_seq = excluded.next_seq",
    }
}

async fn stored(db: &Db, name: &str) -> Result<Option<i64>> {
    let row = db.fetch_optional("select next_seq from cursors where name = $1", &[name.into()]).await?;
    row.map(|row| row.int("next_seq")).transpose()
}

/// Cursors that no follower can have left, in words, for verification: they would leave entries out.
///
/// # Errors
/// The database.
pub async fn impossible_cursors(db: &Db, journal_size: u64) -> Result<Vec<(String, String)>, Error> {
    let mut found = Vec::new();
    for name in CURSORS {
        if let Some(cursor) = stored(db, name).await?
            && u64::try_from(cursor).map_or(true, |cursor| cursor > journal_size)
        {
            found
                .push((format!("cursor {name}"), format!("it stands at {cursor}, the journal ends at {journal_size}")));
        }
    }
    for row in db.fetch_all("select name from cursors", &[]).await? {
        let name = row.text("name").unwrap_or_default();
        if !CURSORS.contains(&name.as_str()) {
            found.push((format!("cursor {name}"), "nobody keeps such a cursor".into()));
        }
    }
    Ok(found)
}
