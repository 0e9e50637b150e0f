//! A vCPU's thread, once its vCPU is made and set up.

use super::{KVM_IRQ_LINE, KVM_RUN, NO_SIGNALS, WAITS};
use crate::platform::sandbox::linux::rule::{Rule, argument, table};

pub(super) const RULES: &[Rule] = table! {
    SYS_ioctl if [argument(1).is(KVM_RUN)] => "the guest runs",
    SYS_ioctl if [argument(1).is(KVM_IRQ_LINE)] => "the serial port may take more, or a broken device asks for its reset",
    SYS_rt_sigreturn => "a kick has come",
    // What a driver's reset of the vsock device comes to is done where it is written.
    SYS_epoll_ctl => "the driver is gone: streams are no longer waited for, or only until they have drained",
    SYS_shutdown => "and what the guest would have sent is over",
    SYS_io_uring_enter if [argument(1).is(0), argument(3).within(WAITS), NO_SIGNALS]
        => "and what a disk still does in the driver's memory is waited for",
};
