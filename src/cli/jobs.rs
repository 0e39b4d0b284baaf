//! Jobs that one process does at a time: the second says so and leaves.

use crate::nodes::{JobLock, Node, Taken};

/// Takes a job; `None`, and a line that says so, where another process does it. That is no failure: what was asked for is
/// being done.
pub(super) async fn take(node: &Node, job: &str) -> anyhow::Result<Option<JobLock>> {
    Ok(match node.job(job).await? {
        Taken::Here(lock) => Some(lock),
        Taken::Elsewhere { by } => {
            leave(job, &by);
            None
        }
    })
}

/// Says that another process does it.
pub(super) fn leave(job: &str, by: &str) {
    eprintln!("callvault: {job} is being done already, by {by}; this run leaves it to that one.");
}
