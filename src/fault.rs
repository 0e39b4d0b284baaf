//! Named points at which tests break the archive on purpose: the process dies there, a task panics, an operation fails,
//! half-happens or never ends.
//!
//! What happens where is said in the variable `FAILPOINTS`, in the language of the crate `fail`:
//! `journal.committed=2*off->return(kill)` kills the process at the third commit, as SIGKILL does;
//! `database.commit=5*off->1*return(half)` lets the sixth commit take effect and report an error. `panic` and `sleep` are
//! the crate's own. Without the feature `failpoints`, which no release build can have, all of this compiles to nothing.

use std::io;
use std::time::Duration;

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("the feature failpoints is for tests: no release build may have it");

/// What an operation is to do instead of its work.
#[cfg_attr(not(feature = "failpoints"), allow(dead_code, reason = "nobody asks for it"))]
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nothing, and say so.
    Fail,
    /// All of it, and report an error.
    Half,
    /// Never come back.
    Hang,
}

/// Reads `FAILPOINTS`; what it says holds as long as the answer is kept.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn scenario() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}

/// Passes a point between two steps.
#[inline]
pub fn point(name: &'static str) {
    let _ = asked(name);
}

/// Passes a point between two steps on files, the next of which may fail here.
///
/// # Errors
/// Only where a test asks for it.
#[inline]
pub fn step(name: &'static str) -> io::Result<()> {
    match asked(name) {
        None => Ok(()),
        Some(_) => Err(broken(name)),
    }
}

/// Does an operation of a part that can fail: the database, the store, the spool.
///
/// # Errors
/// Its own, and where a test asks for one.
#[inline]
pub async fn operation<T, E: From<io::Error>>(
    name: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match asked(name) {
        None => work.await,
        Some(Fault::Fail) => Err(broken(name).into()),
        Some(Fault::Half) => {
            work.await?;
            Err(broken(name).into())
        }
        Some(Fault::Hang) => std::future::pending().await,
    }
}

/// How long to wait for something, which a test that hangs it makes shorter: `patience=return(500)`, in milliseconds.
#[inline]
#[must_use]
pub fn patience(usual: Duration) -> Duration {
    #[cfg(feature = "failpoints")]
    fail::fail_point!("patience", |millis: Option<String>| {
        millis.and_then(|millis| millis.parse().ok()).map_or(usual, Duration::from_millis)
    });
    usual
}

fn broken(name: &'static str) -> io::Error {
    io::Error::other(format!("{name} is broken on purpose"))
}

#[cfg(not(feature = "failpoints"))]
#[inline]
fn asked(_: &'static str) -> Option<Fault> {
    None
}

#[cfg(feature = "failpoints")]
fn asked(name: &'static str) -> Option<Fault> {
    count(name);
    fail::fail_point!(name, |action: Option<String>| match action.as_deref() {
        Some("kill") => die(),
        Some("fail") => Some(Fault::Fail),
        Some("half") => Some(Fault::Half),
        Some("hang") => Some(Fault::Hang),
        other => panic!("{name}: there is no action {other:?}"),
    });
    None
}

/// Ends the process as a power cut does: nothing unwinds, nothing is flushed.
#[cfg(feature = "failpoints")]
fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}

/// Tells in the metrics how often each point was passed: a test learns from it how many operations there are.
#[cfg(feature = "failpoints")]
fn count(name: &'static str) {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};

    static PASSED: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let times = passed.entry(name).or_default();
    *times += 1;
    metrics::gauge!("callvault_fault_points", "point" => name).set(*times as f64);
}
