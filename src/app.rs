//! Puts the parts together from a configuration, for the server and for every command.
//!
//! Opening an [`App`] starts nothing in the background but the journal's writer.

use std::path::Path;
use std::sync::Arc;

use crate::access::{Access, TokenProjection};
use crate::calls::Calls;
use crate::clock::Clock;
use crate::config::{Config, StorageKind};
use crate::db::{Db, Error as DbError};
use crate::export;
use crate::health::Health;
use crate::journal::{Journal, Projection};
use crate::objects::{FsStore, ObjectKey, ObjectStore};
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
    #[error(
        "{objects} holds recordings, but there is no journal of them in {database}: restore the database from a backup, \
         or name another directory with --data-dir"
    )]
    ObjectsWithoutJournal { objects: String, database: String },
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
        let policies = PolicySet::load(&config.retention.policies)?;
        let no_journal = || OpenError::ObjectsWithoutJournal {
            objects: config.objects_dir().display().to_string(),
            database: config.sqlite_path().display().to_string(),
        };
        // Looked at first: an empty database that was made here would hide that there was another.
        if uses_sqlite(&config) && is_empty_file(&config.sqlite_path()) && holds_objects(&config) {
            return Err(no_journal());
        }
        let db = open_db(&config).await?;
        if config.database.migrate {
            db.migrate().await?;
        } else {
            db.check_schema().await?;
        }
        let calls = Calls::new(db.clone());
        if !config.objects_dir().exists() && calls.counts().await?.2 > 0 {
            return Err(OpenError::ObjectsMissing(config.objects_dir().display().to_string()));
        }
        let StorageKind::Filesystem = config.storage.kind;
        let fs_store = FsStore::open(&config.objects_dir()).map_err(data_dir)?;
        let projections: Vec<Arc<dyn Projection>> = vec![Arc::new(calls.projection()), Arc::new(TokenProjection)];
        let journal = Journal::start(db.clone(), clock.clone(), projections).map_err(OpenError::Thread)?;
        if journal.size_or_end().await? == 0 && holds_objects(&config) {
            return Err(no_journal());
        }
        Ok(Self {
            calls,
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
        if uses_sqlite(&config) && !holds_objects(&config) && !config.sqlite_path().exists() {
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

fn uses_sqlite(config: &Config) -> bool {
    config.database.url.expose() == "sqlite"
}

/// Also where there is none.
fn is_empty_file(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |metadata| metadata.len() == 0)
}

/// Whether recordings were ever stored in this directory.
fn holds_objects(config: &Config) -> bool {
    let recordings = config.objects_dir().join(ObjectKey::RECORDINGS);
    std::fs::read_dir(recordings).is_ok_and(|mut entries| entries.next().is_some())
}

/// Opens the database that the configuration names.
///
/// # Errors
/// It can't be reached, or is no database.
pub async fn open_db(config: &Config) -> Result<Db, OpenError> {
    if uses_sqlite(config) {
        let path = config.sqlite_path();
        let unopenable = |source| OpenError::Unopenable { path: path.display().to_string(), source };
        return Db::open_sqlite(&path).await.map_err(unopenable);
    }
    Ok(Db::open_postgres(config.database.url.expose()).await?)
}
