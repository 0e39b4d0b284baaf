//! A streaming replica of the PostgreSQL server: asked first for what need not be the latest, as long as it was seen to
//! follow this very database. Whatever goes wrong with it, the primary is asked instead.
//!
//! Nothing is asked of it before somebody looked at it ([`Db::look_at_replica`]), and whoever keeps asking has to keep looking.
//! Several replicas may stand behind one address: two answers need not come in order.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions};
use sqlx::{AssertSqlSafe, PgPool};

use super::{Db, Error, Result, Row, SCHEMA_VERSION, Server};

/// What is asked of it are pages of rows by their keys. A replica that takes longer is away for now.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a look at it gives; `leaf` is that of the last entry of its journal.
const HEAD: &str = "select pg_is_in_recovery() as follows, s.version as version, h.size as size, j.leaf as leaf,
        has_table_privilege('calls', 'select') and has_table_privilege('journal_bodies', 'select')
            and has_table_privilege('recording_work', 'select') as readable
    from journal_head h join schema_version s on s.id = h.id left join journal j on j.seq = h.size - 1 where h.id = 1";
/// The same entry on the primary.
const SAME: &str = "select h.size as size, j.leaf as leaf
    from journal_head h left join journal j on j.seq = $1 where h.id = 1";

/// The other server, and whether it may be asked.
#[derive(Debug)]
pub struct Replica {
    server: Server,
    used: AtomicBool,
    /// It was seen to be one of this database, and nothing spoke against it since.
    ours: AtomicBool,
}

/// What a look at the replica came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It has the beginning of our journal, so many entries less than all.
    Follows { behind: u64 },
    /// It answers, and the primary does not: whether it is asked, by what was known of it.
    Unsure { asked: bool },
    /// It does not answer: why, and what to do.
    Away(String),
    /// It must not be asked: why, and what to do.
    Unfit(String),
}

impl Sight {
    /// A replica that is further behind is worth a word.
    pub const NOTABLY_BEHIND: u64 = 5_000;
}

impl Replica {
    pub(super) fn new(url: &str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)?.application_name("callvault");
        Ok(Self { server: Server::beside_primary(options), used: AtomicBool::default(), ours: AtomicBool::default() })
    }

    pub(super) async fn close(&self) {
        self.server.pool.close().await;
    }

    fn use_it(&self, use_it: bool) -> bool {
        self.used.swap(use_it, Ordering::Relaxed) != use_it
    }
}

impl Server {
    /// Rows of a query that only reads; from the replica, where this handle asks it and it may be asked.
    pub(super) async fn rows(
        &self,
        sql: Cow<'static, str>,
        arguments: impl Fn() -> Result<PgArguments>,
    ) -> Result<Vec<Row>> {
        let first = self.asked_first.as_ref().filter(|replica| replica.used.load(Ordering::Relaxed));
        if let Some(replica) = first {
            let asked = rows_from(&replica.server.pool, sql.clone(), arguments()?);
            match tokio::time::timeout(PATIENCE, asked).await.unwrap_or(Err(Error::TimedOut(PATIENCE))) {
                Ok(rows) => return Ok(rows),
                Err(error) if replica.use_it(false) => {
                    tracing::warn!(%error, "the replica did not answer as it should; the primary is asked instead");
                }
                Err(_) => {}
            }
        }
        rows_from(&self.pool, sql, arguments()?).await
    }
}

async fn rows_from(pool: &PgPool, sql: Cow<'static, str>, arguments: PgArguments) -> Result<Vec<Row>> {
    let rows = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_all(pool).await?;
    Ok(rows.into_iter().map(Row::Postgres).collect())
}

impl Db {
    /// The same database, for reading what need not be the latest: of a replica, while there is one that may be asked.
    #[must_use]
    pub fn for_reading(&self) -> Self {
        let mut reading = self.clone();
        if let Self::Postgres(server) = &mut reading {
            server.asked_first.clone_from(&server.replica);
        }
        reading
    }

    /// Whether there is a replica at all.
    #[must_use]
    pub fn has_replica(&self) -> bool {
        matches!(self, Self::Postgres(server) if server.replica.is_some())
    }

    /// The replica alone, as a database that can only be read; `None` where there is none.
    pub(super) fn replica_alone(&self) -> Option<Self> {
        let Self::Postgres(server) = self else { return None };
        Some(Self::Postgres(server.replica.as_ref()?.server.clone()))
    }

    /// Whether answers may be older than the latest.
    #[must_use]
    pub fn may_be_behind(&self) -> bool {
        matches!(self, Self::Postgres(server) if server.asked_first.is_some())
    }

    /// Looks whether the replica may be asked, and how far it is behind; `None` where there is none.
    pub async fn look_at_replica(&self) -> Option<Sight> {
        let Self::Postgres(server) = self else { return None };
        let replica = server.replica.as_ref()?;
        let sight = self.sight_of(replica).await;
        match &sight {
            Sight::Follows { .. } => replica.ours.store(true, Ordering::Relaxed),
            Sight::Unfit(_) => replica.ours.store(false, Ordering::Relaxed),
            Sight::Unsure { .. } | Sight::Away(_) => {}
        }
        let use_it = !matches!(sight, Sight::Away(_)) && replica.ours.load(Ordering::Relaxed);
        if replica.use_it(use_it) {
            match &sight {
                Sight::Away(why) | Sight::Unfit(why) => {
                    tracing::error!(why, "the replica is not asked any more; the primary is");
                }
                Sight::Follows { .. } | Sight::Unsure { .. } => tracing::info!("the replica is asked from now on"),
            }
        }
        Some(sight)
    }

    async fn sight_of(&self, replica: &Replica) -> Sight {
        let unfit = |why: &str| Sight::Unfit(why.to_owned());
        let alone = Self::Postgres(replica.server.clone());
        let head = match in_time(alone.fetch_one(HEAD, &[])).await.and_then(|row| Head::of(&row)) {
            Ok(head) => head,
            Err(error) => return Sight::Away(format!("it can't be asked: {error}. See that it runs and follows")),
        };
        if !head.follows {
            return unfit("it is no replica: name one in database.replica_url, or leave that empty");
        }
        if !head.readable {
            return unfit(
                "its role may not read every table: grant that on the primary, as deploy/postgres/grants.sql does",
            );
        }
        if head.version != SCHEMA_VERSION {
            let version = head.version;
            return Sight::Unfit(format!(
                "it has schema version {version}, this program needs {SCHEMA_VERSION}: see that it follows"
            ));
        }
        match self.compared(&head).await {
            Ok(Some(size)) => Sight::Follows { behind: size.saturating_sub(head.size).cast_unsigned() },
            Ok(None) => unfit("its journal is another one: name a replica of database.url in database.replica_url"),
            Err(_) => Sight::Unsure { asked: replica.ours.load(Ordering::Relaxed) },
        }
    }

    /// The size of our journal, if a replica's is the beginning of it.
    async fn compared(&self, head: &Head) -> Result<Option<i64>> {
        // A replica that is waited for shows a commit a moment before the primary does.
        const A_MOMENT: Duration = Duration::from_millis(200);
        let same = [head.size.saturating_sub(1).into()];
        let mut row = in_time(self.fetch_one(SAME, &same)).await?;
        if row.int("size")? < head.size {
            tokio::time::sleep(A_MOMENT).await;
            row = in_time(self.fetch_one(SAME, &same)).await?;
        }
        let size = row.int("size")?;
        Ok((size >= head.size && row.opt_bytes("leaf")? == head.leaf).then_some(size))
    }
}

/// The replica's state in one moment.
struct Head {
    follows: bool,
    readable: bool,
    version: i64,
    size: i64,
    leaf: Option<Vec<u8>>,
}

impl Head {
    fn of(row: &Row) -> Result<Self> {
        Ok(Self {
            follows: row.bool("follows")?,
            readable: row.bool("readable")?,
            version: row.int("version")?,
            size: row.int("size")?,
            leaf: row.opt_bytes("leaf")?,
        })
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or(Err(Error::TimedOut(PATIENCE)))
}
