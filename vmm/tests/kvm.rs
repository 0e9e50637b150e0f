//! KVM itself, with guests of a few bytes: they run wherever there is a `/dev/kvm`, also where that cannot run a kernel.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "../../tests/support/skip.rs"]
mod skip;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use skip::there_is_kvm;
use vmm::hypervisor::kvm::{Kvm, KvmVcpu};
use vmm::hypervisor::x86_64::{Mode, Registers};
use vmm::hypervisor::{Exit, Hypervisor, Kick, Vcpu, Vm};
use vmm::memory::{self, Memory};

const CODE: u64 = 0x1000;

/// A vCPU that is about to execute these bytes in protected mode, and the memory that they lie in.
fn guest(code: &[u8]) -> (KvmVcpu, Memory) {
    let kvm =
        Kvm::open().expect("/dev/kvm may be opened; add yourself to the group kvm, or set MVM_SKIP=kvm");
    let memory = memory::allocate(std::slice::from_ref(&(0..1 << 20))).unwrap();
    memory::write(&memory, CODE, code).unwrap();
    let vm = kvm.create_vm().unwrap();
    for (address, region) in memory::regions(&memory) {
        // SAFETY: the caller keeps the memory for as long as the vCPU, and nobody refers into it.
        unsafe { vm.map(address, region) }.unwrap();
    }
    let mut vcpu = vm.create_vcpu(0, 1).unwrap();
    vcpu.set_registers(&Registers {
        mode: Mode::Protected,
        instruction_pointer: CODE,
        rbx: 0x5566_7788,
        rsi: 0,
        rsp: 0x8000,
    })
    .unwrap();
    (vcpu, memory)
}

#[test]
fn ports_and_memory_of_devices_are_exits_with_the_guests_bytes() {
    if !there_is_kvm() {
        return;
    }
    let (mut vcpu, _memory) = guest(&[
        0xb0, 0x42, // mov al, 0x42
        0xe6, 0x10, // out 0x10, al
        0x89, 0x1d, 0x00, 0x00, 0x00, 0xd0, // mov [0xd0000000], ebx
        0xa1, 0x04, 0x00, 0x00, 0xd0, // mov eax, [0xd0000004]
        0xe7, 0x11, // out 0x11, eax
        0xe4, 0x12, // in al, 0x12
        0xe6, 0x13, // out 0x13, al
    ]);
    assert_eq!(vcpu.run().unwrap(), Exit::PortWrite(0x10, &[0x42]));
    assert_eq!(vcpu.run().unwrap(), Exit::MmioWrite(0xd000_0000, &0x5566_7788_u32.to_le_bytes()));
    match vcpu.run().unwrap() {
        Exit::MmioRead(0xd000_0004, data) => data.copy_from_slice(&[1, 2, 3, 4]),
        other => panic!("{other:?}"),
    }
    assert_eq!(vcpu.run().unwrap(), Exit::PortWrite(0x11, &[1, 2, 3, 4]));
    match vcpu.run().unwrap() {
        Exit::PortRead(0x12, data) => data.fill(9),
        other => panic!("{other:?}"),
    }
    assert_eq!(vcpu.run().unwrap(), Exit::PortWrite(0x13, &[9]));
}

#[test]
fn a_triple_fault_is_a_shutdown() {
    if !there_is_kvm() {
        return;
    }
    // An instruction that is none, and no table of handlers.
    let (mut vcpu, _memory) = guest(&[0x0f, 0x0b]);
    assert_eq!(vcpu.run().unwrap(), Exit::Shutdown);
}

/// Kicks one by one, each after the guest runs again or before: none is lost.
#[test]
fn a_kick_ends_an_endless_loop_whenever_it_comes() {
    if !there_is_kvm() {
        return;
    }
    let (kicks, kick) = mpsc::channel();
    let (exits, exited) = mpsc::channel();
    let thread = thread::spawn(move || {
        // jmp to itself
        let (mut vcpu, _memory) = guest(&[0xeb, 0xfe]);
        kicks.send(vcpu.kick()).unwrap();
        for _ in 0..200 {
            assert_eq!(vcpu.run().unwrap(), Exit::Kicked);
            exits.send(()).unwrap();
        }
    });
    let kick = kick.recv_timeout(Duration::from_secs(60)).expect("the vCPU is made");
    for number in 0..200 {
        if number % 2 == 0 {
            thread::sleep(Duration::from_micros(number * 10));
        }
        kick.kick();
        exited.recv_timeout(Duration::from_secs(60)).expect("the vCPU leaves its loop");
    }
    thread.join().unwrap();
    // Its vCPU is gone, and so may its thread's number be.
    kick.kick();
}
