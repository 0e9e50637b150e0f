//! Ports that somebody else will listen at.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::net::{Shutdown, shutdown};

/// Below those that the kernel gives to connections: nobody gets one of these by chance before whoever it is for has it.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port of the loopback that is free, and that no other test of this program got.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Programs that run side by side begin apart.
    let start = std::process::id().wrapping_mul(997);
    for _ in 0..COUNT {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed).into());
        let port = FIRST + u16::try_from(number % u32::from(COUNT)).expect("less than there are");
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            // A process that is just being started may have a copy of it: that must not listen, either.
            let _ = shutdown(&listener, Shutdown::Read);
            return port;
        }
    }
    panic!("no port from {FIRST} on is free");
}
