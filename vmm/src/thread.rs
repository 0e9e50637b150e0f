//! The threads of a machine's process.

use std::thread::Builder;

/// A quarter of a huge page. A stack as large as one, which is what Rust gives, gets one where it happens to lie right, and
/// that is 2 MiB of memory for a few KiB.
const STACK: usize = 512 << 10;

/// A thread of this name, to be started.
pub(crate) fn named(name: impl Into<String>) -> Builder {
    Builder::new().name(name.into()).stack_size(STACK)
}
