//! What a vCPU tells of itself by the instruction `cpuid`: everything that KVM supports, with its own place in it.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

// Bits of leaf 1.
const ECX_DEADLINE_TIMER: u32 = 1 << 24;
const ECX_HYPERVISOR: u32 = 1 << 31;
const EDX_HYPER_THREADING: u32 = 1 << 28;
// Kinds of levels in leaf 0xb (and 0x1f).
const LEVEL_THREADS: u32 = 1;
const LEVEL_CORES: u32 = 2;

/// The features of the vCPU `index` of `count`: one socket, one thread a core.
pub(super) fn of_vcpu(supported: &CpuId, index: u8, count: u8, has_deadline_timer: bool) -> CpuId {
    let mut cpuid = supported.clone();
    for entry in cpuid.as_mut_slice() {
        adjust(entry, index, count, has_deadline_timer);
    }
    cpuid
}

fn adjust(entry: &mut kvm_cpuid_entry2, index: u8, count: u8, has_deadline_timer: bool) {
    let others = u32::from(count).saturating_sub(1);
    match entry.function {
        1 => {
            entry.ebx = (entry.ebx & 0x0000_ffff) | u32::from(index) << 24 | u32::from(count) << 16;
            entry.ecx |= ECX_HYPERVISOR;
            // The kernel's local APIC has it, and older kernels do not list it.
            if has_deadline_timer {
                entry.ecx |= ECX_DEADLINE_TIMER;
            }
            if count > 1 {
                entry.edx |= EDX_HYPER_THREADING;
            }
        }
        // Intel's caches: the first two levels are a core's own, later ones everybody's.
        4 => {
            let level = (entry.eax >> 5) & 7;
            let sharing = if level >= 3 { others } else { 0 };
            entry.eax = (entry.eax & 0x3fff) | sharing << 14 | others << 26;
        }
        0xb | 0x1f => topology(entry, index, count),
        // AMD's caches, likewise.
        0x8000_001d => {
            let level = (entry.eax >> 5) & 7;
            let sharing = if level >= 3 { others } else { 0 };
            entry.eax = (entry.eax & 0x3fff) | sharing << 14;
        }
        0x8000_0008 => {
            entry.ecx = (entry.ecx & !0xf0ff) | apic_bits(count) << 12 | others;
        }
        // AMD's topology: extended APIC id; one thread a core; one node.
        0x8000_001e => {
            entry.eax = u32::from(index);
            entry.ebx = (entry.ebx & !0xffff) | u32::from(index);
            entry.ecx &= !0x7ff;
        }
        _ => {}
    }
}

fn topology(entry: &mut kvm_cpuid_entry2, index: u8, count: u8) {
    let (shift, processors, kind) = match entry.index {
        0 => (0, 1, LEVEL_THREADS),
        1 => (apic_bits(count), u32::from(count), LEVEL_CORES),
        _ => (0, 0, 0),
    };
    entry.eax = shift;
    entry.ebx = processors;
    entry.ecx = entry.index & 0xff | kind << 8;
    entry.edx = u32::from(index);
}

/// Bits of an APIC id that number the processors of a socket.
fn apic_bits(count: u8) -> u32 {
    u8::BITS.saturating_sub(count.saturating_sub(1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, index: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, index, eax: 0x1c03_c163, ..kvm_cpuid_entry2::default() }
    }

    fn adjusted(function: u32, index: u32, vcpu: u8, count: u8) -> kvm_cpuid_entry2 {
        let mut entry = entry(function, index);
        adjust(&mut entry, vcpu, count, true);
        entry
    }

    #[test]
    fn each_vcpu_knows_its_own_number_everywhere() {
        for vcpu in 0..4 {
            assert_eq!(adjusted(1, 0, vcpu, 4).ebx >> 24, u32::from(vcpu));
            assert_eq!(adjusted(0xb, 1, vcpu, 4).edx, u32::from(vcpu));
            assert_eq!(adjusted(0x8000_001e, 0, vcpu, 4).eax, u32::from(vcpu));
        }
    }

    #[test]
    fn three_vcpus_are_one_socket_of_three_cores() {
        let threads = adjusted(0xb, 0, 2, 3);
        assert_eq!((threads.eax, threads.ebx, threads.ecx), (0, 1, 0x100));
        let cores = adjusted(0xb, 1, 2, 3);
        assert_eq!((cores.eax, cores.ebx, cores.ecx), (2, 3, 0x201), "two bits number three");
        assert_eq!(adjusted(0x8000_0008, 0, 2, 3).ecx & 0xf0ff, 2 << 12 | 2);
        assert_eq!(adjusted(4, 3, 2, 3).eax >> 14 & 0xfff, 2, "the last cache is everybody's");
    }

    #[test]
    fn guest_is_told_that_it_is_one_and_has_a_deadline_timer() {
        assert_eq!(adjusted(1, 0, 0, 1).ecx, ECX_HYPERVISOR | ECX_DEADLINE_TIMER);
        assert_eq!(adjusted(1, 0, 0, 1).edx & EDX_HYPER_THREADING, 0);
    }

    #[test]
    fn apic_ids_have_as_many_bits_as_they_need() {
        assert_eq!([1, 2, 3, 4, 5, 32].map(apic_bits), [0, 1, 2, 2, 3, 5]);
    }
}
