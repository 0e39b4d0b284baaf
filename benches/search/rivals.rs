//! The same questions to others: tantivy without this product's ways, on the same index, and SQLite's FTS5 on the same
//! rows.

use std::ops::Bound;
use std::path::Path;

use callvault::search::{CallDoc, Sort};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Executor, Row, SqlSafeStr};
use tantivy::collector::{Count, TopDocs};
use tantivy::query::{AllQuery, BooleanQuery, Occur, PhraseQuery, Query, RangeQuery, TermQuery};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{Order, TantivyDocument, Term};

use super::queries::{Asked, Plain};

const PAGE: usize = 50;
const NAMES: [&str; 3] = ["customer_name", "agent_name", "other_name"];
/// Digits that the index holds together.
const GROUP: usize = 4;
const NUMBERS: [&str; 4] = ["customer_number", "line_number", "agent_number", "other_number"];

/// Tantivy as its examples show it: a query, [`Count`] and [`TopDocs`] by a fast field.
pub struct RawTantivy {
    index: tantivy::Index,
    searcher: tantivy::Searcher,
}

impl RawTantivy {
    pub fn open(dir: &Path, threads: usize) -> Self {
        let mut index = tantivy::Index::open_in_dir(dir).expect("the index that was just built");
        index.set_multithread_executor(threads).expect("threads");
        let searcher = index.reader().expect("a reader").searcher();
        Self { index, searcher }
    }

    /// The total.
    pub fn ask(&self, asked: &Asked) -> u64 {
        let query = self.query(&asked.plain);
        let top = TopDocs::with_limit(PAGE);
        let (count, page) = if asked.sort == Sort::DurationDesc {
            let top = top.order_by_fast_field::<u64>("duration", Order::Desc);
            let (count, page) = self.searcher.search(&query, &(Count, top)).expect("an answer");
            (count, page.into_iter().map(|(_, address)| address).collect::<Vec<_>>())
        } else {
            let top = top.order_by_fast_field::<i64>("sort_at", Order::Desc);
            let (count, page) = self.searcher.search(&query, &(Count, top)).expect("an answer");
            (count, page.into_iter().map(|(_, address)| address).collect())
        };
        for address in page {
            let call: TantivyDocument = self.searcher.doc(address).expect("a stored id");
            std::hint::black_box(call);
        }
        count as u64
    }

    fn field(&self, name: &str) -> Field {
        self.index.schema().get_field(name).expect("a field of the index")
    }

    fn term(&self, field: &str, value: &str) -> Box<dyn Query> {
        let term = Term::from_field_text(self.field(field), value);
        Box::new(TermQuery::new(term, IndexRecordOption::Basic))
    }

    fn query(&self, plain: &Plain) -> Box<dyn Query> {
        let range = |field, lower, upper| -> Box<dyn Query> {
            let at = |time| Term::from_field_i64(self.field(field), time);
            Box::new(RangeQuery::new(Bound::Included(at(lower)), Bound::Excluded(at(upper))))
        };
        match plain {
            Plain::All => Box::new(AllQuery),
            Plain::Words(words) => {
                let begins = |word: &String, field: &&str| -> Box<dyn Query> {
                    let field = self.field(field);
                    let end = format!("{word}\u{10ffff}");
                    let term = |text: &str| Term::from_field_text(field, text);
                    Box::new(RangeQuery::new(Bound::Included(term(word)), Bound::Excluded(term(&end))))
                };
                let word = |word| BooleanQuery::union(NAMES.iter().map(|field| begins(word, field)).collect());
                both(words.iter().map(|one| Box::new(word(one)) as Box<dyn Query>))
            }
            Plain::Digits(digits) => {
                let groups = |field: &&str| -> Box<dyn Query> {
                    let term = |at: usize| (at, Term::from_field_text(self.field(field), &digits[at..at + GROUP]));
                    match digits.len() {
                        GROUP => self.term(field, digits),
                        length => Box::new(PhraseQuery::new_with_offset((0..=length - GROUP).map(term).collect())),
                    }
                };
                Box::new(BooleanQuery::union(NUMBERS.iter().map(groups).collect()))
            }
            Plain::AgentBetween(agent, from, until) => {
                both([self.term("agent", agent), range("sort_at", *from, *until)].into_iter())
            }
            Plain::Between(from, until) => range("sort_at", *from, *until),
            Plain::OpenFlag(rule) => self.term("flag", &format!("{rule}\0open")),
            Plain::EndedBelow(seconds) => {
                let end = Term::from_field_u64(self.field("duration"), *seconds);
                let shorter = Box::new(RangeQuery::new(Bound::Unbounded, Bound::Excluded(end)));
                both([self.term("status", "ended"), shorter].into_iter())
            }
            Plain::NotRecording(state) => Box::new(BooleanQuery::new(vec![
                (Occur::Must, Box::new(AllQuery)),
                (Occur::MustNot, self.term("recording", state)),
            ])),
            Plain::Status(status) => self.term("status", status),
        }
    }
}

fn both(parts: impl Iterator<Item = Box<dyn Query>>) -> Box<dyn Query> {
    Box::new(BooleanQuery::new(parts.map(|part| (Occur::Must, part)).collect()))
}

/// SQLite: rows with indexes for what is compared, FTS5 for what is searched.
pub struct Fts5 {
    connection: SqliteConnection,
    runtime: tokio::runtime::Runtime,
}

const TABLES: &str = "
    create table calls (id integer primary key, call_id text, sort_at integer, duration integer, status text,
        recording text, agent text, open_flag text);
    create virtual table names using fts5(customer, agent, other, content='', tokenize='unicode61', prefix='3 4');
    create virtual table numbers using fts5(customer, line, agent, content='', tokenize='trigram');";
const INDEXES: &str = "
    create index calls_by_time on calls (sort_at);
    create index calls_by_agent on calls (agent, sort_at);
    create index calls_by_duration on calls (duration);
    create index calls_by_status on calls (status, duration);
    create index calls_by_recording on calls (recording, sort_at);
    create index calls_by_flag on calls (open_flag, sort_at) where open_flag is not null;
    analyze;";

impl Fts5 {
    pub fn create(file: &Path) -> Self {
        let mut made = Self::connect(file);
        made.run(TABLES);
        made
    }

    /// One that was kept, if it is complete.
    pub fn open(file: &Path) -> Option<Self> {
        if !file.exists() {
            return None;
        }
        let mut made = Self::connect(file);
        let query = sqlx::query("select 1 from sqlite_master where name = 'sqlite_stat1'");
        let complete = made.runtime.block_on(query.fetch_optional(&mut made.connection)).ok().flatten();
        if complete.is_none() {
            std::fs::remove_file(file).expect("half a database can be removed");
        }
        complete.map(|_| made)
    }

    fn connect(file: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
        let settings =
            [("journal_mode", "off"), ("synchronous", "off"), ("cache_size", "-200000"), ("mmap_size", "20000000000")];
        let options = settings.iter().fold(options, |options, (name, value)| options.pragma(*name, *value));
        let connection = runtime.block_on(SqliteConnection::connect_with(&options)).expect("SQLite opens");
        Self { connection, runtime }
    }

    fn run(&mut self, sql: &'static str) {
        self.runtime.block_on(self.connection.execute(sqlx::raw_sql(sql))).expect("a statement");
    }

    /// Puts calls in; their rows are numbered from `first`.
    pub fn insert(&mut self, first: usize, calls: &[CallDoc]) {
        let row = |(number, call): (usize, &CallDoc)| {
            let open = call.flags.iter().find(|(_, state)| state == "open").map(|(rule, _)| rule);
            serde_json::json!([
                first + number,
                call.call_id,
                call.sort_at,
                call.duration_seconds,
                call.status,
                call.recording_state,
                call.agent,
                open,
                call.customer_name,
                call.other_names.join(" "),
                call.customer_number,
                call.numbers.join(" "),
            ])
        };
        let rows = serde_json::Value::Array(calls.iter().enumerate().map(row).collect()).to_string();
        let cell = |n: usize| format!("value->>{n}");
        let cells = |list: &[usize]| list.iter().map(|n| cell(*n)).collect::<Vec<_>>().join(", ");
        for (head, list) in [
            ("calls", &[0, 1, 2, 3, 4, 5, 6, 7][..]),
            ("names (rowid, customer, agent, other)", &[0, 8, 6, 9]),
            ("numbers (rowid, customer, line, agent)", &[0, 10, 11, 6]),
        ] {
            let sql = format!("insert into {head} select {} from json_each($1)", cells(list));
            let query = sqlx::query(AssertSqlSafe(sql).into_sql_str()).bind(&rows);
            self.runtime.block_on(query.execute(&mut self.connection)).expect("rows go in");
        }
    }

    pub fn finish(&mut self) {
        self.run(INDEXES);
    }

    /// The total.
    pub fn ask(&mut self, asked: &Asked) -> u64 {
        let (from, condition) = match &asked.plain {
            Plain::All => ("calls".to_owned(), "true".to_owned()),
            Plain::Words(words) => {
                let begins: Vec<_> = words.iter().map(|word| format!("\"{word}\" *")).collect();
                ("names n join calls on calls.id = n.rowid".into(), format!("names match '{}'", begins.join(" AND ")))
            }
            Plain::Digits(digits) => {
                ("numbers n join calls on calls.id = n.rowid".into(), format!("numbers match '\"{digits}\"'"))
            }
            Plain::AgentBetween(agent, from, until) => {
                let agent = agent.replace('\'', "''");
                ("calls".into(), format!("agent = '{agent}' and sort_at >= {from} and sort_at < {until}"))
            }
            Plain::Between(from, until) => ("calls".into(), format!("sort_at >= {from} and sort_at < {until}")),
            Plain::OpenFlag(rule) => ("calls".into(), format!("open_flag = '{rule}'")),
            Plain::EndedBelow(seconds) => ("calls".into(), format!("status = 'ended' and duration < {seconds}")),
            Plain::NotRecording(state) => ("calls".into(), format!("recording <> '{state}'")),
            Plain::Status(status) => ("calls".into(), format!("status = '{status}'")),
        };
        let order = if asked.sort == Sort::DurationDesc { "duration" } else { "sort_at" };
        let page = format!("select call_id from {from} where {condition} order by {order} desc limit {PAGE}");
        // Full-text matches alone need no rows to be counted.
        let count = format!("select count(*) from {} where {condition}", from.split(" join ").next().unwrap_or(&from));
        let page = sqlx::query(AssertSqlSafe(page).into_sql_str()).fetch_all(&mut self.connection);
        std::hint::black_box(self.runtime.block_on(page).expect("a page"));
        let count = sqlx::query(AssertSqlSafe(count).into_sql_str()).fetch_one(&mut self.connection);
        let count: i64 = self.runtime.block_on(count).expect("a count").get(0);
        count.cast_unsigned()
    }
}
