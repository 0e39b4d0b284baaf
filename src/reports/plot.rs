//! Plots as shapes on a drawing board: where every bar, line and label stands. Pure; the template writes them as SVG.

use super::document::{Plot, Series, Shade, Unit, grouped, size};

/// The drawing board, in its own units; it is scaled to the page.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;
/// A label of a bar takes so much room, with what is beside it.
const LABEL: f64 = 46.0;

/// A plot, drawn.
pub(super) struct Drawing {
    pub(super) width: f64,
    pub(super) height: f64,
    /// What it shows, for those who don't see it.
    pub(super) says: String,
    pub(super) grid: Vec<Rule>,
    pub(super) bars: Vec<Bar>,
    pub(super) lines: Vec<Path>,
    pub(super) labels: Vec<Label>,
    pub(super) legend: Vec<(&'static str, String)>,
}

/// A line across, with its number.
pub(super) struct Rule {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) y: String,
    pub(super) text_y: String,
    pub(super) label: String,
}

pub(super) struct Bar {
    pub(super) x: String,
    pub(super) y: String,
    pub(super) width: String,
    pub(super) height: String,
    pub(super) class: &'static str,
    /// Shown where somebody points at it.
    pub(super) title: String,
}

pub(super) struct Path {
    pub(super) d: String,
    pub(super) class: &'static str,
}

pub(super) struct Label {
    pub(super) x: String,
    pub(super) y: f64,
    pub(super) text: String,
}

impl Shade {
    fn class(self) -> &'static str {
        match self {
            Self::First => "s1",
            Self::Second => "s2",
            Self::Third => "s3",
            Self::Fourth => "s4",
            Self::Forecast => "sf",
            Self::Good => "sg",
            Self::Warn => "sw",
            Self::Bad => "sb",
        }
    }
}

/// Draws a plot; nothing where there is nothing to draw.
pub(super) fn draw(plot: &Plot) -> Option<Drawing> {
    let (unit, labels, series, stacked) = match plot {
        Plot::Bars { unit, labels, series } => (*unit, labels, series, true),
        Plot::Lines { unit, labels, series } => (*unit, labels, series, false),
    };
    let series: Vec<&Series> =
        series.iter().filter(|one| one.values.iter().flatten().any(|value| *value > 0)).collect();
    if labels.is_empty() || series.is_empty() {
        return None;
    }
    let at = |one: &Series, place: usize| one.values.get(place).copied().flatten();
    let heights = (0..labels.len()).map(|place| {
        let values = series.iter().filter_map(|one| at(one, place));
        if stacked { values.sum::<u64>() } else { values.max().unwrap_or(0) }
    });
    let (step, top) = scale(heights.max().unwrap_or(0), unit);
    let y = |value: u64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - value as f64 / top as f64);
    let slot = (WIDTH - LEFT - RIGHT) / labels.len() as f64;
    let mut drawing = Drawing {
        width: WIDTH,
        height: HEIGHT,
        says: says(labels, &series, unit),
        grid: (0..=top / step).map(|n| rule(n * step, y(n * step), unit)).collect(),
        bars: Vec::new(),
        lines: Vec::new(),
        labels: label_places(labels, slot),
        legend: series.iter().map(|one| (one.shade.class(), one.name.clone())).collect(),
    };
    if stacked {
        for (place, label) in labels.iter().enumerate() {
            let mut below = 0;
            for one in &series {
                let value = at(one, place).unwrap_or(0);
                if value > 0 {
                    let (from, to) = (y(below), y(below + value));
                    let (x, width) = (LEFT + slot * (place as f64 + 0.14), slot * 0.72);
                    drawing.bars.push(Bar {
                        x: number(x),
                        y: number(to),
                        width: number(width.clamp(0.5, 60.0)),
                        height: number((from - to).max(0.6)),
                        class: one.shade.class(),
                        title: format!("{label}, {}: {}", one.name, shown(value, unit)),
                    });
                    below += value;
                }
            }
        }
    } else {
        drawing.lines = series.iter().map(|one| path(one, slot, y)).collect();
    }
    Some(drawing)
}

fn path(one: &Series, slot: f64, y: impl Fn(u64) -> f64) -> Path {
    let mut d = String::new();
    let mut pen = 'M';
    for (place, value) in one.values.iter().enumerate() {
        match value {
            Some(value) => {
                let x = LEFT + slot * (place as f64 + 0.5);
                d.push_str(&format!("{pen}{} {}", number(x), number(y(*value))));
                pen = 'L';
            }
            None => pen = 'M',
        }
    }
    Path { d, class: one.shade.class() }
}

fn rule(value: u64, y: f64, unit: Unit) -> Rule {
    let label = shown(value, unit);
    Rule { from: LEFT, to: WIDTH - RIGHT, y: number(y), text_y: number(y + 4.0), label }
}

/// As many labels as have room, the last one among them.
fn label_places(labels: &[String], slot: f64) -> Vec<Label> {
    let every = (LABEL / slot).ceil().max(1.0) as usize;
    let last = labels.len() - 1;
    let shown = labels.iter().enumerate().filter(|(place, _)| (last - place).is_multiple_of(every));
    let label = |(place, text): (usize, &String)| Label {
        x: number(LEFT + slot * (place as f64 + 0.5)),
        y: HEIGHT - 8.0,
        text: text.clone(),
    };
    shown.map(label).collect()
}

/// The distance of the rules and the uppermost of them: round numbers, at most six of them.
fn scale(most: u64, unit: Unit) -> (u64, u64) {
    let most = most.max(1);
    let mut step = 1u64;
    // Sizes are shown in units of a thousand.
    let rounds: &[u64] = match unit {
        Unit::Calls => &[2, 5, 10],
        Unit::Bytes => &[2, 5, 10, 20, 50, 100, 200, 500, 1000],
    };
    'sizes: loop {
        let base = step;
        for round in rounds {
            if most.div_ceil(step) <= 5 {
                break 'sizes;
            }
            step = base.saturating_mul(*round);
            if step == u64::MAX {
                break 'sizes;
            }
        }
    }
    (step, step.saturating_mul(most.div_ceil(step)))
}

fn shown(value: u64, unit: Unit) -> String {
    match unit {
        Unit::Calls => grouped(value),
        Unit::Bytes if value == 0 => "0".into(),
        Unit::Bytes => size(value),
    }
}

fn says(labels: &[String], series: &[&Series], unit: Unit) -> String {
    let all = |one: &&Series| {
        let last = one.values.iter().flatten().last().copied().unwrap_or(0);
        format!("{} (last {})", one.name, shown(last, unit))
    };
    let names: Vec<String> = series.iter().map(all).collect();
    let (first, last) = (labels.first().map_or("", String::as_str), labels.last().map_or("", String::as_str));
    format!("{} from {first} to {last}; the table below has the numbers", names.join(", "))
}

/// Short, and the same on every machine.
fn number(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_round_and_few() {
        for (most, expected) in
            [(0, (1, 1)), (5, (1, 5)), (6, (2, 6)), (11, (5, 15)), (99, (20, 100)), (101, (50, 150))]
        {
            assert_eq!(scale(most, Unit::Calls), expected, "{most}");
        }
        assert_eq!(scale(2_300_000, Unit::Bytes), (500_000, 2_500_000));
        for most in [1, 7, 12_345, 999_999_999, u64::MAX / 2] {
            for unit in [Unit::Calls, Unit::Bytes] {
                let (step, top) = scale(most, unit);
                assert!(top >= most && top / step <= 5, "{most}: {step} {top}");
            }
        }
    }

    #[test]
    fn bars_stand_on_each_other_and_within_the_board() {
        let one = |name: &str, values: [u64; 3]| Series {
            name: name.into(),
            shade: Shade::First,
            values: values.map(Some).to_vec(),
        };
        let labels = ["a", "b", "c"].map(String::from).to_vec();
        let plot = Plot::Bars { unit: Unit::Calls, labels, series: vec![one("x", [3, 0, 1]), one("y", [2, 4, 0])] };
        let drawing = draw(&plot).unwrap();
        assert_eq!(drawing.bars.len(), 4, "nothing is drawn of nothing");
        let edge = |bar: &Bar| bar.y.parse::<f64>().unwrap() + bar.height.parse::<f64>().unwrap();
        assert!((edge(&drawing.bars[1]) - drawing.bars[0].y.parse::<f64>().unwrap()).abs() < 0.2);
        assert!(drawing.bars.iter().all(|bar| edge(bar) <= HEIGHT - BOTTOM + 0.1));
        let none = Plot::Lines { unit: Unit::Bytes, labels: vec!["a".into()], series: vec![] };
        assert!(draw(&none).is_none());
    }
}
