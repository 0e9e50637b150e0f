//! Whether this host's hypervisor can run a kernel.
//!
//! That `/dev/kvm` is there and may be opened proves nothing: below it there may be no VT-x and no SVM, and then kernels die
//! in an instruction emulator. So a scratch machine executes a few instructions of a kernel's.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::x86_64::{Mode, Registers};
use super::{Error, Exit, Failure, Host, Hypervisor, Kick, Vcpu, Vm};
use crate::memory::{self, Memory, MemoryError};
use crate::platform;

/// Why it cannot be used, as the end of a sentence that names it.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error(
        "there is no /dev/kvm; load the module kvm_intel or kvm_amd, and switch virtualization on in the firmware"
    )]
    Missing,
    #[error(
        "permission denied: /dev/kvm may not be opened; add yourself to the group kvm (sudo usermod -aG kvm $USER), then log in again"
    )]
    Forbidden,
    #[error(
        "KVM is here but emulates guest code (no VT-x/SVM below it); switch nested virtualization on in the host below this one"
    )]
    Emulated,
    #[error(
        "KVM is here but runs guest code {times} times slower than this host runs its own; switch nested virtualization on in the host below this one"
    )]
    Slow { times: u64 },
    #[error(
        "KVM is here, but a few instructions of a kernel's ended in a fault; update the kernel of this host, and of one below it"
    )]
    Faulted,
    #[error(
        "KVM is here, but its guest got nowhere within {} s; update the kernel of this host, and of one below it", .0.as_secs()
    )]
    Stuck(Duration),
    #[error("no hypervisor but Linux's KVM on x86_64 is served so far; use such a host")]
    Unserved,
    #[error("KVM is here, but {0} ({source}); end what else uses it, such as VirtualBox, or update this host's kernel", source = .0.source)]
    Failed(#[from] Error),
    #[error(
        "a scratch machine cannot be made ({0}); make room in this host's memory, or raise your limits (ulimit -u, ulimit -v)"
    )]
    Scratch(#[source] io::Error),
}

/// How fast guest code ran, as multiples of the host's own time for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usable {
    pub times: u64,
}

/// Tries this host's.
pub fn probe() -> Result<Usable, Unusable> {
    try_out(Host::open().map_err(unopened)?, PATIENCE)
}

/// What it means that the host's cannot even be opened.
fn unopened(error: Error) -> Unusable {
    match error.source.kind() {
        io::ErrorKind::NotFound => Unusable::Missing,
        io::ErrorKind::PermissionDenied => Unusable::Forbidden,
        io::ErrorKind::Unsupported => Unusable::Unserved,
        _ => Unusable::Failed(error),
    }
}

// Where things lie in the scratch machine: page tables for the first 2 MiB, code, what the code writes, its stack.
const SIZE: u64 = 0x1_0000;
const TABLES: u64 = 0x1000;
const CODE: u64 = 0x4000;
const STACK: u64 = 0xf000;
const PAGE: u64 = 0x1000;

/// Entries of page tables: present and writable; and of a page of 2 MiB.
const TABLE: u64 = 0x3;
const LARGE: u64 = 0x83;

/// How often the guest counts down. Long enough that leaving and entering the guest does not show, and a tenth of a
/// millisecond on a processor of today.
const STEPS: u32 = 200_000;
/// How often each of them does, of which the fastest counts: a host below this one may have put its processor aside meanwhile.
const TRIES: u32 = 5;
/// Guest code that is so many times slower than the host's is not executed but emulated.
const SLOW: u64 = 10;

/// Far longer than the busiest host takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The ports that the guest writes to: before it counts down, and after.
const STARTS: u8 = 0x10;
const DONE: u8 = 0x11;

/// A kernel's instructions that instruction emulators have failed at, then the loop, again and again. For x86_64, as no other
/// processor's hypervisor is served yet.
#[rustfmt::skip]
const PROGRAM: &[u8] = &[
    0x0f, 0x20, 0xe0,                           // mov rax, cr4
    0x0d, 0x00, 0x06, 0x04, 0x00,               // or eax, OSFXSR | OSXMMEXCPT | OSXSAVE
    0x0f, 0x22, 0xe0,                           // mov cr4, rax
    0x31, 0xc9,                                 // xor ecx, ecx
    0x31, 0xd2,                                 // xor edx, edx
    0xb8, 0x03, 0x00, 0x00, 0x00,               // mov eax, 3: x87 and SSE
    0x0f, 0x01, 0xd1,                           // xsetbv
    0xbf, 0x00, 0x80, 0x00, 0x00,               // mov edi, 0x8000
    0x31, 0xc0,                                 // xor eax, eax
    0xbb, 0x01, 0x00, 0x00, 0x00,               // mov ebx, 1
    0xf0, 0x48, 0x0f, 0xc7, 0x0f,               // lock cmpxchg16b [rdi]
    0x75, 0x1f,                                 // jnz to the end
    0xbf, 0x00, 0x90, 0x00, 0x00,               // mov edi, 0x9000
    0xb8, 0x03, 0x00, 0x00, 0x00,               // mov eax, 3
    0x0f, 0xae, 0x27,                           // xsave [rdi]
    0x0f, 0xae, 0x2f,                           // xrstor [rdi]
    0xe6, STARTS,                         // out STARTS, al
    0xb9,                                       // mov ecx, ...
    STEPS.to_le_bytes()[0], STEPS.to_le_bytes()[1], STEPS.to_le_bytes()[2], STEPS.to_le_bytes()[3],
    0xff, 0xc9,                                 // dec ecx
    0x75, 0xfc,                                 // jnz
    0xe6, DONE,                           // out DONE, al
    0xeb, 0xf1,                                 // jmp to out STARTS
    0xf4,                                       // hlt
];

/// A vCPU belongs to the thread that made it, so the scratch machine has one.
fn try_out<H: Hypervisor + Send + 'static>(hypervisor: H, patience: Duration) -> Result<Usable, Unusable> {
    let trial = crate::thread::named("probe").spawn(move || {
        let memory = scratch().map_err(|error| Unusable::Scratch(io::Error::other(error)))?;
        let vm = hypervisor.create_vm()?;
        for (address, region) in memory::regions(&memory) {
            // SAFETY: the memory is dropped after the machine, and nobody refers into it.
            unsafe { vm.map(address, region) }?;
        }
        let mut vcpu = vm.create_vcpu(0, 1)?;
        vcpu.set_registers(&Registers {
            mode: Mode::Long { page_tables: TABLES },
            instruction_pointer: CODE,
            rbx: 0,
            rsi: 0,
            rsp: STACK,
        })?;
        let is_late = &AtomicBool::new(false);
        let kick = vcpu.kick();
        let (judged, waiting) = channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                if waiting.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                    is_late.store(true, Ordering::Relaxed);
                    kick.kick();
                }
            });
            let verdict =
                judge(&mut vcpu, || is_late.load(Ordering::Relaxed).then_some(Unusable::Stuck(patience)));
            drop(judged);
            verdict
        })
    });
    let trial = trial.map_err(Unusable::Scratch)?.join();
    trial.unwrap_or_else(|_| Err(Unusable::Scratch(io::Error::other("its thread panicked"))))
}

fn scratch() -> Result<Memory, MemoryError> {
    let memory = memory::allocate(std::slice::from_ref(&(0..SIZE)))?;
    let (level_3, level_2) = (TABLES.saturating_add(PAGE), TABLES.saturating_add(2 * PAGE));
    for (table, entry) in [(TABLES, level_3 | TABLE), (level_3, level_2 | TABLE), (level_2, LARGE)] {
        memory::write(&memory, table, &entry.to_le_bytes())?;
    }
    memory::write(&memory, CODE, PROGRAM)?;
    Ok(memory)
}

/// Times are of this thread, so that neither a busy host nor one that is itself a guest is taken for a slow one.
fn judge(vcpu: &mut impl Vcpu, is_late: impl Fn() -> Option<Unusable>) -> Result<Usable, Unusable> {
    let hosts = (0..TRIES).map(|_| timed(|| platform::count_down(STEPS)).0).min().unwrap_or_default();
    let mut guests = Duration::MAX;
    for _ in 0..TRIES {
        expect(vcpu, STARTS, &is_late)?;
        let (took, done) = timed(|| expect(vcpu, DONE, &is_late));
        done?;
        guests = guests.min(took);
        if verdict(guests, hosts).is_ok() {
            break;
        }
    }
    verdict(guests, hosts)
}

/// On a hypervisor whose guest took so long for what the host does in that time.
fn verdict(guests: Duration, hosts: Duration) -> Result<Usable, Unusable> {
    let times = guests.as_nanos().checked_div(hosts.as_nanos().max(1)).unwrap_or(0);
    let times = u64::try_from(times).unwrap_or(u64::MAX);
    if times >= SLOW { Err(Unusable::Slow { times }) } else { Ok(Usable { times }) }
}

fn timed<T>(act: impl FnOnce() -> T) -> (Duration, T) {
    let before = platform::thread_time();
    let result = act();
    (platform::thread_time().saturating_sub(before), result)
}

/// Runs the guest until it writes to the port.
fn expect(vcpu: &mut impl Vcpu, port: u8, is_late: impl Fn() -> Option<Unusable>) -> Result<(), Unusable> {
    loop {
        if let Some(late) = is_late() {
            return Err(late);
        }
        match vcpu.run()? {
            Exit::PortWrite(written, _) if written == u16::from(port) => return Ok(()),
            // A signal of somebody else's.
            Exit::Kicked => {}
            Exit::Failed(Failure::Emulation) => return Err(Unusable::Emulated),
            _ => return Err(Unusable::Faulted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::fake::{Fake, Scripted};

    fn judged(script: Vec<Scripted>) -> Result<Usable, String> {
        try_out(Fake::new(vec![script]), PATIENCE).map_err(|error| error.to_string())
    }

    fn out(port: u8) -> Scripted {
        Scripted::PortWrite(port.into(), vec![0])
    }

    #[test]
    fn a_hypervisor_is_judged_by_what_it_executes() {
        judged_after(vec![]).unwrap();
        let emulates = "KVM is here but emulates guest code (no VT-x/SVM below it); switch nested virtualization on in the host below this one";
        assert_eq!(judged(vec![Scripted::Failed(Failure::Emulation)]).unwrap_err(), emulates);
        assert_eq!(judged(vec![out(STARTS), Scripted::Failed(Failure::Emulation)]).unwrap_err(), emulates);
        let faulted = "KVM is here, but a few instructions of a kernel's ended in a fault; update the kernel of this host, and of one below it";
        assert_eq!(judged(vec![Scripted::Shutdown]).unwrap_err(), faulted);
        assert_eq!(judged(vec![out(DONE)]).unwrap_err(), faulted);
        assert!(judged(vec![Scripted::Error]).unwrap_err().starts_with("KVM is here, but the hypervisor"));
        assert!(judged(vec![Scripted::Panic]).unwrap_err().contains("scratch machine"));
    }

    #[test]
    fn guest_code_that_takes_ten_times_as_long_is_too_slow() {
        let hosts = Duration::from_micros(100);
        let judged = |micros| {
            let usable = verdict(Duration::from_micros(micros), hosts);
            usable.map(|Usable { times }| times).map_err(|error| error.to_string())
        };
        for (micros, times) in [(0, 0), (99, 0), (100, 1), (999, 9)] {
            assert_eq!(judged(micros), Ok(times), "{micros}");
        }
        let slow = "KVM is here but runs guest code 10 times slower than this host runs its own; switch nested virtualization on in the host below this one";
        assert_eq!(judged(1000).unwrap_err(), slow);
        assert!(judged(123_456).unwrap_err().contains(" 1234 times slower "));
        assert!(matches!(verdict(Duration::MAX, Duration::ZERO), Err(Unusable::Slow { times: u64::MAX })));
    }

    /// Of a guest that does this in its tries, and counts down at once in those that are left.
    fn judged_after(acts: Vec<Scripted>) -> Result<Usable, Unusable> {
        try_out(guest(acts), PATIENCE)
    }

    fn guest(acts: Vec<Scripted>) -> Fake {
        let at_once = (acts.len()..TRIES as usize).flat_map(|_| [out(STARTS), out(DONE)]);
        let acts = acts.into_iter().flat_map(|acts| [out(STARTS), acts, out(DONE)]);
        Fake::new(vec![acts.chain(at_once).collect()])
    }

    #[test]
    fn only_a_guest_that_computes_takes_time() {
        let tries = |acts: Scripted| vec![acts; TRIES as usize];
        judged_after(tries(Scripted::Waits(Duration::from_millis(200)))).unwrap();
        let computes = judged_after(tries(Scripted::Computes(1000 * STEPS)));
        assert!(matches!(computes, Err(Unusable::Slow { .. })), "{computes:?}");
    }

    /// Whoever had its processor for a while only had it for a while.
    #[test]
    fn a_guest_that_is_slow_once_is_not_slow() {
        let slow = Scripted::Computes(1000 * STEPS);
        judged_after(vec![slow.clone()]).unwrap();
        // Two are left, for a host that puts this aside.
        judged_after(vec![slow; TRIES as usize - 2]).unwrap();
    }

    #[test]
    fn a_guest_that_gets_nowhere_is_given_up() {
        for script in [vec![], vec![out(STARTS), Scripted::Busy]] {
            let error = try_out(Fake::new(vec![script]), Duration::from_millis(20)).unwrap_err().to_string();
            assert!(
                error.starts_with("KVM is here, but its guest got nowhere within 0 s; update the kernel"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_hypervisor_that_cannot_be_opened_is_told_with_what_to_do() {
        let told = |source: io::Error| unopened(Error { doing: "be opened", source }).to_string();
        for (error, expected) in [
            (
                libc::ENOENT,
                "there is no /dev/kvm; load the module kvm_intel or kvm_amd, and switch virtualization on in the firmware",
            ),
            (
                libc::EACCES,
                "permission denied: /dev/kvm may not be opened; add yourself to the group kvm (sudo usermod -aG kvm $USER), then log in again",
            ),
            (
                libc::EBUSY,
                "KVM is here, but the hypervisor cannot be opened (Device or resource busy (os error 16)); end what else uses it, such as VirtualBox, or update this host's kernel",
            ),
        ] {
            assert_eq!(told(io::Error::from_raw_os_error(error)), expected);
        }
        assert_eq!(
            told(io::ErrorKind::Unsupported.into()),
            "no hypervisor but Linux's KVM on x86_64 is served so far; use such a host"
        );
    }

    #[test]
    fn the_scratch_machine_lies_where_its_code_says() {
        let fake = guest(vec![]);
        try_out(fake.clone(), PATIENCE).unwrap();
        let seen = fake.seen();
        assert_eq!(seen.mapped, [(0, SIZE as usize)]);
        let registers = seen.registers.unwrap();
        assert_eq!(
            (registers.mode, registers.instruction_pointer),
            (Mode::Long { page_tables: TABLES }, CODE)
        );
    }

    #[test]
    fn its_jumps_land_where_their_comments_say() {
        let after = |bytes: &[u8]| {
            let start = PROGRAM.windows(bytes.len()).position(|window| window == bytes).unwrap();
            start + bytes.len()
        };
        // A short jump: its opcode, and how far behind itself it goes.
        let target = |jump: usize| {
            assert_eq!(PROGRAM[jump], 0x75, "jnz");
            (jump + 2).checked_add_signed(PROGRAM[jump + 1].cast_signed().into()).unwrap()
        };
        let end = target(after(&[0xf0, 0x48, 0x0f, 0xc7, 0x0f]));
        assert_eq!(PROGRAM[end..], [0xf4], "behind cmpxchg16b: hlt");
        let step = [0xff, 0xc9];
        assert_eq!(target(after(&step)), after(&step) - step.len(), "the loop's own");
        let again = PROGRAM.len() - 3;
        assert_eq!(PROGRAM[again], 0xeb, "jmp");
        let starts = (again + 2).checked_add_signed(PROGRAM[again + 1].cast_signed().into()).unwrap();
        assert_eq!(PROGRAM[starts..starts + 2], [0xe6, STARTS], "the loop again");
    }

    /// On every host there is a verdict, and soon: nothing of the probe can go on for ever.
    #[test]
    fn this_host_is_judged() {
        match probe() {
            Ok(Usable { times }) => assert!(times < SLOW),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
