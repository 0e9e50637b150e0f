//! The thread of the vsock device. It accepts on listeners and uses streams that the supervisor hands over; it makes none.

use super::{FIONBIO, KVM_IRQ_LINE, NO_SIGNALS};
use crate::platform::sandbox::linux::rule::{Rule, argument, table};

pub(super) const RULES: &[Rule] = table! {
    SYS_epoll_pwait if [NO_SIGNALS] => "waits for kicks, orders, and the host's sockets",
    SYS_epoll_ctl => "sockets come and go, and what is waited for changes",
    SYS_timerfd_settime => "connections that wait have deadlines",
    SYS_read => "takes back kicks, orders' wakes, and the timer's",
    SYS_accept4 => "a client of the host's connects",
    SYS_ioctl if [argument(1).is(FIONBIO)] => "a stream that was handed over may block",
    SYS_getsockopt if [argument(1).is(libc::SOL_SOCKET as u32), argument(2).is(libc::SO_DOMAIN as u32)]
        => "how a kind of stream tells its writer that nobody reads",
    SYS_recvfrom if [argument(4).within(0)] => "what the host's side sends",
    SYS_sendto if [argument(4).within(0)] => "what the guest sends, to the socket's own other side",
    SYS_shutdown => "one direction has ended",
    SYS_ioctl if [argument(1).is(KVM_IRQ_LINE)] => "interrupts the guest",
};
