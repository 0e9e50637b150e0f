//! Programs that the host runs in the guest, or in a service's container.

mod command;
mod output;

use std::sync::Arc;
use std::time::Duration;

use protocol::agent::exec_input::Input;
use protocol::agent::exec_output::Output;
use protocol::agent::{ExecEnded, ExecInput, ExecOutput, ExecStart};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::Sender as PipeSender;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt};
use tonic::{Status, Streaming};

use self::command::Started;
use super::pty::Pty;
use super::streams::Answers;
use crate::process::Exit;
use crate::system::System;

type Outputs = Sender<Result<ExecOutput, Status>>;

/// What a program gets to clean up in when its caller went away.
const HANG_UP: Duration = Duration::from_secs(2);

/// Where input goes.
enum Terminal {
    Pipe(Option<PipeSender>),
    Pty(Arc<Pty>),
}

/// Starts what the first message names; what it prints comes in the answers.
pub(super) async fn start(
    system: &Arc<System>,
    mut input: Streaming<ExecInput>,
) -> Result<Answers<ExecOutput>, Status> {
    let Some(Input::Start(start)) = input.message().await?.and_then(|message| message.input) else {
        return Err(Status::invalid_argument("the first message of an exec has to be its start"));
    };
    check(system, &start)?;
    let (sender, receiver) = channel(16);
    let started =
        command::start(system, &start).map_err(|error| Status::failed_precondition(error.to_string()))?;
    tokio::spawn(run(started, input, sender));
    Ok(receiver)
}

fn check(system: &System, start: &ExecStart) -> Result<(), Status> {
    if start.command.is_empty() {
        return Err(Status::invalid_argument("an exec needs a command"));
    }
    if !start.service.is_empty() && !system.services.has(&start.service) {
        return Err(Status::not_found(format!("there is no service called {}", start.service)));
    }
    Ok(())
}

async fn run(
    mut started: Started,
    mut input: impl Stream<Item = Result<ExecInput, Status>> + Unpin,
    outputs: Outputs,
) {
    let (ended, has_ended) = watch::channel(false);
    let readers = output::readers(&mut started, &outputs, &has_ended);
    let mut terminal = match started.pty.take() {
        Some(pty) => Terminal::Pty(pty),
        None => Terminal::Pipe(started.stdin.take()),
    };
    let group = started.group;
    let feeding = async {
        while let Some(Ok(message)) = input.next().await {
            if let Some(message) = message.input {
                feed(&mut terminal, group, message).await;
            }
        }
        // The caller says nothing more: for a program without a terminal that is the end of its input.
        if let Terminal::Pipe(stdin) = &mut terminal {
            *stdin = None;
        }
        std::future::pending::<()>().await;
    };
    let exit = tokio::select! {
        exit = &mut started.end => exit,
        () = outputs.closed() => return hang_up(&mut started).await,
        () = feeding => return,
    };
    ended.send_replace(true);
    for reader in readers {
        // It only fails when the task panicked; then its stream is over.
        drop(reader.await);
    }
    let exit_status = exit.unwrap_or(Exit::Signal(libc::SIGKILL)).shell_status();
    let last = Output::Ended(ExecEnded { exit_status });
    drop(outputs.send(Ok(ExecOutput { output: Some(last) })).await);
}

async fn feed(terminal: &mut Terminal, group: Pid, input: Input) {
    match (input, terminal) {
        (Input::Stdin(bytes), Terminal::Pipe(stdin)) => {
            if let Some(pipe) = stdin
                && pipe.write_all(&bytes).await.is_err()
            {
                *stdin = None;
            }
        }
        (Input::StdinClosed(_), Terminal::Pipe(stdin)) => *stdin = None,
        // A terminal that is gone ends the program too, and that is reported.
        (Input::Stdin(bytes), Terminal::Pty(pty)) => drop(pty.write_all(&bytes).await),
        // What Ctrl-D sends (VEOF).
        (Input::StdinClosed(_), Terminal::Pty(pty)) => drop(pty.write_all(&[4]).await),
        (Input::Resize(size), Terminal::Pty(pty)) => drop(pty.resize(size)),
        (Input::Signal(number), _) => {
            if let Some(signal) = Signal::from_named_raw(number) {
                let _ = kill_process_group(group, signal);
            }
        }
        (Input::Resize(_), Terminal::Pipe(_)) | (Input::Start(_), _) => {}
    }
}

/// The caller went away. runc hands a hang-up on to the program in the container; killed, it could not.
async fn hang_up(started: &mut Started) {
    let _ = kill_process_group(started.group, Signal::HUP);
    if timeout(HANG_UP, &mut started.end).await.is_err() {
        let _ = kill_process_group(started.group, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::reaper_of_a_test;
    use rustix::process::test_kill_process_group;

    #[tokio::test]
    async fn a_caller_who_goes_ends_a_program_that_does_not_read_its_input() {
        let (children, _turn) = reaper_of_a_test().await;
        let system = System { children, ..System::default() };
        let command = vec!["sleep".to_owned(), "1000".to_owned()];
        let started = command::start(&system, &ExecStart { command, ..ExecStart::default() }).unwrap();
        let group = started.group;
        let more_than_a_pipe_holds = Input::Stdin(vec![0; 1024 * 1024]);
        let input = tokio_stream::iter([Ok(ExecInput { input: Some(more_than_a_pipe_holds) })]);
        let (outputs, answers) = channel(1);
        let running = tokio::spawn(run(started, input, outputs));
        tokio::task::yield_now().await;
        drop(answers);
        running.await.unwrap();
        // The last of the group is gone when its parent has heard of it.
        let gone = async {
            while test_kill_process_group(group).is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(60), gone).await.expect("the group ends");
    }
}
