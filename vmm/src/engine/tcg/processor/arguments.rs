//! QEMU's command line for a machine.
//!
//! The board is `microvm` with ACPI: virtio-mmio devices found through the DSDT, none on PCI. Whatever is a descriptor
//! on our side is passed as one, so that QEMU opens no socket.

use std::os::fd::RawFd;

use crate::engine::tcg::Machine;

/// The descriptors that QEMU inherits, by the numbers that they have in both processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    pub(crate) vsock: Option<RawFd>,
    /// QMP, on which QEMU says that it runs and why it ended.
    pub(crate) monitor: RawFd,
    pub(crate) console: RawFd,
    pub(crate) network: Option<RawFd>,
}

/// What the monitor calls a disk.
pub(super) fn disk_name(number: usize) -> String {
    format!("disk{number}")
}

/// An emulated processor speculates about nothing. Who writes another word for it comes later, and wins.
const MITIGATIONS: &str = "mitigations=off";

/// Everything after the program's name. `kernel_arguments` comes last on the kernel's command line.
pub(crate) fn arguments(machine: &Machine, descriptors: Descriptors, kernel_arguments: &str) -> Vec<String> {
    let mut list = Vec::new();
    board(&mut list, machine, kernel_arguments);
    disks(&mut list, machine);
    network(&mut list, descriptors.network);
    small_devices(&mut list, descriptors);
    list
}

fn option(list: &mut Vec<String>, name: &str, value: impl Into<String>) {
    list.extend([name.to_owned(), value.into()]);
}

fn board(list: &mut Vec<String>, machine: &Machine, kernel_arguments: &str) {
    list.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
    option(list, "-display", "none");
    // Emulation is no wall by itself. A guest that takes QEMU over can start no program and gain no rights; what it can
    // still do is what the user may do with open files.
    option(list, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    // PIT and PIC stay: without a TSC deadline timer, which TCG has not, the kernel needs them. So does the RTC:
    // without it a power-off takes a second longer.
    option(list, "-machine", "microvm,acpi=on,rtc=on,isa-serial=off,memory-backend=ram");
    // QEMU's own small firmware. With SeaBIOS, microvm's default, the machine resets itself before the kernel's first
    // word in about one of nine starts (QEMU 10.0, this kernel, two processors); with qboot in none of 120.
    option(list, "-bios", "qboot.rom");
    option(list, "-accel", "tcg,thread=multi,tb-size=256");
    option(list, "-cpu", "max");
    option(list, "-smp", machine.cpus.to_string());
    option(list, "-m", format!("{}M", machine.memory_mib));
    // Shared, because our device reads and writes the guest's memory from its own process.
    option(list, "-object", format!("memory-backend-memfd,id=ram,size={}M,share=on", machine.memory_mib));
    option(list, "-kernel", machine.kernel.to_string_lossy());
    if let Some(initrd) = &machine.initrd {
        option(list, "-initrd", initrd.to_string_lossy());
    }
    let words = [MITIGATIONS, machine.command_line.trim(), kernel_arguments];
    option(list, "-append", words.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "));
}

/// Images are cached by the host, with every flush of the guest carried out (`writeback`, never `unsafe`). QEMU locks
/// them against another machine by itself.
fn disks(list: &mut Vec<String>, machine: &Machine) {
    for (number, disk) in machine.disks.iter().enumerate() {
        let (name, file) = (disk_name(number), value(&disk.path.to_string_lossy()));
        let way =
            if disk.is_read_only { "readonly=on" } else { "cache=writeback,discard=unmap,detect-zeroes=off" };
        option(list, "-drive", format!("id={name},if=none,format=raw,{way},file={file}"));
        option(list, "-device", format!("virtio-blk-device,drive={name}"));
    }
}

fn network(list: &mut Vec<String>, network: Option<RawFd>) {
    if let Some(fd) = network {
        option(list, "-netdev", format!("stream,id=net,server=off,addr.type=fd,addr.str={fd}"));
        option(list, "-device", "virtio-net-device,netdev=net");
    }
}

fn small_devices(list: &mut Vec<String>, descriptors: Descriptors) {
    option(list, "-device", "virtio-rng-device");
    option(list, "-chardev", format!("socket,id=console,fd={}", descriptors.console));
    option(list, "-device", "virtio-serial-device,max_ports=1");
    option(list, "-device", "virtconsole,chardev=console");
    if let Some(fd) = descriptors.vsock {
        option(list, "-chardev", format!("socket,id=vsock,fd={fd}"));
        option(list, "-device", "vhost-user-vsock-device,chardev=vsock");
    }
    option(list, "-chardev", format!("socket,id=monitor,fd={}", descriptors.monitor));
    option(list, "-mon", "chardev=monitor,mode=control");
}

/// A value inside an option list: QEMU reads a doubled comma as one.
fn value(text: &str) -> String {
    text.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tcg::Disk;

    fn machine() -> Machine {
        let disk = |path: &str, is_read_only| Disk { path: path.into(), is_read_only };
        Machine {
            cpus: 2,
            memory_mib: 1024,
            kernel: "/i/vmlinux".into(),
            initrd: None,
            command_line: "quiet root=/dev/vda".to_owned(),
            disks: vec![disk("/i/root,a.erofs", true), disk("/i/data.raw", false)],
        }
    }

    fn joined(network: Option<RawFd>) -> String {
        let descriptors = Descriptors { vsock: Some(10), monitor: 11, console: 13, network };
        arguments(&machine(), descriptors, "tsc_early_khz=2500000 tsc=reliable").join(" ")
    }

    #[test]
    fn the_kernel_gets_our_words_after_the_users() {
        assert!(
            joined(None)
                .contains("-append mitigations=off quiet root=/dev/vda tsc_early_khz=2500000 tsc=reliable ")
        );
    }

    #[test]
    fn memory_is_shared_and_as_large_as_asked() {
        let line = joined(None);
        assert!(line.contains("memory-backend-memfd,id=ram,size=1024M,share=on"), "{line}");
        assert!(line.contains("-m 1024M -object") && line.contains("-smp 2 "), "{line}");
    }

    #[test]
    fn the_root_is_read_only_and_stands_before_the_data_disk() {
        let line = joined(None);
        let root = line.find("readonly=on,file=/i/root,,a.erofs").expect("a comma in a path is doubled");
        let data = line.find("cache=writeback,discard=unmap,detect-zeroes=off,file=/i/data.raw").unwrap();
        assert!(root < data);
    }

    #[test]
    fn no_network_process_means_no_network_device() {
        assert!(!joined(None).contains("virtio-net"));
        assert!(joined(Some(12)).contains("addr.type=fd,addr.str=12 -device virtio-net-device,netdev=net"));
    }
}
