//! The processes of one machine: the one that runs it (`mvm machine`) and the network process beside it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use vmm::control::{
    ChannelError, Engine, MachineConfig, MachineReceiver, MachineSender, SupervisorEnd, ToMachine,
};

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
        Ok(Self { sender, receiver, process, network })
    }

    /// Sees both processes to their end; returns how the machine process ended.
    pub(super) async fn wait(self) -> String {
        let Self { sender, receiver, mut process, mut network } = self;
        // The lifeline.
        drop((sender, receiver));
        let how = match tokio::time::timeout(PATIENCE, process.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                let _ = process.kill().await;
                "it did not end by itself".to_owned()
            }
        };
        if tokio::time::timeout(PATIENCE, network.wait()).await.is_err() {
            let _ = network.kill().await;
        }
        how
    }
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
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Engine, Launch};
    use crate::instance::{Config, tests::scratch};

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
