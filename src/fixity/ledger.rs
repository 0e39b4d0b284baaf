//! When each object was last read again: a table that follows the receipts in the journal.

use super::{FixityError, Promise};
use crate::calls::records::{ArchiveReceipt, DuplicateRecord};
use crate::db::ColumnType::{Int, Text};
use crate::db::{Arg, Db, Result, Row, Rows};
use crate::journal::{Filter, Journal, Kind, Record};

/// The cursors, and what each follows.
const FOLLOWED: [(&str, Kind); 2] =
    [("fixity", Kind::RecordingArchived), ("fixity of duplicates", Kind::RecordingDuplicated)];
/// Entries that are taken in at once.
const STEP: u64 = 500;

const INTO: &str = "insert into fixity (seq, part, object, version, looked_at, why)";
// Whoever else follows at this moment takes in the same.
const TAKE_IN: &str = "on conflict (seq, part) do update set object = excluded.object, version = excluded.version";
const REPLACE: &str = "on conflict (seq, part) do update set looked_at = excluded.looked_at, why = excluded.why";
const TYPES: &[crate::db::ColumnType] = &[Int, Int, Text, Text, Int, Text];

/// One object and when it was last read.
#[derive(Clone, Debug)]
pub struct Item {
    /// The journal entry that made it known.
    pub seq: i64,
    /// Which of the objects that the entry names.
    pub part: i64,
    pub object: String,
    pub version: Option<String>,
    /// Microseconds.
    pub looked_at: i64,
    /// What was wrong then, in words.
    pub why: Option<String>,
}

impl Item {
    /// Whether a promise is about it.
    pub fn is(&self, promise: &Promise) -> bool {
        promise.key == self.object && promise.version == self.version
    }
}

/// Where a walk over the table is: what it met last.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    looked_at: i64,
    seq: i64,
    part: i64,
}

impl Place {
    pub const START: Self = Self { looked_at: i64::MIN, seq: i64::MIN, part: i64::MIN };
}

impl From<&Item> for Place {
    fn from(item: &Item) -> Self {
        Self { looked_at: item.looked_at, seq: item.seq, part: item.part }
    }
}

/// The table.
#[derive(Clone)]
pub struct Ledger {
    pub db: Db,
    pub journal: Journal,
}

impl Ledger {
    /// Takes in the objects of receipts that came since the last time.
    ///
    /// # Errors
    /// Database or journal.
    pub async fn follow(&self) -> Result<(), FixityError> {
        for (cursor, kind) in FOLLOWED {
            loop {
                let from = self.journal.cursor(cursor).await?;
                let filter = Filter { kind: Some(kind), ..Filter::default() };
                let records = self.journal.read(from, STEP, &filter).await?;
                let Some(last) = records.last() else { break };
                let items = records.iter().flat_map(items_of).collect();
                self.write(items, TAKE_IN).await?;
                self.journal.set_cursor(cursor, last.entry.seq + 1).await?;
            }
        }
        Ok(())
    }

    /// Has every receipt taken in once more, so that no row is lacking and none names another object.
    ///
    /// # Errors
    /// The database.
    pub async fn begin_anew(&self) -> Result<()> {
        for (cursor, _) in FOLLOWED {
            self.journal.set_cursor(cursor, 0).await?;
        }
        Ok(())
    }

    /// Objects that were taken in and whose rows are lacking, or name another, in words, with what the
    /// entry names; about `limit` at most.
    ///
    /// # Errors
    /// The database, or an entry that does not read back.
    pub async fn lacking(&self, limit: usize) -> Result<Vec<(Item, &'static str)>> {
        let mut found = Vec::new();
        for (cursor, kind) in FOLLOWED {
            let (mut from, until) = (0, self.journal.cursor(cursor).await?);
            while from < until && found.len() < limit {
                let filter = Filter { kind: Some(kind), ..Filter::default() };
                let records = self.journal.read(from, STEP, &filter).await?;
                let Some(last) = records.last() else { break };
                let seqs: Vec<Arg> = records.iter().map(|one| Arg::Int(one.entry.seq.cast_signed())).collect();
                from = last.entry.seq + 1;
                let head = "select seq, part, object, version, looked_at, why from fixity where seq";
                let rows: Vec<Item> = self.db.fetch_in(head, &seqs).await?.iter().map(item).collect::<Result<_>>()?;
                let taken_in = records.iter().filter(|one| one.entry.seq < until).flat_map(items_of);
                for expected in taken_in {
                    match rows.iter().find(|row| (row.seq, row.part) == (expected.seq, expected.part)) {
                        None => found.push((expected, "it is not among the objects that are read again")),
                        Some(row) if (&row.object, &row.version) != (&expected.object, &expected.version) => {
                            found.push((expected, "another object is read again in its place"));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        Ok(found)
    }

    /// Rows that follow from no entry, by number and part; at most `limit`.
    ///
    /// # Errors
    /// The database.
    pub async fn strays(&self, limit: i64) -> Result<Vec<(i64, i64)>> {
        let sql = "select f.seq, f.part from fixity f left join journal j on j.seq = f.seq
            where j.seq is null or f.part < 0 or f.part > 1
               or (j.kind = 'recording.duplicated' and f.part > 0)
               or j.kind not in ('recording.archived', 'recording.duplicated') limit $1";
        let rows = self.db.fetch_all(sql, &[limit.into()]).await?;
        rows.iter().map(|row| Ok((row.int("seq")?, row.int("part")?))).collect()
    }

    /// Objects that were fine when they were last read, at `until` or before: oldest first, after a place.
    ///
    /// # Errors
    /// The database.
    pub async fn oldest(&self, after: Place, until: i64, limit: i64) -> Result<Vec<Item>> {
        let sql = "select seq, part, object, version, looked_at, why from fixity
            where why is null and looked_at <= $1 and (looked_at, seq, part) > ($2, $3, $4)
            order by looked_at, seq, part limit $5";
        let params = [until, after.looked_at, after.seq, after.part, limit].map(Arg::Int);
        self.db.fetch_all(sql, &params).await?.iter().map(item).collect()
    }

    /// Objects that failed when they were last read, at `until` or before, after a place.
    ///
    /// # Errors
    /// The database.
    pub async fn failed(&self, after: Place, until: i64, limit: i64) -> Result<Vec<Item>> {
        let sql = "select seq, part, object, version, looked_at, why from fixity
            where why is not null and looked_at <= $1 and (seq, part) > ($2, $3) order by seq, part limit $4";
        let params = [until, after.seq, after.part, limit].map(Arg::Int);
        self.db.fetch_all(sql, &params).await?.iter().map(item).collect()
    }

    /// When the object was read that was not read for longest, microseconds; `None` where there is none. Those that failed
    /// are told by themselves.
    ///
    /// # Errors
    /// The database.
    pub async fn oldest_at(&self) -> Result<Option<i64>> {
        Ok(self.oldest(Place::START, i64::MAX, 1).await?.first().map(|item| item.looked_at))
    }

    /// How many objects failed when they were last read.
    ///
    /// # Errors
    /// The database.
    pub async fn failing(&self) -> Result<u64> {
        let sql = "select count(*) as n from fixity where why is not null";
        Ok(self.db.fetch_one(sql, &[]).await?.int("n")?.cast_unsigned())
    }

    /// Whether an object was read after a moment, microseconds.
    ///
    /// # Errors
    /// The database.
    pub async fn is_any_after(&self, moment: i64) -> Result<bool> {
        let sql = "select seq from fixity where why is null and looked_at > $1 limit 1";
        Ok(self.db.fetch_optional(sql, &[moment.into()]).await?.is_some())
    }

    /// Has objects that were read after a moment count as read at another.
    ///
    /// # Errors
    /// The database.
    pub async fn put_back(&self, after: i64, to: i64) -> Result<()> {
        let sql = "update fixity set looked_at = $2 where why is null and looked_at > $1";
        self.db.execute(sql, &[after.into(), to.into()]).await.map(drop)
    }

    /// How many objects there are, and how many were last read at `until` or before.
    ///
    /// # Errors
    /// The database.
    pub async fn counts(&self, until: i64) -> Result<(u64, u64)> {
        let sql = "select count(*) as n, count(case when looked_at <= $1 then 1 end) as due from fixity";
        let row = self.db.fetch_one(sql, &[until.into()]).await?;
        Ok((row.int("n")?.cast_unsigned(), row.int("due")?.cast_unsigned()))
    }

    /// Takes note of objects that were read.
    ///
    /// # Errors
    /// The database.
    pub async fn note(&self, items: Vec<Item>) -> Result<()> {
        self.write(items, REPLACE).await
    }

    /// Puts a row that does not read back in order again, from its entry; one without an entry is forgotten.
    ///
    /// # Errors
    /// Database or journal.
    pub async fn restore(&self, damaged: &Item) -> Result<()> {
        self.forget(damaged).await?;
        let record = self.journal.entry(damaged.seq.cast_unsigned()).await?;
        let mut items = record.iter().flat_map(items_of);
        match items.find(|item| item.part == damaged.part) {
            Some(item) => self.write(vec![item], TAKE_IN).await,
            None => Ok(()),
        }
    }

    /// Forgets an object of which nothing is promised any more.
    ///
    /// # Errors
    /// The database.
    pub async fn forget(&self, item: &Item) -> Result<()> {
        let sql = "delete from fixity where seq = $1 and part = $2";
        self.db.execute(sql, &[item.seq.into(), item.part.into()]).await.map(drop)
    }

    async fn write(&self, items: Vec<Item>, tail: &'static str) -> Result<()> {
        let rows = items.into_iter().map(|item| {
            vec![
                item.seq.into(),
                item.part.into(),
                item.object.into(),
                item.version.into(),
                item.looked_at.into(),
                item.why.into(),
            ]
        });
        let rows = Rows { head: INTO, types: TYPES, rows: rows.collect(), tail };
        self.db.begin().await?.write_and_commit(vec![rows]).await
    }
}

/// The objects that an entry makes known. They were read last when they were stored. A body that is gone, or does not read
/// back, names none: verification tells.
fn items_of(record: &Record) -> Vec<Item> {
    let Some(body) = &record.body else { return Vec::new() };
    let item = |part, object: String, version| Item {
        seq: record.entry.seq.cast_signed(),
        part,
        object,
        version,
        looked_at: record.entry.at.as_microsecond(),
        why: None,
    };
    if record.entry.kind == Kind::RecordingDuplicated {
        let duplicate = serde_json::from_slice::<DuplicateRecord>(&body.bytes);
        return duplicate.map(|of| vec![item(0, of.object_key, Some(of.version))]).unwrap_or_default();
    }
    let receipt = serde_json::from_slice::<ArchiveReceipt>(&body.bytes);
    receipt
        .map(|of| vec![item(0, of.object_key, of.version), item(1, of.vcon_key, of.vcon_version)])
        .unwrap_or_default()
}

/// A row as it is stored. One whose texts do not read back names no object, and holds nobody up.
fn item(row: &Row) -> Result<Item> {
    let (seq, part, looked_at) = (row.int("seq")?, row.int("part")?, row.int("looked_at")?);
    let texts = || Ok::<_, crate::db::Error>((row.text("object")?, row.opt_text("version")?, row.opt_text("why")?));
    let (object, version, why) = texts().unwrap_or_default();
    Ok(Item { seq, part, object, version, looked_at, why })
}
