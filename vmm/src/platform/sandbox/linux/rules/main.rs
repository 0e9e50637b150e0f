//! The thread that follows the machine to its end: it waits, gives orders to vCPUs, and takes everything down.

use super::{KVM_IRQ_LINE, NO_SIGNALS, WAITS};
use crate::platform::sandbox::linux::rule::{Rule, argument, table};

pub(super) const RULES: &[Rule] = table! {
    SYS_ioctl if [argument(1).is(KVM_IRQ_LINE)] => "the power button is pressed",
    SYS_getpid => "a kick goes to a thread of this process",
    // Which signal is a kick the C library says.
    SYS_tgkill if [argument(0).own_process(), argument(2).is(34)] => "a vCPU is kicked",
    SYS_io_uring_enter if [argument(3).within(WAITS), NO_SIGNALS]
        => "what a disk was asked for is waited for, where its thread has failed",
};
