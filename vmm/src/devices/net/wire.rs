//! Frames on the socket to the network process: each behind its length (four bytes, big endian), as passt and QEMU's
//! stream sockets have it.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use crate::platform;

/// The shortest frame has the header of Ethernet; the longest is what the network process takes.
pub(super) const FRAME: Range<usize> = 14..65536;
const LENGTH: usize = 4;

/// Bytes that are read at a time, and that may wait to be written before the guest has to. Each holds the longest frame.
const ROOM: usize = 256 * 1024;

/// The other side broke the rule of the wire.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("the network process sent a frame of {0} bytes")]
    Length(usize),
    #[error("the network process has ended")]
    Ended,
    #[error("cannot read from the network process, or write to it")]
    Socket(#[from] io::Error),
}

/// Frames from the network process, in the order in which they came.
#[derive(Debug)]
pub(super) struct Incoming {
    bytes: Box<[u8]>,
    filled: Range<usize>,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { bytes: vec![0; ROOM].into_boxed_slice(), filled: 0..0 }
    }
}

impl Incoming {
    /// Takes in what has come, as far as there is room for it.
    pub(super) fn fill(&mut self, socket: impl AsFd) -> Result<(), WireError> {
        if self.filled.start > 0 {
            let length = self.filled.len();
            self.bytes.copy_within(self.filled.clone(), 0);
            self.filled = 0..length;
        }
        let room = self.bytes.get_mut(self.filled.end..).unwrap_or_default();
        if room.is_empty() {
            return Ok(());
        }
        match rustix::io::read(socket, room) {
            Ok(0) => Err(WireError::Ended),
            Ok(count) => {
                self.filled.end = self.filled.end.saturating_add(count);
                Ok(())
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(WireError::Socket(error.into())),
        }
    }

    /// The first frame, once all of it is there.
    pub(super) fn first(&self) -> Result<Option<&[u8]>, WireError> {
        let filled = self.bytes.get(self.filled.clone()).unwrap_or_default();
        let Some((length, rest)) = filled.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if !FRAME.contains(&length) {
            return Err(WireError::Length(length));
        }
        Ok(rest.get(..length))
    }

    /// Done with the first frame.
    pub(super) fn skip(&mut self) {
        if let Ok(Some(frame)) = self.first() {
            let length = frame.len().saturating_add(LENGTH);
            self.filled.start = self.filled.start.saturating_add(length).min(self.filled.end);
        }
    }
}

/// Frames to the network process.
#[derive(Debug)]
pub(super) struct Outgoing {
    bytes: Box<[u8]>,
    waiting: Range<usize>,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self { bytes: vec![0; ROOM].into_boxed_slice(), waiting: 0..0 }
    }
}

impl Outgoing {
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.waiting.clone()).unwrap_or_default()
    }

    /// Whether one more frame may be added.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.end < ROOM.saturating_sub(LENGTH).saturating_sub(FRAME.end)
    }

    /// Adds a frame of so many bytes, unless `fill` finds that there is none. It may find older bytes in it.
    pub(super) fn add(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> Option<()>) {
        let end = self.waiting.end.saturating_add(LENGTH).saturating_add(length);
        let place = self.bytes.get_mut(self.waiting.end..end).unwrap_or_default();
        let Some((prefix, frame)) = place.split_first_chunk_mut::<LENGTH>() else { return };
        *prefix = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        if fill(frame).is_some() {
            self.waiting.end = end;
        }
    }

    /// Writes what waits, as far as it is taken.
    pub(super) fn flush(&mut self, socket: impl AsFd) -> Result<(), WireError> {
        while self.waits() {
            match rustix::net::send(socket.as_fd(), self.waiting(), platform::SEND) {
                Ok(count) => self.waiting.start = self.waiting.start.saturating_add(count),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(WireError::Socket(error.into())),
            }
        }
        if !self.waits() {
            self.clear();
        } else if self.waiting.start >= ROOM / 2 {
            self.bytes.copy_within(self.waiting.clone(), 0);
            self.waiting = 0..self.waiting.len();
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.waiting = 0..0;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    fn framed(frame: &[u8]) -> Vec<u8> {
        [&(frame.len() as u32).to_be_bytes()[..], frame].concat()
    }

    #[test]
    fn frames_come_whole_however_they_were_cut() {
        let (ours, mut theirs) = pair();
        let frames: Vec<Vec<u8>> =
            [14, 1000, 65535, 60].iter().map(|length| vec![*length as u8; *length]).collect();
        let all: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
        let mut incoming = Incoming::default();
        let mut came = Vec::new();
        for part in all.chunks(4097) {
            theirs.write_all(part).unwrap();
            incoming.fill(&ours).unwrap();
            while let Some(frame) = incoming.first().unwrap() {
                came.push(frame.to_vec());
                incoming.skip();
            }
        }
        assert!(came == frames, "lengths are {:?}", came.iter().map(Vec::len).collect::<Vec<_>>());
        incoming.fill(&ours).unwrap();
        drop(theirs);
        assert!(matches!(incoming.fill(&ours), Err(WireError::Ended)));
    }

    #[test]
    fn a_length_that_no_frame_has_ends_the_wire() {
        for length in [0, 13, 65536, u32::MAX] {
            let (ours, mut theirs) = pair();
            theirs.write_all(&length.to_be_bytes()).unwrap();
            let mut incoming = Incoming::default();
            incoming.fill(&ours).unwrap();
            let error = incoming.first().unwrap_err().to_string();
            assert_eq!(error, format!("the network process sent a frame of {length} bytes"));
        }
    }

    #[test]
    fn a_reader_that_does_not_keep_up_holds_frames_back_and_loses_none() {
        let (ours, mut theirs) = pair();
        let mut outgoing = Outgoing::default();
        let mut added = 0_usize;
        loop {
            while outgoing.has_room() {
                let byte = added as u8;
                outgoing.add(30_000, |frame| {
                    frame.fill(byte);
                    Some(())
                });
                added += 1;
            }
            outgoing.flush(&ours).unwrap();
            if !outgoing.has_room() {
                break;
            }
        }
        assert!(outgoing.waits());
        outgoing.add(100, |_| None);
        let reading = std::thread::spawn(move || {
            (0..added).all(|number| {
                let mut frame = vec![0; 30_004];
                theirs.read_exact(&mut frame).unwrap();
                frame[4..].iter().all(|byte| *byte == number as u8)
            })
        });
        while outgoing.waits() {
            outgoing.flush(&ours).unwrap();
            std::thread::yield_now();
        }
        assert!(reading.join().unwrap());
    }
}
