//! The other end of a device's stream, in a thread of its own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::{JoinHandle, spawn};

use anyhow::{Result, anyhow};

/// Read and written at a time.
const ROOM: usize = 256 * 1024;

/// A thread that ends with how many bytes it has moved. The stream stays open until it is asked for them.
#[derive(Debug)]
pub(crate) struct Host(JoinHandle<std::io::Result<(u64, UnixStream)>>);

impl Host {
    /// Reads this many bytes, or to the end.
    pub(crate) fn reads(mut stream: UnixStream, bytes: u64) -> Self {
        Self(spawn(move || {
            let mut buffer = vec![0; ROOM];
            let mut count = 0;
            while count < bytes {
                match stream.read(&mut buffer)? {
                    0 => break,
                    more => count += more as u64,
                }
            }
            Ok((count, stream))
        }))
    }

    /// Writes this so often.
    pub(crate) fn writes(mut stream: UnixStream, bytes: Vec<u8>, times: u64) -> Self {
        Self(spawn(move || {
            for _ in 0..times {
                stream.write_all(&bytes)?;
            }
            Ok((bytes.len() as u64 * times, stream))
        }))
    }

    pub(crate) fn is_done(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for it.
    pub(crate) fn moved(self) -> Result<u64> {
        let (bytes, _stream) = self.0.join().map_err(|_| anyhow!("the host's side panicked"))??;
        Ok(bytes)
    }
}
