//! One system call that a thread may make.

use std::ffi::c_long;

/// A system call, when it may be made, and why it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub number: c_long,
    /// Its name, as in the tables of the kernel.
    pub name: &'static str,
    /// All of them hold.
    pub conditions: &'static [Condition],
    pub reason: &'static str,
}

/// What one argument has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// From 0 on.
    pub argument: u8,
    pub matches: Match,
}

/// Numbers of the kernel's that are 32 bits wide, or bits of a word of 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// The lower half, which is all that the kernel looks at.
    Is(u32),
    /// No other bits than these are set.
    Within(u64),
    /// Beside these bits, it is this.
    IsBeside(u64, u64),
    /// The number of the process that the filter is made in.
    IsThisProcess,
}

/// The conditions on an argument, as tables have them: `argument(1).is(..)`.
pub(super) struct Argument(u8);

pub(super) const fn argument(number: u8) -> Argument {
    Argument(number)
}

impl Argument {
    pub(super) const fn is(self, value: u32) -> Condition {
        Condition { argument: self.0, matches: Match::Is(value) }
    }

    pub(super) const fn within(self, bits: u64) -> Condition {
        Condition { argument: self.0, matches: Match::Within(bits) }
    }

    pub(super) const fn own_process(self) -> Condition {
        Condition { argument: self.0, matches: Match::IsThisProcess }
    }

    pub(super) const fn equals_beside(self, ignored: u64, value: u64) -> Condition {
        Condition { argument: self.0, matches: Match::IsBeside(ignored, value) }
    }
}

/// `call => "why"` or `call if [condition, ...] => "why"`, where `call` is a constant of the C library's.
macro_rules! table {
    ($($call:ident $(if [$($condition:expr),+])? => $reason:literal,)*) => {
        &[$($crate::platform::sandbox::linux::rule::Rule {
            number: libc::$call,
            name: $crate::platform::sandbox::linux::rule::name_of(stringify!($call)),
            conditions: &[$($($condition),+)?],
            reason: $reason,
        }),*]
    };
}
pub(super) use table;

/// Takes the constant's `SYS_` off.
pub(super) const fn name_of(constant: &'static str) -> &'static str {
    let (_, name) = constant.split_at(4);
    name
}
