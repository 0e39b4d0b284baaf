//! Policy files.

use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::dates::{Period, PeriodError};

const BUILT_IN: &str = include_str!("../../retention/default.toml");

/// From when a period runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// The end of the call, or its receipt if the end is unknown.
    CallEnd,
}

/// One rule about how long recordings are kept.
#[derive(Clone, Debug)]
pub struct Policy {
    pub id: String,
    pub title: String,
    pub period: Period,
    pub start: Start,
    pub reason: String,
    pub citation: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    title: String,
    period: String,
    start: Start,
    reason: String,
    #[serde(default)]
    citation: String,
}

/// Why the policies can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("the policy folder {path} can't be read: {source}")]
    Folder { path: String, source: std::io::Error },
    #[error("the policy folder {0} holds no .toml file")]
    Empty(String),
    #[error("policy file {file}: {why}")]
    File { file: String, why: String },
    #[error("policy file {file}: period {source}")]
    Period { file: String, source: PeriodError },
}

/// All policies that apply, with the hash of their texts.
#[derive(Clone, Debug)]
pub struct PolicySet {
    first: Policy,
    others: Vec<Policy>,
    sha256: String,
}

impl PolicySet {
    /// The policy that comes with the program.
    ///
    /// # Panics
    /// Never: a test reads the embedded file.
    #[must_use]
    pub fn built_in() -> Self {
        #[allow(clippy::expect_used, reason = "the embedded file is part of the program")]
        Self::of(vec![("default.toml".into(), BUILT_IN.into())], "built-in").expect("the embedded policy is valid")
    }

    /// The policies of a folder, or the built-in ones where `folder` is empty.
    ///
    /// # Errors
    /// The folder can't be read, is empty, or a file in it is no policy.
    pub fn load(folder: &str) -> Result<Self, PolicyError> {
        if folder.is_empty() {
            return Ok(Self::built_in());
        }
        let unreadable = |source| PolicyError::Folder { path: folder.to_owned(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(Path::new(folder)).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                files.push((name, std::fs::read_to_string(&path).map_err(unreadable)?));
            }
        }
        files.sort();
        Self::of(files, folder)
    }

    fn of(files: Vec<(String, String)>, folder: &str) -> Result<Self, PolicyError> {
        let mut hash = Sha256::new();
        let mut policies: Vec<Policy> = Vec::new();
        for (file, text) in files {
            hash.update(text.len().to_be_bytes());
            hash.update(&text);
            let policy = read(&file, &text)?;
            if policies.iter().any(|known| known.id == policy.id) {
                return Err(PolicyError::File {
                    file,
                    why: format!("the id {:?} is taken by another file", policy.id),
                });
            }
            policies.push(policy);
        }
        let mut policies = policies.into_iter();
        let first = policies.next().ok_or_else(|| PolicyError::Empty(folder.to_owned()))?;
        Ok(Self { first, others: policies.collect(), sha256: hex::encode(hash.finalize()) })
    }

    /// SHA-256 over the policy files, lower-case hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The first policy and the others: there is always one.
    pub fn policies(&self) -> (&Policy, impl Iterator<Item = &Policy>) {
        (&self.first, self.others.iter())
    }
}

fn read(file: &str, text: &str) -> Result<Policy, PolicyError> {
    let parsed: File = toml::from_str(text)
        .map_err(|error| PolicyError::File { file: file.to_owned(), why: error.message().to_owned() })?;
    let period =
        Period::parse(&parsed.period).map_err(|source| PolicyError::Period { file: file.to_owned(), source })?;
    Ok(Policy {
        id: parsed.id,
        title: parsed.title,
        period,
        start: parsed.start,
        reason: parsed.reason.trim().to_owned(),
        citation: parsed.citation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_policy_says_why() {
        let set = PolicySet::built_in();
        let (first, mut others) = set.policies();
        assert_eq!((first.id.as_str(), others.next().is_none()), ("default", true));
        assert!(first.reason.contains("five years") && !first.citation.is_empty());
    }

    #[test]
    fn a_folder_replaces_it_and_mistakes_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let load = || PolicySet::load(folder.path().to_str().unwrap());
        assert!(matches!(load(), Err(PolicyError::Empty(_))));
        let policy =
            |period: &str| format!("id = 'x'\ntitle = 't'\nperiod = '{period}'\nstart = 'call_end'\nreason = 'r'\n");
        std::fs::write(folder.path().join("a.toml"), policy("P7Y")).unwrap();
        assert_eq!(load().unwrap().policies().0.id, "x");
        std::fs::write(folder.path().join("a.toml"), policy("7 years")).unwrap();
        assert!(load().unwrap_err().to_string().contains("a.toml: period \"7 years\""));
        std::fs::write(folder.path().join("a.toml"), policy("P7Y") + "perod = 1\n").unwrap();
        assert!(load().unwrap_err().to_string().contains("perod"));
    }
}
