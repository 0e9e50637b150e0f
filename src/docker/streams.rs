//! A container's standard streams, joined to this process's own.

use std::io::{self, Read};

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::query_parameters::AttachContainerOptionsBuilder;
use futures::StreamExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::{Builder, Error, Request};

const CHUNK: usize = 32 * 1024;
/// Chunks of stdin that may wait for the container.
const WAITING: usize = 4;

/// How the output ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputEnd {
    /// The container closed it, or the connection did.
    Closed,
    /// Nobody reads our own stdout or stderr any more.
    NoReader,
}

/// What is worth a hint afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Output {
    pub end: OutputEnd,
    /// The kernel refused a program of the container: it is for a processor that nobody emulates here.
    pub exec_format_error: bool,
}

/// Joined before the container starts, so that nothing of its output is missed.
pub(super) enum Streams {
    Apart(AttachContainerResults),
    /// A terminal's: one stream each way, byte for byte. (Bollard would take bytes of it for the head of a piece.)
    Terminal(Upgraded),
}

impl Streams {
    pub(super) async fn attach(builder: &Builder, container: &str, request: &Request) -> Result<Self, Error> {
        let what = "attach to the container";
        if request.terminal.is_some() {
            let path = format!(
                "/containers/{container}/attach?stream=1&stdout=1&stderr=1&stdin={}",
                u8::from(request.stdin)
            );
            let response = builder.post(what, &path, true).await?;
            return Ok(Self::Terminal(hyper::upgrade::on(response).await.map_err(Error::lost)?));
        }
        let options =
            AttachContainerOptionsBuilder::new().stream(true).stdout(true).stderr(true).stdin(request.stdin);
        let attached = builder.client.attach_container(container, Some(options.build())).await;
        Ok(Self::Apart(attached.map_err(|source| Error::from_api(what, source))?))
    }

    /// Copies until the output ends; stdin goes on beside it, and ends by itself.
    pub(super) async fn copy(self, stdin: bool) -> Output {
        match self {
            Self::Apart(streams) => copy_apart(streams, stdin).await,
            Self::Terminal(stream) => copy_terminal(stream, stdin).await,
        }
    }
}

async fn copy_apart(
    AttachContainerResults { mut output, mut input }: AttachContainerResults,
    stdin: bool,
) -> Output {
    if stdin {
        tokio::spawn(copy_stdin(input));
    } else {
        let _ = input.shutdown().await;
    }
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    let mut exec_format_error = false;
    while let Some(Ok(chunk)) = output.next().await {
        let written = match chunk {
            LogOutput::StdErr { message } => {
                exec_format_error |= contains(&message, b"exec format error");
                write(&mut stderr, &message).await
            }
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                write(&mut stdout, &message).await
            }
            LogOutput::StdIn { .. } => Ok(()),
        };
        if written.is_err() {
            return Output { end: OutputEnd::NoReader, exec_format_error };
        }
    }
    Output { end: OutputEnd::Closed, exec_format_error }
}

async fn copy_terminal(stream: Upgraded, stdin: bool) -> Output {
    let (mut output, input) = tokio::io::split(TokioIo::new(stream));
    // Kept, as the end of one direction would end the other.
    let _input = if stdin { Err(tokio::spawn(copy_stdin(input))) } else { Ok(input) };
    let mut stdout = tokio::io::stdout();
    let mut buffer = vec![0; CHUNK];
    let mut exec_format_error = false;
    while let Ok(count) = output.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        exec_format_error |= contains(bytes, b"exec format error");
        if write(&mut stdout, bytes).await.is_err() {
            return Output { end: OutputEnd::NoReader, exec_format_error };
        }
    }
    Output { end: OutputEnd::Closed, exec_format_error }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// A read of stdin cannot be cancelled, so it has a thread of its own that nobody waits for.
async fn copy_stdin(mut input: impl AsyncWrite + Unpin) {
    let (chunks, mut receiver) = mpsc::channel::<Vec<u8>>(WAITING);
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        loop {
            match io::stdin().read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    let chunk = buffer.iter().take(count).copied().collect();
                    if chunks.blocking_send(chunk).is_err() {
                        return;
                    }
                }
            }
        }
    });
    while let Some(chunk) = receiver.recv().await {
        if write(&mut input, &chunk).await.is_err() {
            return;
        }
    }
    // The end of stdin reaches the container; its output goes on.
    let _ = input.shutdown().await;
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
