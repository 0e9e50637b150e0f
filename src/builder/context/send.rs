//! The sender of a context: tells all entries, and the contents of those that the receiver asks for, while it still
//! tells. Only a few chunks are ever in memory; the receiver's reading sets the pace.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use prost::Message;
use rustix::io::Errno;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tonic::Status;

use super::filter::{Filter, FilterError, Selection};
use super::packet::{Kind, Packet};
use super::paths::Paths;
use super::stat;
use super::walk::{Walk, WalkError};
use crate::chain::Chain;

/// Files read at a time.
const READERS: usize = 4;
/// The files that a reader takes at once, where very many are asked for.
const FILES: usize = 64;
/// What is read of a file at a time: with what is around it, two full frames of HTTP/2.
const CHUNK: usize = 32 * 1024 - 64;
/// As many bytes of small packets as are sent together: a frame of HTTP/2. Each alone would be a frame, a write, and
/// on the other side a packet of vsock and a wakeup.
const TOGETHER: usize = 16 * 1024;

/// Where packets to the receiver go, those that are sent together at a time.
pub(crate) type Outbound = mpsc::Sender<Vec<Result<Packet, Status>>>;

/// Why a context was not sent.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error(transparent)]
    Walk(#[from] WalkError),
    #[error("cannot read {path:?} of the build context; make it readable, or name it in .dockerignore")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{0:?} of the build context has a name that is not UTF-8, which builders do not take; rename it, or name it in .dockerignore"
    )]
    NotUtf8(PathBuf),
    #[error("the build context has more entries than the protocol can number")]
    TooMany,
    #[error("the builder asked for entry {0} of the build context, which is not a file it may ask for")]
    NoSuchEntry(u32),
    #[error("the builder gave the transfer of the build context up: {0}")]
    Receiver(String),
    #[error("the connection ended in the middle of the build context's transfer")]
    Lost,
    #[error("a reader of the build context died")]
    Reader(#[from] JoinError),
}

/// Sends what `selection` leaves of the tree at `root`, until the receiver says that it has everything.
pub(crate) async fn send<S>(
    root: Arc<Path>,
    selection: Selection,
    inbound: S,
    outbound: Outbound,
) -> Result<(), SendError>
where
    S: Stream<Item = Result<Packet, Status>> + Unpin,
{
    let result =
        Sender { root, outbound: outbound.clone(), paths: Arc::default() }.run(selection, inbound).await;
    if let Err(error) = &result {
        // Whether that still arrives does not matter: the stream's own end says the same.
        let text = Chain(error).to_string();
        let _ = outbound.send(vec![Ok(Packet::error(&text))]).await;
    }
    result
}

#[derive(Clone)]
struct Sender {
    root: Arc<Path>,
    outbound: Outbound,
    paths: Arc<Mutex<Paths>>,
}

impl Sender {
    async fn run<S>(self, selection: Selection, mut inbound: S) -> Result<(), SendError>
    where
        S: Stream<Item = Result<Packet, Status>> + Unpin,
    {
        let readers = Arc::new(Semaphore::new(READERS));
        let mut tasks: JoinSet<Result<(), SendError>> = JoinSet::new();
        let walker = self.clone();
        tasks.spawn_blocking(move || walker.tell_entries(&selection));
        // Taken off the connection at once, whatever the readers do: h2 holds thousands of small messages that nobody takes for an
        // attack, and ends the connection.
        let mut asked = VecDeque::new();
        loop {
            tokio::select! {
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => ended??,
                Ok(permit) = Arc::clone(&readers).acquire_owned(), if !asked.is_empty() => {
                    let share = asked.len().div_ceil(READERS).min(FILES);
                    let files: Vec<u32> = asked.drain(..share).collect();
                    let reader = self.clone();
                    tasks.spawn_blocking(move || {
                        let _permit = permit;
                        reader.send_files(&files)
                    });
                }
                packet = inbound.next() => {
                    let packet = packet.ok_or(SendError::Lost)?.map_err(|_| SendError::Lost)?;
                    match packet.kind() {
                        Kind::Request if self.paths().ask(packet.id) => asked.push_back(packet.id),
                        Kind::Request => return Err(SendError::NoSuchEntry(packet.id)),
                        Kind::Finish => {
                            return self.outbound.send(vec![Ok(Packet::finish())]).await.map_err(|_| SendError::Lost);
                        }
                        Kind::Error => {
                            return Err(SendError::Receiver(String::from_utf8_lossy(&packet.data).into_owned()));
                        }
                        Kind::Stat | Kind::Data => {}
                    }
                }
            }
        }
    }

    fn tell_entries(&self, selection: &Selection) -> Result<(), SendError> {
        let filter = Filter::new(&self.root, selection)?;
        let mut batch = Batch::to(&self.outbound);
        for entry in Walk::new(&self.root, &filter)? {
            let entry = entry?;
            // BuildKit since v0.18 ends the whole stream for one, and says nothing of which it was.
            if [&entry.path, &entry.link].into_iter().any(|text| std::str::from_utf8(text).is_err()) {
                return Err(SendError::NotUtf8(self.root.join(OsStr::from_bytes(&entry.path))));
            }
            let has_contents = stat::has_contents(entry.mode);
            if !self.paths().push(&entry.path, has_contents) {
                return Err(SendError::TooMany);
            }
            batch.add(Packet::stat(entry))?;
        }
        batch.add(Packet::end_of_stats())?;
        batch.send()
    }

    fn paths(&self) -> MutexGuard<'_, Paths> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send_files(&self, ids: &[u32]) -> Result<(), SendError> {
        let mut batch = Batch::to(&self.outbound);
        for id in ids {
            let path = self.paths().path(*id).ok_or(SendError::NoSuchEntry(*id))?;
            let path = self.root.join(OsStr::from_bytes(&path));
            let failed = |source| SendError::Read { path: path.clone(), source };
            if let Some(file) = open(&path).map_err(failed)? {
                loop {
                    let chunk = chunk(&file).map_err(failed)?;
                    let is_last = chunk.len() < CHUNK;
                    // An empty piece would be the end.
                    if !chunk.is_empty() {
                        batch.add(Packet::data(*id, chunk))?;
                    }
                    if is_last {
                        break;
                    }
                }
            }
            batch.add(Packet::end_of_data(*id))?;
        }
        batch.send()
    }
}

/// Packets that are sent together, once they are enough.
struct Batch<'a> {
    outbound: &'a Outbound,
    packets: Vec<Result<Packet, Status>>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    fn to(outbound: &'a Outbound) -> Self {
        Self { outbound, packets: Vec::new(), bytes: 0 }
    }

    fn add(&mut self, packet: Packet) -> Result<(), SendError> {
        self.bytes = self.bytes.saturating_add(packet.encoded_len());
        self.packets.push(Ok(packet));
        if self.bytes < TOGETHER { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> Result<(), SendError> {
        self.bytes = 0;
        self.outbound.blocking_send(std::mem::take(&mut self.packets)).map_err(|_| SendError::Lost)
    }
}

/// The next piece of a file, whole unless it is the last.
fn chunk(file: &File) -> io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(CHUNK);
    file.take(CHUNK as u64).read_to_end(&mut chunk)?;
    // Many small ones may be on their way.
    chunk.shrink_to_fit();
    Ok(chunk.into())
}

/// Opens a file to read; `None` for a socket, which is sent as an empty file. What took the file's place since it
/// was told of is neither followed nor waited for.
fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "send_tests.rs"]
mod tests;
