//! The process of an exec: in init's own root, or by runc in that of a service.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use protocol::agent::ExecStart;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::oneshot;

use crate::agent::pty::Pty;
use crate::bundle::{Runc, RuncError};
use crate::process::Exit;
use crate::system::System;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Runc(#[from] RuncError),
    #[error("cannot start {program} in {directory}: the guest has no such directory")]
    NoDirectory { program: String, directory: String },
    #[error("cannot make a terminal or pipes for {program}: {source}")]
    Streams { program: String, source: io::Error },
    #[error("cannot run {program}: {source}")]
    Run { program: String, source: io::Error },
    #[error("{program} got a process number that is none")]
    Pid { program: String },
}

/// A program that runs; of its streams either the terminal or the three pipes are there.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) group: Pid,
    pub(super) end: oneshot::Receiver<Exit>,
    pub(super) pty: Option<Arc<Pty>>,
    pub(super) stdin: Option<Sender>,
    pub(super) stdout: Option<Receiver>,
    pub(super) stderr: Option<Receiver>,
}

#[derive(Default)]
struct Streams {
    pty: Option<Arc<Pty>>,
    stdin: Option<Sender>,
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
}

pub(super) fn start(system: &System, start: &ExecStart) -> Result<Started, Error> {
    let program = || start.command.first().cloned().unwrap_or_default();
    let mut command = if start.service.is_empty() { in_root(start)? } else { in_service(system, start)? };
    let streams =
        attach(&mut command, start).map_err(|source| Error::Streams { program: program(), source })?;
    let child = command.spawn().map_err(|source| Error::Run { program: program(), source })?;
    // The command holds the program's ends of the pipes: while they are open, nobody sees them closed.
    drop(command);
    system.children.started(child.id());
    let end = system.children.end_of(child.id());
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let group = group.ok_or_else(|| Error::Pid { program: program() })?;
    let Streams { pty, stdin, stdout, stderr } = streams;
    Ok(Started { group, end, pty, stdin, stdout, stderr })
}

fn in_root(start: &ExecStart) -> Result<Command, Error> {
    let mut words = start.command.iter();
    let program = words.next().map_or("", String::as_str);
    let mut command = Command::new(program);
    let directory = if start.working_directory.is_empty() { "/" } else { &start.working_directory };
    // The kernel's error for it is the same as for a program that is not there.
    if !Path::new(directory).is_dir() {
        return Err(Error::NoDirectory { program: program.to_owned(), directory: directory.to_owned() });
    }
    command.args(words).env_clear().current_dir(directory);
    let variables = std::iter::once(PATH).chain(start.env.iter().map(String::as_str));
    command.envs(variables.filter_map(|variable| variable.split_once('=')));
    Ok(command)
}

fn in_service(system: &System, start: &ExecStart) -> Result<Command, Error> {
    let runc = Runc::find(&system.children, &system.logs)?;
    let mut command = Command::new(runc.program());
    command.args(Runc::global_args()).args(runc_exec_args(start)).env_clear();
    Ok(command)
}

fn runc_exec_args(start: &ExecStart) -> Vec<String> {
    let mut args = vec!["exec".to_owned()];
    if start.terminal.is_some() {
        args.push("--tty".to_owned());
    }
    if !start.working_directory.is_empty() {
        args.extend(["--cwd".to_owned(), start.working_directory.clone()]);
    }
    args.extend(start.env.iter().flat_map(|variable| ["--env".to_owned(), variable.clone()]));
    args.push(start.service.clone());
    args.extend(start.command.iter().cloned());
    args
}

fn attach(command: &mut Command, start: &ExecStart) -> io::Result<Streams> {
    match start.terminal {
        Some(size) => {
            let (pty, slave) = Pty::open(size)?;
            attach_terminal(command, &slave)?;
            Ok(Streams { pty: Some(Arc::new(pty)), ..Streams::default() })
        }
        None => attach_pipes(command),
    }
}

fn attach_pipes(command: &mut Command) -> io::Result<Streams> {
    let (stdin, to_stdin) = pipe_with(PipeFlags::CLOEXEC)?;
    let (from_stdout, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (from_stderr, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    command.stdin(stdin).stdout(stdout).stderr(stderr).process_group(0);
    Ok(Streams {
        pty: None,
        stdin: Some(Sender::from_owned_fd(to_stdin)?),
        stdout: Some(Receiver::from_owned_fd(from_stdout)?),
        stderr: Some(Receiver::from_owned_fd(from_stderr)?),
    })
}

fn attach_terminal(command: &mut Command, slave: &OwnedFd) -> io::Result<()> {
    let side = || slave.try_clone().map(Stdio::from);
    command.stdin(side()?).stdout(side()?).stderr(side()?);
    let become_leader = || {
        rustix::process::setsid()?;
        // Its standard input is the terminal by now.
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        Ok(())
    };
    // SAFETY: the closure runs in the child between fork and exec, and does nothing but two system calls: it
    // allocates nothing and takes no lock.
    unsafe { command.pre_exec(become_leader) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::agent::WindowSize;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn runc_gets_the_service_before_the_command() {
        let start = ExecStart {
            command: words(&["sh", "-c", "--help"]),
            env: words(&["A=1"]),
            working_directory: "/srv".to_owned(),
            service: "moby".to_owned(),
            terminal: Some(WindowSize { rows: 1, columns: 1 }),
        };
        let expected = ["exec", "--tty", "--cwd", "/srv", "--env", "A=1", "moby", "sh", "-c", "--help"];
        assert_eq!(runc_exec_args(&start), expected);
    }

    #[tokio::test]
    async fn a_program_or_a_directory_that_is_not_there_is_named() {
        let start = ExecStart { command: words(&["/no/such/program"]), ..ExecStart::default() };
        let error = super::start(&System::default(), &start).unwrap_err().to_string();
        assert!(error.starts_with("cannot run /no/such/program: No such file"), "{error}");
        let working_directory = "/nope".to_owned();
        let start = ExecStart { command: words(&["ls"]), working_directory, ..ExecStart::default() };
        let error = super::start(&System::default(), &start).unwrap_err().to_string();
        assert_eq!(error, "cannot start ls in /nope: the guest has no such directory");
    }
}
