//! A virtual machine of KVM, with its interrupt controllers in the kernel.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use kvm_bindings::{CpuId, MsrList, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, VmFd};

use super::{Error, Kvm, KvmVcpu, failed};
use crate::hypervisor::Vm;

/// Where Intel processors without unrestricted guests keep three pages that KVM needs: below the firmware's region,
/// where no board has memory (Documentation/virt/kvm/api.rst, 4.21 and 4.41).
const TSS: usize = 0xfffb_d000;
const IDENTITY_MAP: u64 = 0xfffb_c000;
/// How often a machine is created again. It waits for other tasks of the kernel, and a signal may come meanwhile.
const PATIENCE: u32 = 10;

/// A virtual machine.
#[derive(Debug)]
pub struct KvmVm {
    fd: VmFd,
    cpuid: CpuId,
    msrs: MsrList,
    has_deadline_timer: bool,
    next_slot: AtomicU32,
}

impl KvmVm {
    pub(super) fn new(kvm: &Kvm) -> Result<Self, Error> {
        let fd = patiently(|| kvm.device.create_vm()).map_err(failed("create a virtual machine"))?;
        fd.set_tss_address(TSS).map_err(failed("place its task state segment"))?;
        fd.set_identity_map_address(IDENTITY_MAP).map_err(failed("place its identity map"))?;
        fd.create_irq_chip().map_err(failed("create the interrupt controllers"))?;
        Ok(Self {
            fd,
            cpuid: kvm.cpuid.clone(),
            msrs: kvm.msrs.clone(),
            has_deadline_timer: kvm.device.check_extension(Cap::TscDeadlineTimer),
            next_slot: AtomicU32::new(0),
        })
    }
}

fn patiently<T>(mut create: impl FnMut() -> Result<T, kvm_ioctls::Error>) -> Result<T, kvm_ioctls::Error> {
    let mut created = create();
    for _ in 0..PATIENCE {
        match created {
            Err(error) if error.errno() == libc::EINTR => created = create(),
            _ => break,
        }
    }
    created
}

impl Vm for KvmVm {
    type Vcpu = KvmVcpu;

    unsafe fn map(&self, guest: u64, region: NonNull<[u8]>) -> Result<(), Error> {
        let region = kvm_userspace_memory_region {
            slot: self.next_slot.fetch_add(1, Ordering::Relaxed),
            flags: 0,
            guest_phys_addr: guest,
            memory_size: region.len() as u64,
            userspace_addr: region.cast::<u8>().as_ptr() as u64,
        };
        // SAFETY: the caller keeps the memory mapped for as long as this machine lives.
        unsafe { self.fd.set_user_memory_region(region) }.map_err(failed("map memory into the guest"))
    }

    fn interrupt(&self, line: u32) -> Result<(), Error> {
        let raise = failed("raise an interrupt");
        self.fd.set_irq_line(line, true).map_err(&raise)?;
        self.fd.set_irq_line(line, false).map_err(raise)
    }

    fn create_vcpu(&self, index: u8, count: u8) -> Result<KvmVcpu, Error> {
        let fd = self.fd.create_vcpu(u64::from(index)).map_err(failed("create a vCPU"))?;
        // Features before registers: from Linux 6.13 on KVM keeps only those that the features have (Firecracker #6120).
        let cpuid = super::cpuid::of_vcpu(&self.cpuid, index, count, self.has_deadline_timer);
        fd.set_cpuid2(&cpuid).map_err(failed("set a vCPU's features"))?;
        super::msrs::set(&fd, &self.msrs)?;
        Ok(KvmVcpu::new(fd))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_created_again_when_a_signal_comes_but_not_for_ever() {
        // Firecracker #5046: under load KVM_CREATE_VM was interrupted.
        let mut errors = vec![libc::EINTR; 3];
        patiently(|| errors.pop().map_or(Ok(()), |error| Err(kvm_ioctls::Error::new(error)))).unwrap();
        for (error, expected) in [(libc::EINTR, PATIENCE + 1), (libc::ENOMEM, 1)] {
            let mut tried = 0;
            let created = patiently(|| {
                tried += 1;
                Err::<(), _>(kvm_ioctls::Error::new(error))
            });
            assert_eq!((created.unwrap_err().errno(), tried), (error, expected));
        }
    }
}
