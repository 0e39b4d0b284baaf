//! Puts the parts together from a configuration, for the server and for every command.
//!
//! Opening an [`App`] starts nothing in the background but the journal's writer.

mod checked;
mod guard;
mod reviews;

use std::path::Path;
use std::sync::Arc;

use crate::access::{Access, TokenProjection};
use crate::calls::{Call, Calls};
use crate::clock::Clock;
use crate::config::{Config, StorageKind};
use crate::custody::{Custody, DispositionProjection, HoldProjection, Terms};
use crate::db::{Db, Error as DbError, Result as DbResult};
use crate::export;
use crate::fixity::{self, Fixity};
use crate::flags::{Rule, Source};
use crate::health::Health;
use crate::intake::call_key;
use crate::journal::{Journal, Projection, Record};
use crate::nodes::Node;
use crate::objects::{self, ObjectStore};
use crate::reports;
use crate::retention::{EventProjection, Policies, PolicyError, PolicyProjection, PolicySet};
use crate::search::{QueryContext, SearchHandle};

pub use checked::Checked;
pub use reviews::BulkError;

/// Threads that search a large index at the same time.
const SEARCH_THREADS: usize = 2;

/// Everything that the commands and the server share.
pub struct App {
    pub config: Config,
    pub clock: Clock,
    pub db: Db,
    pub journal: Journal,
    pub calls: Calls,
    pub reading: Reading,
    pub access: Access,
    pub store: Arc<dyn ObjectStore>,
    /// In force; the configuration's, until the archive says otherwise.
    pub policies: Policies,
    pub search: SearchHandle,
    pub health: Health,
}

/// Handles for what need not be the latest: pages, exports, what follows the journal. They ask a replica, where there is one.
pub struct Reading {
    pub journal: Journal,
    pub calls: Calls,
}

impl Reading {
    /// A call with all that was journaled about it; `None` where there is none.
    ///
    /// # Errors
    /// The database, or a row that does not read back.
    pub async fn call(&self, call_id: &str) -> DbResult<Option<(Call, Vec<Record>)>> {
        let Some(call) = self.calls.get(call_id).await? else { return Ok(None) };
        let records = self.journal.history(&call_key(call_id), call.last_seq).await?;
        Ok(Some((call, records)))
    }
}

/// Why the parts could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the data directory {path} can't be used: {source}")]
    DataDir { path: String, source: std::io::Error },
    #[error("there is no archive in {0}: run callvault serve there first, or name another with --data-dir")]
    NoArchive(String),
    #[error(
        "{objects} holds recordings, but there is no journal of them in {database}: restore the database from a backup, \
         or name another directory with --data-dir"
    )]
    ObjectsWithoutJournal { objects: String, database: String },
    #[error(
        "the bucket {bucket} holds recordings, but there is no journal of them in {database}: restore the database from a \
         backup, or set storage.s3.bucket or storage.s3.prefix to where nothing lies yet"
    )]
    BucketWithoutJournal { bucket: String, database: String },
    #[error(
        "the bucket {bucket} holds no recordings, though {archived} are archived: set storage.s3.bucket and \
         storage.s3.prefix to where they lie, or restore them"
    )]
    BucketEmpty { bucket: String, archived: u64 },
    #[error(
        "{0} is missing, though recordings are archived there: mount its disk or restore it; to go on without them, make \
         an empty folder of that name"
    )]
    ObjectsMissing(String),
    #[error(
        "{path} can't be opened as the archive's database ({source}): see that it is the right file and that this user may \
         read and write it and its folder, or restore it from a backup"
    )]
    Unopenable { path: String, source: DbError },
    #[error("the operating system gives no thread: {0}")]
    Thread(std::io::Error),
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl App {
    /// Opens (and makes, where it is missing) the archive that the configuration names.
    ///
    /// # Errors
    /// The data directory, the database or the policies can't be used.
    pub async fn open(config: Config, clock: Clock) -> Result<Self, OpenError> {
        let data_dir = |source| OpenError::DataDir { path: config.data_dir.display().to_string(), source };
        make_private_dir(&config.data_dir).map_err(data_dir)?;
        let policies = Policies::new(PolicySet::load(&config.retention.policies, &Rule::names())?);
        // A remote store is only prepared here; a folder would be made where it is missing.
        let remote = match config.storage.kind {
            StorageKind::S3 => Some(objects::open(&config).await.map_err(data_dir)?),
            StorageKind::Filesystem => None,
        };
        // Looked at first: an empty database that was made here would hide that there was another.
        let begins = guard::uses_sqlite(&config) && guard::is_empty_file(&config.sqlite_path());
        if begins && guard::holds_objects(&config, remote.as_deref()).await {
            return Err(guard::no_journal(&config));
        }
        let db = open_db(&config).await?;
        if config.database.migrate {
            db.migrate().await?;
        } else {
            db.check_schema().await?;
        }
        let calls = Calls::new(db.clone());
        calls.fill_flags().await?;
        let store = match remote {
            Some(store) => store,
            None if !config.objects_dir().exists() && calls.counts().await?.2 > 0 => {
                return Err(OpenError::ObjectsMissing(config.objects_dir().display().to_string()));
            }
            None => objects::open(&config).await.map_err(data_dir)?,
        };
        let projections: Vec<Arc<dyn Projection>> = vec![
            Arc::new(calls.projection()),
            Arc::new(TokenProjection),
            Arc::new(HoldProjection),
            Arc::new(DispositionProjection),
            Arc::new(PolicyProjection),
            Arc::new(EventProjection),
        ];
        let journal = Journal::start(db.clone(), clock.clone(), projections).map_err(OpenError::Thread)?;
        let remote = store.is_remote().then_some(&*store);
        if !begins && journal.size_or_end().await? == 0 && guard::holds_objects(&config, remote).await {
            return Err(guard::no_journal(&config));
        }
        Ok(Self {
            reading: Reading { journal: journal.for_reading(), calls: calls.for_reading() },
            calls,
            access: Access::new(db.clone(), journal.clone(), clock.clone()),
            store,
            health: Health::default(),
            policies,
            search: SearchHandle::new(&config.index_dir(), SEARCH_THREADS),
            journal,
            db,
            clock,
            config,
        })
    }

    /// Opens an archive that must be there already: a command that only looks must not make an empty one.
    ///
    /// # Errors
    /// Also when there is none.
    pub async fn open_existing(config: Config, clock: Clock) -> Result<Self, OpenError> {
        if guard::uses_sqlite(&config) && !config.sqlite_path().exists() {
            // Recordings without a journal are an error of their own, which opening tells.
            let folder = config.storage.kind == StorageKind::Filesystem && guard::holds_objects(&config, None).await;
            if !folder {
                return Err(OpenError::NoArchive(config.data_dir.display().to_string()));
            }
        }
        if !guard::uses_sqlite(&config) {
            let db = open_db(&config).await?;
            let none = matches!(db.check_schema().await, Err(DbError::OlderSchema { found: 0, .. }));
            db.close().await;
            if none {
                return Err(OpenError::NoArchive("the database".into()));
            }
        }
        Self::open(config, clock).await
    }

    /// What keeps everything for as long as it is to be kept.
    #[must_use]
    pub fn custody(&self) -> Custody {
        Custody::new(
            (self.db.clone(), self.journal.clone(), self.calls.clone()),
            (Arc::clone(&self.store), self.policies.clone()),
            (self.clock.clone(), self.health.clone()),
            (
                self.config.spool_dir(),
                Terms { on: self.config.retention.disposition, grace: self.config.retention.grace },
            ),
        )
    }

    /// How queries are read.
    #[must_use]
    pub fn query_context(&self) -> QueryContext {
        QueryContext { tz: self.config.timezone.0.clone(), region: self.config.region.clone() }
    }

    /// Where exports take their calls from.
    #[must_use]
    pub fn export_source(&self) -> export::Source {
        export::Source { calls: self.reading.calls.clone(), search: self.search.clone(), context: self.query_context() }
    }

    /// Where samples are drawn from.
    #[must_use]
    pub fn samples(&self) -> Source {
        let (journal, calls) = (self.journal.clone(), self.calls.clone());
        Source { journal, calls, policies: self.policies.clone() }
    }

    /// What reads stored objects again.
    ///
    /// # Errors
    /// The file with this node's name can't be read or written.
    pub fn fixity(&self) -> std::io::Result<Fixity> {
        Ok(Fixity::new(fixity::Parts {
            node: self.node()?,
            db: self.db.clone(),
            journal: self.journal.clone(),
            calls: self.calls.clone(),
            store: Arc::clone(&self.store),
            clock: self.clock.clone(),
            health: self.health.clone(),
            settings: self.config.fixity.clone(),
        }))
    }

    /// This process among those that share the database.
    ///
    /// # Errors
    /// The file with this node's name can't be read or written.
    pub fn node(&self) -> std::io::Result<Node> {
        Node::of(&self.config.data_dir, self.db.clone())
    }

    /// Where reports read; what they say must be the latest.
    #[must_use]
    pub fn report_source(&self) -> reports::Source {
        reports::Source { journal: self.journal.clone(), calls: self.calls.clone() }
    }

    /// Where reports on retention read.
    #[must_use]
    pub fn retention_source(&self) -> reports::RetentionSource {
        let (db, policies) = (self.db.clone(), self.policies.current());
        reports::RetentionSource { source: self.report_source(), db, policies }
    }

    /// The address under which people reach the archive, without a slash at its end.
    #[must_use]
    pub fn public_url(&self) -> String {
        self.config.public_url.as_str().trim_end_matches('/').to_owned()
    }
}

/// Personal data lies in it: nobody but its owner, and the group that somebody may have let in, may look.
fn make_private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    const OTHERS: u32 = 0o007;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & OTHERS != 0 {
        match std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & !OTHERS)) {
            Ok(()) => tracing::info!("the data directory was open to everybody; it is closed now"),
            Err(error) => {
                tracing::warn!(%error, "the data directory is open to everybody: take that right away (chmod o-rwx)");
            }
        }
    }
    Ok(())
}

/// Opens the database that the configuration names.
///
/// # Errors
/// It can't be reached, or is no database.
pub async fn open_db(config: &Config) -> Result<Db, OpenError> {
    if guard::uses_sqlite(config) {
        let path = config.sqlite_path();
        let unopenable = |source| OpenError::Unopenable { path: path.display().to_string(), source };
        return Db::open_sqlite(&path).await.map_err(unopenable);
    }
    let replica = config.database.replica_url.expose();
    Ok(Db::open_postgres(config.database.url.expose(), (!replica.is_empty()).then_some(replica)).await?)
}
