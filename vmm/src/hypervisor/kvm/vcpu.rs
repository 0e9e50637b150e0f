//! A virtual processor of KVM.

use std::ptr::NonNull;

use kvm_bindings::KVM_INTERNAL_ERROR_EMULATION;
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::kick::{Kicked, KvmKick};
use super::{Error, failed, registers};
use crate::hypervisor::x86_64::Registers;
use crate::hypervisor::{Exit, Failure, Vcpu};

/// A virtual processor, on the thread that made it.
#[derive(Debug)]
pub struct KvmVcpu {
    // Before the descriptor, whose mapping it points into.
    kicked: Kicked,
    /// What kind of error of its own KVM has met; in the same mapping.
    internal_error: *const u32,
    fd: VcpuFd,
}

impl KvmVcpu {
    pub(super) fn new(mut fd: VcpuFd) -> Self {
        let shared = fd.get_kvm_run();
        // SAFETY: nothing is read: only where it lies is asked.
        let internal_error = unsafe { &raw const shared.__bindgen_anon_1.internal.suberror };
        let immediate_exit = NonNull::from(&mut shared.immediate_exit);
        // SAFETY: it lies in the mapping that `fd` owns, which is dropped after `kicked`; and neither can leave this
        // thread, because a vCPU is not `Send`.
        let kicked = unsafe { Kicked::new(immediate_exit) };
        Self { kicked, internal_error, fd }
    }
}

/// After KVM_EXIT_INTERNAL_ERROR, by its kind.
fn internal_error(kind: u32) -> Failure {
    match kind {
        KVM_INTERNAL_ERROR_EMULATION => Failure::Emulation,
        _ => Failure::Unexpected("an error of KVM's own"),
    }
}

impl Vcpu for KvmVcpu {
    type Kick = KvmKick;

    fn set_registers(&mut self, registers: &Registers) -> Result<(), Error> {
        let reset = self.fd.get_sregs().map_err(failed("read a vCPU's registers"))?;
        let set = failed("set a vCPU's registers");
        self.fd.set_sregs(&registers::system(registers, reset)).map_err(&set)?;
        self.fd.set_regs(&registers::general(registers)).map_err(set)
    }

    fn run(&mut self) -> Result<Exit<'_>, Error> {
        Ok(match self.fd.run() {
            Ok(VcpuExit::MmioRead(address, data)) => Exit::MmioRead(address, data),
            Ok(VcpuExit::MmioWrite(address, data)) => Exit::MmioWrite(address, data),
            Ok(VcpuExit::IoIn(port, data)) => Exit::PortRead(port, data),
            Ok(VcpuExit::IoOut(port, data)) => Exit::PortWrite(port, data),
            Ok(VcpuExit::Hlt) => Exit::Halted,
            Ok(VcpuExit::Shutdown) => Exit::Shutdown,
            Ok(VcpuExit::FailEntry(reason, _)) => Exit::Failed(Failure::Entry(reason)),
            Ok(VcpuExit::InternalError) => {
                // SAFETY: it lies in the mapping that `fd` owns, and KVM has written it before this exit.
                Exit::Failed(internal_error(unsafe { self.internal_error.read_volatile() }))
            }
            Ok(VcpuExit::SystemEvent(..)) => Exit::Failed(Failure::Unexpected("a system event")),
            Ok(VcpuExit::Intr) => take_kick(&self.kicked),
            Ok(_) => Exit::Failed(Failure::Unexpected("one that this machine never asks for")),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => take_kick(&self.kicked),
            Err(error) => return Err(failed("run a vCPU")(error)),
        })
    }

    fn kick(&self) -> KvmKick {
        self.kicked.kick()
    }
}

fn take_kick(kicked: &Kicked) -> Exit<'static> {
    kicked.consume();
    Exit::Kicked
}
