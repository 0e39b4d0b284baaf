//! Several questions in one text, for SQLite.

use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Either, Executor};

use super::rows::{MOST_ROWS, padded, question_marks};
use super::value::Bind;
use super::{Arg, Result, Row, Sql};

/// A question to begin a transaction with.
#[derive(Clone, Debug)]
pub enum Ask {
    Plain(Sql),
    /// The rows of many keys: `head` ends in what the keys are compared with.
    ByKeys {
        head: &'static str,
        keys: Vec<Arg>,
    },
}

/// Asks all in one hand-over, after a statement without rows; the rows for each question.
pub(super) async fn together(connection: &mut SqliteConnection, first: &str, asked: Vec<Ask>) -> Result<Vec<Vec<Row>>> {
    let (mut sql, mut arguments) = (format!("{first};"), SqliteArguments::default());
    let mut rows: Vec<Vec<Row>> = asked.iter().map(|_| Vec::new()).collect();
    // To which question each statement belongs.
    let mut owners = Vec::new();
    for (owner, ask) in asked.into_iter().enumerate() {
        match ask {
            Ask::Plain(text) => {
                sql.push_str(&format!("{};", text.sqlite()));
                owners.push(owner);
            }
            Ask::ByKeys { head, keys } => {
                for keys in keys.chunks(MOST_ROWS) {
                    let size = padded(keys.len());
                    sql.push_str(&format!("{head} in {};", question_marks(size)));
                    owners.push(owner);
                    let filling = keys.iter().cycle().take(size - keys.len());
                    for key in keys.iter().chain(filling) {
                        key.clone().bind(&mut arguments).map_err(sqlx::Error::Encode)?;
                    }
                }
            }
        }
    }
    let mut answers = connection.fetch_many(sqlx::query_with(AssertSqlSafe(sql), arguments));
    let mut done = 0;
    while let Some(answer) = answers.try_next().await? {
        match answer {
            Either::Left(_) => done += 1,
            // The first statement has none.
            Either::Right(row) => {
                if let Some(rows) = owners.get(done - 1).and_then(|owner| rows.get_mut(*owner)) {
                    rows.push(Row::Sqlite(row));
                }
            }
        }
    }
    drop(answers);
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{ColumnType, Rows, SCHEMA_VERSION, check::fresh};

    #[tokio::test]
    async fn every_question_gets_its_own_rows() {
        let db = fresh(SCHEMA_VERSION).await.unwrap();
        db.execute("create table numbers (n integer primary key)", &[]).await.unwrap();
        let rows = (0..300).map(|n| vec![Arg::Int(n)]).collect();
        let numbers = Rows { head: "insert into numbers (n)", types: &[ColumnType::Int], rows, tail: "" };
        db.begin().await.unwrap().write_and_commit(vec![numbers]).await.unwrap();
        for count in [0, 1, 5, 128, 129, 300, 400] {
            let keys: Vec<Arg> = (0..count).map(Arg::Int).collect();
            let asked = vec![
                Ask::Plain(Sql::Same("select n from numbers where n < 0")),
                Ask::ByKeys { head: "select n from numbers where n", keys },
                Ask::Plain(Sql::Same("select n from numbers where n >= 298 order by n")),
            ];
            let (tx, answers) = db.begin_with(asked).await.unwrap();
            tx.roll_back().await.unwrap();
            let numbers = |rows: &[Row]| rows.iter().map(|row| row.int("n").unwrap()).collect::<Vec<_>>();
            let answers: Vec<Vec<i64>> = answers.iter().map(|rows| numbers(rows)).collect();
            assert_eq!(answers, [vec![], (0..count.min(300)).collect(), vec![298, 299]], "{count} keys");
        }
    }
}
