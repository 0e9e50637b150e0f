//! `mvm exec`: a program in the guest itself, for looking around.

use std::io::Write;

use futures::StreamExt;
use protocol::agent::exec_input::Input;
use protocol::agent::exec_output::Output;
use protocol::agent::{ExecInput, ExecStart, StdinClosed, WindowSize};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::output::written;
use super::{Context, Failure};
use crate::agent::{self, Agent};
use crate::terminal;

/// Run a program in the guest
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: the program's own; 128 and the signal's number when a signal ended it.")]
pub struct Args {
    /// Pass stdin to the program; without -t a Ctrl-C then hangs up instead of being passed on
    #[arg(long, short)]
    interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// Run it inside this service instead of the guest's own root
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Set a variable (repeatable)
    #[arg(long, short, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Where it starts
    #[arg(long, short, value_name = "DIRECTORY")]
    workdir: Option<String>,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("-t wants a terminal, and standard input is none; leave -t out")]
    NoTerminal,
    #[error("the connection to the guest was lost before the program ended")]
    Lost,
}

/// What runs in the guest.
pub(super) struct Program {
    pub(super) command: Vec<String>,
    /// `KEY=VALUE`.
    pub(super) env: Vec<String>,
    pub(super) workdir: Option<String>,
    pub(super) service: Option<String>,
}

/// What of this process it is joined to, beside the output.
#[derive(Clone, Copy)]
pub(super) struct Attached {
    pub(super) stdin: bool,
    pub(super) terminal: bool,
}

pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    if args.tty && !terminal::is_stdin() {
        return Err(Failure::usage(Error::NoTerminal));
    }
    let attached = Attached { stdin: args.interactive, terminal: args.tty };
    let program =
        Program { command: args.command, env: args.env, workdir: args.workdir, service: args.service };
    run_program(context, program, attached).await
}

/// Runs it as if it ran here, and ends as it did.
pub(super) async fn run_program(
    context: &Context,
    program: Program,
    attached: Attached,
) -> Result<(), Failure> {
    let agent = Agent::at(&context.paths().agent_socket()).await.map_err(failure)?;
    let (input, receiver) = mpsc::channel(16);
    let start = ExecStart {
        command: program.command,
        env: program.env,
        working_directory: program.workdir.unwrap_or_default(),
        service: program.service.unwrap_or_default(),
        terminal: attached.terminal.then(window),
    };
    // The channel is empty: there is room.
    let _ = input.try_send(message(Input::Start(start)));
    let _raw = if attached.terminal { Some(terminal::Raw::enter()?) } else { None };
    if attached.stdin {
        tokio::spawn(forward_stdin(input.clone()));
    } else {
        let _ = input.try_send(message(Input::StdinClosed(StdinClosed {})));
    }
    // A signal would wait behind input that the program may never read. Then it ends this one, as it would end ssh, and
    // the guest hangs up on a program whose caller is gone.
    if attached.terminal || !attached.stdin {
        tokio::spawn(forward_signals(input, attached.terminal));
    }
    let stream = futures::stream::unfold(receiver, |mut receiver| async {
        let next = receiver.recv().await?;
        Some((next, receiver))
    });
    let status = copy_output(agent.exec(stream.boxed()).await.map_err(failure)?).await?;
    if status == 0 { Ok(()) } else { Err(Failure::Status(u8::try_from(status).unwrap_or(1))) }
}

fn failure(error: agent::Error) -> Failure {
    if error.is_no_machine() { Failure::no_machine(error) } else { Failure::from(error) }
}

async fn copy_output(mut output: tonic::Streaming<protocol::agent::ExecOutput>) -> Result<i32, Failure> {
    let broken = |status| failure(agent::Error::of("run the program")(status));
    while let Some(message) = output.message().await.map_err(broken)? {
        match message.output {
            Some(Output::Stdout(bytes)) => {
                let mut stdout = std::io::stdout().lock();
                written(stdout.write_all(&bytes).and_then(|()| stdout.flush()))?;
            }
            Some(Output::Stderr(bytes)) => std::io::stderr().lock().write_all(&bytes)?,
            Some(Output::Ended(ended)) => return Ok(ended.exit_status),
            None => {}
        }
    }
    Err(Failure::no_machine(Error::Lost))
}

async fn forward_stdin(input: mpsc::Sender<ExecInput>) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = stdin.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        if input.send(message(Input::Stdin(bytes.to_vec()))).await.is_err() {
            return;
        }
    }
    let _ = input.send(message(Input::StdinClosed(StdinClosed {}))).await;
}

/// What ends a program here ends it there; a terminal sends its own keys, and tells when it changes its size.
async fn forward_signals(input: mpsc::Sender<ExecInput>, tty: bool) {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::window_change()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut window_change)] = kinds else { return };
    loop {
        let next = tokio::select! {
            _ = interrupt.recv() => Input::Signal(SignalKind::interrupt().as_raw_value()),
            _ = terminate.recv() => Input::Signal(SignalKind::terminate().as_raw_value()),
            _ = window_change.recv(), if tty => Input::Resize(window()),
        };
        if input.send(message(next)).await.is_err() {
            return;
        }
    }
}

fn window() -> WindowSize {
    let (rows, columns) = terminal::size();
    WindowSize { rows, columns }
}

fn message(input: Input) -> ExecInput {
    ExecInput { input: Some(input) }
}
