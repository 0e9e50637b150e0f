//! What is said between the host and the init of L1, on a virtio-serial port.
//!
//! A frame is one byte that says what it is, the length of its content (32 bits, little endian), and the content.

use std::io::{self, ErrorKind, Read, Write};

/// No content is longer; what is longer is not from a peer of ours.
const LONGEST: u32 = 256 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// To the host, once: jobs may come.
    Ready,
    /// To L1: run this command, its words separated by NUL.
    Run(Vec<u8>),
    /// To L1, while a job runs: nothing but an interrupt.
    Pulse,
    /// To the host: what the command printed.
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// To the host: a file of `/out`, its name and NUL before its content.
    File(Vec<u8>),
    /// To the host, at the end of a job: the exit status, 128 and the signal for what a signal ended.
    Ended(u8),
}

impl Frame {
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        let (kind, content): (u8, &[u8]) = match self {
            Self::Ready => (b'R', &[]),
            Self::Run(words) => (b'J', words),
            Self::Pulse => (b'P', &[]),
            Self::Stdout(bytes) => (b'O', bytes),
            Self::Stderr(bytes) => (b'E', bytes),
            Self::File(bytes) => (b'F', bytes),
            Self::Ended(status) => (b'X', std::slice::from_ref(status)),
        };
        let length = u32::try_from(content.len()).ok().filter(|length| *length <= LONGEST);
        let length = length.ok_or_else(|| invalid(format!("{} bytes are too many", content.len())))?;
        let mut frame = Vec::with_capacity(content.len() + 5);
        frame.push(kind);
        frame.extend(length.to_le_bytes());
        frame.extend(content);
        to.write_all(&frame)?;
        to.flush()
    }

    /// None at the end of the stream.
    pub fn read(mut from: impl Read) -> io::Result<Option<Self>> {
        let mut kind = [0];
        if from.read(&mut kind)? == 0 {
            return Ok(None);
        }
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length > LONGEST {
            return Err(invalid(format!("a frame says that it has {length} bytes")));
        }
        let mut content = vec![0; usize::try_from(length).map_err(invalid)?];
        from.read_exact(&mut content)?;
        Ok(Some(match (kind, content.as_slice()) {
            ([b'R'], []) => Self::Ready,
            ([b'J'], _) => Self::Run(content),
            ([b'P'], []) => Self::Pulse,
            ([b'O'], _) => Self::Stdout(content),
            ([b'E'], _) => Self::Stderr(content),
            ([b'F'], _) => Self::File(content),
            ([b'X'], [status]) => Self::Ended(*status),
            ([kind], _) => return Err(invalid(format!("a frame of kind {kind:#x} is none"))),
        }))
    }
}

fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..100);
        prop_oneof![
            Just(Frame::Ready),
            bytes().prop_map(Frame::Run),
            Just(Frame::Pulse),
            bytes().prop_map(Frame::Stdout),
            bytes().prop_map(Frame::Stderr),
            bytes().prop_map(Frame::File),
            any::<u8>().prop_map(Frame::Ended),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(frames in prop::collection::vec(any_frame(), 0..10)) {
            let mut bytes = Vec::new();
            for frame in &frames {
                frame.write(&mut bytes).unwrap();
            }
            let mut from = bytes.as_slice();
            for frame in frames {
                prop_assert_eq!(Frame::read(&mut from).unwrap(), Some(frame));
            }
            prop_assert_eq!(Frame::read(&mut from).unwrap(), None);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut from = bytes.as_slice();
            while let Ok(Some(_)) = Frame::read(&mut from) {}
        }
    }

    #[test]
    fn a_length_that_nobody_means_takes_no_memory() {
        let error = Frame::read([b'O', 255, 255, 255, 255].as_slice()).unwrap_err();
        assert_eq!(error.to_string(), "a frame says that it has 4294967295 bytes");
    }
}
