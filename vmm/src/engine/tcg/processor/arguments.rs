//! QEMU's command line for a machine.
//!
//! The board is `microvm` with ACPI: virtio-mmio devices found through the DSDT, none on PCI. Whatever is a descriptor
//! on our side is passed as one, so that QEMU opens no socket.

use std::os::fd::RawFd;

use crate::control::MachineConfig;

/// The descriptors that QEMU inherits, by the numbers that they have in both processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// The vhost-user connection to our vsock device.
    pub(crate) vsock: RawFd,
    /// QMP, on which QEMU says that it runs and why it ended.
    pub(crate) monitor: RawFd,
    /// What the guest prints.
    pub(crate) console: RawFd,
    /// The stream to the network process; a machine without one has no network.
    pub(crate) network: Option<RawFd>,
}

/// Everything after the program's name. `kernel_arguments` comes last on the kernel's command line.
pub(crate) fn arguments(
    config: &MachineConfig,
    descriptors: Descriptors,
    kernel_arguments: &str,
) -> Vec<String> {
    let mut list = Vec::new();
    board(&mut list, config, kernel_arguments);
    disks(&mut list, config);
    network(&mut list, descriptors.network);
    small_devices(&mut list, descriptors);
    list
}

fn option(list: &mut Vec<String>, name: &str, value: impl Into<String>) {
    list.extend([name.to_owned(), value.into()]);
}

fn board(list: &mut Vec<String>, config: &MachineConfig, kernel_arguments: &str) {
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
    option(list, "-smp", config.cpus.to_string());
    option(list, "-m", format!("{}M", config.memory_mib));
    // Shared, because our device reads and writes the guest's memory from its own process.
    option(list, "-object", format!("memory-backend-memfd,id=ram,size={}M,share=on", config.memory_mib));
    option(list, "-kernel", config.kernel.to_string_lossy());
    if let Some(initrd) = &config.initrd {
        option(list, "-initrd", initrd.to_string_lossy());
    }
    let words = [config.cmdline.trim(), kernel_arguments];
    option(list, "-append", words.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "));
}

/// Both images are raw and cached by the host, with every flush of the guest carried out (`writeback`, never
/// `unsafe`). QEMU locks them against another machine by itself.
fn disks(list: &mut Vec<String>, config: &MachineConfig) {
    let root = value(&config.root.to_string_lossy());
    option(list, "-drive", format!("id=root,if=none,format=raw,readonly=on,file={root}"));
    option(list, "-device", "virtio-blk-device,drive=root");
    let data = value(&config.data.to_string_lossy());
    let durable = "cache=writeback,discard=unmap,detect-zeroes=off";
    option(list, "-drive", format!("id=data,if=none,format=raw,{durable},file={data}"));
    option(list, "-device", "virtio-blk-device,drive=data");
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
    option(list, "-chardev", format!("socket,id=vsock,fd={}", descriptors.vsock));
    option(list, "-device", "vhost-user-vsock-device,chardev=vsock");
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
    use crate::control::Engine;

    fn config() -> MachineConfig {
        MachineConfig {
            engine: Engine::Tcg { command: vec!["qemu".to_owned()] },
            cpus: 2,
            memory_mib: 1024,
            kernel: "/i/vmlinux".into(),
            initrd: None,
            cmdline: "quiet root=/dev/vda".to_owned(),
            root: "/i/root,a.erofs".into(),
            data: "/i/data.raw".into(),
            console: "/i/console.log".into(),
        }
    }

    fn joined(network: Option<RawFd>) -> String {
        let descriptors = Descriptors { vsock: 10, monitor: 11, console: 13, network };
        arguments(&config(), descriptors, "tsc_early_khz=2500000 tsc=reliable").join(" ")
    }

    #[test]
    fn the_kernel_gets_our_words_after_the_users() {
        assert!(joined(None).contains("-append quiet root=/dev/vda tsc_early_khz=2500000 tsc=reliable "));
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
