//! The process of one machine, as its supervisor sees it: its engine is a process, too. Here, and not beside the code: what is being
//! started has copies of all descriptors until its exec, and other tests see to it that theirs are closed.
#![cfg(target_os = "linux")]

use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use vmm::control::{Channel, ChannelReader, Engine, FromMachine, MachineConfig, Outcome, ToMachine};
use vmm::engine::tcg::{TcgError, check};
use vmm::process::{ProcessError, run};

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
        initrd: None,
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

#[test]
fn a_missing_program_names_the_package() {
    let error = check(&["/nonexistent/qemu".to_owned()]).unwrap_err();
    let expected = "cannot run /nonexistent/qemu; install the package qemu-system-x86 (QEMU 10 or later)";
    assert_eq!(error.to_string(), expected);
    assert_eq!(check(&[]).unwrap_err().to_string(), TcgError::NoCommand.to_string());
}
