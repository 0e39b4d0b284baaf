//! Reading entries back, in order.

use super::{Body, Entry, Journal, Kind};
use crate::db::{Arg, Db, Error, Result, Row, Sql, Tx, ascending};
use crate::evidence::{Frontier, Hash};

/// Which entries to read.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Any of these.
    pub subjects: Vec<String>,
    pub kind: Option<Kind>,
}

/// An entry with what stands beside it.
#[derive(Clone, Debug)]
pub struct Record {
    pub entry: Entry,
    pub leaf: Hash,
    /// `None` once erased.
    pub body: Option<Body>,
}

/// A row as it is stored, unchecked: for verification.
pub struct Stored {
    pub seq: u64,
    pub row: Row,
}

/// The head row, unchecked: for verification.
pub struct Head {
    /// Microseconds.
    pub at: i64,
    /// `None` where it does not fit the size beside it.
    pub frontier: Option<Frontier>,
}

/// What an entry is about, for whoever follows the journal.
#[derive(Clone, Debug)]
pub struct Step {
    pub seq: u64,
    /// `None` where the entry does not read back.
    pub kind: Option<Kind>,
    pub subject: Option<String>,
}

const COLUMNS: &str = "j.seq, j.at, j.kind, j.subject, j.body_hash, j.entry, j.leaf, b.salt, b.body";

impl Journal {
    /// The same journal, whose entries are read from a replica, where there is one: those that it has. The size is the
    /// latest all the same.
    #[must_use]
    pub fn for_reading(&self) -> Self {
        self.read_from(self.db.for_reading())
    }

    fn read_from(&self, source: Db) -> Self {
        let mut reading = self.clone();
        reading.source = source;
        reading
    }

    /// Up to `limit` entries with `seq` at or after `from`.
    ///
    /// # Errors
    /// The database, or a row that does not read back.
    pub async fn read(&self, from: u64, limit: u64, filter: &Filter) -> Result<Vec<Record>> {
        let mut sql =
            format!("select {COLUMNS} from journal j left join journal_bodies b on b.seq = j.seq where j.seq >= $1");
        let mut params = vec![Arg::Int(sql_seq(from)), Arg::Int(sql_seq(limit))];
        if !filter.subjects.is_empty() {
            let first = params.len() + 1;
            params.extend(filter.subjects.iter().map(|subject| Arg::from(subject.as_str())));
            let places: Vec<String> = (first..=params.len()).map(|place| format!("${place}")).collect();
            sql.push_str(&format!(" and j.subject in ({})", places.join(", ")));
        }
        if let Some(kind) = filter.kind {
            params.push(Arg::from(kind.as_str()));
            sql.push_str(&format!(" and j.kind = ${}", params.len()));
            if kind != Kind::WebhookReceived {
                // The index over kinds leaves out the commonest one; this lets the planner see that it serves.
                sql.push_str(" and j.kind <> 'webhook.received'");
            }
        }
        sql.push_str(" order by j.seq limit $2");
        let rows = self.source.fetch_all(Sql::Owned(sql), &params).await?;
        ascending(&rows, "seq", sql_seq(from))?;
        rows.iter().map(record).collect()
    }

    /// [`Journal::steps`] for whoever has taken in all before `from` just now: what this process itself appended is not
    /// read back.
    ///
    /// # Errors
    /// The database.
    pub async fn next_steps(&self, from: u64, limit: u64) -> Result<Vec<Step>> {
        match self.recent.from(from, limit) {
            Some(steps) => Ok(steps),
            None => self.steps(from, limit).await,
        }
    }

    /// Up to `limit` entries with `seq` at or after `from`, without their bodies: for whoever follows the journal. An
    /// entry that does not read back holds nobody up: it is told as one of no kind, with the subject of its row.
    ///
    /// # Errors
    /// The database.
    pub async fn steps(&self, from: u64, limit: u64) -> Result<Vec<Step>> {
        // A row beyond the end must not carry anybody's cursor there.
        let sql = "select seq, entry, subject from journal where seq >= $1
                   and seq < (select size from journal_head where id = 1) order by seq limit $2";
        let rows = self.source.fetch_all(sql, &[Arg::Int(sql_seq(from)), Arg::Int(sql_seq(limit))]).await?;
        ascending(&rows, "seq", sql_seq(from))?;
        let step = |row: &Row| {
            let seq = row.int("seq")?.cast_unsigned();
            let entry = row.text("entry").ok().and_then(|text| Entry::parse(&text)).filter(|entry| entry.seq == seq);
            Ok(match entry {
                Some(entry) => Step { seq, kind: Some(entry.kind), subject: entry.subject },
                None => Step { seq, kind: None, subject: row.opt_text("subject").ok().flatten() },
            })
        };
        rows.iter().map(step).collect()
    }

    /// Numbers of rows that lie before the journal's beginning or beyond its end as the head row has it, and the names
    /// of their tables; at most `limit`. Without a head row nothing lies beyond.
    ///
    /// # Errors
    /// The database.
    pub async fn rows_outside(&self, limit: u64) -> Result<Vec<(i64, &'static str)>> {
        // One statement, and so one state of a journal that grows.
        let sql =
            "select seq, 0 as body from journal where seq < 0 or seq >= (select size from journal_head where id = 1)
                   union all select seq, 1 as body from journal_bodies
                       where seq < 0 or seq >= (select size from journal_head where id = 1)
                   order by 1, 2 limit $1";
        let rows = self.db.fetch_all(sql, &[Arg::Int(sql_seq(limit))]).await?;
        let table = |body| if body == 0 { "journal" } else { "journal_bodies" };
        rows.iter().map(|row| Ok((row.int("seq")?, table(row.int("body")?)))).collect()
    }

    /// The head row as it is stored, unchecked; `None` where it is missing.
    ///
    /// # Errors
    /// The database.
    pub async fn stored_head(&self) -> Result<Option<Head>> {
        let sql = "select size, at, frontier from journal_head where id = 1";
        let row = self.db.fetch_optional(sql, &[]).await?;
        let head = |row: Row| {
            let (size, at) = (row.int("size")?, row.int("at")?);
            let frontier = u64::try_from(size).ok();
            let bytes = row.bytes("frontier")?;
            Ok(Head { at, frontier: frontier.and_then(|size| Frontier::from_bytes(size, &bytes)) })
        };
        row.map(head).transpose()
    }

    /// The number after the last row, whatever the head row says.
    ///
    /// # Errors
    /// The database.
    pub async fn end_of_rows(&self) -> Result<u64> {
        let row = self.db.fetch_one("select coalesce(max(seq) + 1, 0) as n from journal", &[]).await?;
        Ok(u64::try_from(row.int("n")?).unwrap_or_default())
    }

    /// All entries on a subject, in order, up to and with `last`.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub async fn about(&self, subject: &str, last: u64) -> Result<Vec<Record>> {
        let sql = format!(
            "select {COLUMNS} from journal j left join journal_bodies b on b.seq = j.seq
             where j.subject = $1 and j.seq <= $2 order by j.seq"
        );
        let params = [Arg::from(subject), Arg::Int(sql_seq(last))];
        self.source.fetch_all(Sql::Owned(sql), &params).await?.iter().map(record).collect()
    }

    /// All entries on a subject, in order; at least up to `known`, of which somebody has heard already.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub async fn history(&self, subject: &str, known: u64) -> Result<Vec<Record>> {
        let records = self.about(subject, u64::MAX).await?;
        if self.source.may_be_behind() && records.last().is_none_or(|record| record.entry.seq < known) {
            return self.read_from(self.db.clone()).about(subject, u64::MAX).await;
        }
        Ok(records)
    }

    /// One entry.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub async fn entry(&self, seq: u64) -> Result<Option<Record>> {
        let found = self.read(seq, 1, &Filter::default()).await?;
        Ok(found.into_iter().find(|record| record.entry.seq == seq))
    }

    /// Up to `limit` quarantined entries with `seq` below `before`, newest first.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub async fn quarantine(&self, before: u64, limit: u64) -> Result<Vec<Record>> {
        let sql = format!(
            "select {COLUMNS} from journal j left join journal_bodies b on b.seq = j.seq
             where j.kind = 'webhook.quarantined' and j.kind <> 'webhook.received' and j.seq < $1 order by j.seq desc limit $2"
        );
        let params = [Arg::Int(sql_seq(before)), Arg::Int(sql_seq(limit))];
        self.source.fetch_all(Sql::Owned(sql), &params).await?.iter().map(record).collect()
    }

    /// How often the journal holds a body about a subject, byte for byte.
    ///
    /// # Errors
    /// The database.
    pub async fn count_of_body(&self, subject: &str, body: &[u8]) -> Result<u64> {
        let sql = "select count(*) as n from journal j join journal_bodies b on b.seq = j.seq
                   where j.subject = $1 and b.body = $2";
        let row = self.db.fetch_one(sql, &[Arg::from(subject), Arg::from(body)]).await?;
        Ok(row.int("n")?.cast_unsigned())
    }

    /// Up to `limit` entries without a subject, with `seq` at or after `from`.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub async fn without_subject(&self, from: u64, limit: u64) -> Result<Vec<Record>> {
        let sql = format!(
            "select {COLUMNS} from journal j left join journal_bodies b on b.seq = j.seq
             where j.subject is null and j.seq >= $1 order by j.seq limit $2"
        );
        let params = [Arg::Int(sql_seq(from)), Arg::Int(sql_seq(limit))];
        let rows = self.db.fetch_all(Sql::Owned(sql), &params).await?;
        ascending(&rows, "seq", sql_seq(from))?;
        rows.iter().map(record).collect()
    }

    /// How many calls entries below `size` speak of.
    ///
    /// # Errors
    /// The database.
    pub async fn call_subjects(&self, size: u64) -> Result<u64> {
        let sql = "select count(distinct subject) as n from journal where subject is not null and subject not like '%:%' and seq < $1";
        Ok(self.db.fetch_one(sql, &[Arg::Int(sql_seq(size))]).await?.int("n")?.cast_unsigned())
    }

    /// Calls that entries below `size` speak of and that have no row, by their keys; at most `limit`.
    ///
    /// # Errors
    /// The database.
    pub async fn subjects_without_call(&self, size: u64, limit: u64) -> Result<Vec<String>> {
        let sql = "select distinct j.subject from journal j left join calls c on c.subject = j.subject
                   where j.subject is not null and j.subject not like '%:%' and j.seq < $1 and c.subject is null limit $2";
        let rows = self.db.fetch_all(sql, &[Arg::Int(sql_seq(size)), Arg::Int(sql_seq(limit))]).await?;
        rows.iter().map(|row| row.text("subject")).collect()
    }

    /// The number of entries.
    ///
    /// # Errors
    /// The database.
    pub async fn size(&self) -> Result<u64> {
        Ok(self.db.fetch_one("select size from journal_head where id = 1", &[]).await?.int("size")?.cast_unsigned())
    }

    /// The number of entries, or of rows where there is no head row that could tell.
    ///
    /// # Errors
    /// The database.
    pub async fn size_or_end(&self) -> Result<u64> {
        match self.stored_head().await? {
            Some(Head { frontier: Some(frontier), .. }) => Ok(frontier.size()),
            _ => self.end_of_rows().await,
        }
    }

    /// Looks whether another process appended, and wakes those who watch if so.
    ///
    /// # Errors
    /// The database.
    pub async fn look(&self) -> Result<()> {
        let size = self.size().await?;
        self.announce(size);
        Ok(())
    }

    /// The frontier of the tree over all entries.
    ///
    /// # Errors
    /// The database, or a head row that does not fit its size.
    pub async fn frontier(&self) -> Result<Frontier> {
        let row = self.db.fetch_one("select size, frontier from journal_head where id = 1", &[]).await?;
        Frontier::from_bytes(row.int("size")?.cast_unsigned(), &row.bytes("frontier")?)
            .ok_or_else(|| Error::Damaged("the journal's head row does not fit its size".into()))
    }

    /// Up to `limit` rows from `from` on, as they are stored.
    ///
    /// # Errors
    /// The database.
    pub async fn stored(&self, from: u64, limit: u64) -> Result<Vec<Stored>> {
        let sql = format!(
            "select {COLUMNS} from journal j left join journal_bodies b on b.seq = j.seq where j.seq >= $1 order by j.seq limit $2"
        );
        let rows = self.db.fetch_all(Sql::Owned(sql), &[Arg::Int(sql_seq(from)), Arg::Int(sql_seq(limit))]).await?;
        ascending(&rows, "seq", sql_seq(from))?;
        rows.into_iter().map(|row| Ok(Stored { seq: row.int("seq")?.cast_unsigned(), row })).collect()
    }
}

/// All entries on a subject, in order, as a transaction sees them: for a projection that has to begin again.
///
/// # Errors
/// The database, or a row that does not read back.
pub async fn about_in(tx: &mut Tx, subject: &str, before: u64) -> Result<Vec<Record>> {
    let sql = format!(
        "select {COLUMNS} from journal j left join journal_bodies b on b.seq = j.seq
         where j.subject = $1 and j.seq < $2 order by j.seq"
    );
    let params = [Arg::from(subject), Arg::Int(sql_seq(before))];
    tx.fetch_all(Sql::Owned(sql), &params).await?.iter().map(record).collect()
}

/// A number from outside, at most what a database can hold.
fn sql_seq(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn record(row: &Row) -> Result<Record> {
    let entry = entry_of(row)?;
    let leaf = row.bytes("leaf")?.try_into().map_err(|_| damaged(row))?;
    Ok(Record { entry, leaf, body: body(row)? })
}

fn entry_of(row: &Row) -> Result<Entry> {
    let entry = Entry::parse(&row.text("entry")?).ok_or_else(|| damaged(row))?;
    // Whoever reads on behind it must come further.
    if row.int("seq")?.cast_unsigned() == entry.seq { Ok(entry) } else { Err(damaged(row)) }
}

fn damaged(row: &Row) -> Error {
    let seq = row.int("seq").unwrap_or(-1);
    Error::Damaged(format!("journal entry {seq} does not read back: run callvault verify"))
}

fn body(row: &Row) -> Result<Option<Body>> {
    match (row.opt_bytes("salt")?, row.opt_bytes("body")?) {
        (Some(salt), Some(bytes)) => {
            let salt = salt.try_into().map_err(|_| Error::Damaged("a salt has the wrong length".into()))?;
            Ok(Some(Body { salt, bytes: bytes.into() }))
        }
        _ => Ok(None),
    }
}

/// What is wrong with a stored row on its own, in words; the record itself where nothing is.
///
/// # Errors
/// The first thing that does not fit.
pub fn damage_in_row(stored: &Stored) -> std::result::Result<Record, String> {
    let row = &stored.row;
    let unreadable = |error: Error| error.to_string();
    let text = row.text("entry").map_err(unreadable)?;
    let entry = Entry::parse(&text).ok_or("the entry is not in canonical form")?;
    if entry.seq != stored.seq {
        return Err(format!("the entry says seq {}", entry.seq));
    }
    let leaf: Hash =
        row.bytes("leaf").map_err(unreadable)?.try_into().map_err(|_| "the leaf hash has the wrong length")?;
    if leaf != Entry::leaf(&text) {
        return Err("the leaf hash is not that of the entry".into());
    }
    let columns_fit = row.int("at").map_err(unreadable)? == entry.at.as_microsecond()
        && row.text("kind").map_err(unreadable)? == entry.kind.as_str()
        && row.opt_text("subject").map_err(unreadable)? == entry.subject
        && row.bytes("body_hash").map_err(unreadable)? == entry.body;
    if !columns_fit {
        return Err("a column does not say what the entry says".into());
    }
    let body = body(row).map_err(unreadable)?;
    match &body {
        Some(body) if body.hash() != entry.body => Err("the body is not the one that the entry commits to".into()),
        _ => Ok(Record { entry, leaf, body }),
    }
}
