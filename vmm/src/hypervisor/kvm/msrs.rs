//! Model-specific registers that firmware would have set.

use kvm_bindings::{MsrList, Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use super::{Error, failed};

/// Fast string operations (Intel manual, volume 4, IA32_MISC_ENABLE).
const MISC_ENABLE: (u32, u64) = (0x1a0, 1);
/// Memory is cached write-back unless page tables say otherwise (AMD64 manual, volume 2, 7.7: MTRRdefType).
const DEFAULT_MEMORY_TYPE: (u32, u64) = (0x2ff, 1 << 11 | 6);

/// Sets those that this KVM keeps.
pub(super) fn set(vcpu: &VcpuFd, kept: &MsrList) -> Result<(), Error> {
    for (index, data) in [MISC_ENABLE, DEFAULT_MEMORY_TYPE] {
        // The memory types are not in the list: KVM keeps them always.
        if index != DEFAULT_MEMORY_TYPE.0 && !kept.as_slice().contains(&index) {
            continue;
        }
        let entry = kvm_msr_entry { index, data, ..kvm_msr_entry::default() };
        let Ok(entries) = Msrs::from_entries(&[entry]) else { continue };
        vcpu.set_msrs(&entries).map_err(failed("set a model-specific register"))?;
    }
    Ok(())
}
