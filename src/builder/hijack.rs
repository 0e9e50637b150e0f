//! The stream that carries a session to an instance of ours: a connection to its dockerd that becomes the session's (moby,
//! `api/server/router/session`). In an RPC of BuildKit's (`tunnel`) the daemon would take every byte apart twice.

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tonic::metadata::MetadataMap;

/// A longer answer is none that dockerd gives.
const HEAD: usize = 16 * 1024;
const SWITCHED: &[u8] = b"HTTP/1.1 101 ";

/// Opens the stream, on which the daemon knows the session by `headers`.
pub(crate) async fn open(docker: &Path, headers: MetadataMap) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(docker).await?;
    let mut request =
        b"POST /session HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n".to_vec();
    for (name, value) in &headers.into_headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            request.extend_from_slice(part);
        }
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    let mut head = Vec::new();
    // Byte by byte, because what comes behind the head is the session's.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD {
            return Err(io::Error::other("its answer has no end"));
        }
        head.push(stream.read_u8().await?);
    }
    if head.starts_with(SWITCHED) {
        return Ok(stream);
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    Err(io::Error::other(format!("it answered {:?}", String::from_utf8_lossy(line))))
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// What comes of it where a daemon answers so; and what the daemon was told.
    async fn opened(answer: &'static [u8]) -> (io::Result<UnixStream>, String) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut told = Vec::new();
            while !told.ends_with(b"\r\n\r\n") {
                told.push(stream.read_u8().await.unwrap());
            }
            // Whoever has read enough may be gone before all of it is written.
            let _ = stream.write_all(answer).await;
            String::from_utf8(told).unwrap()
        });
        let mut headers = MetadataMap::new();
        headers.insert("x-name", "value".parse().unwrap());
        headers.append("x-method", "/a".parse().unwrap());
        headers.append("x-method", "/b".parse().unwrap());
        (open(&socket, headers).await, daemon.await.unwrap())
    }

    #[tokio::test]
    async fn what_follows_the_answer_is_the_session_s() {
        let (stream, told) = opened(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: h2c\r\n\r\nPRI * HTTP/2.0").await;
        let mut following = String::new();
        stream.unwrap().read_to_string(&mut following).await.unwrap();
        assert_eq!(following, "PRI * HTTP/2.0");
        let mut lines: Vec<&str> = told.trim_end().split("\r\n").collect();
        assert_eq!(lines.remove(0), "POST /session HTTP/1.1");
        lines.sort_unstable();
        let headers = [
            "Connection: Upgrade",
            "Host: docker",
            "Upgrade: h2c",
            "x-method: /a",
            "x-method: /b",
            "x-name: value",
        ];
        assert_eq!(lines, headers);
    }

    #[tokio::test]
    async fn a_daemon_that_takes_no_session() {
        let (stream, _) = opened(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(stream.unwrap_err().to_string(), "it answered \"HTTP/1.1 404 Not Found\"");
        let (stream, _) = opened(b"HTTP/1.1 101").await;
        assert_eq!(stream.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (stream, _) = opened(&[b'x'; HEAD + 1]).await;
        assert_eq!(stream.unwrap_err().to_string(), "its answer has no end");
    }
}
