//! What executes a guest's instructions.

pub mod native;
pub mod tcg;

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    PoweredOff,
    /// As after a kernel panic: nothing starts it again.
    Reset,
    /// Whoever runs it wanted that.
    Stopped,
    /// It cannot go on; a sentence that says why.
    Failed(String),
}
