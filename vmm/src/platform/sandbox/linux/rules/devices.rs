//! The thread of the devices that never wait: console and entropy.

use super::{KVM_IRQ_LINE, NO_SIGNALS};
use crate::platform::sandbox::linux::rule::{Rule, argument, table};

pub(super) const RULES: &[Rule] = table! {
    SYS_epoll_pwait if [NO_SIGNALS] => "waits for kicks and for the console's reader",
    SYS_epoll_ctl if [argument(1).is(libc::EPOLL_CTL_MOD as u32)] => "whether it waits for the console's reader",
    SYS_read => "takes kicks back",
    SYS_getrandom => "the entropy device",
    SYS_ioctl if [argument(1).is(KVM_IRQ_LINE)] => "interrupts the guest",
};
