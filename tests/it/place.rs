//! Where a server lives, as far as mounts go: here, or in a mount namespace of its own, in which a small file system lies
//! on one of its folders.
//!
//! A process that does nothing holds the namespace; what lies in it is seen from here below that process's root. No mount
//! is ever made outside, and all are gone with the holder, however the test ends.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where a server lives.
pub enum Place {
    Here,
    Apart(Holder),
}

/// Keeps a mount namespace alive.
pub struct Holder(Child);

impl Place {
    /// A namespace in which a file system of so many bytes lies on a folder, which is made where it is missing.
    pub fn with_small_disk(folder: &Path, bytes: u64) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let script = r#"mount -t tmpfs -o size="$1",mode=700 tmpfs "$2" && echo mounted && exec sleep infinity"#;
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--kill-child", "sh", "-c", script, "sh"]);
        command.arg(bytes.to_string()).arg(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().expect("unshare (util-linux) is installed");
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said != "mounted\n" {
            let _ = holder.kill();
            let output = holder.wait_with_output().unwrap();
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            panic!("this test mounts a small disk in a user namespace, which this machine refuses: {why}");
        }
        Self::Apart(Holder(holder))
    }

    /// The command, run there.
    pub fn enter(&self, command: Command) -> Command {
        let Self::Apart(holder) = self else { return command };
        let mut entering = Command::new("nsenter");
        entering.args(["--user", "--preserve-credentials", "--mount", "--target", &holder.0.id().to_string()]);
        entering.arg(command.get_program()).args(command.get_args()).env_clear().stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                entering.env(name, value);
            }
        }
        entering
    }

    /// A path there, as this process sees it.
    pub fn path(&self, path: &Path) -> PathBuf {
        match self {
            Self::Here => path.to_owned(),
            Self::Apart(holder) => {
                Path::new(&format!("/proc/{}/root", holder.0.id())).join(path.strip_prefix("/").unwrap())
            }
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
