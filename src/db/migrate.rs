//! Brings a database to the schema of this program, one numbered step after the other.

use super::{Arg, Db, Error, Result, Sql};

/// The schema that this program reads and writes.
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

struct Migration {
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! migration {
    ($file:literal) => {
        Migration {
            sqlite: include_str!(concat!("../../migrations/sqlite/", $file)),
            postgres: include_str!(concat!("../../migrations/postgres/", $file)),
        }
    };
}

/// In order; a step that has shipped is never edited.
const MIGRATIONS: &[Migration] = &[
    migration!("0001_archive.sql"),
    migration!("0002_recordings_due.sql"),
    migration!("0003_fewer_indexes.sql"),
    migration!("0004_nodes.sql"),
    migration!("0005_retention.sql"),
    migration!("0006_review.sql"),
    migration!("0007_fixity_and_schedule.sql"),
];

const CREATE: &str = "create table if not exists schema_version (id bigint primary key, version bigint not null)";
const LOCK: Sql = Sql::Split {
    sqlite: "select 1 as one",
    // Two nodes that start together migrate one after the other.
    postgres: "select 1::bigint as one from (select pg_advisory_xact_lock(4711470)) as locked",
};

/// Whether the first migration ran already, whatever the version says.
const JOURNAL: Sql = Sql::Split {
    sqlite: "select name from sqlite_master where type = 'table' and name = 'journal'",
    postgres: "select table_name::text as name from information_schema.tables where table_name = 'journal' and table_schema = current_schema()",
};

impl Db {
    /// Applies what is missing.
    ///
    /// # Errors
    /// The database was written by a newer program, or refuses a statement.
    pub async fn migrate(&self) -> Result<()> {
        match self.check_schema().await {
            Ok(()) => return Ok(()),
            // A step is made for the schema before it, and for no other.
            Err(Error::OlderSchema { found, .. }) if found > 0 => {
                if let Some((what, why)) = self.schema_flaws(found).await?.into_iter().next() {
                    return Err(Error::StrangeSchema { version: found, what, why });
                }
            }
            Err(_) => {}
        }
        self.migrate_to(SCHEMA_VERSION).await
    }

    pub(super) async fn migrate_to(&self, version: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.fetch_all(LOCK, &[]).await?;
        tx.execute(CREATE, &[]).await?;
        let row = tx.fetch_optional("select version from schema_version where id = 1", &[]).await?;
        let found = row.map(|row| row.int("version")).transpose()?.unwrap_or(0);
        if found > SCHEMA_VERSION {
            return Err(Error::NewerSchema { found, known: SCHEMA_VERSION });
        }
        if found >= version {
            return tx.commit().await;
        }
        if found <= 0 && tx.fetch_optional(JOURNAL, &[]).await?.is_some() {
            return Err(Error::NoSchemaVersion);
        }
        for (_, migration) in (1..=version).zip(MIGRATIONS).filter(|(number, _)| *number > found) {
            let script = match self {
                Self::Sqlite { .. } => migration.sqlite,
                Self::Postgres(_) => migration.postgres,
            };
            tx.script(script).await?;
        }
        let upsert = "insert into schema_version (id, version) values (1, $1) on conflict (id) do update set version = excluded.version";
        tx.execute(upsert, &[Arg::Int(version)]).await?;
        tx.commit().await
    }

    /// Checks that the schema is the one of this program, without changing it.
    ///
    /// # Errors
    /// It is older or newer, or nobody can tell.
    pub async fn check_schema(&self) -> Result<()> {
        let exists = Sql::Split {
            sqlite: "select name from sqlite_master where name = 'schema_version'",
            postgres: "select table_name::text as name from information_schema.tables where table_name = 'schema_version' and table_schema = current_schema()",
        };
        let found = match self.fetch_optional(exists, &[]).await? {
            None => 0,
            Some(_) => {
                let row = self.fetch_optional("select version from schema_version where id = 1", &[]).await?;
                row.map(|row| row.int("version")).transpose()?.unwrap_or(0)
            }
        };
        match found.cmp(&SCHEMA_VERSION) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(Error::NewerSchema { found, known: SCHEMA_VERSION }),
            std::cmp::Ordering::Less if found <= 0 && self.fetch_optional(JOURNAL, &[]).await?.is_some() => {
                Err(Error::NoSchemaVersion)
            }
            std::cmp::Ordering::Less => Err(Error::OlderSchema { found, known: SCHEMA_VERSION }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::fresh;
    use super::*;

    /// One row in every table that a later step makes anew.
    const ROWS: &[&str] = &[
        "insert into journal (seq, at, kind, subject, body_hash, entry, leaf)
            values (0, 1, 'webhook.received', 'call_1', x'02', 'entry', x'03')",
        "insert into journal_bodies (seq, salt, body) values (0, x'04', x'05')",
        "insert into calls (first_seq, call_id, subject, last_seq, facts, status, recording_state, open_since,
                recording_due_since)
            values (0, 'call 1', 'call_1', 6, 'facts', 'ended', 'pending', 7, 8)",
    ];

    /// All that the rows hold, by the names of the columns.
    const SAME: &str = "select count(*) as n from journal j
        join journal_bodies b on b.seq = j.seq join calls c on c.first_seq = j.seq
        where j.seq = 0 and j.at = 1 and j.kind = 'webhook.received' and j.subject = 'call_1' and j.body_hash = x'02'
          and j.entry = 'entry' and j.leaf = x'03' and b.salt = x'04' and b.body = x'05'
          and c.call_id = 'call 1' and c.subject = 'call_1' and c.last_seq = 6 and c.facts = 'facts'
          and c.status = 'ended' and c.recording_state = 'pending' and c.open_since = 7 and c.recording_due_since = 8";

    #[tokio::test]
    async fn what_is_kept_outlives_every_step() {
        for version in 1..SCHEMA_VERSION {
            let db = fresh(version).await.unwrap();
            for row in ROWS {
                assert_eq!(db.execute(*row, &[]).await.unwrap(), 1);
            }
            db.migrate().await.unwrap();
            assert_eq!(db.flaws().await.unwrap(), [], "from version {version}");
            assert_eq!(db.fetch_one(SAME, &[]).await.unwrap().int("n").unwrap(), 1, "from version {version}");
            let orphan = db.execute("insert into journal_bodies (seq, salt, body) values (9, x'', x'')", &[]).await;
            assert!(orphan.is_err(), "a body belongs to an entry");
        }
    }
}
