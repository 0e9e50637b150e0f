//! Where targets keep their files.

use std::path::PathBuf;
use std::sync::OnceLock;

/// In memory, where there is such a place: contents come and go with each input.
pub(crate) fn scratch() -> &'static PathBuf {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        let memory = PathBuf::from("/dev/shm");
        if memory.is_dir() { memory } else { std::env::temp_dir() }
    })
}
