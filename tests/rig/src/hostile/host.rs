//! The host's side of the network card.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use rustix::net::SendFlags;

use super::FRAME;

/// Takes all frames, and sends one for each read, until the machine closes the wire.
pub fn babble(mut wire: UnixStream) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        let frame = [&(FRAME.len() as u32).to_be_bytes()[..], &FRAME].concat();
        let mut rest: &[u8] = &[];
        // A frame that was begun has to be ended.
        while let Ok(1..) = wire.read(&mut buffer) {
            if rest.is_empty() {
                rest = &frame;
            }
            if let Ok(count) = rustix::net::send(&wire, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                rest = &rest[count..];
            }
        }
    })
}
