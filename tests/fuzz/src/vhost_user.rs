//! The vsock device over vhost-user: any messages of a frontend, over the socket and with the threads that QEMU has them with.
//!
//! Input: steps:
//!
//! 0. a message: its request, its flags beside the version, the length that it announces (0: the right one), how many
//!    descriptors come with it, its body behind its length
//! 1. a memory table: how many regions, each with the guest's address, size, user address and offset in pages
//! 2. a queue is set up: which, its size, its position, where it lies in pages
//! 3. shared memory is written: where, how many bytes, then they
//! 4. a queue is kicked
//!
//! Regions lie in the file that they are of: whoever shares memory can end the other by cutting the file, so a frontend that
//! says otherwise does nothing that it could not do anyway.
//!
//! Then the frontend ends. The backend has to have ended with it, all its threads, without a panic.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vmm::devices::vsock::Vsock;
use vmm::transport::vhost_user::serve;

use crate::input::Input;

const MEMORY: u64 = 0x4_0000;
const PAGE: u64 = 0x1000;
/// Where the frontend says that it has the guest's memory.
const USER: u64 = 0x7f00_0000_0000;
/// No process has room for so much.
const UNMAPPABLE: u64 = 1 << 48;
const PATIENCE: Duration = Duration::from_secs(30);
const VERSION: u32 = 1;

// Requests (QEMU, docs/interop/vhost-user.rst).
const SET_OWNER: u32 = 3;
const SET_FEATURES: u32 = 2;
const SET_MEM_TABLE: u32 = 5;
const SET_VRING_NUM: u32 = 8;
const SET_VRING_ADDR: u32 = 9;
const SET_VRING_BASE: u32 = 10;
const SET_VRING_KICK: u32 = 12;
const SET_VRING_CALL: u32 = 13;
const SET_VRING_ENABLE: u32 = 18;
/// Version 1, protocol features, event indexes.
const FEATURES: u64 = 1 << 32 | 1 << 30 | 1 << 29;

pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let (device, handle) = Vsock::new(3, |_| {}).unwrap();
    let (_ours, theirs) = UnixStream::pair().unwrap();
    handle.connect(7, b"hello".to_vec(), theirs.into());
    let (lost, ends) = mpsc::channel();
    let (served, socket) = serve(device, move |why| lost.send(why).unwrap_or_default()).unwrap();
    let mut frontend = Frontend::new(socket);
    for _ in 0..48 {
        if input.is_empty() {
            break;
        }
        frontend.step(&mut input);
    }
    drop(frontend);
    // It may also have been lost before, for what the frontend said.
    assert!(ends.recv_timeout(PATIENCE).is_ok(), "the backend goes on without a frontend");
    drop(served);
}

struct Frontend {
    socket: UnixStream,
    memory: File,
    kicks: [OwnedFd; 2],
    calls: [OwnedFd; 2],
}

impl Frontend {
    fn new(socket: OwnedFd) -> Self {
        let memory = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
        memory.set_len(MEMORY).unwrap();
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let socket = UnixStream::from(socket);
        // A backend that does not read any more is not waited for.
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { socket, memory, kicks: [event(), event()], calls: [event(), event()] }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(5) {
            0 => {
                let (request, flags, announced) =
                    (input.number() as u32, input.byte(), input.number() as u32);
                let (count, length) = (usize::from(input.below(4)), usize::from(input.byte()));
                let body = input.bytes(length);
                let announced = if announced == 0 { body.len() as u32 } else { announced };
                let events = vec![self.kicks[0].as_fd(); count];
                self.say(request, VERSION | u32::from(flags) << 2, announced, body, &events);
            }
            1 => self.memory_table(input),
            2 => self.queue(input),
            3 => {
                let (at, length) = (input.number() % MEMORY, usize::from(input.byte()));
                let bytes = input.bytes(length);
                let bytes = &bytes[..bytes.len().min((MEMORY - at) as usize)];
                self.memory.write_all_at(bytes, at).unwrap();
            }
            _ => {
                let kick = &self.kicks[usize::from(input.below(2))];
                let _ = rustix::io::write(kick, &1_u64.to_ne_bytes());
                // So that it may be heard before the next message.
                std::thread::yield_now();
            }
        }
    }

    fn memory_table(&self, input: &mut Input<'_>) {
        let count = usize::from(input.below(9));
        let mut body = [(count as u32).to_le_bytes(), [0; 4]].concat();
        for _ in 0..count {
            let mut pages = || input.number().wrapping_mul(PAGE);
            let (guest, size, user, offset) = (pages(), pages(), pages(), pages() % MEMORY);
            let size = if size < UNMAPPABLE { size.min(MEMORY - offset) } else { size };
            for field in [guest, size, user.wrapping_add(USER), offset] {
                body.extend(field.to_le_bytes());
            }
        }
        let regions = vec![self.memory.as_fd(); count];
        self.say(SET_MEM_TABLE, VERSION, body.len() as u32, &body, &regions);
    }

    /// As QEMU does it.
    fn queue(&self, input: &mut Input<'_>) {
        let which = usize::from(input.below(2));
        let (size, base) = (input.number() as u32, input.number() as u32);
        let place = USER.wrapping_add(input.number().wrapping_mul(PAGE));
        let number = (which as u32).to_le_bytes();
        let state = |request, value: u32| {
            let body = [number, value.to_le_bytes()].concat();
            self.say(request, VERSION, 8, &body, &[]);
        };
        self.say(SET_OWNER, VERSION, 0, &[], &[]);
        self.say(SET_FEATURES, VERSION, 8, &FEATURES.to_le_bytes(), &[]);
        state(SET_VRING_NUM, size);
        state(SET_VRING_BASE, base);
        let mut body = [number, [0; 4]].concat();
        // Descriptors, used ring, available ring, log.
        for at in [place, place.wrapping_add(0x800), place.wrapping_add(0x400), 0] {
            body.extend(at.to_le_bytes());
        }
        self.say(SET_VRING_ADDR, VERSION, body.len() as u32, &body, &[]);
        let number = u64::from(number[0]).to_le_bytes();
        self.say(SET_VRING_KICK, VERSION, 8, &number, &[self.kicks[which].as_fd()]);
        self.say(SET_VRING_CALL, VERSION, 8, &number, &[self.calls[which].as_fd()]);
        state(SET_VRING_ENABLE, 1);
    }

    /// A backend that has had enough is no mistake.
    fn say(&self, request: u32, flags: u32, length: u32, body: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let mut message = Vec::new();
        for word in [request, flags, length] {
            message.extend(word.to_le_bytes());
        }
        message.extend(body);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let sent = sendmsg(&self.socket, &[IoSlice::new(&message)], &mut ancillary, SendFlags::NOSIGNAL);
        let _ = sent.map(|count| (&self.socket).write(&message[count..]));
    }
}
