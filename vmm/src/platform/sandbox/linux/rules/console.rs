//! The thread that passes on what the guest prints, to a file or to whatever standard output is.

use crate::platform::sandbox::linux::rule::{Rule, table};

pub(super) const RULES: &[Rule] = table! {
    SYS_recvfrom => "takes what the guest prints",
    SYS_pread64 => "a file that has grown large is copied to the one beside it",
    SYS_pwrite64 => "the copy is written",
    SYS_ftruncate => "and the file begun anew",
};
