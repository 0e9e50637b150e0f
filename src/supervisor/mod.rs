//! The supervisor of one instance: a process of its own, which `mvm up` starts and which outlives it.
//!
//! It holds the instance's lock, runs its machine to its end, and answers on `supervisor.sock`. It never touches guest
//! memory. When it ends, however it ends, everything else does: the machine process sees its control channel close, and
//! passt its socket. A machine that ends unasked is not started again: that it died is news, and `mvm up` is one command.

mod board;
mod builder_check;
pub mod client;
mod clock;
mod console;
pub mod engine;
mod following;
mod fullness;
mod host_ports;
mod leases;
mod log_files;
mod machine;
pub mod passt;
pub mod programs;
pub mod protocol;
mod published;
pub mod requirements;
mod run;
mod server;
mod sockets;
pub mod spawn;

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub use log_files::{is_file_name, path_of as log_path};
pub use machine::Launch;

use crate::instance::{Home, Lock, Name, Paths, data_disk, lock, runtime_dir};
use board::Board;
use leases::Leases;
use protocol::{State, Status};
use run::{End, Surroundings};
use server::Server;

/// How long another process may hold the data disk before that is an error.
const DISK_PATIENCE: Duration = Duration::from_secs(45);
/// How long those that wait for the end may take to be told of it.
const TELLING: Duration = Duration::from_secs(10);

/// Why a supervisor could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the supervisor got no launch description: {0}")]
    Launch(#[from] serde_json::Error),
    #[error("the supervisor cannot begin: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Directory(#[from] runtime_dir::Error),
    #[error(transparent)]
    Lock(#[from] lock::Error),
    #[error(transparent)]
    Disk(#[from] data_disk::Error),
    #[error(transparent)]
    Socket(#[from] sockets::Error),
}

/// The supervisor process: its [`Launch`] comes on standard input, whether it has begun goes to standard
/// output, and its log to standard error. Returns when the instance is stopped or has failed.
pub async fn main(home: &Home, name: &Name) {
    // A session of its own: the terminal's Ctrl-C and hang-up are not meant for it.
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    let begun = begin(home.instance(name), name).await;
    spawn::report(begun.as_ref().map(|_| ()));
    if let Ok(supervisor) = begun {
        supervisor.run().await;
    }
}

struct Supervisor {
    around: Surroundings,
    down: watch::Receiver<bool>,
    server: tokio::task::JoinHandle<()>,
    untold: Arc<()>,
    _disk: data_disk::Held,
    _lock: Lock,
}

async fn begin(paths: Paths, name: &Name) -> Result<Supervisor, Error> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let launch: Launch = serde_json::from_str(&text)?;
    std::fs::create_dir_all(paths.logs())?;
    runtime_dir::prepare(paths.runtime())?;
    let lock = Lock::take(&paths)?;
    let disk = hold_disk(&paths, launch.config.disk_gib).await?;
    sockets::clear(&paths);
    let listener = sockets::bind(&paths.supervisor_socket())?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;

    let board = Arc::new(Board::new(paths.state(), first_status(&launch, &paths, name)));
    let leases = Leases::default();
    for port in &launch.config.host_ports {
        leases.ports.open(*port);
    }
    let (down, asked) = watch::channel(false);
    end_by_signal(down.clone())?;
    let untold = Arc::new(());
    let server =
        Server { board: Arc::clone(&board), leases: leases.clone(), down, untold: Arc::clone(&untold) };
    let server = tokio::spawn(server::serve(listener, Arc::new(server)));
    let around = Surroundings { launch: Arc::new(launch), paths, board, leases };
    Ok(Supervisor { around, down: asked, server, untold, _disk: disk, _lock: lock })
}

/// The QEMU of a supervisor that was killed may hold the disk for a moment longer.
async fn hold_disk(paths: &Paths, gib: u32) -> Result<data_disk::Held, data_disk::Error> {
    let deadline = Instant::now() + DISK_PATIENCE;
    loop {
        match data_disk::prepare(paths, gib) {
            Err(data_disk::Error::Locked(_)) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            prepared => return prepared,
        }
    }
}

fn first_status(launch: &Launch, paths: &Paths, name: &Name) -> Status {
    Status {
        engine: Some(launch.engine.name().to_owned()),
        supervisor_pid: Some(std::process::id()),
        docker_socket: Some(paths.docker_socket().display().to_string()),
        buildkit_socket: Some(paths.buildkit_socket().display().to_string()),
        ..Status::new(name, State::Starting, launch.config.clone())
    }
}

/// SIGTERM and SIGINT ask for an orderly end.
fn end_by_signal(down: watch::Sender<bool>) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        down.send_replace(true);
    });
    Ok(())
}

impl Supervisor {
    async fn run(self) {
        let board = Arc::clone(&self.around.board);
        match run::run(self.around.clone(), self.down.clone()).await {
            End::Stopped { orderly } => board.stopped(orderly),
            End::Failed(trouble) => board.failed(trouble),
        }
        // No new client is accepted; those that wait for the end get to read of it before the process is gone.
        sockets::clear(&self.around.paths);
        self.server.abort();
        let deadline = Instant::now() + TELLING;
        // The server's own, which goes with its last client, and this one.
        while Arc::strong_count(&self.untold) > 2 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
