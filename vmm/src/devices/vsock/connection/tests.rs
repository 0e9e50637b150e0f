//! A connection against a host that takes what it is sent piece by piece.

use std::io::ErrorKind;

use proptest::prelude::*;

use super::*;
use crate::devices::vsock::packet::{Header, Op};

const TEST_WINDOW: u32 = 4096;

/// What the host does with each attempt to send to it: takes so many bytes, none for now, or none ever again.
#[derive(Debug, Clone, Copy)]
enum Takes {
    Up(usize),
    NotNow,
    Fails,
}

/// A host that follows a script, and after it takes everything.
#[derive(Debug, Default)]
struct Scripted {
    script: VecDeque<Takes>,
    got: Vec<u8>,
    broken: bool,
    ended: bool,
}

impl Stream for Scripted {
    fn receive(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!self.broken && !self.ended, "nobody sends after the end");
        let count = match self.script.pop_front() {
            Some(Takes::Up(count)) => count.min(bytes.len()),
            Some(Takes::NotNow) => return Err(ErrorKind::WouldBlock.into()),
            Some(Takes::Fails) => {
                self.broken = true;
                return Err(ErrorKind::ConnectionReset.into());
            }
            None => bytes.len(),
        };
        self.got.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn holds_bytes(&self) -> bool {
        false
    }

    fn end_sending(&mut self) {
        self.ended = true;
    }

    fn end_receiving(&mut self) {}
}

fn script() -> impl Strategy<Value = VecDeque<Takes>> {
    let takes = prop_oneof![
        6 => (1_usize..600).prop_map(Takes::Up),
        3 => Just(Takes::NotNow),
        1 => Just(Takes::Fails),
    ];
    prop::collection::vec(takes, 0..40).prop_map(Into::into)
}

proptest! {
    /// However the host takes them: the guest's bytes arrive in order, their credit comes back, and the end comes
    /// behind the last of them. A host that breaks costs the bytes, not the credit.
    #[test]
    fn bytes_of_the_guest_arrive_and_their_credit_comes_back(script in script(), sizes in prop::collection::vec(1_u32..1500, 1..40)) {
        let request = Header { op: Op::Request, buf_alloc: 100, ..Header::decode(&[0; 44]) };
        let mut connection = Connection::from_guest(1, &request, TEST_WINDOW);
        connection.dialed(Scripted { script, ..Scripted::default() });
        let mut sent = Vec::new();
        for size in sizes {
            let data: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            match connection.begin_data(size) {
                Ok(()) => connection.guest_data(&data),
                Err(violation) => {
                    prop_assert_eq!(violation, Violation::Overrun);
                    connection.flush();
                    continue;
                }
            }
            sent.extend(data);
            let (window, forwarded) = connection.credit();
            let held = sent.len() - forwarded as usize;
            prop_assert_eq!(held, connection.to_host.len(), "what is held is what was not forwarded");
            prop_assert!(held <= window as usize);
            prop_assert!(connection.to_host.capacity() <= window as usize, "no buffer is larger than its window");
        }
        connection.guest_shut_down(SHUTDOWN_SEND);
        for _ in 0..50 {
            connection.flush();
        }
        prop_assert_eq!(connection.credit().1 as usize, sent.len(), "all credit is back");
        let host = connection.stream().unwrap();
        prop_assert!(sent.starts_with(&host.got));
        prop_assert!(host.broken || (host.ended && host.got.len() == sent.len()));
    }
}
