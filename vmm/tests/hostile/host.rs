//! The host's side of the network card, and how large this process is.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

/// Takes all frames, and sends one for each read, until the machine closes the wire.
pub(crate) fn babble(mut wire: UnixStream) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut sending = wire.try_clone().unwrap();
        sending.set_nonblocking(true).unwrap();
        let mut buffer = vec![0; 1 << 16];
        let frame = [&1400_u32.to_be_bytes()[..], &[0xaa; 1400]].concat();
        let mut rest: &[u8] = &[];
        // A frame that was begun has to be ended.
        while let Ok(1..) = wire.read(&mut buffer) {
            if rest.is_empty() {
                rest = &frame;
            }
            if let Ok(count) = sending.write(rest) {
                rest = &rest[count..];
            }
        }
    })
}

/// The anonymous memory of this process.
pub(crate) fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
