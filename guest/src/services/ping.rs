//! Whether dockerd answers: one real request, once it has said that it is ready.

use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use crate::http;
use crate::logs::Logs;

/// Where dockerd listens.
pub(crate) const DOCKER_SOCKET: &str = "/run/docker.sock";
const REQUEST: &[u8] = b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n";
/// On a machine that emulates its processor and has other work to do.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two requests.
const PAUSE: Duration = Duration::from_millis(250);

/// Why dockerd does not count as ready.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot reach {DOCKER_SOCKET}: {0}")]
    Connect(#[from] std::io::Error),
    #[error("no answer from {DOCKER_SOCKET} to GET /_ping: {0}")]
    Answer(#[from] http::Error),
    #[error("{DOCKER_SOCKET} answered GET /_ping with status {0}")]
    Status(u16),
    #[error("{DOCKER_SOCKET} did not answer GET /_ping within {} seconds", DEADLINE.as_secs())]
    Deadline,
}

/// Asks until there is an answer, since one request may break, or be answered too late on a busy machine. Returns
/// whether there is a dockerd to ask.
pub(super) async fn until_answered(logs: &Logs) -> bool {
    retry(ping, logs).await
}

async fn retry<F: Future<Output = Result<bool, Error>>>(ask: impl Fn() -> F, logs: &Logs) -> bool {
    let mut said = String::new();
    loop {
        match ask().await {
            Ok(there_is_one) => return there_is_one,
            // Once is enough of a dockerd that stays away.
            Err(error) if error.to_string() == said => {}
            Err(error) => {
                said = error.to_string();
                logs.say(&said);
            }
        }
        sleep(PAUSE).await;
    }
}

async fn ping() -> Result<bool, Error> {
    if !Path::new(DOCKER_SOCKET).exists() {
        return Ok(false);
    }
    timeout(DEADLINE, ask()).await.unwrap_or(Err(Error::Deadline)).map(|()| true)
}

async fn ask() -> Result<(), Error> {
    let mut stream = UnixStream::connect(DOCKER_SOCKET).await?;
    stream.write_all(REQUEST).await?;
    match http::read_head(&mut stream).await?.status {
        200 => Ok(()),
        status => Err(Error::Status(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::INIT;
    use std::cell::Cell;

    #[tokio::test]
    async fn what_fails_is_asked_again_and_told_once() {
        let logs = Logs::default();
        let asked = Cell::new(0);
        let ask = || async {
            asked.set(asked.get() + 1);
            if asked.get() < 3 { Err(Error::Status(500)) } else { Ok(true) }
        };
        assert!(retry(ask, &logs).await);
        assert_eq!(logs.last(INIT, 9), ["/run/docker.sock answered GET /_ping with status 500"]);
    }
}
