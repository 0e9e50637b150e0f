//! On QEMU's emulation, with the same files.

use vmm::console::Console;
use vmm::engine::Outcome;
use vmm::engine::tcg::{self, Disk, Machine};
use vmm::sandbox::Confinement;

use super::options::{self, Options};
use super::{Error, connect, open, sink};

/// `qemu` is the program, and what has to stand before its options.
pub(super) fn run(qemu: &[String], options: &Options) -> Result<Outcome, Error> {
    // QEMU says less well what it cannot open.
    open("kernel", &options.kernel)?;
    options.initrd.as_deref().map(|path| open("initial ramdisk", path)).transpose()?;
    let network = options.socket.as_deref().map(connect).transpose()?;
    let disk = |disk: &options::Disk| Disk { path: disk.path.clone(), is_read_only: disk.is_read_only };
    let machine = Machine {
        cpus: options.cpus,
        memory_mib: u32::try_from(options.memory >> 20).unwrap_or(u32::MAX),
        kernel: options.kernel.clone(),
        initrd: options.initrd.clone(),
        command_line: options.command_line.clone(),
        disks: options.disks.iter().map(disk).collect(),
    };
    let (console, printed) =
        Console::to(sink(options.console.as_deref())?, Confinement::default()).map_err(Error::Console)?;
    let outcome = tcg::run(qemu, &machine, printed, network);
    console.finish();
    Ok(outcome?)
}
