//! Threads of lower priority for what follows the journal: while webhooks come faster than two cores can take them in, the
//! index and the flags wait, not the sender.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};
use tokio_util::task::TaskTracker;

/// How much the operating system should prefer everything else: a third of an equal share is left where all cores are
/// busy, so that what other programs do can't starve the index.
const NICENESS: i32 = 5;
const THREADS: usize = 2;

/// The threads; when it is dropped, whatever still runs on them ends at its next pause.
pub struct Background(Option<Runtime>);

impl Background {
    /// Starts the threads.
    ///
    /// # Errors
    /// The operating system gives no more threads.
    pub fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("background")
            .enable_all()
            .on_thread_start(|| {
                // Only politeness: where it is refused, they run like the others.
                let _ = rustix::process::nice(NICENESS);
            })
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Runs something on them.
    pub fn spawn(&self, tracker: &TaskTracker, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            tracker.spawn_on(work, runtime.handle());
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
