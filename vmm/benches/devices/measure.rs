//! What work takes, and how it is printed.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};

pub(crate) const RUNS: usize = 5;

/// What some work took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost {
    pub(crate) time: Duration,
    /// Of the processor: of all threads of this process, and of the kernel's that work for it.
    pub(crate) cpu: Duration,
    /// Of that, what the thread took that has both driver and device.
    pub(crate) ours: Duration,
}

impl Cost {
    /// Adds what this takes.
    pub(crate) fn add<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (started, all, ours) = (Instant::now(), cpu(), thread());
        let result = work();
        self.ours += thread() - ours;
        self.cpu += cpu() - all;
        self.time += started.elapsed();
        result
    }

    pub(crate) fn of<T>(work: impl FnOnce() -> Result<T>) -> Result<Self> {
        let mut cost = Self::default();
        cost.add(work)?;
        Ok(cost)
    }
}

fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap()
}

fn thread() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

/// What each of so many operations is counted as.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Operation,
    /// So many bytes.
    Bytes(u64),
}

pub(crate) fn heading() {
    println!("| device | what | a second | CPU for each | of that, driver and device |");
    println!("|---|---|---|---|---|");
}

/// Prints a row of the table. `run` does `count` operations.
pub(crate) fn row(
    device: &str,
    what: &str,
    (count, unit): (u64, Unit),
    mut run: impl FnMut(u64) -> Result<Cost>,
) -> Result<()> {
    let runs = (0..RUNS).map(|_| run(count)).collect::<Result<Vec<_>>>()?;
    let figures = |figure: fn(&Cost) -> Duration| runs.iter().map(move |cost| figure(cost).as_secs_f64());
    let speed = |seconds: f64| match unit {
        Unit::Operation => count as f64 / seconds,
        Unit::Bytes(each) => (count * each) as f64 / seconds / f64::from(1 << 20),
    };
    let each = |seconds: f64| seconds / count as f64 * 1e6;
    println!(
        "| {device} | {what} | {:.0}{} | {:.2} µs | {:.2} µs |",
        Spread::of(figures(|cost| cost.time).map(speed)),
        if matches!(unit, Unit::Operation) { "" } else { " MiB" },
        Spread::of(figures(|cost| cost.cpu).map(each)),
        Spread::of(figures(|cost| cost.ours).map(each)),
    );
    Ok(())
}

/// The middle of all runs, and the ends.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        Self { median: values[values.len() / 2], least: values[0], most: values[values.len() - 1] }
    }
}

/// With as many digits as the format says.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        let Self { median, least, most } = self;
        write!(f, "{median:.digits$} ({least:.digits$} to {most:.digits$})")
    }
}
