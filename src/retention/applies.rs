//! To which calls a policy applies: conditions on what is known of a call. Pure.
//!
//! Of a field for which several values were stated, any of them counts: what may fall under a policy is kept by it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::calls::{Facts, Field};
use crate::intake::{Channel, Direction};

/// Who belongs to which group, by the names that policies use: `groups.toml` beside the policies.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Groups {
    /// Agents by their number or display name, as the sender states it.
    pub agent_groups: BTreeMap<String, Vec<String>>,
    /// Customers by their id or number.
    pub customer_classes: BTreeMap<String, Vec<String>>,
}

/// What has to be so for a policy to apply: every condition that is given, by any of its values.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Conditions {
    waba_numbers: Option<Vec<String>>,
    channels: Option<Vec<Channel>>,
    directions: Option<Vec<Direction>>,
    agents: Option<Vec<String>>,
    agent_groups: Option<Vec<String>>,
    customer_classes: Option<Vec<String>>,
    flags: Option<Vec<String>>,
    /// Seconds, as the sender states them.
    min_duration: Option<u64>,
    /// Seconds, as the sender states them.
    max_duration: Option<u64>,
}

impl Conditions {
    /// True where it holds for everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lists().iter().all(|(_, list)| list.is_none())
            && self.min_duration.is_none()
            && self.max_duration.is_none()
    }

    /// Each list with its name and how many values it has.
    fn lists(&self) -> [(&'static str, Option<usize>); 7] {
        let len = |list: &Option<Vec<String>>| list.as_ref().map(Vec::len);
        [
            ("waba_numbers", len(&self.waba_numbers)),
            ("channels", self.channels.as_ref().map(Vec::len)),
            ("directions", self.directions.as_ref().map(Vec::len)),
            ("agents", len(&self.agents)),
            ("agent_groups", len(&self.agent_groups)),
            ("customer_classes", len(&self.customer_classes)),
            ("flags", len(&self.flags)),
        ]
    }

    /// What is wrong with them, in words; the groups are those beside the policy, the rules those that raise flags.
    #[must_use]
    pub fn flaw(&self, groups: &Groups, rules: Option<&[&str]>) -> Option<String> {
        if let Some((name, _)) = self.lists().iter().find(|(_, values)| *values == Some(0)) {
            return Some(format!("{name} names nothing: leave it out, or name what the policy is for"));
        }
        if let (Some(min), Some(max)) = (self.min_duration, self.max_duration)
            && min > max
        {
            return Some(format!("no call lasts at least {min} s and at most {max} s"));
        }
        let unknown = |names: &Option<Vec<String>>, known: &BTreeMap<String, Vec<String>>, what: &str| {
            let name = names.iter().flatten().find(|name| known.get(*name).is_none_or(Vec::is_empty))?;
            Some(format!("the {what} {name:?} has nobody in it: name them in groups.toml beside the policy"))
        };
        let rule = self.flags.iter().flatten().find(|flag| rules.is_some_and(|rules| !rules.contains(&flag.as_str())));
        unknown(&self.agent_groups, &groups.agent_groups, "agent group")
            .or_else(|| unknown(&self.customer_classes, &groups.customer_classes, "customer class"))
            .or_else(|| rule.map(|flag| format!("there is no flag {flag:?}")))
    }

    /// Whether a policy with these conditions applies to a call.
    #[must_use]
    pub fn hold_for(&self, facts: &Facts, groups: &Groups) -> bool {
        let any = |list: &Option<Vec<String>>, fields: &[Field]| {
            list.as_ref().is_none_or(|list| is_stated(facts, fields, list.iter()))
        };
        let member = |names: &Option<Vec<String>>, known: &BTreeMap<String, Vec<String>>, fields: &[Field]| {
            let members =
                |names: &Vec<String>| names.iter().filter_map(|name| known.get(name)).flatten().collect::<Vec<_>>();
            names.as_ref().is_none_or(|names| is_stated(facts, fields, members(names).into_iter()))
        };
        let channels = self.channels.as_ref().map(|list| list.iter().map(|one| one.as_str().to_owned()).collect());
        let directions = self.directions.as_ref().map(|list| list.iter().map(|one| one.as_str().to_owned()).collect());
        let flagged = |flags: &Vec<String>| flags.iter().any(|flag| facts.flags.contains_key(flag));
        let seconds = || facts.numbers(Field::Duration).map(i64::cast_unsigned);
        let unknown = seconds().next().is_none();
        any(&self.waba_numbers, &[Field::WabaNumber, Field::ChannelNumber])
            && any(&channels, &[Field::Channel])
            && any(&directions, &[Field::Direction])
            && any(&self.agents, &[Field::Agent])
            && member(&self.agent_groups, &groups.agent_groups, &[Field::Agent])
            && member(
                &self.customer_classes,
                &groups.customer_classes,
                &[Field::CustomerId, Field::CustomerNumber, Field::From, Field::To],
            )
            && self.flags.as_ref().is_none_or(flagged)
            && self.min_duration.is_none_or(|min| unknown || seconds().any(|seconds| seconds >= min))
            && self.max_duration.is_none_or(|max| unknown || seconds().any(|seconds| seconds <= max))
    }
}

/// Whether any of the values was stated for any of the fields. A field for which nothing was stated may yet be any of them.
fn is_stated<'a>(facts: &Facts, fields: &[Field], mut values: impl Iterator<Item = &'a String>) -> bool {
    let stated = || fields.iter().flat_map(|field| facts.texts(*field));
    stated().next().is_none() || values.any(|value| stated().any(|text| is_same(text, value)))
}

/// Names without regard to case, numbers without regard to how they are written and whether a country code is with them.
fn is_same(stated: &str, named: &str) -> bool {
    const SHORTEST: usize = 8;
    if stated.trim().to_lowercase() == named.trim().to_lowercase() {
        return true;
    }
    let digits = |text: &str| -> Option<String> {
        let is_number = text.chars().all(|c| crate::phone::ascii_digit(c).is_some() || " +-().".contains(c));
        let digits: String = text.chars().filter_map(crate::phone::ascii_digit).collect();
        (is_number && digits.len() >= SHORTEST).then(|| digits.trim_start_matches('0').to_owned())
    };
    match (digits(stated), digits(named)) {
        (Some(stated), Some(named)) => stated.ends_with(&named) || named.ends_with(&stated),
        _ => false,
    }
}
