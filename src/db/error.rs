//! What can go wrong with a database, told apart by what is to be done about it.

use std::time::Duration;

/// What went wrong between us and the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the database could not be used: {}{}", .0, remedy(.0))]
    Sqlx(#[from] sqlx::Error),
    #[error("the database did not answer within {0:?}: see whether it, or the disk below it, is stuck")]
    TimedOut(Duration),
    #[error("the database has schema version {found}, this program knows up to {known}: use a newer callvault")]
    NewerSchema { found: i64, known: i64 },
    #[error("the database has schema version {found}, this program needs {known}: run callvault migrate")]
    OlderSchema { found: i64, known: i64 },
    #[error(
        "the database says that it has schema version {version}, but {what}: {why}. Somebody changed it; restore it from a backup"
    )]
    StrangeSchema { version: i64, what: String, why: String },
    #[error("the database has tables but no schema version: somebody changed it; restore it from a backup")]
    NoSchemaVersion,
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// The database is fine; what was asked for can't be any more.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// True where a second attempt may succeed: lost connection, lock, full disk.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Sqlx(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
                    // Connection, resources, operator intervention, serialisation, read-only transaction.
                    ["08", "53", "57", "40", "25"].iter().any(|class| code.starts_with(class))
                } else {
                    // BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN; the low byte of an extended code.
                    code.parse::<i64>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14))
                }
            }
            Self::Sqlx(
                sqlx::Error::Io(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::Tls(_)
                | sqlx::Error::WorkerCrashed,
            )
            | Self::TimedOut(_) => true,
            _ => false,
        }
    }

    /// True where the database refuses this very row and would refuse it again: constraint, size, type, range.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        let Self::Sqlx(sqlx::Error::Database(error)) = self else { return false };
        let code = error.code().unwrap_or_default();
        if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
            // Data exception, integrity constraint, program limit.
            ["22", "23", "54"].iter().any(|class| code.starts_with(class))
        } else {
            // TOOBIG, CONSTRAINT, MISMATCH, RANGE.
            code.parse::<i64>().is_ok_and(|code| matches!(code & 0xff, 18 | 19 | 20 | 25))
        }
    }

    /// True where what is stored makes no sense: a page, a value that does not decode, a row that does not read back.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Sqlx(sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => true,
            Self::Sqlx(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
                    // Internal error: data_corrupted, index_corrupted.
                    code.starts_with("XX00")
                } else {
                    // CORRUPT, NOTADB.
                    code.parse::<i64>().is_ok_and(|code| matches!(code & 0xff, 11 | 26))
                }
            }
            _ => false,
        }
    }

    /// True where a unique constraint refused the row.
    #[must_use]
    pub fn is_unique_violation(&self) -> bool {
        matches!(self, Self::Sqlx(sqlx::Error::Database(error)) if error.is_unique_violation())
    }
}

/// What whoever set a server up can do, appended to what is wrong.
fn remedy(error: &sqlx::Error) -> &'static str {
    use std::io::ErrorKind as Kind;
    const REACH: &str = "; see whether it runs, and correct host and port in database.url if not";
    let sqlx::Error::Database(error) = error else {
        return match error {
            sqlx::Error::Io(error) => match error.kind() {
                Kind::ConnectionRefused | Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::TimedOut => REACH,
                _ if error.to_string().contains("lookup address") => REACH,
                _ => "",
            },
            sqlx::Error::PoolTimedOut => "; see whether it answers, and whether it has connections to spare",
            sqlx::Error::Tls(_) => "; correct sslmode or sslrootcert in database.url",
            _ => "",
        };
    };
    if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_none() {
        return "";
    }
    // Appendix A of PostgreSQL's manual.
    match &*error.code().unwrap_or_default() {
        "28000" | "28P01" => "; correct user and password in database.url, or let that user in (pg_hba.conf)",
        "3D000" => "; create it, or correct its name in database.url",
        "53300" => "; give this role, or the server, more connections (max_connections)",
        "53100" => "; make room on its disk",
        "57P03" => "; wait until it has started",
        "42501" => "; grant this role the right, as deploy/postgres/grants.sql does",
        "25006" => "; name the primary in database.url, or make it writable",
        _ => "",
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Sqlx(error.into())
    }
}
