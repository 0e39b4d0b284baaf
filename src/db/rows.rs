//! Many rows in few statements.

use super::Arg;

/// Rows or keys in one statement at most.
pub(super) const MOST_ROWS: usize = 128;

/// The number of rows or keys of the smallest statement that takes so many.
pub(super) fn padded(count: usize) -> usize {
    [1, 2, 4, 8, 16, 32, 48, 64, 96].into_iter().find(|size| count <= *size).unwrap_or(MOST_ROWS)
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    Int,
    Text,
    Bytes,
    Bool,
}

impl ColumnType {
    fn array(self) -> &'static str {
        match self {
            Self::Int => "bigint[]",
            Self::Text => "text[]",
            Self::Bytes => "bytea[]",
            Self::Bool => "boolean[]",
        }
    }
}

/// Rows for one table.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The statement up to where the rows begin.
    pub head: &'static str,
    /// Of its columns, in order.
    pub types: &'static [ColumnType],
    /// Each as long as `types`; none has NULL in its first column.
    pub rows: Vec<Vec<Arg>>,
    /// What follows the rows.
    pub tail: &'static str,
}

impl Rows {
    /// The first `count` rows, taken out.
    pub(super) fn piece(&mut self, count: usize) -> Self {
        let rest = self.rows.split_off(count.min(self.rows.len()));
        Self { rows: std::mem::replace(&mut self.rows, rest), ..*self }
    }

    /// One statement for PostgreSQL, whatever the number of rows: each column is one array, of those after the first
    /// `before` parameters.
    pub(super) fn unnested(self, before: usize) -> (String, Vec<Column>) {
        let places: Vec<String> =
            (before + 1..).zip(self.types).map(|(place, of)| format!("${place}::{}", of.array())).collect();
        let sql = format!("{} select * from unnest({}) {}", self.head, places.join(", "), self.tail);
        let mut columns: Vec<Column> = self.types.iter().map(|of| Column { of: *of, args: Vec::new() }).collect();
        for row in self.rows {
            for (column, arg) in columns.iter_mut().zip(row) {
                column.args.push(arg);
            }
        }
        (sql, columns)
    }
}

/// A column of many rows, for PostgreSQL.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) of: ColumnType,
    pub(super) args: Vec<Arg>,
}

impl Column {
    /// Keys that are looked for; all are of the first one's type.
    pub(super) fn of_keys(keys: &[Arg]) -> Self {
        let of = match keys.first() {
            Some(Arg::Int(_)) => ColumnType::Int,
            Some(Arg::Bytes(_)) => ColumnType::Bytes,
            Some(Arg::Bool(_)) => ColumnType::Bool,
            Some(Arg::Text(_) | Arg::Null) | None => ColumnType::Text,
        };
        Self { of, args: keys.to_vec() }
    }
}

/// All in one statement for PostgreSQL: what a small batch costs is mostly the way there and back. The parts see the
/// tables as they were before it, and take effect together.
pub(super) fn at_once(all: Vec<Rows>) -> (String, Vec<Column>) {
    let (mut parts, mut columns) = (Vec::new(), Vec::new());
    for rows in all.into_iter().filter(|rows| !rows.rows.is_empty()) {
        let (sql, more) = rows.unnested(columns.len());
        columns.extend(more);
        parts.push(sql);
    }
    let last = parts.pop().unwrap_or_default();
    let others: Vec<String> = parts.iter().enumerate().map(|(n, part)| format!("part{n} as ({part})")).collect();
    let sql = if others.is_empty() { last } else { format!("with {} {last}", others.join(", ")) };
    (sql, columns)
}

/// The size of statements that one text can take all of these rows with; `None` where there are too many.
pub(super) fn common_size(all: &[Rows]) -> Option<usize> {
    let most = all.iter().map(|rows| rows.rows.len()).max().unwrap_or_default();
    (most <= MOST_ROWS).then(|| padded(most))
}

/// One text of a statement for each table, for SQLite: it takes as many rows as `size` says, or one; what is lacking is
/// filled up with rows of NULL, which it leaves out again.
pub(super) fn together(all: Vec<Rows>, size: usize) -> (String, Vec<Arg>) {
    let (mut sql, mut params) = (String::new(), Vec::new());
    for Rows { head, rows, tail, .. } in all.into_iter().filter(|rows| !rows.rows.is_empty()) {
        let columns = rows.first().map_or(0, Vec::len);
        let size = if rows.len() == 1 { 1 } else { size };
        let values = vec![question_marks(columns); size].join(",");
        sql.push_str(&format!("{head} select * from (values {values}) where column1 is not null {tail};"));
        let before = params.len();
        params.extend(rows.into_iter().flatten());
        params.resize(before + size * columns, Arg::Null);
    }
    (sql, params)
}

/// `(?,?)` for two parameters in SQLite, which looks for a numbered one among all before it.
pub(super) fn question_marks(count: usize) -> String {
    format!("({})", vec!["?"; count].join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::SCHEMA_VERSION;
    use crate::db::check::fresh;

    const PAIRS: &str = "insert into pairs (a, b)";

    fn pairs(numbers: std::ops::Range<i64>) -> Rows {
        let rows = numbers.map(|a| vec![a.into(), if a % 3 == 0 { Arg::Null } else { (a * a).into() }]).collect();
        Rows { head: PAIRS, types: &[ColumnType::Int, ColumnType::Int], rows, tail: "" }
    }

    #[tokio::test]
    async fn every_row_is_written_once_however_many_there_are() {
        let db = fresh(SCHEMA_VERSION).await.unwrap();
        db.execute("create table pairs (a integer primary key, b integer)", &[]).await.unwrap();
        db.execute("create table texts (t text primary key)", &[]).await.unwrap();
        for count in [0, 1, 2, 3, 16, 17, 100, 128, 129, 300] {
            let mut tx = db.begin().await.unwrap();
            let texts = (0..count % 7).map(|n| vec![Arg::from(format!("text {n}"))]).collect::<Vec<_>>();
            let more = texts.len() as u64;
            let texts = Rows {
                head: "insert into texts (t)",
                types: &[ColumnType::Text],
                rows: texts,
                tail: "on conflict (t) do nothing",
            };
            let gone = Rows {
                head: "delete from pairs where a in (",
                types: &[ColumnType::Int],
                rows: vec![vec![0.into()]],
                tail: ")",
            };
            let touched = tx.write(vec![pairs(0..count), texts, gone]).await.unwrap();
            let deleted = u64::from(count > 0);
            assert_eq!(touched, count.cast_unsigned() + more + deleted, "{count} rows");
            let rows = tx.fetch_all("select a, b from pairs order by a", &[]).await.unwrap();
            let found: Vec<_> = rows.iter().map(|row| (row.int("a").unwrap(), row.opt_int("b").unwrap())).collect();
            let wanted: Vec<_> = (1..count).map(|a| (a, (a % 3 != 0).then_some(a * a))).collect();
            assert_eq!(found, wanted, "{count} rows");
            tx.roll_back().await.unwrap();
        }
    }
}
