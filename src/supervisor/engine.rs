//! Which engine executes a machine's guest.

use vmm::control::Engine;
use vmm::hypervisor::probe::{self, Unusable};

use super::programs;
use crate::instance::Accel;

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("--accel kvm cannot be had: {0}; --accel tcg works everywhere")]
    Kvm(#[source] Unusable),
    #[error(transparent)]
    Qemu(#[from] programs::Error),
}

/// An engine that works here, and why it is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub engine: Engine,
    pub why: String,
}

impl Choice {
    /// One line for the user.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!("engine {}: {}", self.engine.name(), self.why)
    }
}

/// Takes the fastest that works, unless one is asked for. `qemu` is only called where it is needed.
pub fn choose(
    accel: Accel,
    qemu: impl FnOnce() -> Result<Vec<String>, programs::Error>,
) -> Result<Choice, Error> {
    decide(accel, probe::probe, qemu)
}

fn decide(
    accel: Accel,
    probe: impl FnOnce() -> Result<probe::Usable, Unusable>,
    qemu: impl FnOnce() -> Result<Vec<String>, programs::Error>,
) -> Result<Choice, Error> {
    let tried = if accel == Accel::Tcg { None } else { Some(probe()) };
    let why = match (tried, accel) {
        (Some(Ok(_)), _) => {
            return Ok(Choice { engine: Engine::Kvm, why: "this host's KVM runs guest code".to_owned() });
        }
        (Some(Err(why)), Accel::Kvm) => return Err(Error::Kvm(why)),
        (Some(Err(why)), _) => why.to_string(),
        (None, _) => "as asked for".to_owned(),
    };
    Ok(Choice { engine: Engine::Tcg { command: qemu()? }, why })
}

#[cfg(test)]
mod tests {
    use vmm::hypervisor::probe::Usable;

    use super::*;

    fn decided(accel: Accel, works: bool) -> Result<String, String> {
        let probe = || if works { Ok(Usable { times: 1 }) } else { Err(Unusable::Emulated) };
        let qemu = || {
            assert!(accel == Accel::Tcg || !works, "nobody needs QEMU");
            Ok(vec!["qemu".to_owned()])
        };
        decide(accel, probe, qemu).map(|choice| choice.sentence()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_fastest_that_works_is_taken_and_it_is_said_why() {
        assert_eq!(decided(Accel::Auto, true).unwrap(), "engine kvm: this host's KVM runs guest code");
        assert_eq!(decided(Accel::Kvm, true).unwrap(), "engine kvm: this host's KVM runs guest code");
        assert_eq!(
            decided(Accel::Auto, false).unwrap(),
            "engine tcg: KVM is here but emulates guest code (no VT-x/SVM below it); switch nested virtualization on in the host below this one"
        );
        assert_eq!(decided(Accel::Tcg, true).unwrap(), "engine tcg: as asked for");
    }

    #[test]
    fn an_engine_that_is_asked_for_is_not_replaced() {
        assert_eq!(
            decided(Accel::Kvm, false).unwrap_err(),
            "--accel kvm cannot be had: KVM is here but emulates guest code (no VT-x/SVM below it); switch nested virtualization on in the host below this one; --accel tcg works everywhere"
        );
    }
}
