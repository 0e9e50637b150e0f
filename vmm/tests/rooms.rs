//! Only three rooms of this crate know what kind of host and processor there is.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the names of hosts and processors may stand.
const ROOMS: [&str; 3] = ["hypervisor/", "board/", "platform/"];
/// The engine tcg over vhost-user is Linux's by its nature, and those that know of it say so.
const OF_LINUX: [&str; 3] = ["engine/tcg/", "transport/", "process/"];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn only_hypervisor_board_and_platform_know_the_host() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&source, &mut files);
    assert!(files.len() > 50, "{files:?}");
    for file in files {
        let name = file.strip_prefix(&source).unwrap().to_str().unwrap().to_owned();
        // Scripted guests write the registers of a certain board.
        if ROOMS.iter().any(|room| name.starts_with(room)) || name.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for (number, line) in (1..).zip(code) {
            for word in ["x86_64", "aarch64", "target_arch", "macos", "kvm_"] {
                assert!(!line.contains(word), "{name}, line of code {number}: {line}");
            }
            let is_of_linux = OF_LINUX.iter().any(|room| name.starts_with(room));
            assert!(is_of_linux || !line.contains("target_os"), "{name}, line of code {number}: {line}");
        }
    }
}
