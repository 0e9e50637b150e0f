//! Each folder of tests/cases/definitions is one case, in the order of its number (tests/cases/README.md).

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{MVM, Outcome, TOP, run};

/// Beside what is wrong: the same, right.
const RIGHT: &str = "right.yml";
const REFUSED: &str = "refused.txt";
const MERGED: &str = "merged.yml";

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(TOP).join("tests/cases/definitions")).unwrap();
    let mut cases: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

/// The files of a case that are given to mvm, in their order.
fn inputs(case: &Path) -> Vec<String> {
    let names = fs::read_dir(case).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> =
        names.filter(|name| name.ends_with(".yml") && ![RIGHT, MERGED].contains(&name.as_str())).collect();
    names.sort();
    names
}

fn checked(case: &Path, files: &[String]) -> Outcome {
    run(Command::new(MVM).args(["image", "build", "--dry-run"]).args(files).current_dir(case))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn each_case_ends_as_it_says() {
    let cases = cases();
    assert!(cases.len() >= 60, "only {} are there", cases.len());
    for (number, case) in (1..).zip(&cases) {
        let name = case.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with(&format!("{number:03}-")), "{name} has not the number {number}");
        let files = inputs(case);
        assert!(!files.is_empty(), "{name} has no definition");
        let outcome = checked(case, &files);
        if case.join(REFUSED).exists() {
            assert_eq!(outcome.status, 1, "{name}: {outcome}");
            assert_eq!(outcome.stderr, text(&case.join(REFUSED)), "{name}");
            assert_eq!(outcome.stdout, "", "{name}");
            continue;
        }
        assert_eq!(outcome.status, 0, "{name}: {outcome}");
        assert_eq!(outcome.stdout, text(&case.join(MERGED)), "{name}");
        // What it prints is a definition, and the same.
        let again = checked(case, &[MERGED.to_owned()]);
        assert_eq!(again.stdout, outcome.stdout, "{name}: {again}");
    }
}

/// A case that is refused for something else than it is there for would go unseen: with the last file made right it is not
/// refused, so what differs is what is wrong.
#[test]
fn each_case_that_is_refused_is_not_when_it_is_right() {
    let mut count = 0;
    for case in cases().iter().filter(|case| case.join(REFUSED).exists()) {
        let mut files = inputs(case);
        *files.last_mut().unwrap() = RIGHT.to_owned();
        checked(case, &files).ok();
        count += 1;
    }
    assert!(count >= 40, "only {count} cases are refused");
}
