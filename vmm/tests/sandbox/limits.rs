//! What the process as a whole may no longer do, without any filter.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use rustix::process::{Pid, Resource, getrlimit, test_kill_process};
use vmm::sandbox::{self, Limits, Missing, SandboxError};

use crate::child::{enter, enter_with, start};
use crate::skip::left_out;

#[test]
fn files_ports_and_processes_are_shut_but_what_is_open_works() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, "of the host").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ended = start(&format!("shut {} {port}", path.display()));
    ended.well();
    if ended.said.contains("not here") {
        return left_out("Landlock");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "of the guest");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing was made");
}

pub(crate) fn shut(words: &[&str]) {
    let path = Path::new(words[0]);
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let (_, missing) = enter_with(&Limits::of_machine(8 << 20, 2));
    if missing.contains(&Missing::Landlock) || missing.contains(&Missing::LandlockIsOff) {
        return eprintln!("Landlock is not here");
    }
    let refused = |result: std::io::Result<()>| {
        let error = result.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{error}");
    };
    refused(File::open(path).map(drop));
    refused(File::create(path.with_added_extension("new")).map(drop));
    refused(std::fs::read_dir(path.parent().unwrap()).map(drop));
    refused(std::fs::remove_file(path));
    refused(std::fs::rename(path, path.with_added_extension("new")));
    refused(std::os::unix::net::UnixListener::bind(path.with_added_extension("s")).map(drop));
    refused(std::process::Command::new("/bin/true").spawn().map(drop));
    if !missing.contains(&Missing::LandlockNetwork) {
        refused(TcpStream::connect(("127.0.0.1", words[1].parse().unwrap())).map(drop));
        refused(TcpListener::bind("127.0.0.1:0").map(drop));
    }
    if !missing.contains(&Missing::LandlockScopes) {
        let parent = Pid::from_raw(std::os::unix::process::parent_id().cast_signed()).unwrap();
        assert_eq!(test_kill_process(parent), Err(rustix::io::Errno::PERM));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "of the host");
    file.set_len(0).unwrap();
    file.rewind().unwrap();
    file.write_all(b"of the guest").unwrap();
}

#[test]
fn memory_descriptors_and_dumps_have_an_end() {
    start("limited").well();
}

pub(crate) fn limited() {
    let limits = Limits { data: 64 << 20, descriptors: 40 };
    enter_with(&limits);
    assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
    let mut much: Vec<u8> = Vec::new();
    much.try_reserve_exact(80 << 20).unwrap_err();
    much.try_reserve_exact(16 << 20).unwrap();
    let mut copies = Vec::new();
    let error = loop {
        match rustix::io::dup(std::io::stderr()) {
            Ok(copy) => copies.push(copy),
            Err(error) => break error,
        }
    };
    assert_eq!(error, rustix::io::Errno::MFILE);
    assert!((10..40).contains(&copies.len()), "{}", copies.len());
    drop(copies);
    // Another one neither fails nor raises anything.
    enter();
    assert_eq!(getrlimit(Resource::Data).maximum, Some(64 << 20));
    assert_eq!(getrlimit(Resource::Nofile).maximum, Some(40));
}

#[test]
fn a_process_with_other_threads_is_refused() {
    start("threads").well();
}

pub(crate) fn threads() {
    let thread = std::thread::spawn(std::thread::park);
    let error = sandbox::enter(&Limits::of_machine(8 << 20, 1)).unwrap_err();
    assert!(matches!(error, SandboxError::Threads));
    assert_eq!(
        error.to_string(),
        "cannot confine a process that has other threads: they would be left outside"
    );
    thread.thread().unpark();
    thread.join().unwrap();
}

#[test]
fn a_machine_may_have_its_memory_and_something_for_itself() {
    let limits = Limits::of_machine(1 << 30, 4);
    assert_eq!(limits.data, (1 << 30) + (164 << 20) + 4 * (4 << 20));
    assert_eq!(Limits::of_machine(u64::MAX, 255).data, u64::MAX);
}
