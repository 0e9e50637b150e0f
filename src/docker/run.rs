//! Runs one container in the foreground.

use std::future::pending;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::container::Container;
use super::ports::PublishedPort;
use super::pull::{PullPolicy, PullWatcher};
use super::signals::{Signal, Signals, WindowChanges};
use super::streams::{Output, OutputEnd, Streams};
use super::wait::Waiting;
use super::{Builder, Error, Volume, ports};
use crate::registry::credentials::Credential;
use crate::registry::{ImageRef, Platform};
use crate::terminal::{self, Raw};

/// How long a container that was told to end may take, as `docker stop` has it.
const GRACE: Duration = Duration::from_secs(10);
/// What a shell reports for a program that wrote to a closed pipe: 128 and SIGPIPE.
const BROKEN_PIPE: u8 = 141;

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct Request {
    pub image: ImageRef,
    /// Empty: the image's own.
    pub command: Vec<String>,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    pub hostname: Option<String>,
    pub ports: Vec<PublishedPort>,
    /// Ports of this host that are held for the builder's containers now.
    pub held: Vec<u16>,
    /// None: whatever the image is for, the builder's own platform first.
    pub platform: Option<Platform>,
    pub remove: bool,
    pub stdin: bool,
    /// It gets a terminal, which is this process's own.
    pub terminal: Option<Terminal>,
    /// It goes on without this process.
    pub detached: bool,
    pub name: Option<String>,
    pub volumes: Vec<Volume>,
    pub working_directory: Option<String>,
    pub user: Option<String>,
    /// Instead of the image's own.
    pub entrypoint: Option<String>,
    pub network: Option<String>,
    pub pull: PullPolicy,
}

/// A terminal as it is at first.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Rows and columns.
    pub size: (u32, u32),
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, or by a signal that it chose to end by.
    Exited { status: u8, exec_format_error: bool },
    /// A signal came before it ran, or it had to be killed after one.
    Signaled(Signal),
    /// Its user has left it alone, by the keys Ctrl-P and Ctrl-Q; it goes on.
    Left,
}

/// Runs a container to its end, with its output on our own. Signals go to the container; one that is told to end and
/// does not within ten seconds, or is told twice, is killed.
pub async fn run(
    builder: &Builder,
    request: &Request,
    credential: Option<&Credential>,
    signals: &mut Signals,
    watcher: &mut dyn PullWatcher,
) -> Result<Ended, Error> {
    ports::refuse_taken(&request.ports, &request.held)?;
    let container = Container::new(builder);
    let started = tokio::select! {
        started = start(builder, &container, request, credential, watcher) => started,
        signal = signals.next_end() => {
            container.remove().await?;
            return Ok(Ended::Signaled(signal));
        }
    };
    match started {
        Ok((waiting, output)) => {
            let own = request.terminal.filter(|_| terminal::is_stdin());
            let _raw = own.map(|_| Raw::enter()).transpose().map_err(Error::Terminal)?;
            follow(&container, waiting, output, signals, request.terminal.is_some()).await
        }
        Err(error) => Err(given_up(&container, error).await),
    }
}

/// Runs a container that goes on without us, and returns its name; or the signal that came before it ran.
pub async fn start_detached(
    builder: &Builder,
    request: &Request,
    credential: Option<&Credential>,
    signals: &mut Signals,
    watcher: &mut dyn PullWatcher,
) -> Result<Result<String, Signal>, Error> {
    ports::refuse_taken(&request.ports, &request.held)?;
    let container = Container::new(builder);
    let starting = async {
        container.create(request, credential, watcher).await?;
        container.start(request).await
    };
    let started = tokio::select! {
        started = starting => started,
        signal = signals.next_end() => {
            container.remove().await?;
            return Ok(Err(signal));
        }
    };
    match started {
        Ok(()) => Ok(Ok(container.name(request).to_owned())),
        Err(error) => Err(given_up(&container, error).await),
    }
}

/// One that never ran is of no use to anybody. What went wrong first is what counts.
async fn given_up(container: &Container, error: Error) -> Error {
    let _ = container.remove().await;
    error
}

async fn start(
    builder: &Builder,
    container: &Container,
    request: &Request,
    credential: Option<&Credential>,
    watcher: &mut dyn PullWatcher,
) -> Result<(Waiting, JoinHandle<Output>), Error> {
    container.create(request, credential, watcher).await?;
    let streams = Streams::attach(builder, container.key(), request).await?;
    let waiting = Waiting::begin(builder, container.key(), request.remove).await?;
    container.start(request).await?;
    Ok((waiting, tokio::spawn(streams.copy(request.stdin))))
}

async fn follow(
    container: &Container,
    waiting: Waiting,
    mut output: JoinHandle<Output>,
    signals: &mut Signals,
    has_terminal: bool,
) -> Result<Ended, Error> {
    let mut window = WindowChanges::listen()?;
    let status = waiting.status();
    tokio::pin!(status);
    let mut shown = None;
    let mut told: Option<(Signal, Instant)> = None;
    let mut killed = false;
    let status = loop {
        let deadline = told.map(|(_, at)| at).filter(|_| !killed);
        let patience = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            status = &mut status => break status?,
            end = &mut output, if shown.is_none() => {
                let end = end.unwrap_or(Output { end: OutputEnd::Closed, exec_format_error: false });
                shown = Some(end);
                match end.end {
                    OutputEnd::NoReader => container.kill("SIGKILL").await?,
                    // A terminal ends with its container, or with the keys that leave it alone.
                    OutputEnd::Closed if has_terminal && container.is_running().await => return Ok(Ended::Left),
                    OutputEnd::Closed => {}
                }
            }
            () = window.next(), if has_terminal => container.resize(terminal::size()).await,
            signal = signals.next() => {
                killed = signal.ends() && told.is_some();
                container.kill(if killed { "SIGKILL" } else { signal.name() }).await?;
                if signal.ends() && told.is_none() {
                    told = Some((signal, Instant::now() + GRACE));
                }
            }
            () = patience => {
                killed = true;
                container.kill("SIGKILL").await?;
            }
        }
    };
    if shown.is_none() {
        // It ends with its container, and comes as fast as it is read. Who wants no more of it says so.
        tokio::select! {
            end = output => shown = end.ok(),
            _ = signals.next_end() => {}
        }
    }
    Ok(match (told, shown) {
        (Some((signal, _)), _) if killed => Ended::Signaled(signal),
        (_, Some(Output { end: OutputEnd::NoReader, .. })) => {
            Ended::Exited { status: BROKEN_PIPE, exec_format_error: false }
        }
        (_, shown) => {
            Ended::Exited { status, exec_format_error: shown.is_some_and(|shown| shown.exec_format_error) }
        }
    })
}
