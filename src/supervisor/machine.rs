//! The processes of one machine: the one that runs it (`mvm machine`) and the network process beside it.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use vmm::control::{
    ChannelError, Engine, MachineConfig, MachineReceiver, MachineSender, SupervisorEnd, ToMachine,
};
use vmm::sandbox::KILLED;

use super::passt;
use crate::instance::{Config, Paths};

/// How long a process may take to end after its end was asked for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that a supervisor is started with: it looks nothing up by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    pub config: Config,
    pub kernel: PathBuf,
    pub root: PathBuf,
    pub cmdline: String,
    pub engine: Engine,
    pub passt: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Network(#[from] passt::Error),
    #[error("cannot start the machine process: {0}")]
    Start(#[source] io::Error),
    #[error("cannot talk to the machine process: {0}")]
    Channel(#[from] ChannelError),
}

/// A started machine. Dropping it kills both processes.
#[derive(Debug)]
pub(super) struct Machine {
    pub sender: MachineSender,
    pub receiver: MachineReceiver,
    pub process: Child,
    pub network: Child,
    /// Kernel and root, which `mvm image prune` leaves alone while they are locked.
    _parts: Vec<File>,
}

impl Machine {
    pub(super) async fn start(launch: &Launch, paths: &Paths) -> Result<Self, Error> {
        let (network, socket) = passt::spawn(&launch.passt)?;
        let (ours, machines) = UnixStream::pair().map_err(Error::Start)?;
        let process = Command::new(own_program().map_err(Error::Start)?)
            .arg("machine")
            .stdin(Stdio::from(OwnedFd::from(machines)))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::Start)?;
        let SupervisorEnd { sender, receiver } = SupervisorEnd::new(ours)?;
        let config = launch.machine(paths, SystemTime::now());
        sender.send(&ToMachine::Start(config), Some(socket)).await?;
        let parts = [&launch.kernel, &launch.root].into_iter().filter_map(|path| held(path)).collect();
        Ok(Self { sender, receiver, process, network, _parts: parts })
    }

    /// Sees both processes to their end; returns what is known of a machine process that did not say how its guest ended.
    pub(super) async fn wait(self) -> String {
        let Self { sender, receiver, mut process, mut network, _parts } = self;
        // The lifeline.
        drop((sender, receiver));
        let how = match tokio::time::timeout(PATIENCE, process.wait()).await {
            Ok(Ok(status)) => meaning(status),
            Ok(Err(error)) => without_a_word(error),
            Err(_) => {
                let _ = process.kill().await;
                without_a_word("it did not end by itself")
            }
        };
        if tokio::time::timeout(PATIENCE, network.wait()).await.is_err() {
            let _ = network.kill().await;
        }
        how
    }
}

/// A part that is in use. That it cannot be locked is no reason not to start: the machine says what is wrong with it.
fn held(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    file.try_lock_shared().ok()?;
    Some(file)
}

fn without_a_word(how: impl Display) -> String {
    format!("the machine process ended without a word ({how})")
}

fn meaning(status: ExitStatus) -> String {
    // Where the process cannot handle that signal the kernel ends it.
    let is_forbidden = status.code() == Some(KILLED.into()) || status.signal() == Some(Signal::SYS.as_raw());
    if is_forbidden {
        return "the machine process was ended for a system call that it never makes: this is a bug of mvm, or an attack by \
                the guest; report it with what `mvm logs supervisor` shows last"
            .to_owned();
    }
    without_a_word(status)
}

impl Launch {
    fn machine(&self, paths: &Paths, now: SystemTime) -> MachineConfig {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let clock = format!("{}={seconds}", protocol::kernel_args::CLOCK);
        MachineConfig {
            engine: self.engine.clone(),
            cpus: self.config.cpus,
            memory_mib: self.config.memory_mib,
            kernel: self.kernel.clone(),
            initrd: None,
            cmdline: format!("{} {clock} {}", self.cmdline.trim(), passt::kernel_word()),
            root: self.root.clone(),
            data: paths.data_disk(),
            console: paths.console_log(),
        }
    }
}

/// This program, also after its file was replaced by a newer one.
pub(super) fn own_program() -> io::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { Ok(running) } else { std::env::current_exe() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use std::time::{Duration, UNIX_EPOCH};

    use rustix::process::Signal;

    use super::{Engine, Launch, meaning};
    use crate::instance::{Config, tests::scratch};

    #[test]
    fn an_end_for_a_forbidden_call_is_told_as_one() {
        // As wait(2) has them: a status in the second byte, a signal in the first.
        let forbidden = "the machine process was ended for a system call that it never makes: this is a bug of mvm, or an attack by the guest; report it with what `mvm logs supervisor` shows last";
        for (raw, expected) in [
            (159 << 8, forbidden),
            (Signal::SYS.as_raw(), forbidden),
            (1 << 8, "the machine process ended without a word (exit status: 1)"),
            (9, "the machine process ended without a word (signal: 9 (SIGKILL))"),
        ] {
            assert_eq!(meaning(ExitStatus::from_raw(raw)), expected);
        }
    }

    #[test]
    fn kernel_gets_clock_and_network_behind_the_appliances_own_words() {
        let (_directory, paths) = scratch();
        let launch = Launch {
            config: Config { cpus: 3, memory_mib: 2048, ..Config::for_host(1, 0) },
            kernel: "/k".into(),
            root: "/r".into(),
            cmdline: "console=hvc0 quiet\n".into(),
            engine: Engine::Kvm,
            passt: vec!["passt".into()],
        };
        let machine = launch.machine(&paths, UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        assert_eq!(
            machine.cmdline,
            "console=hvc0 quiet mvm.clock=1800000000 mvm.net=10.0.2.15/24,10.0.2.2,10.0.2.3"
        );
        assert_eq!((machine.cpus, machine.memory_mib), (3, 2048));
        assert_eq!(machine.data, paths.data_disk());
    }
}
