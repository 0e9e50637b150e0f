//! Landlock: what was not opened before stays shut (Documentation/userspace-api/landlock.rst).

use std::error::Error;
use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr,
    RulesetError, Scope,
};

use super::super::{Missing, SandboxError};

/// The newest that this was tested with; Linux 6.15.
const TESTED: ABI = ABI::V7;
// Which first know every access to a file, ports of TCP, and signals and abstract sockets.
const FILES: ABI = ABI::V5;
const NETWORK: ABI = ABI::V4;
const SCOPES: ABI = ABI::V6;

/// Forbids every access that this kernel can forbid, and allows none; what it cannot.
pub(super) fn restrict() -> Result<Vec<Missing>, SandboxError> {
    let status = forbid_everything().map_err(|error| SandboxError::Landlock(cause(&error)))?;
    Ok(match status {
        LandlockStatus::NotImplemented => vec![Missing::Landlock],
        LandlockStatus::NotEnabled => vec![Missing::LandlockIsOff],
        LandlockStatus::Available { effective_abi, .. } => missing(effective_abi),
    })
}

fn forbid_everything() -> Result<LandlockStatus, RulesetError> {
    let restricted = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(TESTED))?
        .handle_access(AccessNet::from_all(TESTED))?
        .scope(Scope::from_all(TESTED))?
        .create()?
        .restrict_self()?;
    Ok(restricted.landlock)
}

fn missing(abi: ABI) -> Vec<Missing> {
    let parts = [
        (FILES, Missing::LandlockFiles),
        (NETWORK, Missing::LandlockNetwork),
        (SCOPES, Missing::LandlockScopes),
    ];
    parts.into_iter().filter(|(since, _)| abi < *since).map(|(_, part)| part).collect()
}

/// The system's own error, which the crate's errors have as their last source.
fn cause(error: &RulesetError) -> io::Error {
    let mut last: &dyn Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let number = last.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    number.map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_kernels_lack_what_they_do_not_know() {
        assert_eq!(
            missing(ABI::V1),
            [Missing::LandlockFiles, Missing::LandlockNetwork, Missing::LandlockScopes]
        );
        assert_eq!(missing(ABI::V4), [Missing::LandlockFiles, Missing::LandlockScopes]);
        assert_eq!(missing(ABI::V5), [Missing::LandlockScopes]);
        assert_eq!(missing(TESTED), []);
    }
}
