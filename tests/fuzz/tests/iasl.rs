//! The board's ACPI tables, read by others: ACPICA's disassembler understands each, and out of what it has read its compiler
//! makes the same table again, without an error or a warning.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "../../support/skip.rs"]
mod skip;

use std::fs;
use std::path::Path;
use std::process::Command;

use vmm::board::Place;
use vmm::board::x86_64::layout::virtio;

/// Identifier and revision of the compiler, in a table's header.
const CREATOR: std::ops::Range<usize> = 28..36;
const CHECKSUM: usize = 9;

#[test]
fn acpica_reads_the_tables_and_writes_them_again() {
    if skip::skipped("iasl") {
        return;
    }
    for (cpus, devices) in [(1, 0), (2, 1), (4, 6), (32, 16), (255, 16)] {
        let places: Vec<Place> = (0..devices).map(|number| virtio(number).unwrap()).collect();
        let directory = tempfile::tempdir().unwrap();
        for table in fuzz::acpi::tables(cpus, &places) {
            let name = String::from_utf8(table[..4].to_vec()).unwrap();
            let (aml, dsl) = (format!("{name}.aml"), format!("{name}.dsl"));
            fs::write(directory.path().join(&aml), &table).unwrap();
            iasl(directory.path(), &["-d", &aml]);
            let said = iasl(directory.path(), &["-p", "again", &dsl]);
            assert!(said.contains("0 Errors, 0 Warnings"), "{name}, {devices} devices: {said}");
            let again = fs::read(directory.path().join("again.aml")).unwrap();
            assert_eq!(without_compiler(again), without_compiler(table), "{name}, {devices} devices");
        }
    }
}

fn without_compiler(mut table: Vec<u8>) -> Vec<u8> {
    table[CREATOR].fill(0);
    table[CHECKSUM] = 0;
    table
}

fn iasl(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("iasl").args(arguments).current_dir(directory).output().expect(
        "iasl does not run; install acpica-tools (scripts/install-deps test), or leave this out by MVM_SKIP=iasl",
    );
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "iasl {arguments:?}: {said}");
    said
}
