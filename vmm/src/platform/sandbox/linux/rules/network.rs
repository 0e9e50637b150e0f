//! The thread of the network card.

use super::{KVM_IRQ_LINE, NO_SIGNALS};
use crate::platform::sandbox::linux::rule::{Rule, argument, table};

pub(super) const RULES: &[Rule] = table! {
    SYS_epoll_pwait if [NO_SIGNALS] => "waits for kicks and for the network process",
    SYS_epoll_ctl if [argument(1).is(libc::EPOLL_CTL_MOD as u32)] => "what of the network process it waits for",
    SYS_read => "takes kicks back, and frames in",
    SYS_sendto if [argument(4).within(0)] => "frames go out on a socket that is connected",
    SYS_ioctl if [argument(1).is(KVM_IRQ_LINE)] => "interrupts the guest",
};
