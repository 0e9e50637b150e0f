//! Figures, how they are printed, and the file that keeps them.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::support::TOP;

/// One measured quantity.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) engine: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) runs: usize,
    /// Who else was measured, in turn with mvm.
    pub(crate) peer: Option<&'static str>,
    pub(crate) peer_median: Option<f64>,
    /// What makes this figure again.
    pub(crate) command: String,
}

impl Figure {
    /// From the values of all runs; there is at least one.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, values: &[f64]) -> Self {
        let name = name.into();
        Self {
            engine: "tcg",
            unit,
            median: median(values),
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            runs: values.len(),
            peer: None,
            peer_median: None,
            command: format!("cargo bench --bench product -- {name}"),
            name,
        }
    }

    /// Measured on this engine instead of `tcg`.
    #[must_use]
    pub(crate) fn on(self, engine: &'static str) -> Self {
        Self { engine, ..self }
    }

    /// The same of somebody else, measured in turn with mvm.
    #[must_use]
    pub(crate) fn against(mut self, peer: &'static str, values: &[f64]) -> Self {
        self.peer = Some(peer);
        self.peer_median = Some(median(values));
        self
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// All figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Prints and keeps these.
    pub(crate) fn add(&mut self, figures: impl Iterator<Item = Figure>) {
        for figure in figures {
            let Figure { name, unit, median, min, max, runs, .. } = &figure;
            print!("{name:<28} {median:>10.2} {unit:<8} ({min:.2} to {max:.2}, {runs} runs)");
            if let (Some(peer), Some(other)) = (figure.peer, figure.peer_median) {
                print!("   {peer} {other:.2}, ratio {:.2}", median / other);
            }
            println!();
            self.figures.push(figure);
        }
    }

    /// What this run has not measured stays in the file as it was.
    pub(crate) fn write(&self) {
        let file = Path::new(TOP).join("target/bench.json");
        let before = fs::read_to_string(&file).unwrap_or_default();
        let mut all: Vec<Value> = serde_json::from_str(&before).unwrap_or_default();
        let is_new = |old: &Value| {
            self.figures.iter().any(|figure| old["name"] == figure.name && old["engine"] == figure.engine)
        };
        all.retain(|old| !is_new(old));
        all.extend(self.figures.iter().map(|figure| json!(figure)));
        let text = serde_json::to_string_pretty(&all).expect("figures are plain data");
        fs::create_dir_all(file.parent().expect("the file lies in a directory"))
            .expect("target/ can be made");
        fs::write(&file, text + "\n").expect("target/bench.json can be written");
        println!("written to {}", file.display());
    }
}
