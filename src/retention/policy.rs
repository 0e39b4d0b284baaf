//! Policy files: those of a folder, and those that come with the program.

use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::applies::{Conditions, Groups};
use super::dates::{Period, PeriodError};
use crate::calls::Facts;

/// What comes with the program. The first alone is in force where no folder is named; the others are there to be copied.
const SHIPPED: [(&str, &str); 10] = [
    ("default.toml", include_str!("../../retention/default.toml")),
    ("cftc-oral.toml", include_str!("../../retention/cftc-oral.toml")),
    ("fca-sysc-10a.toml", include_str!("../../retention/fca-sysc-10a.toml")),
    ("finra-3170.toml", include_str!("../../retention/finra-3170.toml")),
    ("mifid2.toml", include_str!("../../retention/mifid2.toml")),
    ("mifid2-on-request.toml", include_str!("../../retention/mifid2-on-request.toml")),
    ("sebi-investment-advisers.toml", include_str!("../../retention/sebi-investment-advisers.toml")),
    ("sebi-research-analysts.toml", include_str!("../../retention/sebi-research-analysts.toml")),
    ("sec-17a-4-communications.toml", include_str!("../../retention/sec-17a-4-communications.toml")),
    ("sec-17a-4-six-years.toml", include_str!("../../retention/sec-17a-4-six-years.toml")),
];
/// Who belongs to which group, beside the policies.
const GROUPS: &str = "groups.toml";

/// From when a period runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// The end of the call, or its receipt if the end is unknown.
    CallEnd,
    /// The receipt of the call's end, whatever date it states.
    Receipt,
    /// A dated event with the customer, such as the end of the relationship, or the end of the call if that is later.
    /// Until somebody tells of it, the period has no end.
    Event(String),
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
    pub applies_to: Conditions,
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
    #[serde(default)]
    applies_to: Conditions,
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
    #[error(
        "no policy in {0} applies to every call: one needs to be without [applies_to], or some would be kept by none"
    )]
    NotForAll(String),
}

/// All policies that apply, with the hash of their texts.
#[derive(Clone, Debug)]
pub struct PolicySet {
    first: Policy,
    others: Vec<Policy>,
    groups: Groups,
    sha256: String,
    /// Names and texts, as they were read.
    files: Vec<(String, String)>,
}

impl PolicySet {
    /// The policy that comes with the program.
    ///
    /// # Panics
    /// Never: a test reads the embedded file.
    #[must_use]
    pub fn built_in() -> Self {
        #[allow(clippy::expect_used, reason = "the embedded file is part of the program")]
        Self::of(vec![(SHIPPED[0].0.into(), SHIPPED[0].1.into())], "built-in", None)
            .expect("the embedded policy is valid")
    }

    /// The policies that were adopted once, as the journal has their texts. Flags that this program does not know any
    /// more are no reason to give them up.
    ///
    /// # Errors
    /// They are none.
    pub fn adopted(files: Vec<(String, String)>) -> Result<Self, PolicyError> {
        Self::of(files, "the journal", None)
    }

    /// Names and texts of the files that it was read from.
    #[must_use]
    pub fn files(&self) -> &[(String, String)] {
        &self.files
    }

    /// Names and texts of the policy files that come with the program.
    #[must_use]
    pub fn shipped() -> &'static [(&'static str, &'static str)] {
        &SHIPPED
    }

    /// The policies of a folder, or the built-in one where `folder` is empty; `rules` are the names of flags that they may
    /// speak of.
    ///
    /// # Errors
    /// The folder can't be read, is empty, a file in it is no policy, or they leave calls without any.
    pub fn load(folder: &str, rules: &[&str]) -> Result<Self, PolicyError> {
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
        Self::of(files, folder, Some(rules))
    }

    fn of(files: Vec<(String, String)>, folder: &str, rules: Option<&[&str]>) -> Result<Self, PolicyError> {
        let (mut hash, mut groups) = (Sha256::new(), Groups::default());
        for (_, text) in &files {
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        }
        if let Some((file, text)) = files.iter().find(|(file, _)| file == GROUPS) {
            groups = toml::from_str(text)
                .map_err(|error| PolicyError::File { file: file.clone(), why: error.message().to_owned() })?;
        }
        let mut policies: Vec<Policy> = Vec::new();
        for (file, text) in files.iter().filter(|(file, _)| file != GROUPS) {
            let (policy, file) = (read(file, text)?, file.clone());
            if let Some(why) = policy.applies_to.flaw(&groups, rules) {
                return Err(PolicyError::File { file, why });
            }
            if policies.iter().any(|known| known.id == policy.id) {
                return Err(PolicyError::File {
                    file,
                    why: format!("the id {:?} is taken by another file", policy.id),
                });
            }
            policies.push(policy);
        }
        if policies.is_empty() {
            return Err(PolicyError::Empty(folder.to_owned()));
        }
        // The first is one that applies to every call.
        let place = policies.iter().position(|policy| policy.applies_to.is_empty());
        let first = policies.remove(place.ok_or_else(|| PolicyError::NotForAll(folder.to_owned()))?);
        Ok(Self { first, others: policies, groups, sha256: hex::encode(hash.finalize()), files })
    }

    /// The policies that apply to a call, first one that applies to all.
    pub fn applying(&self, facts: &Facts) -> impl Iterator<Item = &Policy> {
        let others = self.others.iter().filter(|policy| policy.applies_to.hold_for(facts, &self.groups));
        std::iter::once(&self.first).chain(others)
    }

    /// True where any period runs from an event that people tell of.
    #[must_use]
    pub fn waits_for_events(&self) -> bool {
        std::iter::once(&self.first).chain(&self.others).any(|policy| matches!(policy.start, Start::Event(_)))
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
        applies_to: parsed.applies_to,
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
        let load = || PolicySet::load(folder.path().to_str().unwrap(), &["short_call"]);
        assert!(matches!(load(), Err(PolicyError::Empty(_))));
        let policy =
            |period: &str| format!("id = 'x'\ntitle = 't'\nperiod = '{period}'\nstart = 'call_end'\nreason = 'r'\n");
        std::fs::write(folder.path().join("a.toml"), policy("P7Y")).unwrap();
        assert_eq!(load().unwrap().policies().0.id, "x");
        std::fs::write(folder.path().join("a.toml"), policy("7 years")).unwrap();
        assert!(load().unwrap_err().to_string().contains("a.toml: period \"7 years\""));
        std::fs::write(folder.path().join("a.toml"), policy("P7Y") + "perod = 1\n").unwrap();
        assert!(load().unwrap_err().to_string().contains("perod"));
        for (conditions, why) in [
            ("agents = []", "names nothing"),
            ("agent_groups = ['desk']", "has nobody in it"),
            ("flags = ['shortcall']", "no flag \"shortcall\""),
            ("min_duration = 60\nmax_duration = 5", "no call lasts"),
            ("agent = ['x']", "agent"),
            ("channels = ['fax']", "fax"),
            ("flags = ['short_call']", "applies to every call"),
        ] {
            std::fs::write(folder.path().join("a.toml"), policy("P7Y") + "[applies_to]\n" + conditions).unwrap();
            let told = load().unwrap_err().to_string();
            assert!(told.contains(why), "{conditions}: {told}");
        }
    }

    #[test]
    fn what_is_shipped_can_be_used() {
        let all = SHIPPED.map(|(file, text)| (file.to_owned(), text.to_owned())).to_vec();
        let set = PolicySet::of(all, "shipped", None).unwrap();
        let (first, others) = set.policies();
        let all: Vec<&Policy> = std::iter::once(first).chain(others).collect();
        assert_eq!(all.len(), SHIPPED.len());
        assert!(
            all.iter().all(|policy| !policy.citation.is_empty() && policy.reason.len() > 80),
            "each says its source"
        );
        let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("retention")).unwrap().count();
        assert_eq!(files, SHIPPED.len(), "every file of the folder is shipped");
    }
}
