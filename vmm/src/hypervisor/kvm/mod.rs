//! Linux's KVM on x86_64.

mod cpuid;
mod kick;
mod msrs;
mod registers;
mod vcpu;
mod vm;

use std::io;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, MsrList};
use kvm_ioctls::Kvm as Device;

pub use kick::KvmKick;
pub use vcpu::KvmVcpu;
pub use vm::KvmVm;

use super::{Error, Hypervisor};

/// The API that every KVM since Linux 2.6.22 speaks (Documentation/virt/kvm/api.rst, 4.1).
const API: i32 = 12;

/// `/dev/kvm`, opened.
#[derive(Debug)]
pub struct Kvm {
    device: Device,
    cpuid: CpuId,
    msrs: MsrList,
}

impl Kvm {
    /// Opens `/dev/kvm` and asks what it can do.
    pub fn open() -> Result<Self, Error> {
        let device = Device::new().map_err(failed("open /dev/kvm"))?;
        if device.get_api_version() != API {
            let source = io::Error::other("its version is not 12");
            return Err(Error { doing: "speak this kernel's KVM API", source });
        }
        let cpuid = device
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(failed("tell which processor features it supports"))?;
        let msrs =
            device.get_msr_index_list().map_err(failed("tell which model-specific registers it keeps"))?;
        Ok(Self { device, cpuid, msrs })
    }
}

impl Hypervisor for Kvm {
    type Vm = KvmVm;

    fn create_vm(&self) -> Result<KvmVm, Error> {
        KvmVm::new(self)
    }
}

/// Makes a system call's error one of ours.
fn failed(doing: &'static str) -> impl Fn(kvm_ioctls::Error) -> Error {
    move |error| Error { doing, source: io::Error::from_raw_os_error(error.errno()) }
}
