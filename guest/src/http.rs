//! The little of HTTP/1.1 that init speaks itself: the head of a response (RFC 9112, section 4).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// A longer head is none that dockerd sends.
const LIMIT: usize = 16 * 1024;

/// Why no head could be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the answer could not be read: {0}")]
    Read(#[from] io::Error),
    #[error("the connection was closed before an answer came")]
    Closed,
    #[error("the answer is not HTTP/1.1")]
    NotHttp,
    #[error("the answer's head is longer than {LIMIT} bytes")]
    TooLong,
}

/// A response's status, and the bytes that came behind its head in the same reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) following: Vec<u8>,
}

/// Reads until the empty line that ends a head.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Result<Head, Error> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if let Some(head) = split(&bytes)? {
            return Ok(head);
        }
        if bytes.len() > LIMIT {
            return Err(Error::TooLong);
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(Error::Closed);
        }
    }
}

/// The head in `bytes`, if all of it is there.
fn split(bytes: &[u8]) -> Result<Option<Head>, Error> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let (head, rest) = bytes.split_at(end);
    let status = head
        .strip_prefix(b"HTTP/1.1 ")
        .and_then(|line| line.get(..3))
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .ok_or(Error::NotHttp)?;
    Ok(Some(Head { status, following: rest.get(4..).unwrap_or_default().to_vec() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[tokio::test]
    async fn bytes_behind_the_head_are_kept() {
        let mut stream: &[u8] = b"HTTP/1.1 101 UPGRADED\r\nUpgrade: h2c\r\n\r\n\0\0\x12settings";
        let head = read_head(&mut stream).await.unwrap();
        assert_eq!(head, Head { status: 101, following: b"\0\0\x12settings".to_vec() });
    }

    #[tokio::test]
    async fn what_is_no_head_is_told_apart() {
        let text =
            |bytes: &'static [u8]| async move { read_head(&mut &*bytes).await.unwrap_err().to_string() };
        assert_eq!(text(b"HTTP/1.1 200 OK\r\n").await, "the connection was closed before an answer came");
        assert_eq!(text(b"SSH-2.0-x\r\n\r\n").await, "the answer is not HTTP/1.1");
        let long = vec![b'x'; 2 * LIMIT];
        let error = read_head(&mut long.as_slice()).await.unwrap_err();
        assert_eq!(error.to_string(), "the answer's head is longer than 16384 bytes");
    }

    proptest! {
        /// However the bytes are cut into reads, the head is the same, and no byte behind it is lost.
        #[test]
        fn cuts_do_not_matter(cut in 0usize..40, body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let whole = [b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n".as_slice(), &body].concat();
            let (first, second) = whole.split_at(cut.min(whole.len()));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut stream = tokio::io::AsyncReadExt::chain(first, second);
            let head = runtime.block_on(read_head(&mut stream)).unwrap();
            prop_assert_eq!(head.status, 204);
            let mut found = head.following;
            runtime.block_on(stream.read_to_end(&mut found)).unwrap();
            prop_assert_eq!(found, body);
        }
    }
}
