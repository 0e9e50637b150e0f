//! What the process may use (getrlimit(2)).

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::super::{Limits, SandboxError};

/// There is no limit of processes among them: it would count all those of the user. The filters allow none.
pub(super) fn set(limits: &Limits) -> Result<(), SandboxError> {
    lower(Resource::Data, "the memory", limits.data)?;
    lower(Resource::Nofile, "the descriptors", limits.descriptors)?;
    // A dump would write the guest's memory, with the secrets of its builds, to a place of the host's.
    lower(Resource::Core, "core dumps", 0)
}

fn lower(resource: Resource, what: &'static str, limit: u64) -> Result<(), SandboxError> {
    // It may be lower already, and nobody may raise that.
    let limit = getrlimit(resource).maximum.map_or(limit, |most| most.min(limit));
    setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
        .map_err(|errno: Errno| SandboxError::Limit { what, limit, source: errno.into() })
}
