//! How a verb ends badly: an exit status, and what to say.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

const FAILED: u8 = 1;
pub(super) const USAGE: u8 = 2;
const NO_MACHINE: u8 = 3;
const INTERRUPTED: u8 = 130;

type Cause = Box<dyn Error + Send + Sync>;

/// Why a verb did not do what it was asked for. Any error becomes [`Failure::Failed`] through `?`.
#[derive(Debug)]
pub enum Failure {
    /// Exit status 1.
    Failed(Cause),
    /// Exit status 2: the arguments, or what they name, cannot be meant.
    Usage(Cause),
    /// Exit status 3: no virtual machine runs, or the connection to it was lost.
    NoMachine(Cause),
    /// Exit status 130: Ctrl-C.
    Interrupted,
    /// Nobody reads the output any more, and so there is nothing to say: exit status 0.
    NobodyReads,
    /// A program that ran in the guest ended with this; it has said itself why.
    Status(u8),
}

impl<E: Into<Cause>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Failure {
    pub fn usage(error: impl Into<Cause>) -> Self {
        Self::Usage(error.into())
    }

    pub fn no_machine(error: impl Into<Cause>) -> Self {
        Self::NoMachine(error.into())
    }

    /// Says on stderr what failed, once, with every cause that adds something.
    pub(super) fn report(&self) -> ExitCode {
        let (cause, status) = match self {
            Self::Failed(cause) => (Some(cause), FAILED),
            Self::Usage(cause) => (Some(cause), USAGE),
            Self::NoMachine(cause) => (Some(cause), NO_MACHINE),
            Self::Interrupted => (None, INTERRUPTED),
            Self::NobodyReads => (None, 0),
            Self::Status(status) => (None, *status),
        };
        if let Some(cause) = cause {
            eprintln!("mvm: {}", Chain(cause.as_ref()));
        }
        ExitCode::from(status)
    }
}

/// An error with its sources, "what: why: why", leaving out a source that the text before it already tells.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        f.write_str(&told)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            if !told.contains(&text) {
                write!(f, ": {text}")?;
                told = text;
            }
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Chain, Failure};

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the disk")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Middle(#[source] std::io::Error);

    #[test]
    fn chain_tells_each_cause_once() {
        let error = Outer(Middle(std::io::Error::other("it is gone")));
        assert_eq!(Chain(&error).to_string(), "cannot open the disk: it is gone");
    }

    #[test]
    fn any_error_is_a_failure() {
        fn verb() -> Result<(), Failure> {
            Err(Middle(std::io::Error::other("x")))?;
            Ok(())
        }
        assert!(matches!(verb(), Err(Failure::Failed(_))));
    }
}
