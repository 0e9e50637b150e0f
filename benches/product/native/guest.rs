//! A guest with one processor and `rig-init`, in either VMM.

use std::path::PathBuf;
use std::process::Command;

use super::Of;
use crate::support::Parts;

pub(super) const MEMORY_MIB: u64 = 256;

#[derive(Debug, Clone, Default)]
pub(super) struct Guest {
    /// Behind the words that every guest has on its kernel's command line.
    pub(super) words: String,
    pub(super) disk: Option<PathBuf>,
    /// The network process's.
    pub(super) socket: Option<PathBuf>,
    /// QEMU has its guest's memory in a file then, so that it does not count as its own.
    pub(super) has_shared_memory: bool,
    /// Our own VMM says how far it has come.
    pub(super) has_stages: bool,
}

impl Guest {
    pub(super) fn doing(words: impl Into<String>) -> Self {
        Self { words: words.into(), ..Self::default() }
    }

    pub(super) fn command(&self, of: Of, qemu: &[String]) -> Command {
        match of {
            Of::Mvm => self.mvm(),
            Of::Qemu => self.qemu(qemu),
        }
    }

    fn line(&self) -> String {
        format!("console=hvc0 quiet panic=-1 rdinit=/init {}", self.words)
    }

    fn mvm(&self) -> Command {
        let parts = Parts::here();
        let mut command = Command::new(&parts.mvm);
        command.arg("vmm").arg("--kernel").arg(&parts.kernel).arg("--initrd").arg(&parts.initrd);
        command.args(["--accel", "kvm", "--cmdline", &self.line(), "--memory", &memory()]);
        if let Some(disk) = &self.disk {
            command.arg("--disk").arg(disk);
        }
        if let Some(socket) = &self.socket {
            command.arg("--net").arg(socket);
        }
        if self.has_stages {
            command.arg("--stages");
        }
        command
    }

    /// With as little as such a machine can have. Its console and disks are on virtio-mmio, as ours are.
    fn qemu(&self, qemu: &[String]) -> Command {
        let parts = Parts::here();
        let mut command = program(qemu);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        let board =
            "microvm,acpi=on,pit=off,pic=off,rtc=off,isa-serial=off,x-option-roms=off,memory-backend=ram";
        command.args(["-machine", board, "-bios", "qboot.rom", "-accel", "kvm", "-cpu", "host", "-smp", "1"]);
        let kind = if self.has_shared_memory { "memfd,share=on" } else { "ram" };
        let size = memory();
        let object = format!("memory-backend-{kind},id=ram,size={size}");
        command.args(["-m", &size, "-object", &object]);
        command.arg("-kernel").arg(&parts.kernel).arg("-initrd").arg(&parts.initrd);
        command.args(["-append", &self.line(), "-device", "virtio-rng-device"]);
        command.args([
            "-chardev",
            "stdio,id=console,signal=off",
            "-device",
            "virtio-serial-device,max_ports=1",
        ]);
        command.args(["-device", "virtconsole,chardev=console"]);
        command.args(["-device", "virtio-balloon-device,free-page-reporting=on,deflate-on-oom=on"]);
        if let Some(disk) = &self.disk {
            let file = disk.display();
            command.args(["-drive", &format!("id=disk,if=none,format=raw,cache=writeback,file={file}")]);
            command.args(["-device", "virtio-blk-device,drive=disk"]);
        }
        if let Some(socket) = &self.socket {
            let path = socket.display();
            command.args(["-netdev", &format!("stream,id=net,server=off,addr.type=unix,addr.path={path}")]);
            command.args(["-device", "virtio-net-device,netdev=net,host_mtu=65520"]);
        }
        command
    }
}

fn memory() -> String {
    format!("{MEMORY_MIB}M")
}

/// As `env` would start it, without the cost of that.
fn program(words: &[String]) -> Command {
    let is_variable = |word: &&String| word.ends_with("/env") || word.contains('=');
    let variables: Vec<_> = words.iter().take_while(is_variable).collect();
    let mut rest = words.iter().skip(variables.len());
    let mut command = Command::new(rest.next().expect("QEMU's command names a program"));
    command.args(rest).envs(variables.iter().filter_map(|word| word.split_once('=')));
    command
}
