//! A class's rules as a program of the kernel's (Linux, Documentation/userspace-api/seccomp_filter.rst).
//!
//! For each thread the kernel translates its program anew, at a few thousand instructions for each of the program's; so
//! programs are short. A call's number leads at once to where it is allowed, or to where its arguments are looked at.

use std::collections::BTreeMap;
use std::ffi::c_long;

use libc::sock_filter;

use super::rule::{Condition, Match, Rule};

// Instructions (linux/bpf_common.h): a word of the call's is loaded, compared, masked; and what is returned is done.
const LOAD: u16 = 0x20;
const EQUALS: u16 = 0x15;
const HAS_ANY_OF: u16 = 0x45;
const MASK: u16 = 0x54;
const RETURN: u16 = 0x06;

// `struct seccomp_data` (linux/seccomp.h). Of an argument the lower half comes first.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
const ARGUMENT: u32 = 8;
const HALF: u32 = 4;

/// AUDIT_ARCH_X86_64 (linux/audit.h).
const X86_64: u32 = 0xc000_003e;

/// A jump of it would be longer than the kernel has them.
#[derive(Debug, thiserror::Error)]
#[error("they are too many for one program")]
pub(super) struct TooLong;

/// Calls of another architecture end the process, those that no rule allows raise the trap.
pub(super) fn compile<'a>(rules: impl Iterator<Item = &'a Rule>) -> Result<Vec<sock_filter>, TooLong> {
    let mut calls: BTreeMap<c_long, Vec<&Rule>> = BTreeMap::new();
    for rule in rules {
        calls.entry(rule.number).or_default().push(rule);
    }
    let (free, looked_at): (Vec<_>, Vec<_>) =
        calls.into_iter().partition(|(_, rules)| rules.iter().any(|rule| rule.conditions.is_empty()));
    let mut blocks = Vec::new();
    for (number, rules) in &looked_at {
        blocks.push((*number, block(rules)?));
    }
    blocks.extend(free.iter().map(|(number, _)| (*number, vec![then(libc::SECCOMP_RET_ALLOW)])));

    let mut program = vec![
        load(ARCHITECTURE),
        jump(EQUALS, X86_64, 1, 0),
        then(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
    ];
    // From behind the first number: the other numbers, the trap, and the blocks before.
    let mut distance = blocks.len();
    for (number, block) in &blocks {
        let number = u32::try_from(*number).map_err(|_| TooLong)?;
        program.push(jump(EQUALS, number, offset(distance)?, 0));
        distance = distance.saturating_sub(1).saturating_add(block.len());
    }
    program.push(then(libc::SECCOMP_RET_TRAP));
    program.extend(blocks.into_iter().flat_map(|(_, block)| block));
    Ok(program)
}

/// Allows a call by any of its rules.
fn block(rules: &[&Rule]) -> Result<Vec<sock_filter>, TooLong> {
    let mut block = Vec::new();
    for rule in rules {
        let checks: Vec<Check> = rule.conditions.iter().flat_map(checks).collect();
        let length: usize = checks.iter().map(Check::length).sum();
        // To behind the end of this rule, where the next one begins.
        let mut left = length.saturating_add(1);
        for check in &checks {
            left = left.saturating_sub(check.length());
            check.write(offset(left)?, &mut block);
        }
        block.push(then(libc::SECCOMP_RET_ALLOW));
    }
    block.push(then(libc::SECCOMP_RET_TRAP));
    Ok(block)
}

/// What half of an argument has to be: beside the bits that are ignored, it is this.
struct Check {
    place: u32,
    looks_at: u32,
    value: u32,
}

impl Check {
    fn is_for_no_bits(&self) -> bool {
        self.value == 0 && self.looks_at != u32::MAX
    }

    fn length(&self) -> usize {
        if self.looks_at == u32::MAX || self.is_for_no_bits() { 2 } else { 3 }
    }

    /// Goes on behind it, or so far on from there.
    fn write(&self, otherwise: u8, block: &mut Vec<sock_filter>) {
        block.push(load(self.place));
        if self.is_for_no_bits() {
            return block.push(jump(HAS_ANY_OF, self.looks_at, otherwise, 0));
        }
        if self.looks_at != u32::MAX {
            block.push(sock_filter { code: MASK, jt: 0, jf: 0, k: self.looks_at });
        }
        block.push(jump(EQUALS, self.value, 0, otherwise));
    }
}

fn checks(condition: &Condition) -> Vec<Check> {
    let place = ARGUMENTS.saturating_add(ARGUMENT.saturating_mul(condition.argument.into()));
    let (looks_at, value) = match condition.matches {
        Match::Is(value) => (u32::MAX.into(), value.into()),
        Match::IsThisProcess => (u32::MAX.into(), std::process::id().into()),
        Match::Within(bits) => (!bits, 0),
        Match::IsBeside(ignored, value) => (!ignored, value),
    };
    let halves: [(u32, u64, u64); 2] =
        [(place, looks_at, value), (place.saturating_add(HALF), looks_at >> 32, value >> 32)];
    let half = |(place, looks_at, value): (u32, u64, u64)| Check {
        place,
        looks_at: low(looks_at),
        value: low(value),
    };
    halves.map(half).into_iter().filter(|check| check.looks_at != 0).collect()
}

/// The lower half.
fn low(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn load(place: u32) -> sock_filter {
    sock_filter { code: LOAD, jt: 0, jf: 0, k: place }
}

fn jump(code: u16, k: u32, if_so: u8, otherwise: u8) -> sock_filter {
    sock_filter { code, jt: if_so, jf: otherwise, k }
}

fn then(action: u32) -> sock_filter {
    sock_filter { code: RETURN, jt: 0, jf: 0, k: action }
}

fn offset(distance: usize) -> Result<u8, TooLong> {
    u8::try_from(distance).map_err(|_| TooLong)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::platform::sandbox::Class;
    use crate::platform::sandbox::linux::rules;

    /// What the kernel would do.
    fn run(program: &[sock_filter], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = [number, architecture, 0, 0].map(u32::to_le_bytes).concat();
        data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        let (mut at, mut word) = (0, 0_u32);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            match code {
                LOAD => word = u32::from_le_bytes(data[k as usize..][..4].try_into().unwrap()),
                MASK => word &= k,
                EQUALS => at += usize::from(if word == k { jt } else { jf }),
                HAS_ANY_OF => at += usize::from(if word & k != 0 { jt } else { jf }),
                RETURN => return k,
                other => panic!("there is no instruction {other:#x}"),
            }
        }
    }

    /// What the rules say.
    fn is_allowed(class: Class, number: u32, arguments: [u64; 6]) -> bool {
        let holds = |condition: &Condition| {
            let argument = arguments[usize::from(condition.argument)];
            match condition.matches {
                Match::Is(value) => argument as u32 == value,
                Match::IsThisProcess => argument as u32 == std::process::id(),
                Match::Within(bits) => argument & !bits == 0,
                Match::IsBeside(ignored, value) => argument & !ignored == value,
            }
        };
        rules(class).any(|rule| rule.number == i64::from(number) && rule.conditions.iter().all(holds))
    }

    /// Numbers and arguments that rules speak of, those beside them, and any others.
    fn argument() -> impl Strategy<Value = u64> {
        let spoken_of = Class::ALL.into_iter().flat_map(rules).flat_map(|rule| rule.conditions);
        let spoken_of = spoken_of.map(|condition| match condition.matches {
            Match::Is(value) => value.into(),
            Match::IsThisProcess => std::process::id().into(),
            Match::Within(bits) => bits,
            Match::IsBeside(ignored, value) => ignored | value,
        });
        let spoken_of: Vec<u64> = spoken_of.chain([0]).collect();
        (prop::sample::select(spoken_of), prop_oneof![3 => Just(None), 2 => (0_u32..64).prop_map(Some)])
            .prop_map(|(word, flipped)| flipped.map_or(word, |bit| word ^ 1 << bit))
    }

    fn class() -> impl Strategy<Value = Class> {
        prop::sample::select(&Class::ALL[..])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn a_program_does_what_its_rules_say(class in class(), which in any::<prop::sample::Index>(), beside in 0_u32..2, arguments in prop::array::uniform6(argument())) {
            let program = compile(rules(class)).unwrap();
            let all: Vec<_> = rules(class).collect();
            let number = u32::try_from(which.get(&all).number).unwrap() + beside;
            let expected = if is_allowed(class, number, arguments) { libc::SECCOMP_RET_ALLOW } else { libc::SECCOMP_RET_TRAP };
            prop_assert_eq!(run(&program, X86_64, number, arguments), expected, "{} {:?}", number, arguments);
        }
    }

    #[test]
    fn calls_of_another_architecture_end_the_process() {
        const I386: u32 = 0x4000_0003;
        for class in Class::ALL {
            let program = compile(rules(class)).unwrap();
            for number in 0..500 {
                assert_eq!(run(&program, I386, number, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
            }
            // x32's numbers are no others' (arch/x86/entry/syscalls/syscall_64.tbl).
            assert_eq!(run(&program, X86_64, 0x4000_0001, [0; 6]), libc::SECCOMP_RET_TRAP);
        }
    }

    #[test]
    fn programs_are_short() {
        for class in Class::ALL {
            let length = compile(rules(class)).unwrap().len();
            assert!(length <= 120, "{class:?}: {length}");
        }
    }

    #[test]
    fn what_is_too_much_for_one_is_refused() {
        let rule = |number| Rule { number, name: "", conditions: &[], reason: "" };
        let most: Vec<Rule> = (0..255).map(rule).collect();
        let program = compile(most.iter()).unwrap();
        assert_eq!(run(&program, X86_64, 254, [0; 6]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(run(&program, X86_64, 255, [0; 6]), libc::SECCOMP_RET_TRAP);
        let more: Vec<Rule> = (0..256).map(rule).collect();
        assert!(compile(more.iter()).is_err());
    }
}
