//! MVM_SKIP: the only way to leave a test out.

use std::io::Write;

/// Whether MVM_SKIP, a list with commas, names this test. Each skip is a line on stderr, which `make test` counts.
pub fn skipped(test: &str) -> bool {
    let skip = std::env::var("MVM_SKIP").unwrap_or_default();
    let named = skip.split(',').any(|name| name.trim() == test);
    if named {
        // Not eprintln!: the test harness would keep that to itself.
        let _ = writeln!(std::io::stderr(), "skipped by MVM_SKIP: {test}");
    }
    named
}
