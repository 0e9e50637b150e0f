//! A pipe whose other end a program writes to, read line by line into the logs.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;

use crate::logs::Logs;

/// The end to give to programs, and the task that reads until all of them have closed it.
pub(crate) fn capture(logs: &Logs, source: &str) -> io::Result<(OwnedFd, JoinHandle<()>)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let receiver = Receiver::from_owned_fd(read)?;
    let task = tokio::spawn(read_lines(receiver, logs.clone(), source.to_owned()));
    Ok((write, task))
}

async fn read_lines(mut receiver: Receiver, logs: Logs, source: String) {
    let mut writer = logs.writer(&source);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match receiver.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => writer.write(buffer.get(..length).unwrap_or_default()),
        }
    }
    writer.finish();
}
