//! A machine of our own while it runs, sandboxed.
//!
//! The machine has a thread that follows it; the main thread passes on what concerns the supervisor.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::orders::{Order, Supervisor, obey};
use super::{GUEST_CID, failed, tell};
use crate::console::{self, Console};
use crate::control::{FromMachine, MachineConfig, Outcome, ToMachine};
use crate::devices::blk::{Disk, DiskError};
use crate::devices::vsock::{Dial, Handle, Vsock};
use crate::engine::native::{self, Config, Control, Stage, Watcher};
use crate::hypervisor::{self, Host};
use crate::platform::sandbox::{self, Applied, Class, Limits, SandboxError};

#[derive(Debug, thiserror::Error)]
pub(super) enum NativeError {
    #[error("cannot make the vsock device")]
    Vsock(#[source] io::Error),
    #[error("cannot write the console's file")]
    Console(#[source] io::Error),
    #[error("cannot open the kernel's file {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Hypervisor(#[from] hypervisor::Error),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

#[derive(Debug)]
enum Event {
    Order(Order),
    Dial(Dial),
    Stage(Stage),
    Ended(Outcome),
}

pub(super) fn run(
    config: &MachineConfig,
    network: Option<OwnedFd>,
    supervisor: &mut Supervisor,
) -> Result<Outcome, NativeError> {
    let (events, waiting) = mpsc::channel();
    let (vsock, handle) = Vsock::new(GUEST_CID, tell(&events, Event::Dial)).map_err(NativeError::Vsock)?;
    let sink = console::file(&config.console).map_err(NativeError::Console)?;
    let kernel = open(&config.kernel)?;
    let initrd = config.initrd.as_deref().map(open).transpose()?;
    let disks = vec![Disk::open(&config.root, true)?, Disk::open(&config.data, false)?];
    let host = Host::open()?;
    // Everything is open, and there is no other thread yet.
    let memory = u64::from(config.memory_mib) << 20;
    let Applied { confinement, missing } = sandbox::enter(&Limits::of_machine(memory, config.cpus))?;
    // What one disk lacks, all do.
    let of_disks = disks.iter().find_map(Disk::lacks).map(ToString::to_string);
    let lacks = missing.iter().map(ToString::to_string).chain(of_disks).collect();
    let (console, printed) = Console::to(sink, confinement.clone()).map_err(NativeError::Console)?;
    let (control, orders) = native::control();
    let machine = Config {
        cpus: config.cpus,
        memory,
        kernel,
        initrd,
        command_line: config.cmdline.clone(),
        disks,
        network,
        vsock: Some(vsock),
        balloon: 0,
        console: printed,
        confinement: confinement.clone(),
        watcher: Watcher::new(tell(&events, Event::Stage)),
    };
    supervisor.listen(confinement.clone(), &events, Event::Order).map_err(NativeError::Thread)?;
    let ended = tell(&events, Event::Ended);
    let running = thread("machine", move || {
        let run = AssertUnwindSafe(|| native::run(&host, machine, orders));
        ended(match catch_unwind(run) {
            Ok(Ok(outcome)) => outcome.into(),
            Ok(Err(error)) => failed(&error),
            Err(_) => panicked(),
        });
    })?;
    confinement.confine(Class::Channel)?;
    let outcome = Supervised { supervisor, handle, control, lacks }.follow(&waiting);
    let _ = running.join();
    console.finish();
    Ok(outcome)
}

fn open(path: &Path) -> Result<File, NativeError> {
    File::open(path).map_err(|source| NativeError::Open { path: path.to_owned(), source })
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, NativeError> {
    crate::thread::named(name).spawn(work).map_err(NativeError::Thread)
}

fn panicked() -> Outcome {
    Outcome::Failed("the thread that follows the machine panicked; this is a bug of mvm".to_owned())
}

/// The machine, as far as the supervisor knows of it.
struct Supervised<'a> {
    supervisor: &'a Supervisor,
    handle: Handle,
    control: Control,
    lacks: Vec<String>,
}

impl Supervised<'_> {
    /// Passes orders, questions and news on until the machine has ended.
    fn follow(mut self, waiting: &mpsc::Receiver<Event>) -> Outcome {
        while let Ok(event) = waiting.recv() {
            match event {
                Event::Order(Order::Do(ToMachine::Kill, _) | Order::Gone) => self.control.stop(),
                Event::Order(Order::Do(order, descriptor)) => obey(&self.handle, order, descriptor),
                Event::Dial(Dial { id, port }) => self.tell(&FromMachine::Dial { id, port }),
                Event::Stage(stage) => {
                    tracing::info!(stage = stage.name(), "the machine starts");
                    if stage == Stage::Running {
                        let lacks = std::mem::take(&mut self.lacks);
                        self.tell(&FromMachine::Started { lacks });
                    }
                }
                Event::Ended(outcome) => return outcome,
            }
        }
        panicked()
    }

    /// A supervisor that cannot be told has gone.
    fn tell(&self, news: &FromMachine) {
        if let Err(error) = self.supervisor.tell(news) {
            tracing::error!(error = &error as &dyn std::error::Error, "the supervisor cannot be told");
            self.control.stop();
        }
    }
}
