//! What the search page offers to filter by: selects, counts, chips, dates. Pure.

use jiff::ToSpan;
use jiff::civil::Date;

use super::format::{grouped, phone, shortened};
use super::query::{ANY_FLAG, Query};
use super::words;
use crate::flags::Rule;
use crate::search::Counts;

/// Values of one facet that are shown at once, and at all.
const SHOWN: usize = 8;
const MOST: usize = 60;
/// Agents in the select.
const MOST_AGENTS: usize = 300;

pub(super) struct Choice {
    pub(super) value: String,
    pub(super) label: String,
    pub(super) chosen: bool,
}

/// A select of the form.
pub(super) struct Select {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    /// What not choosing means.
    pub(super) any: &'static str,
    pub(super) choices: Vec<Choice>,
}

/// The counts of one field.
pub(super) struct FacetList {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) shown: Vec<FacetValue>,
    pub(super) more: Vec<FacetValue>,
}

pub(super) struct FacetValue {
    pub(super) label: String,
    pub(super) count: String,
    pub(super) href: String,
    pub(super) chosen: bool,
}

/// A filter that is in force, with the address without it.
pub(super) struct Chip {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) href: String,
}

/// A link to a range of dates.
pub(super) struct Preset {
    pub(super) label: &'static str,
    pub(super) href: String,
    pub(super) chosen: bool,
}

/// The facets that the page asks for, as the API calls them.
pub(super) const FACETS: [&str; 5] = ["agent", "direction", "status", "flag", "recording"];

pub(super) fn selects(query: &Query, agents: &[String], region: &str) -> Vec<Select> {
    let words = |name: &'static str, values: &[&str]| {
        let label = |value: &&str| ((*value).to_owned(), words::filter_value(name, value));
        choices(query, name, values.iter().map(label).collect())
    };
    let mut names: Vec<(String, String)> =
        agents.iter().take(MOST_AGENTS).map(|agent| (agent.clone(), shortened(&phone(agent, region), 60))).collect();
    names.sort_by_key(|(_, label)| (label.starts_with('+'), label.to_lowercase()));
    let mut rules = vec![(ANY_FLAG.to_owned(), "Any flag".to_owned())];
    rules.extend(Rule::ALL.map(|rule| (rule.as_str().to_owned(), words::rule(rule.as_str()))));
    vec![
        Select { name: "agent", label: "Agent", any: "Any agent", choices: choices(query, "agent", names) },
        Select {
            name: "direction",
            label: "Direction",
            any: "Both directions",
            choices: words("direction", &words::DIRECTIONS),
        },
        Select { name: "status", label: "Status", any: "Any status", choices: words("status", &words::STATUSES) },
        Select {
            name: "recording",
            label: "Recording",
            any: "Any state",
            choices: words("recording", &words::RECORDINGS),
        },
        Select { name: "flag", label: "Flag", any: "With or without", choices: choices(query, "flag", rules) },
        Select {
            name: "flag_state",
            label: "Flag is",
            any: "Still open",
            choices: words("flag_state", &words::FLAG_STATES),
        },
    ]
}

/// What is chosen is always among the choices, whatever the address says.
fn choices(query: &Query, name: &str, mut values: Vec<(String, String)>) -> Vec<Choice> {
    let chosen = query.first(name);
    if let Some(chosen) = chosen.filter(|chosen| !values.iter().any(|(value, _)| value == chosen)) {
        values.push((chosen.to_owned(), shortened(chosen, 60)));
    }
    let choice = |(value, label): (String, String)| Choice { chosen: chosen == Some(value.as_str()), value, label };
    values.into_iter().map(choice).collect()
}

pub(super) fn facets(query: &Query, counts: &Counts, region: &str) -> Vec<FacetList> {
    let list = |name: &'static str| {
        let mut values: Vec<(&String, &u64)> = counts.get(name)?.iter().collect();
        values.sort_by(|(a, m), (b, n)| n.cmp(m).then(a.cmp(b)));
        let mut shown: Vec<FacetValue> = values
            .into_iter()
            .take(MOST)
            .map(|(value, count)| facet_value(query, name, value, *count, region))
            .collect();
        let more = shown.split_off(shown.len().min(SHOWN));
        let label = if name == "flag" { "Open flags" } else { words_label(name) };
        (!shown.is_empty()).then_some(FacetList { name, label, shown, more })
    };
    ["direction", "status", "recording", "flag", "agent"].into_iter().filter_map(list).collect()
}

fn words_label(name: &'static str) -> &'static str {
    words::filter_name(name)
}

fn facet_value(query: &Query, name: &str, value: &str, count: u64, region: &str) -> FacetValue {
    let chosen = query.has(name, value);
    let changed = if chosen {
        query.without(name, value)
    } else if name == "flag" {
        // Any flag and this one would still be any flag.
        query.without(name, ANY_FLAG).with(name, value)
    } else {
        query.with(name, value)
    };
    FacetValue { label: label(name, value, region), count: grouped(count), href: changed.href(), chosen }
}

fn label(name: &str, value: &str, region: &str) -> String {
    let text = words::filter_value(name, value);
    let text = if matches!(name, "agent" | "customer") { phone(&text, region) } else { text };
    shortened(&text, 80)
}

pub(super) fn chips(query: &Query, region: &str) -> Vec<Chip> {
    let chip = |(name, value): (&str, &str)| Chip {
        name: shortened(words::filter_name(name), 40),
        value: label(name, value, region),
        href: query.without(name, value).href(),
    };
    query.filters().map(chip).collect()
}

pub(super) fn presets(query: &Query, today: Date) -> Vec<Preset> {
    let ago = |days: i64| today.checked_sub(days.days()).unwrap_or(today);
    let ranges = [
        ("Today", today, today),
        ("Yesterday", ago(1), ago(1)),
        ("Last 7 days", ago(6), today),
        ("Last 30 days", ago(29), today),
    ];
    let preset = |(label, from, to): (&'static str, Date, Date)| {
        let (from, to) = (from.to_string(), to.to_string());
        let chosen = query.first("started_from") == Some(&*from) && query.first("started_to") == Some(&*to);
        let bare = query.without_all(&["started_from", "started_to"]);
        let changed = if chosen { bare } else { bare.with("started_from", &from).with("started_to", &to) };
        Preset { label, href: changed.href(), chosen }
    };
    ranges.into_iter().map(preset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_facet_adds_its_filter_and_takes_it_off_again() {
        let counts: Counts =
            [("flag".to_owned(), [("short_call".to_owned(), 1200), ("long_call".to_owned(), 3)].into())].into();
        let lists = facets(&Query::parse("flag=any&q=a"), &counts, "IN");
        assert_eq!(lists[0].shown[0].href, "/?q=a&flag=short_call");
        assert_eq!(lists[0].shown[0].count, "1,200");
        let lists = facets(&Query::parse("flag=short_call"), &counts, "IN");
        assert!(lists[0].shown[0].chosen && !lists[0].shown[1].chosen);
        assert_eq!(lists[0].shown[0].href, "/");
        assert_eq!(lists[0].shown[1].href, "/?flag=short_call&flag=long_call");
    }

    #[test]
    fn what_is_chosen_can_be_chosen() {
        let selects = selects(&Query::parse("agent=nobody&status=bogus&flag=new_rule"), &["Leela".to_owned()], "IN");
        for (index, value) in [(0, "nobody"), (2, "bogus"), (4, "new_rule")] {
            assert!(selects[index].choices.iter().any(|choice| choice.chosen && choice.value == value));
        }
    }

    #[test]
    fn ranges_of_dates() {
        let query = Query::parse("started_from=2026-03-03&started_to=2026-03-09&q=a");
        let presets = presets(&query, "2026-03-09".parse().unwrap());
        assert_eq!(presets[0].href, "/?q=a&started_from=2026-03-09&started_to=2026-03-09");
        assert!(presets[2].chosen);
        assert_eq!(presets[2].href, "/?q=a");
    }
}
