//! Our own VMM and QEMU's `microvm`, both on KVM, one after the other in the same machine, by instructions.
//!
//! A Linux with a genuine KVM runs in QEMU (tests/rig), which counts: a nanosecond of its clock is an instruction of
//! that Linux, of the VMM in it, or of the guest in that. So the figures are the same however busy this host is. This
//! program runs there again, and what it prints there comes back.

mod guest;
mod inside;
mod network;
mod process;
mod values;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rig::{Job, Machine, Stream};
use serde::{Deserialize, Serialize};

pub(crate) use self::inside::{WORD, main as inside};
use crate::report::Figure;
use crate::support::{Appliance, Rig};

/// Every instruction is emulated, on one of this host's processors; the longest part takes two minutes.
const WITHIN: Duration = Duration::from_secs(900);

/// One run's value, as it comes from inside.
#[derive(Debug, Serialize, Deserialize)]
struct Value {
    figure: String,
    unit: String,
    of: Of,
    value: f64,
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Of {
    Mvm,
    Qemu,
}

const BOTH: [Of; 2] = [Of::Mvm, Of::Qemu];

pub(crate) fn start() -> Vec<Figure> {
    measure("start")
}

pub(crate) fn stages() -> Vec<Figure> {
    measure("stages")
}

pub(crate) fn up() -> Vec<Figure> {
    measure("up")
}

pub(crate) fn disk() -> Vec<Figure> {
    measure("disk")
}

pub(crate) fn network() -> Vec<Figure> {
    measure("network")
}

pub(crate) fn memory() -> Vec<Figure> {
    measure("memory")
}

pub(crate) fn vsock() -> Vec<Figure> {
    measure("vsock")
}

/// Runs one part of the inside.
fn measure(part: &str) -> Vec<Figure> {
    let qemu = Appliance::built().qemu.iter().map(String::as_str);
    let arguments: Vec<&str> = [WORD, part].into_iter().chain(qemu).collect();
    let (status, printed) = run(&Rig::this_program(&arguments));
    assert_eq!(status, 0, "\"{part}\" failed inside the rig: {printed}");
    figures(&printed)
}

/// Runs any command there, for who looks around; the files that it finds are below `/rig`.
pub(crate) fn run_by_hand(words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (status, printed) = run(&words);
    println!("{printed}it ended with {status}");
}

/// A command's status, and what it printed. QEMU's emulation stands still now and then where it counts (its processor is
/// busy, and its clock gets nowhere); then the command is run once more, in a new machine.
fn run(words: &[&str]) -> (u8, String) {
    static MACHINE: Mutex<Option<Machine>> = Mutex::new(None);
    let mut place = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut tries = 2;
    loop {
        let mut machine = place.take().unwrap_or_else(Rig::counting);
        let mut printed = Vec::new();
        let output = |stream, bytes: &[u8]| match stream {
            Stream::Stdout => printed.extend_from_slice(bytes),
            Stream::Stderr => eprint!("{}", String::from_utf8_lossy(bytes)),
        };
        match machine.run(Job { words, within: WITHIN }, output) {
            Ok(report) => {
                *place = Some(machine);
                return (report.status, String::from_utf8_lossy(&printed).into_owned());
            }
            Err(error) if tries > 1 => eprintln!("{error}; once more"),
            Err(error) => panic!("{error}"),
        }
        tries -= 1;
    }
}

fn figures(printed: &str) -> Vec<Figure> {
    let mut names = Vec::new();
    let mut values: BTreeMap<String, (&'static str, [Vec<f64>; 2])> = BTreeMap::new();
    for line in printed.lines() {
        let value: Value = serde_json::from_str(line).expect("the inside prints JSON lines");
        let (_, of) = values.entry(value.figure.clone()).or_insert_with(|| {
            names.push(value.figure.clone());
            (value.unit.leak(), Default::default())
        });
        of[value.of as usize].push(value.value);
    }
    let figure = |name: &String| {
        let (unit, [ours, theirs]) = &values[name];
        let figure = Figure::new(name.as_str(), unit, ours).on("kvm");
        if theirs.is_empty() { figure } else { figure.against("QEMU microvm", theirs) }
    };
    names.iter().map(figure).collect()
}
