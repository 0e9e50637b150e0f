//! Resource limits that services inherit: a builder opens many files and starts many processes.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::Error;

/// What the kernel allows at most without a change of `fs.nr_open`.
const OPEN_FILES: u64 = 1_048_576;

pub(super) fn raise() -> Result<(), Error> {
    set(Resource::Nofile, Some(OPEN_FILES), "the limit of open files")?;
    set(Resource::Nproc, None, "the limit of processes")?;
    set(Resource::Memlock, None, "the limit of locked memory")?;
    set(Resource::Core, Some(0), "the size of core files")
}

fn set(resource: Resource, limit: Option<u64>, what: &'static str) -> Result<(), Error> {
    setrlimit(resource, Rlimit { current: limit, maximum: limit })
        .map_err(|error| Error::Set { what, source: io::Error::from(error) })
}
