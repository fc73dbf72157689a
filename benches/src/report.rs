//! Figures by round, and the table that they end in.

use std::fmt::Write as _;

/// Rounds to run: `ROUNDS`, or what the bench takes by itself.
pub fn rounds(default: usize) -> usize {
    std::env::var("ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|rounds| *rounds > 0)
        .unwrap_or(default)
}

/// Median, 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The value below which a `share` (0 to 1) of `values` lies, 0 of nothing.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or(0.0)
}

struct Row {
    name: String,
    values: Vec<f64>,
    /// The row that this one is divided by, round by round.
    beside: Option<String>,
}

/// The rows of one table, in the order in which they first came.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds this round's figure.
    pub fn add(&mut self, name: &str, value: f64) {
        self.push(name, value, None);
    }

    /// Adds this round's figure, to be compared with that of the row `ceiling`.
    pub fn add_beside(&mut self, name: &str, value: f64, ceiling: &str) {
        self.push(name, value, Some(ceiling));
    }

    fn push(&mut self, name: &str, value: f64, beside: Option<&str>) {
        match self.rows.iter_mut().find(|row| row.name == name) {
            Some(row) => row.values.push(value),
            None => self.rows.push(Row {
                name: name.to_owned(),
                values: vec![value],
                beside: beside.map(str::to_owned),
            }),
        }
    }

    /// Median of the per-round ratios of a row to its ceiling.
    pub fn ratio(&self, name: &str) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.name == name)?;
        let beside = row.beside.as_ref()?;
        let ceiling = self.rows.iter().find(|row| row.name == *beside)?;
        let ratios: Vec<f64> =
            row.values.iter().zip(&ceiling.values).map(|(value, ceiling)| value / ceiling).collect();
        Some(median(&ratios))
    }

    /// The table as text: median, least and most of the rounds, and the ratio.
    pub fn table(&self, title: &str) -> String {
        let mut text = format!("\n{title}\n");
        let _ = writeln!(text, "{:<62} {:>11} {:>11} {:>11} {:>7}", "", "median", "least", "most", "ratio");
        for row in &self.rows {
            let least = row.values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = row.values.iter().copied().fold(0.0, f64::max);
            let ratio = self.ratio(&row.name).map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let _ = writeln!(
                text,
                "{:<62} {:>11} {:>11} {:>11} {ratio:>7}",
                row.name,
                figure(median(&row.values)),
                figure(least),
                figure(most)
            );
        }
        text
    }

    /// One line on a figure that must not be larger.
    pub fn verdict_at_most(&self, name: &str, most: f64) -> String {
        match self.rows.iter().find(|row| row.name == name).map(|row| median(&row.values)) {
            Some(value) if value <= most => format!("reached: {name}: {} (target {most})", figure(value)),
            Some(value) => format!("MISSED: {name}: {} (target {most})", figure(value)),
            None => format!("not measured: {name}"),
        }
    }

    /// One line on a target: what was asked for, and what the rounds gave.
    pub fn verdict(&self, name: &str, target: f64) -> String {
        match self.ratio(name) {
            Some(ratio) if ratio >= target => {
                format!("reached: {name}: {ratio:.2} of the ceiling (target {target})")
            }
            Some(ratio) => format!(
                "MISSED: {name}: {ratio:.2} of the ceiling (target {target}); bench \"costs\" shows where the time goes"
            ),
            None => format!("not measured: {name}"),
        }
    }
}

fn figure(value: f64) -> String {
    if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}
