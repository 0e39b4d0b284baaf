//! What one node of several does.

use std::str::FromStr;

/// The roles of a node; by default all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Takes webhooks.
    pub intake: bool,
    /// Fetches, stores and analyses recordings, and evaluates flags.
    pub archiver: bool,
    /// API and pages, with an index of its own.
    pub web: bool,
}

/// A list of roles that can't be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("--only takes a list of intake, archiver and web, such as intake,web; {0:?} is none of them")]
pub struct UnknownRole(String);

impl Default for Roles {
    fn default() -> Self {
        Self { intake: true, archiver: true, web: true }
    }
}

impl FromStr for Roles {
    type Err = UnknownRole;

    fn from_str(list: &str) -> Result<Self, UnknownRole> {
        let mut roles = Self { intake: false, archiver: false, web: false };
        for role in list.split(',') {
            match role.trim() {
                "intake" => roles.intake = true,
                "archiver" => roles.archiver = true,
                "web" => roles.web = true,
                other => return Err(UnknownRole(other.to_owned())),
            }
        }
        Ok(roles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_what_a_node_does() {
        let roles = |intake, archiver, web| Ok(Roles { intake, archiver, web });
        assert_eq!("intake,archiver,web".parse(), roles(true, true, true));
        assert_eq!("web, intake".parse(), roles(true, false, true));
        assert_eq!("archiver".parse(), roles(false, true, false));
        for (list, wrong) in [("", ""), ("web,", ""), ("intake,wbe", "wbe"), ("Web", "Web")] {
            assert_eq!(list.parse::<Roles>(), Err(UnknownRole(wrong.into())), "{list:?}");
        }
    }
}
