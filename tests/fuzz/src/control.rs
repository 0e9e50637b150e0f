//! What supervisor and machine say to each other, and what a command says to the supervisor.
//!
//! Input: the first byte says who reads. The machine, or the supervisor: bytes of the socket, each part behind its length
//! (two bytes) and a byte that says how many descriptors come with it. A supervisor's client, or the supervisor for it: one
//! line of JSON.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use mvm::supervisor::protocol::{Reply, Request};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{from_slice, to_vec};
use vmm::control::{Channel, FromMachine, MAX_MESSAGE, ToMachine};

use crate::input::Input;

pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    match input.below(4) {
        0 => frames::<ToMachine>(&mut input),
        1 => frames::<FromMachine>(&mut input),
        2 => line::<Request>(input.rest()),
        _ => line::<Reply>(input.rest()),
    }
}

/// What the other side sends is read to its end, or to the first thing that is wrong.
fn frames<T: Message>(input: &mut Input<'_>) {
    let (theirs, ours) = UnixStream::pair().unwrap();
    let (_channel, mut reader) = Channel::new(ours).unwrap();
    let (_, witness) = UnixStream::pair().unwrap();
    let mut sent = Vec::new();
    let mut descriptors = 0;
    while !input.is_empty() {
        let (length, count) = (input.short().into(), usize::from(input.byte() % 4));
        let bytes = input.bytes(length);
        if !bytes.is_empty() {
            send(&theirs, bytes, &witness, count);
            descriptors += count;
            sent.extend_from_slice(bytes);
        }
    }
    drop(theirs);
    let mut rest = &sent[..];
    loop {
        match reader.receive::<T>() {
            Ok(Some((message, descriptor))) => {
                let (length, behind) = rest.split_at_checked(4).unwrap();
                let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
                assert!(length <= MAX_MESSAGE);
                let (body, behind) = behind.split_at_checked(length).expect("a message came before its end");
                rest = behind;
                assert_eq!(from_slice::<T>(body).unwrap(), message);
                again(&message);
                if let Some(descriptor) = descriptor {
                    assert!(descriptors > 0, "a descriptor that nobody sent");
                    descriptors -= 1;
                    is_the(&witness, &descriptor);
                }
            }
            Ok(None) => {
                assert!(rest.is_empty(), "{} bytes are lost", rest.len());
                return;
            }
            Err(_) => return,
        }
    }
}

fn send(to: &UnixStream, bytes: &[u8], witness: &UnixStream, count: usize) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = vec![witness.as_fd(); count];
    if count > 0 {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    sendmsg(to, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL).unwrap();
}

/// It is open, and closed in programs that are started.
fn is_the(witness: &UnixStream, descriptor: &OwnedFd) {
    let inode = |fd: rustix::fd::BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
    assert_eq!(inode(witness.as_fd()), inode(descriptor.as_fd()));
    let flags = rustix::io::fcntl_getfd(descriptor).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

fn line<T: Message>(line: &[u8]) {
    if let Ok(message) = from_slice::<T>(line) {
        again(&message);
    }
}

/// What was understood is understood as the same when it is said again.
fn again<T: Message>(message: &T) {
    let text = to_vec(message).unwrap();
    assert_eq!(from_slice::<T>(&text).unwrap(), *message);
}

trait Message: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug {}
impl<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug> Message for T {}
