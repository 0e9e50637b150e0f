//! On KVM, in this process.

use vmm::console::Console;
use vmm::devices::blk::Disk;
use vmm::engine::Outcome;
use vmm::engine::native::{self, Config, Watcher};
use vmm::hypervisor::Host;
use vmm::sandbox::{self, Confinement, Limits};

use super::options::Options;
use super::{Error, Stages, connect, open, sink};

pub(super) fn run(options: &Options, stages: Stages) -> Result<Outcome, Error> {
    let sink = sink(options.console.as_deref())?;
    let disk = |disk: &super::options::Disk| Disk::open(&disk.path, disk.is_read_only);
    let kernel = open("kernel", &options.kernel)?;
    let initrd = options.initrd.as_deref().map(|path| open("initial ramdisk", path)).transpose()?;
    let disks: Vec<Disk> = options.disks.iter().map(disk).collect::<Result<_, _>>()?;
    if let Some(why) = disks.iter().find_map(Disk::lacks) {
        eprintln!("mvm vmm: {why}");
    }
    let network = options.socket.as_deref().map(connect).transpose()?;
    stages.tell("files");
    let host = Host::open()?;
    stages.tell("hypervisor");
    // Everything is open, and there is no other thread yet.
    let confinement = enter(options)?;
    stages.tell("sandbox");
    let (console, printed) = Console::to(sink, confinement.clone()).map_err(Error::Console)?;
    let config = Config {
        cpus: options.cpus,
        memory: options.memory,
        kernel,
        initrd,
        command_line: options.command_line.clone(),
        disks,
        network,
        vsock: None,
        balloon: options.balloon,
        console: printed,
        confinement,
        watcher: Watcher::new(move |stage| stages.tell(stage.name())),
    };
    // Nobody orders it about: a signal ends this process, and with it the machine.
    let (_, orders) = native::control();
    let outcome = native::run(&host, config, orders);
    console.finish();
    Ok(outcome?)
}

/// Says what of the sandbox is not there.
fn enter(options: &Options) -> Result<Confinement, Error> {
    if !options.is_sandboxed {
        eprintln!("mvm vmm: without a sandbox: a guest that takes this process over may do what you may");
        return Ok(Confinement::default());
    }
    let applied = sandbox::enter(&Limits::of_machine(options.memory, options.cpus))?;
    for missing in &applied.missing {
        eprintln!("mvm vmm: the sandbox is not whole: {missing}");
    }
    Ok(applied.confinement)
}
