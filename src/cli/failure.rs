//! How a verb ends badly: an exit status, and what to say.

use std::error::Error;
use std::process::ExitCode;

use crate::chain::Chain;
use crate::printable::printable_lines;

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
            // What others said is in it: registries, guests, builders.
            eprintln!("mvm: {}", printable_lines(&Chain(cause.as_ref()).to_string()));
        }
        ExitCode::from(status)
    }
}

#[cfg(test)]
mod tests {
    use super::Failure;

    #[test]
    fn any_error_is_a_failure() {
        fn verb() -> Result<(), Failure> {
            Err(std::io::Error::other("x"))?;
            Ok(())
        }
        assert!(matches!(verb(), Err(Failure::Failed(_))));
    }
}
