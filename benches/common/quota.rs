//! A share of a processor for a process, as if it ran on a small machine of its own (cgroups, either version; for root).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A share is given in pieces of this; long ones would let whatever a process holds wait for its next piece.
const PERIOD: Duration = Duration::from_millis(10);
/// Where the control groups of processors are, in the first and in the second version.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup"];

/// Holds for all threads of the process until it is dropped.
pub struct Quota {
    root: &'static Path,
    folder: PathBuf,
    pid: u32,
}

impl Quota {
    /// Leaves a process this share of one core.
    ///
    /// # Errors
    /// Not root, or there are no control groups for processors here.
    pub fn set(pid: u32, share: f64) -> io::Result<Self> {
        let root = Path::new(ROOTS[usize::from(!Path::new(ROOTS[0]).join("cpu.cfs_quota_us").exists())]);
        let quota = Self { root, folder: root.join(format!("callvault-bench-{pid}")), pid };
        let (period, part) = (PERIOD.as_micros(), (PERIOD.as_micros() as f64 * share) as u64);
        if root == Path::new(ROOTS[0]) {
            std::fs::create_dir_all(&quota.folder)?;
            std::fs::write(quota.folder.join("cpu.cfs_period_us"), period.to_string())?;
            std::fs::write(quota.folder.join("cpu.cfs_quota_us"), part.to_string())?;
        } else {
            std::fs::write(root.join("cgroup.subtree_control"), "+cpu")?;
            std::fs::create_dir_all(&quota.folder)?;
            std::fs::write(quota.folder.join("cpu.max"), format!("{part} {period}"))?;
        }
        std::fs::write(quota.folder.join("cgroup.procs"), pid.to_string())?;
        Ok(quota)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // Where the process has ended, there is nothing to move.
        let _ = std::fs::write(self.root.join("cgroup.procs"), self.pid.to_string());
        let _ = std::fs::remove_dir(&self.folder);
    }
}
