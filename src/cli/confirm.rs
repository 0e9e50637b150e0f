//! Asks whether that is meant.

use std::io::{IsTerminal, Write};

use super::Failure;

#[derive(Debug, thiserror::Error)]
#[error("nobody can be asked here whether that is meant; say --force")]
struct NobodyToAsk;

/// Nothing but a yes is one.
pub(super) fn is_meant(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(NobodyToAsk));
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}
