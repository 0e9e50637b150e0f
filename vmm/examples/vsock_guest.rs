//! The init of a guest that does nothing but answer on vsock ports, for `vsock_bench` and the tests.
//!
//! Port 1000 echoes; 1001 reads a stream with marks up to the end and answers with its length; 1002 reads a count and
//! sends a stream with marks that is so long; 1003 reads a port, dials it on the host and joins the two; 1004 powers off. Numbers have eight bytes,
//! little endian.

#![allow(clippy::cast_possible_truncation, clippy::needless_pass_by_value)]

#[path = "vsock/marks.rs"]
mod marks;

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::thread;

use vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockListener, VsockStream};

type Service = fn(VsockStream) -> io::Result<()>;

fn main() -> io::Result<()> {
    let services: [(u32, Service); 5] =
        [(1000, echo), (1001, sink), (1002, source), (1003, join_host), (1004, power_off)];
    let threads = services.map(|(port, service)| {
        thread::spawn(move || {
            let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, port)?;
            for stream in listener.incoming() {
                let stream = stream?;
                thread::spawn(move || service(stream));
            }
            io::Result::Ok(())
        })
    });
    for thread in threads {
        if let Ok(Err(error)) = thread.join() {
            eprintln!("a service ended: {error}");
        }
    }
    Ok(())
}

fn echo(stream: VsockStream) -> io::Result<()> {
    pump(&stream, &stream)
}

/// Copies up to the end, and passes that on.
fn pump(mut from: &VsockStream, mut to: &VsockStream) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return to.shutdown(Shutdown::Write);
        }
        to.write_all(&buffer[..count])?;
    }
}

fn sink(mut stream: VsockStream) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut checked = marks::Checked::default();
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.write_all(&checked.position.to_le_bytes()),
            count => checked.take(&buffer[..count])?,
        }
    }
}

fn number(stream: &mut VsockStream) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn source(mut stream: VsockStream) -> io::Result<()> {
    let total = number(&mut stream)?;
    let mut buffer = vec![7; 256 * 1024];
    let mut sent = 0;
    while sent < total {
        let count = (total - sent).min(buffer.len() as u64) as usize;
        marks::fill(&mut buffer[..count], sent);
        stream.write_all(&buffer[..count])?;
        sent += count as u64;
    }
    stream.shutdown(Shutdown::Write)
}

fn join_host(mut stream: VsockStream) -> io::Result<()> {
    let port = number(&mut stream)? as u32;
    let host = VsockStream::connect_with_cid_port(VMADDR_CID_HOST, port)?;
    let (a, b) = (stream.try_clone()?, host.try_clone()?);
    let other = thread::spawn(move || pump(&a, &b));
    pump(&host, &stream)?;
    let _ = other.join();
    Ok(())
}

fn power_off(_stream: VsockStream) -> io::Result<()> {
    rustix::fs::sync();
    Ok(rustix::system::reboot(rustix::system::RebootCommand::PowerOff)?)
}
