//! A connection that breaks: passes TCP on to a port of the loopback, and ends each connection after some bytes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

#[derive(Debug)]
pub struct Proxy {
    pub port: u16,
    answered: Arc<AtomicU64>,
    left: Arc<AtomicU64>,
}

impl Proxy {
    /// `each` bytes of answers on a connection, and `all` on all of them together; what connects after that is closed.
    pub fn to(port: u16, each: u64, all: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let own = listener.local_addr().expect("the port has a number").port();
        let (answered, left) = (Arc::<AtomicU64>::default(), Arc::new(AtomicU64::new(all)));
        let (count, rest) = (answered.clone(), left.clone());
        // It ends with the test program.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
                let (count, rest) = (count.clone(), rest.clone());
                thread::spawn(move || serve(&client, &server, each, (&count, &rest)));
            }
        });
        Self { port: own, answered, left }
    }

    pub fn image(&self, name: &str) -> String {
        format!("{}:{}/{name}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// How many bytes of answers have passed.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Lets so many more bytes pass.
    pub fn allow(&self, bytes: u64) {
        self.left.store(bytes, Ordering::SeqCst);
    }
}

fn serve(client: &TcpStream, server: &TcpStream, each: u64, (count, left): (&AtomicU64, &AtomicU64)) {
    let (mut from, mut to) = (client, server);
    thread::scope(|scope| {
        scope.spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = server.shutdown(Shutdown::Write);
        });
        let (mut from, mut to) = (server, client);
        let (mut buffer, mut passed) = ([0; 16 << 10], 0);
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let most = (each - passed).min(left.load(Ordering::SeqCst)).min(length as u64);
            let part = &buffer[..usize::try_from(most).expect("less than the buffer")];
            if to.write_all(part).is_err() {
                break;
            }
            passed += most;
            count.fetch_add(most, Ordering::SeqCst);
            left.fetch_sub(most, Ordering::SeqCst);
            if most < length as u64 {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    });
}
