//! The database against itself and its schema against the one that the migrations make, for verification.

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use std::collections::BTreeMap;
use std::str::FromStr;

use super::write::WriteConnection;
use super::{Db, Result, Row, SCHEMA_VERSION, Sql};

/// What does not fit, in words: where, and why.
pub type Flaw = (String, String);

const OBJECTS: Sql = Sql::Split {
    sqlite: "select type || ' ' || name as name, coalesce(sql, '') as sql from sqlite_master
        where name not like 'sqlite\\_%' escape '\\'",
    postgres: include_str!("schema.sql"),
};

/// What that query gives where nothing but the migrations ran: a name and a definition in each line.
const SCHEMA: &str = include_str!("schema.tsv");

fn described(schema: &str) -> BTreeMap<String, String> {
    let lines = schema.lines().filter_map(|line| line.split_once('\t'));
    lines.map(|(name, sql)| (name.to_owned(), sql.to_owned())).collect()
}

fn one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

const DANGLING: &str = "select \"table\" as child, rowid as row, parent from pragma_foreign_key_check limit 100";

/// For each foreign key of one column the query for rows that break it: whoever may switch keys off can leave such.
const FOREIGN_KEYS: &str = "select format(
        'select %L as child, row_number() over () as row, %L as parent from %I c
         where c.%I is not null and not exists (select from %I p where p.%I = c.%I) limit 100',
        child.relname, parent.relname, child.relname, of.attname, parent.relname, to_.attname, of.attname) as dangling
    from pg_constraint k
    join pg_class child on child.oid = k.conrelid
    join pg_class parent on parent.oid = k.confrelid
    join pg_attribute of on of.attrelid = k.conrelid and of.attnum = k.conkey[1]
    join pg_attribute to_ on to_.attrelid = k.confrelid and to_.attnum = k.confkey[1]
    where k.contype = 'f' and child.relnamespace = 'public'::regnamespace and cardinality(k.conkey) = 1
    order by k.conname";

impl Db {
    /// Everything that is wrong below the rows: pages, indexes, constraints, and the schema itself. PostgreSQL looks
    /// after its own pages and indexes.
    ///
    /// # Errors
    /// The database can't be read at all.
    pub async fn flaws(&self) -> Result<Vec<Flaw>> {
        let mut flaws = self.version_flaws().await?;
        if let Self::Sqlite { .. } = self {
            let said = match self.fetch_all("pragma integrity_check", &[]).await {
                Ok(rows) => rows.iter().map(|row| row.text("integrity_check")).collect::<Result<Vec<_>>>()?,
                Err(error) if error.is_damage() => vec![error.to_string()],
                Err(error) => return Err(error),
            };
            flaws.extend(said.into_iter().filter(|said| said != "ok").map(|said| ("database file".to_owned(), said)));
        }
        flaws.extend(self.schema_flaws(SCHEMA_VERSION).await?);
        flaws.extend(self.dangling_rows().await?);
        Ok(flaws)
    }

    async fn version_flaws(&self) -> Result<Vec<Flaw>> {
        let rows = self.fetch_all("select id, version from schema_version", &[]).await?;
        let stray = |row: &Row| {
            let (id, version) = (row.int("id")?, row.int("version")?);
            let flaw = (format!("schema_version row {id}"), "no migration wrote it".to_owned());
            Ok((id != 1 || version != SCHEMA_VERSION).then_some(flaw))
        };
        Ok(rows.iter().map(stray).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Rows that name a row that is not there.
    async fn dangling_rows(&self) -> Result<Vec<Flaw>> {
        let rows = match self {
            Self::Sqlite { .. } => self.fetch_all(DANGLING, &[]).await?,
            Self::Postgres { .. } => {
                let mut rows = Vec::new();
                for key in self.fetch_all(FOREIGN_KEYS, &[]).await? {
                    rows.extend(self.fetch_all(Sql::Owned(key.text("dangling")?), &[]).await?);
                }
                rows
            }
        };
        let flaw = |row: &Row| {
            let what = format!("{} row {}", row.text("child")?, row.opt_int("row")?.unwrap_or_default());
            Ok((what, format!("the row of {} that it names is not there", row.text("parent")?)))
        };
        rows.iter().map(flaw).collect()
    }

    /// Tables, indexes and triggers that are not those of the migrations up to a version. Of PostgreSQL only the newest
    /// version is known.
    pub(super) async fn schema_flaws(&self, version: i64) -> Result<Vec<Flaw>> {
        let expected = match self {
            Self::Sqlite { .. } => fresh(version).await?.objects().await?,
            Self::Postgres { .. } if version == SCHEMA_VERSION => described(SCHEMA),
            Self::Postgres { .. } => return Ok(Vec::new()),
        };
        let mut stored = self.objects().await?;
        let mut flaws = Vec::new();
        for (name, sql) in &expected {
            match stored.remove(name) {
                None => flaws.push((name.clone(), "missing from the database's schema".to_owned())),
                Some(found) if found != *sql => {
                    flaws.push((name.clone(), "it is not defined as the migrations define it".to_owned()));
                }
                Some(_) => {}
            }
        }
        flaws.extend(stored.into_keys().map(|name| (name, "no migration made it".to_owned())));
        Ok(flaws)
    }

    async fn objects(&self) -> Result<BTreeMap<String, String>> {
        let rows = self.fetch_all(OBJECTS, &[]).await?;
        rows.iter().map(|row| Ok((row.text("name")?, one_line(&row.text("sql")?)))).collect()
    }
}

/// An empty database of a version of this program, in memory.
pub(super) async fn fresh(version: i64) -> Result<Db> {
    let options = SqliteConnectOptions::from_str("sqlite::memory:")?;
    // It lives as long as one connection does.
    let read = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    let read = read.connect_with(options.clone()).await?;
    let db = Db::Sqlite { write: WriteConnection::new(options), read };
    db.migrate_to(version).await?;
    Ok(db)
}
