//! What a machine process says, without a machine.

use std::os::unix::net::UnixStream;

use vmm::control::{Engine, SupervisorEnd};

use super::again::AGAIN;
use super::*;
use crate::instance::{Config, tests::scratch};
use crate::supervisor::protocol::{Event, State, Status};

/// A run, and the machine process's end of its channel.
fn run(paths: Paths) -> (Run, UnixStream) {
    let config = Config::for_host(2, 0);
    let status = Status::new(&"test".parse().unwrap(), State::Starting, config.clone());
    let launch = Launch {
        config,
        kernel: "/k".into(),
        root: "/r".into(),
        cmdline: String::new(),
        engine: Engine::Kvm,
        passt: vec!["passt".into()],
    };
    let board = Arc::new(Board::new(paths.state(), status));
    let around = Surroundings { launch: Arc::new(launch), paths, board, leases: Leases::default() };
    let (ours, machines) = UnixStream::pair().unwrap();
    let SupervisorEnd { sender, .. } = SupervisorEnd::new(ours).unwrap();
    (Run::new(around, sender, mpsc::channel(1).0, Again::default()), machines)
}

#[tokio::test]
async fn what_a_started_machine_lacks_stands_in_its_status() {
    let (_directory, paths) = scratch();
    let (mut run, _machine) = run(paths);
    let lacks = vec!["this kernel has no Landlock".to_owned(), "io_uring is forbidden here".to_owned()];
    assert!(run.told(Ok(Some(FromMachine::Started { lacks: lacks.clone() }))).is_continue());
    let board = &run.around.board;
    assert_eq!(board.status().lacks, lacks);
    assert!(matches!(&board.events_from(0)[..], [Event::Stage { name, .. }] if name == "machine"));
}

#[tokio::test]
async fn a_guest_that_reset_itself_is_a_failure_that_says_so() {
    let (_directory, paths) = scratch();
    let (run, _machine) = run(paths);
    let End::Failed(trouble) = run.finish(Outcome::Reset) else { panic!("it did not fail") };
    assert_eq!(trouble.reason, "the guest reset itself, as after a kernel panic; see its console");
}

#[tokio::test]
async fn only_a_start_under_qemu_without_a_word_is_done_again_and_only_so_often() {
    let (_directory, paths) = scratch();
    let (mut run, _machine) = run(paths);
    assert_eq!(run.fault_of_qemu(&Outcome::Reset), None, "not on KVM");
    run.again = Again { after_reset: 1, after_silence: 1 };
    let (reset, left) = run.fault_of_qemu(&Outcome::Reset).unwrap();
    assert_eq!((reset.as_str(), left.after_silence), ("reset itself before its first word", 1));
    assert_eq!(run.fault_of_qemu(&Outcome::PoweredOff), None);
    (run.again, run.killed) = (left, true);
    assert_eq!(run.fault_of_qemu(&Outcome::Killed), None, "not for that");
    (run.was_silent, run.was_heard) = (true, true);
    let (silent, left) = run.fault_of_qemu(&Outcome::Killed).unwrap();
    assert_eq!((silent.as_str(), left), ("has said nothing for 60 s", Again::default()));
    (run.again, run.was_heard) = (left, false);
    assert_eq!(run.fault_of_qemu(&Outcome::Reset).or(run.fault_of_qemu(&Outcome::Killed)), None, "no more");
    (run.again, run.stopping) = (AGAIN, true);
    assert_eq!(run.fault_of_qemu(&Outcome::Reset), None, "somebody asked for it");
    (run.stopping, run.was_heard, run.was_silent) = (false, true, false);
    assert_eq!(run.fault_of_qemu(&Outcome::Reset), None, "by then the disk may be in use");
}
