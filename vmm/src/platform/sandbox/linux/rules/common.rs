//! What every thread does: memory, locks, its own end, and the last words of a process.

use libc::{MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE};

use crate::platform::sandbox::linux::rule::{Condition, Rule, argument, table};

const DATA: u64 = PROT_READ as u64 | PROT_WRITE as u64;
const NO_CODE: Condition = argument(2).within(DATA);
const ONLY_OWN_PAGES: Condition = argument(3).is((MAP_PRIVATE | MAP_ANONYMOUS) as u32);
/// The process's own locks or those of everybody, and the clock of a deadline.
const FUTEX_FLAGS: u64 = libc::FUTEX_PRIVATE_FLAG as u64 | libc::FUTEX_CLOCK_REALTIME as u64;

pub(super) const RULES: &[Rule] = table! {
    SYS_brk => "the heap grows, and shrinks",
    SYS_mmap if [NO_CODE, ONLY_OWN_PAGES] => "large allocations",
    SYS_mremap if [argument(3).is(libc::MREMAP_MAYMOVE as u32)] => "a large allocation grows",
    SYS_munmap => "large allocations, stacks and the guest's memory go back",
    SYS_madvise if [argument(2).is(libc::MADV_DONTNEED as u32)] => "the stack of a thread that ends goes back",
    SYS_futex if [argument(1).equals_beside(FUTEX_FLAGS, libc::FUTEX_WAIT as u64)]
        => "the C library's locks, as that of the heap",
    SYS_futex if [argument(1).equals_beside(FUTEX_FLAGS, libc::FUTEX_WAIT_BITSET as u64)]
        => "locks, channels, and waiting for a thread's end",
    SYS_futex if [argument(1).equals_beside(FUTEX_FLAGS, libc::FUTEX_WAKE as u64)] => "the other side of both",
    // Neither of the next two can be made to happen: both are executed only as such.
    SYS_sched_yield => "channels spin for a moment before they wait",
    SYS_clock_gettime => "the time, where the host's clock is not one that needs no call",
    SYS_write => "event descriptors, what the guest prints, and messages on stderr",
    SYS_close => "what a thread owns",
    SYS_fcntl if [argument(1).is(libc::F_GETFD as u32)] => "debug builds look whether what they close is open",
    SYS_rt_sigprocmask => "the C library holds signals back while a thread ends; SIGSYS held back ends the process",
    SYS_sigaltstack => "a thread ends, and with it the stack for its overflow",
    SYS_exit => "a thread ends",
    SYS_exit_group => "the process ends, also after a forbidden call",
};
