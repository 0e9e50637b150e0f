//! What a web server in a container answers here.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use super::{Running, eventually};

/// The page at `/` of the server on this port of the loopback, as soon as it answers.
#[track_caller]
pub fn page(port: u16, server: &mut Running) -> String {
    eventually("a page from the container", 300, || {
        assert!(server.is_running(), "the server ended; {server:?}");
        fetch(port).ok_or_else(|| format!("port {port} does not answer"))
    })
}

fn fetch(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    (!page.is_empty()).then_some(page)
}
