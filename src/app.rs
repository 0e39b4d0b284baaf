//! Puts the parts together from a configuration, for the server and for every command.
//!
//! Opening an [`App`] starts nothing in the background but the journal's writer.

use std::path::Path;
use std::sync::Arc;

use crate::access::{Access, TokenProjection};
use crate::calls::{CallProjection, Calls};
use crate::clock::Clock;
use crate::config::{Config, StorageKind};
use crate::db::{Db, Error as DbError};
use crate::export;
use crate::health::Health;
use crate::journal::{Journal, Projection};
use crate::objects::{FsStore, ObjectStore};
use crate::retention::{PolicyError, PolicySet};
use crate::search::{QueryContext, SearchHandle};

/// Threads that search a large index at the same time.
const SEARCH_THREADS: usize = 2;

/// Everything that the commands and the server share.
pub struct App {
    pub config: Config,
    pub clock: Clock,
    pub db: Db,
    pub journal: Journal,
    pub calls: Calls,
    pub access: Access,
    pub store: Arc<dyn ObjectStore>,
    /// The store again, where it is a folder that has to be tidied at the start.
    pub fs_store: Option<FsStore>,
    pub policies: PolicySet,
    pub search: SearchHandle,
    pub health: Health,
}

/// Why the parts could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the data directory {path} can't be used: {source}")]
    DataDir { path: String, source: std::io::Error },
    #[error("there is no archive in {0}: run callvault serve there first, or name another with --data-dir")]
    NoArchive(String),
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
        let policies = PolicySet::load(&config.retention.policies)?;
        let db = open_db(&config).await?;
        db.migrate().await?;
        let StorageKind::Filesystem = config.storage.kind;
        let fs_store = FsStore::open(&config.objects_dir()).map_err(data_dir)?;
        let projections: Vec<Arc<dyn Projection>> = vec![Arc::new(CallProjection), Arc::new(TokenProjection)];
        let journal = Journal::start(db.clone(), clock.clone(), projections);
        Ok(Self {
            calls: Calls::new(db.clone()),
            access: Access::new(db.clone(), journal.clone(), clock.clone()),
            #[cfg(feature = "failpoints")]
            store: Arc::new(crate::objects::Faulty(fs_store.clone())),
            #[cfg(not(feature = "failpoints"))]
            store: Arc::new(fs_store.clone()),
            fs_store: Some(fs_store),
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
        if config.database.url.expose() == "sqlite" && !config.sqlite_path().exists() {
            return Err(OpenError::NoArchive(config.data_dir.display().to_string()));
        }
        Self::open(config, clock).await
    }

    /// How queries are read.
    #[must_use]
    pub fn query_context(&self) -> QueryContext {
        QueryContext { tz: self.config.timezone.0.clone(), region: self.config.region.clone() }
    }

    /// Where exports take their calls from.
    #[must_use]
    pub fn export_source(&self) -> export::Source {
        export::Source { calls: self.calls.clone(), search: self.search.clone(), context: self.query_context() }
    }

    /// The address under which people reach the archive, without a slash at its end.
    #[must_use]
    pub fn public_url(&self) -> String {
        self.config.public_url.as_str().trim_end_matches('/').to_owned()
    }
}

/// Personal data lies in it: only its owner may look.
fn make_private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

async fn open_db(config: &Config) -> Result<Db, DbError> {
    match config.database.url.expose() {
        "sqlite" => Db::open_sqlite(&config.sqlite_path()).await,
        url => Db::open_postgres(url).await,
    }
}
