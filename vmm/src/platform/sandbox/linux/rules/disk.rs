//! The thread of one disk. What its io_uring may do is restricted by the ring itself (`platform/ring/`); filters do not see
//! what a ring is asked for.

use libc::{FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE};

use super::{KVM_IRQ_LINE, NO_SIGNALS, WAITS};
use crate::platform::sandbox::linux::rule::{Rule, argument, table};

const HOLE: u32 = (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) as u32;
const ZEROES: u32 = (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE) as u32;

pub(super) const RULES: &[Rule] = table! {
    SYS_epoll_pwait if [NO_SIGNALS] => "waits for kicks, and for what the ring has done",
    SYS_read => "takes kicks back",
    SYS_io_uring_enter if [argument(3).within(WAITS), NO_SIGNALS] => "gives requests to the ring; before a pause it waits for all",
    SYS_pwritev => "the guest writes, and there is nothing else that this could hold up",
    // The next four are for hosts without io_uring.
    SYS_preadv => "the guest reads",
    SYS_fdatasync => "the guest flushes",
    SYS_fallocate if [argument(1).is(HOLE)] => "the guest discards, or writes zeroes that may be a hole",
    SYS_fallocate if [argument(1).is(ZEROES)] => "the guest writes zeroes",
    // Executed only as such: every file system that tests run on has both.
    SYS_pwrite64 => "zeroes, on a file system that has neither of these",
    SYS_ioctl if [argument(1).is(KVM_IRQ_LINE)] => "interrupts the guest",
};
