//! The queue with a host that carries steps out when the test says so, and as it says.

use std::cell::RefCell;
use std::collections::VecDeque;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};

use super::*;
use crate::devices::testing::{Buffer, Driver, PAGES_APART};
use crate::memory::Memory;

/// Carries out nothing. What has been begun waits for [`Host::end`].
#[derive(Default)]
struct Host {
    begun: Vec<(u16, Step)>,
    ended: VecDeque<(u16, io::Result<usize>)>,
    failures: RefCell<Vec<io::ErrorKind>>,
    is_read_only: bool,
    /// Carries each step out at once, a sector of it.
    is_quick: bool,
}

const SECTOR: usize = 512;

impl Storage<Memory> for Host {
    fn size(&self) -> u64 {
        1 << 20
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    fn name(&self) -> &str {
        "a disk with a name that is too long"
    }

    fn begin(&mut self, head: u16, step: &Step, _memory: &Memory) {
        assert!(self.begun.iter().all(|(other, _)| *other != head), "a request has one step under way");
        if self.is_quick {
            return self.ended.push_back((head, Ok(SECTOR)));
        }
        self.begun.push((head, step.clone()));
    }

    fn ended(&mut self) -> Option<(u16, io::Result<usize>)> {
        self.ended.pop_front()
    }

    /// What is waited for ends well, the last that was begun first.
    fn wait(&mut self) -> bool {
        let last = self.begun.last().map(|(head, _)| *head);
        last.map(|head| self.end(head, Ok(SECTOR))).is_some()
    }

    fn failed(&self, error: &io::Error) {
        self.failures.borrow_mut().push(error.kind());
    }
}

impl Host {
    #[track_caller]
    fn end(&mut self, head: u16, result: io::Result<usize>) {
        let place = self.begun.iter().position(|(begun, _)| *begun == head).expect("it is under way");
        self.begun.remove(place);
        self.ended.push_back((head, result));
    }
}

#[derive(Default)]
struct Bench {
    host: Host,
    flights: Flights,
}

struct Guest {
    driver: Driver,
    bench: Bench,
}

impl Guest {
    fn new() -> Self {
        Self { driver: Driver::new(), bench: Bench::default() }
    }

    /// A request whose descriptors stand from `head` on; one of each three is free for it.
    fn send(&mut self, head: u16, kind: u32, sector: u64, data: Buffer<'_>) {
        let header = header(kind, sector);
        let buffers = [Buffer::Filled(&header), data, Buffer::ToFill(1)];
        self.driver.memory.write_obj(0xff_u8, GuestAddress(status(head))).unwrap();
        self.driver.send_from(head, &buffers);
    }

    fn flush(&mut self, head: u16) {
        self.send(head, VIRTIO_BLK_T_FLUSH, 0, Buffer::Filled(&[]));
    }

    fn pass(&mut self) -> Result<Pass, RingError> {
        let Self { driver, bench: Bench { host, flights } } = self;
        super::serve(flights, &mut driver.queue, &driver.memory, host)
    }

    fn serve(&mut self) -> Result<bool, RingError> {
        Ok(self.pass()?.signal)
    }

    fn settle(&mut self) -> Result<bool, RingError> {
        let Self { driver, bench: Bench { host, flights } } = self;
        super::settle(flights, &mut driver.queue, &driver.memory, host)
    }

    /// Ends a step of this request, and serves.
    #[track_caller]
    fn end(&mut self, head: u16, result: io::Result<usize>) -> bool {
        self.bench.host.end(head, result);
        self.serve().unwrap()
    }

    /// The step of this request that is under way.
    #[track_caller]
    fn step(&self, head: u16) -> Step {
        let begun = self.bench.host.begun.iter().find(|(begun, _)| *begun == head);
        begun.map(|(_, step)| step.clone()).expect("it is under way")
    }

    fn status(&self, head: u16) -> u8 {
        self.driver.memory.read_obj(GuestAddress(status(head))).unwrap()
    }
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

fn range(sector: u64, count: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat()
}

fn page(head: u16, number: u64) -> u64 {
    0x1_0000 + (u64::from(head) * PAGES_APART + number) * 0x1000
}

/// Data of at most a page is before it.
fn status(head: u16) -> u64 {
    page(head, 2)
}

fn span(address: u64, length: usize) -> Span {
    Span { address: GuestAddress(address), length }
}

#[test]
fn answers_come_in_the_order_in_which_the_host_is_done() {
    let mut guest = Guest::new();
    for (head, sector) in [(0, 0), (3, 8), (6, 16)] {
        guest.send(head, VIRTIO_BLK_T_IN, sector, Buffer::ToFill(512));
    }
    assert!(!guest.serve().unwrap(), "nothing is done yet");
    assert_eq!(guest.step(3), Step::Read { at: 4096, into: vec![span(page(3, 1), 512)] });
    for (head, so_far) in [(3, vec![3]), (6, vec![3, 6]), (0, vec![3, 6, 0])] {
        assert_eq!(guest.status(head), 0xff);
        assert!(guest.end(head, Ok(512)), "the driver is told of each");
        assert_eq!((guest.driver.heads(), guest.status(head)), (so_far, 0));
        assert_eq!(guest.driver.used().1, 513);
    }
    guest.send(3, VIRTIO_BLK_T_OUT, 0, Buffer::Filled(&[7; 512]));
    guest.serve().unwrap();
    assert_eq!(guest.step(3), Step::Write { at: 0, from: vec![span(page(3, 1), 512)] }, "a head comes again");
}

/// Cloud Hypervisor's CVE-2026-45782 began with that.
#[test]
fn a_chain_that_is_offered_again_before_it_came_back_breaks_the_ring() {
    let mut guest = Guest::new();
    guest.send(0, VIRTIO_BLK_T_IN, 0, Buffer::ToFill(512));
    guest.send(3, VIRTIO_BLK_T_IN, 0, Buffer::ToFill(512));
    guest.serve().unwrap();
    guest.driver.offer(0);
    let error = guest.serve().unwrap_err();
    assert_eq!(error.to_string(), "the guest offered a chain once more before it had it back");
    // In one go, too.
    let mut guest = Guest::new();
    guest.send(0, VIRTIO_BLK_T_FLUSH, 0, Buffer::Filled(&[]));
    guest.driver.offer(0);
    assert!(matches!(guest.serve(), Err(RingError::Twice)));
}

#[test]
fn what_moves_in_parts_goes_on_where_it_stopped() {
    let mut guest = Guest::new();
    let header = header(VIRTIO_BLK_T_IN, 1);
    guest.driver.send_from(0, &[Buffer::Filled(&header), Buffer::ToFill(1024), Buffer::ToFill(513)]);
    guest.serve().unwrap();
    let (first, second) = (page(0, 1), page(0, 2));
    assert_eq!(guest.step(0), Step::Read { at: 512, into: vec![span(first, 1024), span(second, 512)] });
    assert!(!guest.end(0, Ok(100)));
    assert_eq!(guest.step(0), Step::Read { at: 612, into: vec![span(first + 100, 924), span(second, 512)] });
    for again in [io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock] {
        let before = guest.step(0);
        assert!(!guest.end(0, Err(again.into())));
        assert_eq!(guest.step(0), before, "{again:?}");
    }
    assert!(!guest.end(0, Ok(924)));
    assert_eq!(guest.step(0), Step::Read { at: 1536, into: vec![span(second, 512)] });
    // More than was asked for is not believed.
    assert!(guest.end(0, Ok(usize::MAX)));
    assert_eq!((guest.driver.used(), guest.driver.bytes(2, 513)[512]), ((1, 1537), 0));
}

#[test]
fn a_long_request_moves_a_mebibyte_at_a_time() {
    let mut guest = Guest::new();
    // Its buffers lie on each other.
    let address = page(0, 0);
    guest.driver.memory.write_slice(&header(VIRTIO_BLK_T_OUT, 0), GuestAddress(page(9, 0))).unwrap();
    guest.driver.descriptor(0, page(9, 0), 16, 1, 1);
    guest.driver.descriptor(1, address, 700 << 10, 1, 2);
    guest.driver.descriptor(2, address, 324 << 10, 1, 3);
    guest.driver.descriptor(3, page(9, 1), 1, 2, 0);
    guest.driver.offer(0);
    guest.serve().unwrap();
    let all = vec![span(address, 700 << 10), span(address, 324 << 10)];
    assert_eq!(guest.step(0), Step::Write { at: 0, from: all });
    assert!(!guest.end(0, Ok(1023 << 10)));
    let rest = vec![span(address + (323 << 10), 1 << 10)];
    assert_eq!(guest.step(0), Step::Write { at: 1023 << 10, from: rest });
}

#[test]
fn what_a_host_cannot_do_costs_that_request_and_is_told() {
    let mut guest = Guest::new();
    for (head, error) in [(0, libc::EIO), (3, libc::ENOSPC)] {
        guest.send(head, VIRTIO_BLK_T_OUT, 0, Buffer::Filled(&[7; 512]));
        guest.serve().unwrap();
        assert!(guest.end(head, Err(io::Error::from_raw_os_error(error))));
        assert_eq!(guest.status(head), 1);
    }
    guest.send(6, VIRTIO_BLK_T_IN, 0, Buffer::ToFill(512));
    guest.serve().unwrap();
    assert!(guest.end(6, Ok(0)), "the file has become shorter");
    assert_eq!((guest.status(6), guest.driver.heads()), (1, vec![0, 3, 6]));
    let failures = guest.bench.host.failures.take();
    assert_eq!(failures[1..], [io::ErrorKind::StorageFull, io::ErrorKind::UnexpectedEof]);
    guest.flush(9);
    guest.serve().unwrap();
    assert!(guest.end(9, Ok(0)));
    assert_eq!(guest.status(9), 0, "the next one works");
}

/// It is for what the driver has had answered (virtio 1.3, 5.2.6.2), and need not wait for anything else.
#[test]
fn a_flush_begins_when_all_that_was_answered_has_ended() {
    let mut guest = Guest::new();
    for head in [0, 3] {
        guest.send(head, VIRTIO_BLK_T_OUT, 0, Buffer::Filled(&[7; 512]));
    }
    guest.serve().unwrap();
    assert!(guest.end(0, Ok(512)));
    guest.flush(6);
    guest.serve().unwrap();
    assert_eq!(guest.driver.heads(), [0]);
    assert_eq!(guest.bench.host.begun.last(), Some(&(6, Step::Flush)));
    assert!(guest.end(6, Ok(0)));
    assert_eq!((guest.driver.heads(), guest.status(6)), (vec![0, 6], 0));
}

#[test]
fn ranges_come_one_after_the_other_and_by_hand_where_there_are_no_holes() {
    let mut guest = Guest::new();
    let both = [range(0, 1, 0), range(4, 0, 0), range(8, 2, 0)].concat();
    guest.send(0, VIRTIO_BLK_T_DISCARD, 0, Buffer::Filled(&both));
    guest.serve().unwrap();
    assert_eq!(guest.step(0), Step::Punch(0..512));
    assert!(!guest.end(0, Ok(0)));
    assert_eq!(guest.step(0), Step::Punch(4096..5120), "and the empty one is nothing");
    assert!(!guest.end(0, Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))));
    assert_eq!(guest.step(0), Step::Fill(4096..5120));
    assert!(!guest.end(0, Ok(1000)));
    assert_eq!(guest.step(0), Step::Fill(5096..5120));
    assert!(guest.end(0, Ok(24)));
    assert_eq!((guest.status(0), guest.driver.used()), (0, (1, 1)));

    let kinds = [range(1, 1, 0), range(2, 0, 0), range(2, 1, 1)].concat();
    guest.send(3, VIRTIO_BLK_T_WRITE_ZEROES, 0, Buffer::Filled(&kinds));
    guest.serve().unwrap();
    assert_eq!(guest.step(3), Step::Zero(512..1024), "its room is kept");
    assert!(!guest.end(3, Ok(0)));
    assert_eq!(guest.step(3), Step::Punch(1024..1536), "its room may go");
    assert!(guest.end(3, Ok(0)));
    assert_eq!(guest.status(3), 0);
}

#[test]
fn what_is_nothing_is_answered_at_once() {
    let mut guest = Guest::new();
    guest.bench.host.is_read_only = true;
    guest.flush(0);
    guest.send(3, VIRTIO_BLK_T_IN, 0, Buffer::ToFill(0));
    assert!(guest.serve().unwrap());
    assert_eq!((guest.driver.heads(), guest.status(0), guest.status(3)), (vec![0, 3], 0, 0));
    assert!(guest.bench.host.begun.is_empty());
}

/// Stop, pause and reset wait for a pass, and hosts carry some steps out at once.
#[test]
fn a_pass_sees_to_so_many_steps_and_comes_back_for_the_others() {
    let mut guest = Guest::new();
    guest.bench.host.is_quick = true;
    let steps = STEPS + 10;
    guest.send(0, VIRTIO_BLK_T_IN, 0, Buffer::ToFill((steps * SECTOR) as u32));
    let pass = guest.pass().unwrap();
    assert!(pass.goes_on && !pass.signal);
    assert!(guest.driver.heads().is_empty());
    let pass = guest.pass().unwrap();
    assert!(!pass.goes_on && pass.signal);
    assert_eq!(guest.driver.heads(), [0]);
}

/// Cloud Hypervisor #8356: what was under way when a machine paused was answered by nobody.
#[test]
fn settling_answers_what_is_under_way_and_takes_nothing_new() {
    let mut guest = Guest::new();
    guest.send(0, VIRTIO_BLK_T_IN, 0, Buffer::ToFill(1024));
    guest.flush(3);
    guest.serve().unwrap();
    guest.flush(6);
    assert!(guest.settle().unwrap());
    assert_eq!(guest.driver.heads(), [3, 0], "the read took two steps");
    assert!(guest.bench.host.begun.is_empty());
    assert!(!guest.settle().unwrap(), "there is no more to tell");
    guest.serve().unwrap();
    assert_eq!(guest.step(6), Step::Flush);
}

/// After a reset nobody waits for an answer; should one come all the same, it is nobody's.
#[test]
fn an_answer_that_nobody_waits_for_is_let_fall() {
    let mut guest = Guest::new();
    guest.send(0, VIRTIO_BLK_T_IN, 0, Buffer::ToFill(512));
    guest.serve().unwrap();
    guest.bench.flights.clear();
    assert!(!guest.end(0, Ok(512)));
    assert_eq!((guest.driver.used().0, guest.status(0)), (0, 0xff));
}

/// As every device does.
#[test]
fn rings_over_each_other_do_not_keep_it_busy() {
    let mut driver = Driver::with_rings_over_each_other();
    let Bench { mut host, mut flights } = Bench::default();
    driver.send(&[Buffer::Filled(b"short"), Buffer::ToFill(1)]);
    let pass = super::serve(&mut flights, &mut driver.queue, &driver.memory, &mut host);
    assert!(pass.is_err() || pass.is_ok_and(|pass| pass.goes_on));
}
