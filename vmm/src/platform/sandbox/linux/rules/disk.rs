//! The thread of one disk. One that gives its requests to io_uring would have that call's rules here.

use libc::{FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE};

use super::{KVM_IRQ_LINE, NO_SIGNALS};
use crate::platform::sandbox::linux::rule::{Rule, argument, table};

const HOLE: u32 = (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) as u32;
const ZEROES: u32 = (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE) as u32;

pub(super) const RULES: &[Rule] = table! {
    SYS_epoll_pwait if [NO_SIGNALS] => "waits for kicks",
    SYS_read => "takes kicks back",
    SYS_preadv => "the guest reads",
    SYS_pwritev => "the guest writes",
    SYS_fdatasync => "the guest flushes",
    SYS_fallocate if [argument(1).is(HOLE)] => "the guest discards, or writes zeroes that may be a hole",
    SYS_fallocate if [argument(1).is(ZEROES)] => "the guest writes zeroes",
    // Executed only as such: every file system that tests run on has both.
    SYS_pwrite64 => "zeroes, on a file system that has neither of these",
    SYS_ioctl if [argument(1).is(KVM_IRQ_LINE)] => "interrupts the guest",
};
