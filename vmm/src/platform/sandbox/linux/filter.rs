//! The rules as programs of the kernel's, and the threads that put themselves under them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

use super::rule::{Condition, Match, Rule};
use super::{rules, trap};
use crate::platform::sandbox::{Class, SandboxError};

/// Confines threads, once the process has entered its sandbox; that of [`Default`] confines none.
#[derive(Debug, Clone, Default)]
pub struct Confinement(Option<Arc<[(Class, BpfProgram)]>>);

impl Confinement {
    pub(super) fn compile() -> Result<Self, SandboxError> {
        let program = |class: Class| {
            let failed = |error: seccompiler::BackendError| SandboxError::Compile {
                class: class.name(),
                why: error.to_string(),
            };
            Ok((class, compile(rules(class)).map_err(failed)?))
        };
        Ok(Self(Some(Class::ALL.into_iter().map(program).collect::<Result<_, _>>()?)))
    }

    /// From now on the calling thread makes no other calls than those of its class; and neither would a thread that it
    /// started, for which there is no rule.
    pub fn confine(&self, class: Class) -> Result<(), SandboxError> {
        let programs = self.0.iter().flat_map(|programs| programs.iter());
        for (_, program) in programs.filter(|(of, _)| *of == class) {
            trap::set_class(class);
            apply_filter(program)
                .map_err(|error| SandboxError::Filter { class: class.name(), source: cause(error) })?;
        }
        Ok(())
    }
}

/// Whether this kernel has filters, with traps.
pub(super) fn are_filters_known() -> bool {
    let action = libc::SECCOMP_RET_TRAP;
    // SAFETY: the call reads four bytes at the address, and changes nothing.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, std::ptr::from_ref(&action))
    };
    result == 0
}

fn compile<'a>(rules: impl Iterator<Item = &'a Rule>) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in rules {
        let allowed = calls.entry(rule.number).or_default();
        if !rule.conditions.is_empty() {
            let conditions = rule.conditions.iter().map(condition).collect::<Result<_, _>>()?;
            allowed.push(SeccompRule::new(conditions)?);
        }
    }
    // The first is for calls that are not in the tables, the second for those that are.
    SeccompFilter::new(calls, SeccompAction::Trap, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

fn condition(condition: &Condition) -> Result<SeccompCondition, seccompiler::BackendError> {
    let (length, operator, value) = match condition.matches {
        Match::Is(value) => (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value.into()),
        Match::Within(bits) => (SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(!bits), 0),
        Match::IsThisProcess => (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, std::process::id().into()),
        Match::IsBeside(ignored, value) => (SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(!ignored), value),
    };
    SeccompCondition::new(condition.argument, length, operator, value)
}

fn cause(error: seccompiler::Error) -> io::Error {
    match error {
        seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
        other => io::Error::other(other),
    }
}
