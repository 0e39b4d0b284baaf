//! Whether a PostgreSQL is one that an archive can rely on, for those who set it up. SQLite comes with this program.

use super::{Db, Error, Result, Sight};
use crate::clock::Clock;

/// The oldest server that is tested with.
const OLDEST: i64 = 150_000;
/// Clocks may differ by this much, in microseconds.
const CLOCKS: i64 = 300_000_000;

/// What is wrong with a server, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    pub what: String,
    /// Without it mended, nothing works or something is not kept; otherwise somebody should know.
    pub grave: bool,
}

/// What `serve` does with each table; deploy/postgres/grants.sql grants it.
const NEEDED: &str = "('journal', 'SELECT'), ('journal', 'INSERT'), ('journal_bodies', 'SELECT'), ('journal_bodies', 'INSERT'),
    ('journal_head', 'SELECT'), ('journal_head', 'INSERT'), ('journal_head', 'UPDATE'),
    ('calls', 'SELECT'), ('calls', 'INSERT'), ('calls', 'UPDATE'),
    ('recordings', 'SELECT'), ('recordings', 'INSERT'), ('recordings', 'UPDATE'),
    ('recording_work', 'SELECT'), ('recording_work', 'INSERT'), ('recording_work', 'UPDATE'), ('recording_work', 'DELETE'),
    ('leases', 'SELECT'), ('leases', 'INSERT'), ('leases', 'UPDATE'), ('leases', 'DELETE'),
    ('cursors', 'SELECT'), ('cursors', 'INSERT'), ('cursors', 'UPDATE'), ('cursors', 'DELETE'),
    ('flags', 'SELECT'), ('flags', 'INSERT'), ('flags', 'UPDATE'), ('flags', 'DELETE'),
    ('kept', 'SELECT'), ('kept', 'INSERT'), ('kept', 'UPDATE'), ('kept', 'DELETE'),
    ('policy_sets', 'SELECT'), ('policy_sets', 'INSERT'),
    ('client_events', 'SELECT'), ('client_events', 'INSERT'), ('client_events', 'UPDATE'),
    ('holds', 'SELECT'), ('holds', 'INSERT'), ('holds', 'UPDATE'),
    ('dispositions', 'SELECT'), ('dispositions', 'INSERT'), ('dispositions', 'UPDATE'),
    ('fixity', 'SELECT'), ('fixity', 'INSERT'), ('fixity', 'UPDATE'), ('fixity', 'DELETE'),
    ('schedule', 'SELECT'), ('schedule', 'INSERT'), ('schedule', 'UPDATE'),
    ('tokens', 'SELECT'), ('tokens', 'INSERT'), ('tokens', 'UPDATE'),
    ('sessions', 'SELECT'), ('sessions', 'INSERT'), ('sessions', 'DELETE'),
    ('sign_in_links', 'SELECT'), ('sign_in_links', 'INSERT'), ('sign_in_links', 'UPDATE'),
    ('schema_version', 'SELECT')";

/// What the role that serves should not be able to do.
const TOO_MUCH: &str = "('journal', 'UPDATE'), ('journal', 'DELETE'), ('journal', 'TRUNCATE'),
    ('journal_bodies', 'UPDATE'), ('journal_bodies', 'TRUNCATE')";

impl Db {
    /// What speaks against relying on this server.
    ///
    /// # Errors
    /// It can't be asked.
    pub async fn complaints(&self, clock: &Clock) -> Result<Vec<Complaint>> {
        if !self.is_shared() {
            return Ok(Vec::new());
        }
        let mut found = self.settings(clock).await?;
        let lacking = self.rights(NEEDED, false).await?;
        if !lacking.is_empty() {
            let what = format!(
                "this role may not {}: grant it, as deploy/postgres/grants.sql does, or name another role in database.url",
                lacking.join(", ")
            );
            found.push(Complaint { what, grave: true });
        }
        let superfluous = self.rights(TOO_MUCH, true).await?;
        if !superfluous.is_empty() {
            let what = format!(
                "this role could change the journal ({}): serve with one that can't, as deploy/postgres/roles.sql makes it",
                superfluous.join(", ")
            );
            found.push(Complaint { what, grave: false });
        }
        Ok(found)
    }

    /// How the replica is, and what else speaks against it; `None` where there is none.
    ///
    /// # Errors
    /// One of both servers can't be asked after all.
    pub async fn replica_complaints(&self) -> Result<Option<(Sight, Vec<Complaint>)>> {
        let (Some(sight), Some(replica)) = (self.look_at_replica().await, self.replica_alone()) else {
            return Ok(None);
        };
        let Sight::Follows { behind } = sight else { return Ok(Some((sight, Vec::new()))) };
        let mut found = Vec::new();
        // Not every role may read it; that the journals are the same was seen already.
        let cluster = "select system_identifier from pg_control_system()";
        if let (Ok(ours), Ok(theirs)) = (self.fetch_one(cluster, &[]).await, replica.fetch_one(cluster, &[]).await)
            && ours.int("system_identifier")? != theirs.int("system_identifier")?
        {
            let what = "it belongs to another cluster: name a replica of database.url in database.replica_url".into();
            found.push(Complaint { what, grave: true });
        }
        let state = "select pg_is_wal_replay_paused() as paused,
            coalesce(extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()), 0)::bigint as seconds";
        let state = replica.fetch_one(state, &[]).await?;
        if state.bool("paused")? {
            let what =
                "it takes nothing in: select pg_wal_replay_resume() there, if nobody paused it on purpose".into();
            found.push(Complaint { what, grave: false });
        }
        if behind > Sight::NOTABLY_BEHIND {
            let seconds = state.int("seconds")?;
            let what = format!(
                "it is {behind} journal entries behind, and took something in {seconds} s ago: see its disk, its network, \
                 and the queries that run there"
            );
            found.push(Complaint { what, grave: false });
        }
        Ok(Some((sight, found)))
    }

    async fn settings(&self, clock: &Clock) -> Result<Vec<Complaint>> {
        let setting = |name: &str| format!("current_setting('{name}')");
        let sql = format!(
            "select current_setting('server_version_num')::bigint as version, {} as fsync, {} as commits, {} as pages,
                pg_is_in_recovery() or {} = 'on' as read_only,
                (extract(epoch from clock_timestamp()) * 1000000)::bigint as now",
            setting("fsync"),
            setting("synchronous_commit"),
            setting("full_page_writes"),
            setting("default_transaction_read_only"),
        );
        let row = self.fetch_one(super::Sql::Owned(sql), &[]).await?;
        let mut found = Vec::new();
        let mut grave = |what: String| found.push(Complaint { what, grave: true });
        if row.int("version")? < OLDEST {
            grave("PostgreSQL is older than 15: use a newer one".into());
        }
        for (name, column) in [("fsync", "fsync"), ("synchronous_commit", "commits"), ("full_page_writes", "pages")] {
            if row.text(column)? == "off" {
                grave(format!("{name} is off: an acknowledged webhook would not outlive a power cut; turn it on"));
            }
        }
        if row.bool("read_only")? {
            grave("it is read-only, a replica perhaps: name the primary in database.url".into());
        }
        let ahead = clock.now().as_microsecond().saturating_sub(row.int("now")?);
        if ahead.abs() > CLOCKS {
            let (minutes, which) = (ahead.abs() / 60_000_000, if ahead > 0 { "ahead of" } else { "behind" });
            grave(format!("this machine's clock is {minutes} minutes {which} the database's: set both by NTP"));
        }
        Ok(found)
    }

    /// Those of the rights that this role has, or has not, in words.
    async fn rights(&self, wanted: &'static str, had: bool) -> Result<Vec<String>> {
        let sql = format!(
            "select lower(p) || ' ' || t as held from (values {wanted}) as wanted (t, p)
             where to_regclass(t) is not null and has_table_privilege(t, p) = {had} order by 1"
        );
        let rows = self.fetch_all(super::Sql::Owned(sql), &[]).await?;
        rows.iter().map(|row| row.text("held")).collect::<Result<_, Error>>()
    }
}
