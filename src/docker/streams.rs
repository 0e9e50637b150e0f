//! A container's standard streams, joined to this process's own.

use std::io::{self, Read};

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::query_parameters::AttachContainerOptionsBuilder;
use futures::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::{Builder, Error};

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
pub(super) struct Streams(AttachContainerResults);

impl Streams {
    pub(super) async fn attach(builder: &Builder, container: &str, stdin: bool) -> Result<Self, Error> {
        let options =
            AttachContainerOptionsBuilder::new().stream(true).stdout(true).stderr(true).stdin(stdin);
        let attached = builder.client.attach_container(container, Some(options.build())).await;
        Ok(Self(attached.map_err(|source| Error::from_api("attach to the container", source))?))
    }

    /// Copies until the output ends; stdin goes on beside it, and ends by itself.
    pub(super) async fn copy(self, stdin: bool) -> Output {
        let AttachContainerResults { mut output, mut input } = self.0;
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
