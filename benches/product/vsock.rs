//! Our own vsock device, through the example `vsock_bench` of the crate `vmm`: a guest that echoes, swallows and sends,
//! and nothing else.

use serde::Deserialize;

use crate::report::Figure;
use crate::support::{Appliance, VsockBench, run};

const RUNS: usize = 5;

/// A line that the example prints.
#[derive(Deserialize)]
struct Line {
    name: String,
    value: f64,
}

pub(crate) fn measure() -> Vec<Figure> {
    let appliance = Appliance::built();
    let bench = VsockBench::built();
    let mut lines: Vec<Line> = Vec::new();
    for _ in 0..RUNS {
        let printed = run(&mut bench.command(appliance)).ok();
        let parse = |line: &str| serde_json::from_str(line).expect("vsock_bench prints JSON lines");
        lines.extend(printed.lines().map(parse));
    }
    [("vsock-rtt", "us"), ("vsock-to-guest", "MiB/s"), ("vsock-to-host", "MiB/s")]
        .map(|(name, unit)| {
            let values = lines.iter().filter(|line| line.name == name).map(|line| line.value);
            Figure::new(name, unit, &values.collect::<Vec<f64>>())
        })
        .into()
}
