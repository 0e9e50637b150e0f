//! What executes a guest's instructions in hardware, as the rest of the machine sees it.
//!
//! Three small traits. They ask for what every hypervisor has, so that another one than KVM fits behind them: a vCPU is
//! made on the thread that runs it, whoever wants it out of the guest kicks it, every access to a device is an exit,
//! and an interrupt is a call. What only one hypervisor can do (an exit that its kernel handles) it does by itself.

pub mod fake;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod kvm;
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod none;
pub mod probe;
pub mod x86_64;

/// The hypervisor of this host.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use kvm::Kvm as Host;
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub use none::Host;
/// The registers of this host's processors.
pub use x86_64::Registers;

use std::io;
use std::ptr::NonNull;

/// A hypervisor of this host.
pub trait Hypervisor: Sync {
    type Vm: Vm;

    /// An empty virtual machine: no memory, no vCPU.
    fn create_vm(&self) -> Result<Self::Vm, Error>;
}

/// A virtual machine.
pub trait Vm: Send + Sync + 'static {
    type Vcpu: Vcpu;

    /// Lets the guest see the host's memory at `region`, from the guest's address `guest` on. Address and length are
    /// multiples of the host's page size.
    ///
    /// # Safety
    /// The memory has to stay mapped for as long as this value lives, and nobody may take references into it that the
    /// guest's writes could break.
    unsafe fn map(&self, guest: u64, region: NonNull<[u8]>) -> Result<(), Error>;

    /// A rising edge on an interrupt line of the board.
    fn interrupt(&self, line: u32) -> Result<(), Error>;

    /// The vCPU with this index, of `count`. Has to be called on the thread that will run it.
    fn create_vcpu(&self, index: u8, count: u8) -> Result<Self::Vcpu, Error>;
}

/// A virtual processor. Neither created nor used anywhere but on its own thread.
pub trait Vcpu {
    type Kick: Kick;

    /// What the board's first vCPU starts with; the guest starts the others itself.
    fn set_registers(&mut self, registers: &Registers) -> Result<(), Error>;

    /// Lets the guest run until it needs somebody. Finishes the access that it left with before.
    fn run(&mut self) -> Result<Exit<'_>, Error>;

    /// What ends [`Vcpu::run`] from another thread.
    fn kick(&self) -> Self::Kick;
}

/// Ends a vCPU's run, or the next one if none is under way: a kick is never lost.
pub trait Kick: Send + 'static {
    fn kick(&self);
}

/// Why a vCPU left the guest.
#[derive(Debug, PartialEq, Eq)]
pub enum Exit<'a> {
    /// The guest reads a device register; the slice is what it will see.
    MmioRead(u64, &'a mut [u8]),
    MmioWrite(u64, &'a [u8]),
    PortRead(u16, &'a mut [u8]),
    PortWrite(u16, &'a [u8]),
    /// Somebody kicked.
    Kicked,
    /// It waits for an interrupt that nobody will deliver.
    Halted,
    /// The processor gave up: a triple fault, which is how a guest without another way resets itself.
    Shutdown,
    /// The hypervisor cannot go on, and says why.
    Failed(Failure),
}

/// Why a hypervisor cannot go on with a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The instruction bytes at the guest's program counter are unknown to it.
    #[error("it has to emulate an instruction that it does not know")]
    Emulation,
    #[error("the processor refuses the guest's state (reason {0:#x})")]
    Entry(u64),
    #[error("an exit of an unexpected kind: {0}")]
    Unexpected(&'static str),
}

/// A call of the hypervisor that failed.
#[derive(Debug, thiserror::Error)]
#[error("the hypervisor cannot {doing}")]
pub struct Error {
    pub doing: &'static str,
    #[source]
    pub source: io::Error,
}
