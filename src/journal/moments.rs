//! How long the journal was at a moment, and entries without their bodies.

use jiff::Timestamp;

use super::{Entry, Journal, Kind};
use crate::db::{Arg, Error, Result, Row, ascending};

impl Journal {
    /// The number of entries with `at` at or before a moment: times never run backwards, so these are the first ones.
    ///
    /// # Errors
    /// The database.
    pub async fn size_at(&self, moment: Timestamp) -> Result<u64> {
        let (mut low, mut high) = (0, self.size().await?);
        while low < high {
            let middle = low + (high - low) / 2;
            // Where entries are damaged the next one that is there tells.
            let sql = "select at from journal where seq >= $1 order by seq limit 1";
            let row = self.source.fetch_optional(sql, &[Arg::Int(middle.cast_signed())]).await?;
            match row {
                Some(row) if row.int("at")? <= moment.as_microsecond() => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Up to `limit` calls' subjects of entries from `from` on whose request reached us before it was journaled, with the
    /// time of receipt, in order.
    ///
    /// # Errors
    /// The database, or an entry that does not read back.
    pub async fn late(&self, from: u64, limit: u64) -> Result<Vec<(u64, String, Timestamp)>> {
        let sql = "select seq, entry from journal where seq >= $1 and subject is not null
                   and entry like '%,\"received_at\":\"%' order by seq limit $2";
        let rows = self.source.fetch_all(sql, &[Arg::Int(from.cast_signed()), Arg::Int(limit.cast_signed())]).await?;
        let entry = |entry: Entry| (entry.seq, entry.subject.clone().unwrap_or_default(), entry.received());
        Ok(entries(&rows, from)?.into_iter().map(entry).collect())
    }

    /// Up to `limit` entries of a kind other than `webhook.received`, with `seq` from `from` on and below `size`, in order.
    ///
    /// # Errors
    /// The database, or an entry that does not read back.
    pub async fn of_kind(&self, kind: Kind, from: u64, size: u64, limit: u64) -> Result<Vec<Entry>> {
        // The index over kinds leaves out the commonest one; this lets the planner see that it serves.
        let sql = "select seq, entry from journal where kind = $1 and kind <> 'webhook.received'
                   and seq >= $2 and seq < $3 order by seq limit $4";
        let params =
            [kind.as_str().into(), from.cast_signed().into(), size.cast_signed().into(), limit.cast_signed().into()];
        entries(&self.source.fetch_all(sql, &params).await?, from)
    }

    /// How many entries there are of a kind other than `webhook.received`, with `seq` from `from` on and below `size`.
    ///
    /// # Errors
    /// The database.
    pub async fn count_of_kind(&self, kind: Kind, from: u64, size: u64) -> Result<u64> {
        let sql = "select count(*) as n from journal where kind = $1 and kind <> 'webhook.received'
                   and seq >= $2 and seq < $3";
        let params = [kind.as_str().into(), from.cast_signed().into(), size.cast_signed().into()];
        Ok(self.source.fetch_one(sql, &params).await?.int("n")?.cast_unsigned())
    }
}

fn entries(rows: &[Row], from: u64) -> Result<Vec<Entry>> {
    ascending(rows, "seq", from.cast_signed())?;
    let entry = |row: &Row| {
        let seq = row.int("seq")?;
        let damaged = || Error::Damaged(format!("journal entry {seq} does not read back: run callvault verify"));
        Entry::parse(&row.text("entry")?).filter(|entry| entry.seq == seq.cast_unsigned()).ok_or_else(damaged)
    };
    rows.iter().map(entry).collect()
}
