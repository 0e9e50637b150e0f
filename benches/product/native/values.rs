//! What is measured inside the rig, on its way out.

use std::time::Duration;

use super::process::Vmm;
use super::{Of, Value};

/// Counted instructions hardly vary.
pub(super) const RUNS: usize = 3;
/// How much a guest moves.
pub(super) const MIB: u64 = 64;

pub(super) fn report(figure: &str, unit: &str, of: Of, value: f64) {
    let value = Value { figure: figure.to_owned(), unit: unit.to_owned(), of, value };
    println!("{}", serde_json::to_string(&value).expect("a value is plain data"));
}

/// A guest's run from "begins" to "ends", in MiB for each thousand million instructions.
pub(super) fn rate(mut vmm: Vmm) -> f64 {
    let begins = vmm.hears("begins");
    let ends = vmm.hears("ends");
    vmm.finish();
    MIB as f64 / (ends - begins).as_secs_f64()
}

pub(super) fn millions(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
