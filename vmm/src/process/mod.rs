//! The process of one machine: receives its orders from the supervisor, runs the machine, and reports how it ended.
//!
//! The main thread starts QEMU and waits for events; the device has threads of its own; one more reads orders. When
//! the supervisor's socket closes, for whatever reason, the machine ends.

mod machine;

use std::os::fd::OwnedFd;
use std::sync::mpsc;

use crate::control::{Channel, ChannelError, ChannelReader, FromMachine, MachineConfig, Outcome, ToMachine};
use crate::devices::vsock::Dial;
use crate::engine::tcg::Report;
use crate::transport::vhost_user::Lost;

/// Why there was no machine to report the end of.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("the supervisor sent no start")]
    NoStart,
    #[error("cannot talk to the supervisor")]
    Channel(#[from] ChannelError),
    #[error("cannot start a thread that reads orders")]
    Thread(#[source] std::io::Error),
}

/// What the main thread waits for.
#[derive(Debug)]
enum Event {
    Order(ToMachine, Option<OwnedFd>),
    /// The supervisor closed its end, or broke the protocol.
    SupervisorGone,
    Dial(Dial),
    Engine(Report),
    Device(Lost),
}

/// Runs one machine from its start to its end; returns the outcome that was also reported. Has to be called from the
/// main thread: QEMU is killed when the calling thread ends.
pub fn run((channel, mut reader): (Channel, ChannelReader)) -> Result<Outcome, ProcessError> {
    let (config, network) = receive_start(&mut reader)?;
    allow_many_descriptors();
    let (events, waiting) = mpsc::channel();
    let orders = events.clone();
    let listening = std::thread::Builder::new()
        .name("orders".to_owned())
        .spawn(move || read_orders(reader, &orders))
        .map_err(ProcessError::Thread)?;
    let outcome = match machine::run(&config, network, &channel, &events, &waiting) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed(with_causes(&error)),
    };
    // The supervisor may be gone; then nobody is left to be told.
    if let Err(error) = channel.send(&FromMachine::Ended(outcome.clone()), None) {
        tracing::debug!(%error, "nobody hears of the machine's end");
    }
    channel.close();
    let _ = listening.join();
    Ok(outcome)
}

/// Each connection is a descriptor, and the usual limit of 1024 is kept for programs that use `select`; we do not.
fn allow_many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open descriptors stays as it is");
    }
}

fn receive_start(reader: &mut ChannelReader) -> Result<(MachineConfig, Option<OwnedFd>), ProcessError> {
    match reader.receive()? {
        Some((ToMachine::Start(config), network)) => Ok((config, network)),
        _ => Err(ProcessError::NoStart),
    }
}

fn read_orders(mut reader: ChannelReader, events: &mpsc::Sender<Event>) {
    loop {
        match reader.receive() {
            Ok(Some((order, descriptor))) => {
                if events.send(Event::Order(order, descriptor)).is_err() {
                    return;
                }
            }
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the supervisor cannot be understood"
                );
                break;
            }
        }
    }
    let _ = events.send(Event::SupervisorGone);
}

/// An error and its causes in one sentence.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread::{self, JoinHandle};

    use super::*;
    use crate::control::Engine;

    type Running = JoinHandle<Result<Outcome, ProcessError>>;

    /// A machine whose engine is a shell script.
    fn start(script: &str) -> (Channel, ChannelReader, Running) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let console = directory.path().join("console");
        let running = thread::spawn(move || {
            let _directory = directory;
            run(Channel::new(theirs)?)
        });
        let (channel, reader) = Channel::new(ours).unwrap();
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let config = MachineConfig {
            engine: Engine::Tcg { command },
            cpus: 1,
            memory_mib: 64,
            kernel: "kernel".into(),
            cmdline: String::new(),
            root: "root".into(),
            data: "data".into(),
            console,
        };
        channel.send(&ToMachine::Start(config), None).unwrap();
        (channel, reader, running)
    }

    #[test]
    fn an_engine_that_fails_is_reported_with_its_last_words() {
        let (_channel, mut reader, running) = start("echo no such machine >&2; exit 3");
        let expected = "QEMU failed (exit status: 3); it said: no such machine";
        let (ended, _) = reader.receive::<FromMachine>().unwrap().unwrap();
        assert_eq!(ended, FromMachine::Ended(Outcome::Failed(expected.to_owned())));
        assert!(reader.receive::<FromMachine>().unwrap().is_none(), "that is the last message");
        running.join().unwrap().unwrap();
    }

    #[test]
    fn a_supervisor_that_goes_away_ends_the_machine() {
        let (channel, reader, running) = start("exec sleep 600");
        drop((channel, reader));
        assert_eq!(running.join().unwrap().unwrap(), Outcome::Killed);
    }

    #[test]
    fn kill_ends_the_machine_and_is_reported() {
        let (channel, mut reader, running) = start("exec sleep 600");
        channel.send(&ToMachine::Kill, None).unwrap();
        let (ended, _) = reader.receive::<FromMachine>().unwrap().unwrap();
        assert_eq!(ended, FromMachine::Ended(Outcome::Killed));
        running.join().unwrap().unwrap();
    }

    #[test]
    fn without_a_start_there_is_no_machine() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (channel, _reader) = Channel::new(ours).unwrap();
        channel.send(&ToMachine::Kill, None).unwrap();
        let error = run(Channel::new(theirs).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "the supervisor sent no start");
    }
}
