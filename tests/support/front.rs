//! What stands before a registry: passes HTTP on, request by request, and does otherwise with some of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How a record of TLS begins that begins a connection (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Act {
    Pass,
    /// It is passed on after so long.
    Wait(Duration),
    /// It is answered here, with a status and a text.
    Answer(&'static str, String),
    /// The connection ends after so many bytes: of the answer to a GET, else of what is sent.
    Break(u64),
}

/// The head of a request.
#[derive(Debug)]
pub struct Request(String);

/// A port that nobody answers at before it is said what stands behind it.
#[derive(Debug)]
pub struct Front {
    pub port: u16,
    listener: TcpListener,
}

impl Front {
    pub fn open() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("the port has a number").port();
        Self { port, listener }
    }

    /// Serves until the test program ends.
    pub fn pass_to(self, behind: u16, act: impl Fn(&Request) -> Act + Send + Sync + 'static) {
        let act = Arc::new(act);
        thread::spawn(move || {
            for client in self.listener.incoming().flatten() {
                let act = Arc::clone(&act);
                thread::spawn(move || drop(serve(&client, behind, act.as_ref())));
            }
        });
    }
}

impl Request {
    pub fn method(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// With what is asked.
    pub fn path(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }

    /// How many bytes its body has.
    pub fn length(&self) -> u64 {
        let mut headers = self.0.lines().filter_map(|line| line.split_once(": "));
        let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
    }

    pub fn has(&self, header: &str) -> bool {
        self.0.lines().any(|line| line.eq_ignore_ascii_case(header))
    }
}

/// One request: the connection is closed behind its answer, so that the next one comes here, too.
fn serve(client: &TcpStream, behind: u16, act: impl Fn(&Request) -> Act) -> std::io::Result<()> {
    let mut sent = BufReader::new(client);
    if sent.fill_buf()?.first() == Some(&HANDSHAKE) {
        // As other servers without TLS do, so that their clients know.
        return (&*client).write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
    }
    let mut request = Request(String::new());
    while !request.0.ends_with("\r\n\r\n") {
        if sent.read_line(&mut request.0)? == 0 {
            return Ok(());
        }
    }
    let (mut to_server, mut to_client) = (u64::MAX, u64::MAX);
    match act(&request) {
        Act::Pass => {}
        Act::Wait(time) => thread::sleep(time),
        Act::Answer(status, text) => {
            let length = text.len();
            write!(
                &*client,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
            )?;
            client.shutdown(Shutdown::Write)?;
            // Who is still sending would not read the answer of a connection that is reset.
            return std::io::copy(&mut sent, &mut std::io::sink()).map(drop);
        }
        Act::Break(after) if request.method() == "GET" => to_client = after,
        Act::Break(after) => to_server = after,
    }
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, behind))?;
    let lines = request.0.trim_end().lines();
    let kept = lines.filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let head: String = kept.chain(["Connection: close", ""]).map(|line| format!("{line}\r\n")).collect();
    (&server).write_all(head.as_bytes())?;
    let close = || drop((client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both)));
    thread::scope(|scope| {
        scope.spawn(|| {
            let passed = std::io::copy(&mut sent.take(to_server), &mut &server);
            if passed.is_ok_and(|bytes| bytes == to_server) {
                close();
            }
        });
        let _ = std::io::copy(&mut (&server).take(to_client), &mut &*client);
        close();
    });
    Ok(())
}
