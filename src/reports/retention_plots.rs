//! The plots of the retention report. Pure.

use std::collections::BTreeMap;

use super::document::{Plot, Series, Shade, Unit};
use super::retention::Retention;

impl Retention {
    /// Bytes by year of call; the policies that keep most have shades of their own.
    pub(super) fn policy_plot(&self) -> Option<Plot> {
        const SHADES: [Shade; 4] = [Shade::First, Shade::Second, Shade::Third, Shade::Fourth];
        let years: Vec<i16> =
            match (self.policies.iter().map(|p| p.year).min(), self.policies.iter().map(|p| p.year).max()) {
                (Some(first), Some(last)) if first < last => (first..=last).collect(),
                _ => return None,
            };
        let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
        self.policies.iter().for_each(|line| *totals.entry(&line.policy).or_default() += line.bytes);
        let mut order: Vec<(&str, u64)> = totals.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
        order.sort_by_key(|(policy, bytes)| (std::cmp::Reverse(*bytes), *policy));
        let bytes = |policies: &[&str], year: i16| {
            let lines =
                self.policies.iter().filter(|line| line.year == year && policies.contains(&line.policy.as_str()));
            Some(lines.map(|line| line.bytes).sum())
        };
        let of = |name: &str, policies: &[&str], shade| Series {
            name: name.to_owned(),
            shade,
            values: years.iter().map(|year| bytes(policies, *year)).collect(),
        };
        let names: Vec<&str> = order.iter().map(|(policy, _)| *policy).collect();
        let own = if names.len() > SHADES.len() { SHADES.len() - 1 } else { names.len() };
        let mut series: Vec<Series> =
            names.iter().take(own).zip(SHADES).map(|(name, shade)| of(name, &[name], shade)).collect();
        if names.len() > own {
            series.push(of("other policies", &names[own..], Shade::Fourth));
        }
        Some(Plot::Bars { unit: Unit::Bytes, labels: years.iter().map(ToString::to_string).collect(), series })
    }

    /// What is kept month by month, and what may be.
    pub(super) fn growth_plot(&self) -> Option<Plot> {
        let (past, ahead) = (self.growth.len(), self.forecast.len());
        if past < 2 {
            return None;
        }
        let month = |day: jiff::civil::Date| day.strftime("%b %y").to_string();
        let labels =
            self.growth.iter().map(|m| month(m.month)).chain(self.forecast.iter().map(|m| month(m.month))).collect();
        let kept = self.growth.iter().map(|m| Some(m.kept.bytes)).chain(std::iter::repeat_n(None, ahead)).collect();
        // The lines ahead begin where the past ends.
        let from_now = |bytes: &dyn Fn(&super::retention::Ahead) -> u64| {
            let now = self.growth.last().map(|month| month.kept.bytes);
            let before = std::iter::repeat_n(None, past - 1).chain([now]);
            before.chain(self.forecast.iter().map(|month| Some(bytes(month)))).collect::<Vec<_>>()
        };
        let mut series = vec![Series { name: "kept".into(), shade: Shade::First, values: kept }];
        if ahead > 0 {
            let all = from_now(&|month| month.kept.bytes);
            let less = from_now(&|month| month.kept_if_due_is_destroyed.bytes);
            let differ = all != less;
            series.push(Series { name: "forecast".into(), shade: Shade::Forecast, values: all });
            if differ {
                let name = "forecast, if what is due is destroyed".into();
                series.push(Series { name, shade: Shade::Third, values: less });
            }
        }
        Some(Plot::Lines { unit: Unit::Bytes, labels, series })
    }
}
