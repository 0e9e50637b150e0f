//! A stream that shows where bytes were lost, doubled or moved, and costs next to nothing: at each multiple of
//! [`STRIDE`] stands its own position.

use std::io;

/// A multiple of every buffer's length that is sent at a time.
const STRIDE: u64 = 4096;
const MARK: u64 = 8;

/// Makes `buffer` what the stream has from `position` on, a multiple of the stride.
pub(crate) fn fill(buffer: &mut [u8], position: u64) {
    for (mark, piece) in (position..).step_by(STRIDE as usize).zip(buffer.chunks_mut(STRIDE as usize)) {
        piece[..MARK as usize].copy_from_slice(&mark.to_le_bytes());
    }
}

/// Looks at a stream, however it is cut.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub(crate) position: u64,
}

impl Checked {
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let [first, rest @ ..] = bytes {
            let offset = self.position % STRIDE;
            if offset < MARK {
                if *first != (self.position - offset).to_le_bytes()[offset as usize] {
                    return Err(io::Error::other(format!("other bytes than sent at {}", self.position)));
                }
                self.position += 1;
                bytes = rest;
            } else {
                let plain = bytes.len().min((STRIDE - offset) as usize);
                self.position += plain as u64;
                bytes = &bytes[plain..];
            }
        }
        Ok(())
    }
}
