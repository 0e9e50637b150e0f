//! A machine whose processor is QEMU, while it runs.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::orders::{Order, Supervisor, obey};
use super::{GUEST_CID, tell};
use crate::console::{self, Console};
use crate::control::{ChannelError, FromMachine, MachineConfig, Outcome, ToMachine};
use crate::devices::vsock::{Dial, Handle, Vsock};
use crate::engine::tcg::{self, Disk, Machine, Processor, Report, RunError, Said, Wires};
use crate::platform::sandbox::Confinement;
use crate::transport::vhost_user::{self, Lost, VhostUserError};

/// How long after QEMU closed its connection to the device its own end may be seen.
const QEMUS_END: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub(super) enum MachineError {
    #[error("cannot make the vsock device")]
    Vsock(#[source] io::Error),
    #[error("cannot write the console's file")]
    Console(#[source] io::Error),
    #[error(transparent)]
    Serve(#[from] VhostUserError),
    #[error(transparent)]
    Processor(#[from] RunError),
    #[error("cannot start a thread that reads orders")]
    Thread(#[source] io::Error),
    #[error("cannot wait for QEMU")]
    Wait(#[source] io::Error),
}

/// What ends the wait for events.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Killed,
    Engine,
    /// The machine is of no use any more; a sentence that says why.
    Stuck(String),
}

/// What the main thread waits for.
#[derive(Debug)]
enum Event {
    Order(Order),
    Dial(Dial),
    Engine(Report),
    Device(Lost),
}

/// Has to be called from the main thread: QEMU is killed when the calling thread ends.
pub(super) fn run(
    command: &[String],
    config: &MachineConfig,
    network: Option<OwnedFd>,
    supervisor: &mut Supervisor,
) -> Result<Outcome, MachineError> {
    let (events, waiting) = mpsc::channel();
    supervisor.listen(Confinement::default(), &events, Event::Order).map_err(MachineError::Thread)?;
    let ask = tell(&events, Event::Dial);
    let (device, handle) = Vsock::new(GUEST_CID, ask).map_err(MachineError::Vsock)?;
    let (served, vsock) = vhost_user::serve(device, tell(&events, Event::Device))?;
    let report = tell(&events, Event::Engine);
    let (console, printed) = console::file(&config.console)
        .and_then(|file| Console::to(file, Confinement::default()))
        .map_err(MachineError::Console)?;
    let machine = machine(config);
    let wires = Wires { vsock: Some(vsock), console: printed, network };
    let mut processor = Processor::start(command, &machine, wires, report)?;

    let mut reason = None;
    let end = follow(&machine, supervisor, &waiting, &handle, &mut reason);
    if end != End::Engine {
        processor.kill();
    }
    let (status, words) = processor.wait().map_err(MachineError::Wait)?;
    console.finish();
    drop(served);
    // What QEMU's monitor said last may stand behind the news of its end.
    for event in waiting.try_iter() {
        if let Event::Engine(Report::Said(Said::Shutdown(why))) = event {
            reason = Some(why);
        }
    }
    Ok(match end {
        End::Killed => Outcome::Killed,
        End::Stuck(why) => Outcome::Failed(why),
        End::Engine => tcg::outcome(status, reason.as_deref(), &words).into(),
    })
}

/// Passes orders and questions on until the machine is to end or has ended.
fn follow(
    machine: &Machine,
    supervisor: &Supervisor,
    waiting: &mpsc::Receiver<Event>,
    handle: &Handle,
    reason: &mut Option<String>,
) -> End {
    while let Ok(event) = waiting.recv() {
        let told = match event {
            Event::Order(Order::Do(ToMachine::Kill, _) | Order::Gone) => return End::Killed,
            Event::Order(Order::Do(order, descriptor)) => {
                obey(handle, order, descriptor);
                Ok(())
            }
            Event::Dial(Dial { id, port }) => supervisor.tell(&FromMachine::Dial { id, port }),
            Event::Engine(Report::Said(Said::Running)) => {
                supervisor.tell(&FromMachine::Started { lacks: Vec::new() })
            }
            Event::Engine(Report::Said(Said::Shutdown(why))) => {
                *reason = Some(why);
                Ok(())
            }
            Event::Engine(Report::Said(Said::DiskStopped { disk, why })) => {
                return End::Stuck(machine.disk_stopped(&disk, &why));
            }
            Event::Engine(Report::Ended) => return End::Engine,
            Event::Device(Lost::Connection) if engine_ends(waiting, reason) => return End::Engine,
            Event::Device(lost) => {
                return End::Stuck(format!("{lost}; nothing can reach the guest any more"));
            }
        };
        match told {
            Ok(()) => {}
            Err(ChannelError::Closed) => return End::Killed,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the supervisor cannot be told");
                return End::Killed;
            }
        }
    }
    End::Killed
}

/// Whether QEMU's end explains that its connection to the device has ended.
fn engine_ends(waiting: &mpsc::Receiver<Event>, reason: &mut Option<String>) -> bool {
    let started = Instant::now();
    while let Ok(event) = waiting.recv_timeout(QEMUS_END.saturating_sub(started.elapsed())) {
        match event {
            Event::Engine(Report::Ended) => return true,
            Event::Engine(Report::Said(Said::Shutdown(why))) => *reason = Some(why),
            _ => {}
        }
    }
    false
}

/// A machine of the supervisor's has two disks: its root, which is not written to, and its data.
fn machine(config: &MachineConfig) -> Machine {
    let disk = |path: &Path, is_read_only| Disk { path: path.to_owned(), is_read_only };
    Machine {
        cpus: config.cpus,
        memory_mib: config.memory_mib,
        kernel: config.kernel.clone(),
        initrd: config.initrd.clone(),
        command_line: config.cmdline.clone(),
        disks: vec![disk(&config.root, true), disk(&config.data, false)],
    }
}
