//! How entries and the head row stand in the database.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{Body, Entry, NewEntry};
use crate::clock::from_micros;
use crate::db::ColumnType::{Bytes, Int, Text};
use crate::db::{Arg, Ask, Error as DbError, Row, Rows, Sql, Tx};
use crate::evidence::Frontier;

pub(super) fn new_entries(rows: Vec<Vec<Arg>>) -> Rows {
    Rows {
        head: "insert into journal (seq, at, kind, subject, body_hash, entry, leaf)",
        types: &[Int, Int, Text, Text, Bytes, Text, Bytes],
        rows,
        tail: "",
    }
}

pub(super) fn row_of(entry: &Entry, canonical: String, leaf: &[u8]) -> Vec<Arg> {
    vec![
        Arg::Int(entry.seq.cast_signed()),
        Arg::Int(entry.at.as_microsecond()),
        Arg::from(entry.kind.as_str()),
        Arg::from(entry.subject.clone()),
        Arg::from(&entry.body[..]),
        Arg::from(canonical),
        Arg::from(leaf),
    ]
}

pub(super) fn new_bodies(rows: Vec<Vec<Arg>>) -> Rows {
    Rows { head: "insert into journal_bodies (seq, salt, body)", types: &[Int, Bytes, Bytes], rows, tail: "" }
}

pub(super) fn body_of(seq: u64, body: &Body) -> Vec<Arg> {
    vec![Arg::Int(seq.cast_signed()), Arg::from(&body.salt[..]), Arg::Bytes(body.bytes.clone())]
}

/// Takes bodies with their salts out, for ever. Only an executed disposition may; the entries stay, and still prove.
#[must_use]
pub fn erased(seqs: &[u64]) -> Rows {
    Rows {
        head: "delete from journal_bodies where seq in (",
        types: &[Int],
        rows: seqs.iter().map(|seq| vec![Arg::Int(seq.cast_signed())]).collect(),
        tail: ")",
    }
}

/// Nobody else appends until the transaction ends that asks it.
pub(super) const HEAD: Ask = Ask::Plain(Sql::Split {
    sqlite: "select size, at, frontier from journal_head where id = 1",
    postgres: "select size, at, frontier from journal_head where id = 1 for update",
});

/// The tree at the journal's end, and when its last entry was appended.
pub(super) fn head(row: Option<&Row>) -> Result<(Frontier, Timestamp), DbError> {
    let row = row.ok_or_else(|| DbError::Damaged("the journal's head row is missing".into()))?;
    let size = u64::try_from(row.int("size")?).unwrap_or_default();
    let frontier = Frontier::from_bytes(size, &row.bytes("frontier")?)
        .ok_or_else(|| DbError::Damaged("the journal's head row does not fit its size".into()))?;
    Ok((frontier, from_micros(row.int("at")?)))
}

pub(super) fn new_head(frontier: &Frontier, at: Timestamp) -> Rows {
    Rows {
        head: "insert into journal_head (id, size, at, frontier)",
        types: &[Int, Int, Int, Bytes],
        rows: vec![vec![
            Arg::Int(1),
            Arg::Int(frontier.size().cast_signed()),
            Arg::Int(at.as_microsecond()),
            Arg::from(frontier.to_bytes()),
        ]],
        tail: "on conflict (id) do update set size = excluded.size, at = excluded.at, frontier = excluded.frontier",
    }
}

/// The hashes of those bodies that were appended since the journal had a size: salted, and so each of one entry only.
pub(super) async fn appended_since(
    tx: &mut Tx,
    size: u64,
    entries: &[NewEntry],
) -> Result<HashMap<Vec<u8>, u64>, DbError> {
    let hashes: Vec<Arg> = entries.iter().map(|entry| Arg::from(&entry.body.hash()[..])).collect();
    let rows =
        tx.fetch_in(&format!("select seq, body_hash from journal where seq >= {size} and body_hash"), &hashes).await?;
    rows.iter().map(|row| Ok((row.bytes("body_hash")?, row.int("seq")?.cast_unsigned()))).collect()
}
