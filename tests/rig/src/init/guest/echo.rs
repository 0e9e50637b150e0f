//! A guest that gives back what it is sent.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use vsock::{VMADDR_CID_ANY, VsockListener, VsockStream};

use crate::Outcome;

/// Where it listens.
const PORT: u32 = 1000;

/// For ever.
pub(super) fn on_vsock() -> Outcome<()> {
    let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, PORT)?;
    println!("rig: listens");
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            if let Err(error) = give_back(stream) {
                println!("rig: a stream broke: {error}");
            }
        });
    }
    Ok(())
}

fn give_back(mut stream: VsockStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return stream.shutdown(Shutdown::Write);
        }
        stream.write_all(&buffer[..count])?;
    }
}
