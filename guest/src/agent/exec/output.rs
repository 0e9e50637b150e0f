//! What a program prints, on its way to the caller.

use std::sync::Arc;
use std::time::Duration;

use protocol::agent::ExecOutput;
use protocol::agent::exec_output::Output;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Outputs;
use super::command::Started;
use crate::agent::pty::Pty;

const BUFFER: usize = 32 * 1024;

/// How long a stream may be silent when the program itself has ended: one that it left in the background may hold the
/// pipes for ever.
const SILENCE: Duration = Duration::from_millis(500);

/// One task for each stream that there is. `ended` turns true with the program's end.
pub(super) fn readers(
    started: &mut Started,
    outputs: &Outputs,
    ended: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let mut readers = Vec::new();
    if let Some(pty) = &started.pty {
        readers.push(tokio::spawn(read_pty(Arc::clone(pty), outputs.clone(), ended.clone())));
    }
    if let Some(stdout) = started.stdout.take() {
        readers.push(tokio::spawn(read_pipe(stdout, outputs.clone(), ended.clone(), Output::Stdout)));
    }
    if let Some(stderr) = started.stderr.take() {
        readers.push(tokio::spawn(read_pipe(stderr, outputs.clone(), ended.clone(), Output::Stderr)));
    }
    readers
}

async fn read_pipe(
    mut pipe: Receiver,
    outputs: Outputs,
    mut ended: watch::Receiver<bool>,
    wrap: fn(Vec<u8>) -> Output,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = tokio::select! {
            read = pipe.read(&mut buffer) => read.unwrap_or(0),
            () = ended_and_silent(&mut ended) => 0,
        };
        if !send(&outputs, buffer.get(..length).unwrap_or_default(), wrap).await {
            return;
        }
    }
}

async fn read_pty(pty: Arc<Pty>, outputs: Outputs, mut ended: watch::Receiver<bool>) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = tokio::select! {
            read = pty.read(&mut buffer) => read.unwrap_or(0),
            () = ended_and_silent(&mut ended) => 0,
        };
        if !send(&outputs, buffer.get(..length).unwrap_or_default(), Output::Stdout).await {
            return;
        }
    }
}

async fn ended_and_silent(ended: &mut watch::Receiver<bool>) {
    // That the sender is gone means the end too.
    drop(ended.wait_for(|ended| *ended).await);
    tokio::time::sleep(SILENCE).await;
}

/// Whether there may be more: nothing to send is the end of a stream.
async fn send(outputs: &Outputs, bytes: &[u8], wrap: fn(Vec<u8>) -> Output) -> bool {
    !bytes.is_empty() && outputs.send(Ok(ExecOutput { output: Some(wrap(bytes.to_vec())) })).await.is_ok()
}
