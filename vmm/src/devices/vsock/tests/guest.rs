//! A guest: two virtqueues, and a driver that does exactly what a test tells it.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::devices::vsock::packet::{HEADER_SIZE, HOST_CID, Header, Op, TYPE_STREAM};
use crate::devices::vsock::{Dial, Handle, Vsock};

pub(super) const CID: u32 = 3;
pub(super) const MEMORY: u64 = 64 << 20;
const SIZE: u16 = 64;
const TO_GUEST: u64 = 0x1_0000;
pub(super) const FROM_GUEST: u64 = 0x4_0000;
const TO_GUEST_BUFFERS: u64 = 0x10_0000;
const FROM_GUEST_BUFFERS: u64 = 0x100_0000;
/// As large as Linux's buffers are.
const BUFFER: u32 = 4096;
const SLOT: u64 = 0x4_0000;

pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

pub(super) struct Guest {
    pub(super) memory: GuestMemoryMmap,
    pub(super) device: Vsock,
    pub(super) handle: Handle,
    pub(super) dials: mpsc::Receiver<Dial>,
    event_idx: bool,
    to_guest: Queue,
    from_guest: Queue,
    seen: u16,
    posted: u16,
    pub(super) sent: u16,
    /// Buffers that the device gave back of those that were sent.
    returned: u16,
    /// What the device has to be told of: it asked for a kick at the last look.
    pub(super) kicked: bool,
    /// How often the device interrupted.
    pub(super) interrupts: u32,
    /// The driver gives the device no buffers in exchange for those that it fills.
    pub(super) hoards: bool,
    /// The device's clock.
    pub(super) now: Instant,
    /// What came in the same turn behind the packet that was waited for.
    unread: Vec<Packet>,
}

pub(super) type Packet = (Header, Vec<u8>);

fn queue(base: u64, event_idx: bool) -> Queue {
    let mut queue = Queue::new(SIZE).unwrap();
    queue.try_set_desc_table_address(GuestAddress(base)).unwrap();
    queue.try_set_avail_ring_address(GuestAddress(base + 0x1_0000)).unwrap();
    queue.try_set_used_ring_address(GuestAddress(base + 0x2_0000)).unwrap();
    queue.set_event_idx(event_idx);
    queue.set_ready(true);
    queue
}

impl Guest {
    /// A guest whose driver is not up yet.
    pub(super) fn asleep() -> Self {
        Self::with(true)
    }

    /// With or without the feature by which both sides say when they want to be told (virtio 1.3, 2.7.10).
    pub(super) fn with(event_idx: bool) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY as usize)]).unwrap();
        let (asking, dials) = mpsc::channel();
        let (device, handle) = Vsock::new(CID, move |dial| asking.send(dial).unwrap_or_default()).unwrap();
        let (to_guest, from_guest) = (queue(TO_GUEST, event_idx), queue(FROM_GUEST, event_idx));
        Self {
            memory,
            device,
            handle,
            dials,
            event_idx,
            to_guest,
            from_guest,
            seen: 0,
            posted: 0,
            sent: 0,
            returned: 0,
            kicked: true,
            interrupts: 0,
            hoards: false,
            now: Instant::now(),
            unread: Vec::new(),
        }
    }

    pub(super) fn awake() -> Self {
        let mut guest = Self::asleep();
        guest.wake();
        guest
    }

    pub(super) fn wake(&mut self) {
        while self.posted < SIZE {
            self.post();
        }
        self.device.activate(self.now);
    }

    /// The driver resets the device and sets it up anew, with new rings.
    pub(super) fn reset(&mut self) {
        self.device.reset();
        for base in [TO_GUEST, FROM_GUEST] {
            self.memory.write_slice(&[0; 0x3_0000], GuestAddress(base)).unwrap();
        }
        (self.to_guest, self.from_guest) =
            (queue(TO_GUEST, self.event_idx), queue(FROM_GUEST, self.event_idx));
        (self.seen, self.posted, self.sent, self.returned) = (0, 0, 0, 0);
        self.unread.clear();
        self.kicked = true;
        self.wake();
    }

    /// Puts the ring of what the driver sends elsewhere.
    pub(super) fn move_available_ring(&mut self, to: u64) {
        self.from_guest.try_set_avail_ring_address(GuestAddress(to)).unwrap();
    }

    /// Gives all buffers that it holds back to the device.
    pub(super) fn stop_hoarding(&mut self) {
        self.hoards = false;
        while self.posted != self.seen.wrapping_add(SIZE) {
            self.post();
        }
    }

    /// Gives the device one buffer more to fill.
    fn post(&mut self) {
        let slot = self.posted % SIZE;
        let address = TO_GUEST_BUFFERS + u64::from(slot) * u64::from(BUFFER);
        self.descriptor(TO_GUEST, slot, address, BUFFER, WRITE, 0);
        self.make_available(TO_GUEST, self.posted, slot);
        self.posted = self.posted.wrapping_add(1);
    }

    pub(super) fn descriptor(&self, base: u64, slot: u16, address: u64, len: u32, flags: u16, next: u16) {
        self.write_descriptor(base + u64::from(slot) * 16, address, len, flags, next);
    }

    pub(super) fn write_descriptor(&self, at: u64, address: u64, len: u32, flags: u16, next: u16) {
        let memory = &self.memory;
        memory.write_obj(address, GuestAddress(at)).unwrap();
        memory.write_obj(len, GuestAddress(at + 8)).unwrap();
        memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
        memory.write_obj(next, GuestAddress(at + 14)).unwrap();
    }

    /// Kicks as Linux does (2.7.13.4.1): if the device has asked for it, and else not.
    pub(super) fn make_available(&mut self, base: u64, index: u16, head: u16) {
        let ring = base + 0x1_0000;
        self.memory.write_obj(head, GuestAddress(ring + 4 + u64::from(index % SIZE) * 2)).unwrap();
        self.memory.write_obj(index.wrapping_add(1), GuestAddress(ring + 2)).unwrap();
        let used = base + 0x2_0000;
        self.kicked |= if self.event_idx {
            let asked: u16 = self.memory.read_obj(GuestAddress(used + 4 + u64::from(SIZE) * 8)).unwrap();
            asked == index
        } else {
            self.memory.read_obj::<u16>(GuestAddress(used)).unwrap() == 0
        };
    }

    /// Asks to be told of the next buffer that the device gives back.
    fn want_interrupt(&self, base: u64, seen: u16) {
        let at = base + 0x1_0000 + 4 + u64::from(SIZE) * 2;
        self.memory.write_obj(seen, GuestAddress(at)).unwrap();
    }

    fn used(&self, base: u64) -> u16 {
        self.memory.read_obj(GuestAddress(base + 0x2_0000 + 2)).unwrap()
    }

    /// Sends `bytes` cut into descriptors of the given lengths; the rest, if any, is one more.
    pub(super) fn send_bytes(&mut self, bytes: &[u8], cuts: &[usize]) {
        let slot = self.sent % SIZE;
        let address = FROM_GUEST_BUFFERS + u64::from(slot % 32) * SLOT;
        self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
        let mut lengths: Vec<usize> = cuts.to_vec();
        let cut: usize = cuts.iter().sum();
        if cut < bytes.len() {
            lengths.push(bytes.len() - cut);
        }
        let mut at = address;
        for (number, &length) in lengths.iter().enumerate() {
            let here = (slot + number as u16) % SIZE;
            let more = number + 1 < lengths.len();
            let flags = if more { NEXT } else { 0 };
            self.descriptor(FROM_GUEST, here, at, length as u32, flags, (here + 1) % SIZE);
            at += length as u64;
        }
        self.make_available(FROM_GUEST, self.sent, slot);
        self.sent = self.sent.wrapping_add(1);
    }

    pub(super) fn send(&mut self, header: Header, data: &[u8]) {
        self.send_bytes(&[&header.encode()[..], data].concat(), &[]);
    }

    /// Whether the device has a reason to work: a kick, or an event of the host.
    fn has_reason(&self) -> bool {
        self.kicked || self.reports()
    }

    /// Whether the device's descriptor reports events now.
    pub(super) fn reports(&self) -> bool {
        let fd = self.device.as_raw_fd();
        // SAFETY: the device owns the descriptor and outlives this function.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        let mut polled = [rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN)];
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&zero)).unwrap() > 0
    }

    /// Lets the device work once, if it has a reason; what it gave the guest. The guest looks into a ring only when it
    /// was interrupted for it, so a lost kick or interrupt is a packet that never comes.
    pub(super) fn turn(&mut self) -> Vec<Packet> {
        let mut packets = std::mem::take(&mut self.unread);
        if !self.has_reason() {
            return packets;
        }
        self.kicked = false;
        let before = self.used(FROM_GUEST);
        let (memory, now) = (&self.memory, self.now);
        let signals = self.device.process(memory, &mut self.to_guest, &mut self.from_guest, now);
        let signals = signals.unwrap_or_default();
        let (to_guest, from_guest) = (signals.has(Vsock::TO_GUEST), signals.has(Vsock::FROM_GUEST));
        self.interrupts += u32::from(to_guest) + u32::from(from_guest);
        if from_guest {
            self.returned = self.used(FROM_GUEST);
            self.want_interrupt(FROM_GUEST, self.returned);
        }
        assert!(from_guest || before == self.used(FROM_GUEST), "buffers came back without an interrupt");
        if !to_guest {
            assert_eq!(self.seen, self.used(TO_GUEST), "buffers were filled without an interrupt");
            return packets;
        }
        while self.seen != self.used(TO_GUEST) {
            let element = TO_GUEST + 0x2_0000 + 4 + u64::from(self.seen % SIZE) * 8;
            let slot: u32 = self.memory.read_obj(GuestAddress(element)).unwrap();
            let len: u32 = self.memory.read_obj(GuestAddress(element + 4)).unwrap();
            let address = TO_GUEST_BUFFERS + u64::from(slot) * u64::from(BUFFER);
            let mut bytes = vec![0; len as usize];
            self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
            let (header, data) = bytes.split_at(HEADER_SIZE);
            let header = Header::decode(header.try_into().unwrap());
            assert_eq!(header.len as usize, data.len(), "the header says what the buffer holds");
            packets.push((header, data.to_vec()));
            self.seen = self.seen.wrapping_add(1);
            if !self.hoards {
                self.post();
            }
        }
        self.want_interrupt(TO_GUEST, self.seen);
        packets
    }

    /// Every buffer that was sent came back.
    pub(super) fn has_all_buffers_back(&self) -> bool {
        self.returned == self.sent
    }

    /// Whether the ring has room for one packet more.
    pub(super) fn can_send(&self) -> bool {
        self.sent.wrapping_sub(self.returned) < SIZE
    }

    /// Turns until the guest gets a packet with `op`, which has to be soon.
    pub(super) fn until(&mut self, op: Op) -> Packet {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            self.now = self.now.max(Instant::now());
            let mut packets = self.turn();
            if let Some(at) = packets.iter().position(|(header, _)| header.op == op) {
                self.unread = packets.split_off(at + 1);
                return packets.remove(at);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        panic!("the guest never got {op:?}");
    }

    /// A connection of the host that the guest has accepted with a window of `window` bytes.
    pub(super) fn connected(&mut self, port: u32, window: u32) -> (UnixStream, Header) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // What Linux gives a socket unless its administrator says otherwise.
        rustix::net::sockopt::set_socket_send_buffer_size(&theirs, 106_496).unwrap();
        self.handle.connect(port, Vec::new(), theirs.into());
        let (request, _) = self.until(Op::Request);
        let mut answer = reply(&request, Op::Response);
        answer.buf_alloc = window;
        self.send(answer, &[]);
        self.turn();
        (ours, answer)
    }
}

/// The guest's packet in answer to one of the device.
pub(super) fn reply(to: &Header, op: Op) -> Header {
    Header {
        src_cid: u64::from(CID),
        dst_cid: HOST_CID,
        src_port: to.dst_port,
        dst_port: to.src_port,
        len: 0,
        kind: TYPE_STREAM,
        op,
        flags: 0,
        buf_alloc: 1 << 20,
        fwd_cnt: 0,
    }
}

/// A later packet of the guest on the connection of `earlier`.
pub(super) fn again(earlier: &Header, op: Op, len: usize) -> Header {
    Header { op, len: len as u32, ..*earlier }
}

/// A request of the guest.
pub(super) fn request(guest: u32, host: u32) -> Header {
    let to = Header { dst_port: guest, src_port: host, ..reply_to_nobody() };
    reply(&to, Op::Request)
}

fn reply_to_nobody() -> Header {
    Header::decode(&[0; HEADER_SIZE])
}
