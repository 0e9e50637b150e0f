//! All connections of a guest, and what goes to it next.
//!
//! Of the three files beside this one, [`from_guest`] takes packets in, [`to_guest`] hands packets out, and
//! [`from_host`] follows the owner's orders and what the host's sockets report.

mod from_guest;
mod from_host;
mod to_guest;

pub(super) use to_guest::Next;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use super::connection::{Connection, State};
use super::handle::{Handle, Order, Owner};
use super::knock::Driver;
use super::limits::{BATCH, CONNECTIONS, FULL_WINDOWS, SMALL_WINDOW, WINDOW};
use super::packet::{HOST_CID, Header, Op, TYPE_STREAM};
use super::stream::Socket;
use crate::log_gate::LogGate;
use crate::platform::{Event, Interest, Poller, Wake};

/// Both ports of a connection, which name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) guest: u32,
    pub(super) host: u32,
}

/// VMADDR_PORT_ANY: no port that anybody can have. Tokens with it as the guest's port are ours.
const NO_PORT: u32 = u32::MAX;
const WAKE: Key = Key { guest: NO_PORT, host: NO_PORT - 1 };
/// The first port that host connections get. Those below are names: the guest asks for them.
const FIRST_HOST_PORT: u32 = 1 << 30;

impl Key {
    fn token(self) -> u64 {
        (u64::from(self.guest) << 32) | u64::from(self.host)
    }

    fn from_token(token: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = token.to_be_bytes();
        Self { guest: u32::from_be_bytes([a, b, c, d]), host: u32::from_be_bytes([e, f, g, h]) }
    }
}

#[derive(Debug)]
struct Entry {
    connection: Connection<Socket>,
    /// What the poller was asked to watch; none before it was asked.
    watched: Option<Interest>,
    /// In `ready`.
    queued: bool,
    wake_at: Option<Instant>,
}

#[derive(Debug)]
struct Listener {
    guest_port: u32,
    socket: OwnedFd,
}

#[derive(Debug)]
pub(super) struct Muxer {
    guest_cid: u64,
    poller: Poller,
    events: Vec<Event>,
    wake: Arc<Wake>,
    orders: mpsc::Receiver<Order>,
    owner: Owner,
    connections: HashMap<Key, Entry>,
    /// Connections that may have something for the guest, in turn.
    ready: VecDeque<Key>,
    /// Bytes that the front of `ready` has sent in its turn.
    turn: usize,
    /// Answers that belong to no connection.
    answers: VecDeque<Header>,
    timers: BTreeSet<(Instant, Key)>,
    listeners: HashMap<u32, Listener>,
    resting_until: Option<Instant>,
    /// Connections that the guest has left while the host had bytes to read.
    drains: HashMap<u32, Entry>,
    /// Questions to the owner that it has not answered; no key where the guest has given up meanwhile.
    dials: HashMap<u64, Option<Key>>,
    next_dial: u64,
    next_host_port: u32,
    next_id: u32,
    driver: Driver,
    scratch: Vec<u8>,
    complaints: Complaints,
}

#[derive(Debug, Default)]
struct Complaints {
    /// Packets for others than the host.
    foreign: LogGate,
    /// Connections that are reset for what the guest did, and for what the host cannot do.
    guest: LogGate,
    host: LogGate,
    /// Connections of the host that the guest does not get.
    refused: LogGate,
    descriptors: LogGate,
    unanswered: LogGate,
    unconfirmed: LogGate,
}

impl Muxer {
    pub(super) fn new(guest_cid: u64, owner: Owner) -> io::Result<(Self, Handle)> {
        let poller = Poller::new()?;
        let wake = Arc::new(Wake::new()?);
        poller.add(&*wake, WAKE.token(), Interest { read: true, write: false })?;
        let (handle, orders) = Handle::new(Arc::clone(&wake));
        let muxer = Self {
            guest_cid,
            poller,
            events: Vec::new(),
            wake,
            orders,
            owner,
            connections: HashMap::new(),
            ready: VecDeque::new(),
            turn: 0,
            answers: VecDeque::new(),
            timers: BTreeSet::new(),
            listeners: HashMap::new(),
            resting_until: None,
            drains: HashMap::new(),
            dials: HashMap::new(),
            next_dial: 1,
            next_host_port: FIRST_HOST_PORT,
            next_id: 0,
            driver: Driver::Awaited,
            scratch: vec![0; BATCH],
            complaints: Complaints::default(),
        };
        Ok((muxer, handle))
    }

    /// Becomes readable when [`Muxer::host_events`] has something to do.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }

    /// Comes back soon, though nothing may happen.
    pub(super) fn come_back(&self) {
        self.wake.wake();
    }

    /// The guest's driver is up: whoever waits for it may knock.
    pub(super) fn driver_up(&mut self, now: Instant) {
        self.driver = Driver::Up;
        for key in self.keys() {
            if let Some(State::Knocking(knock)) = self.state(key) {
                knock.start(now);
                self.settle(key);
            }
        }
    }

    /// The guest's driver is gone, and with it every connection that the guest had. Who knocked, knocks again when
    /// it comes back.
    pub(super) fn driver_down(&mut self) {
        self.driver = Driver::Down;
        self.answers.clear();
        for key in self.keys() {
            match self.state(key) {
                Some(State::Knocking(knock)) => {
                    knock.suspend();
                    self.settle(key);
                }
                Some(_) => self.remove(key),
                None => {}
            }
        }
    }

    /// The driver broke a ring. Until it has reset the device no connection can be made, nor go on.
    pub(super) fn driver_broke(&mut self) {
        self.driver = Driver::Broken;
        self.answers.clear();
        for key in self.keys() {
            self.remove(key);
        }
    }

    /// Connections, those that only drain included.
    pub(super) fn count(&self) -> usize {
        self.connections.len().saturating_add(self.drains.len())
    }

    fn is_full(&self) -> bool {
        self.count() >= CONNECTIONS
    }

    /// The window of one more connection.
    fn window(&self) -> u32 {
        if self.count() < FULL_WINDOWS { WINDOW } else { SMALL_WINDOW }
    }

    fn keys(&self) -> Vec<Key> {
        self.connections.keys().copied().collect()
    }

    fn state(&mut self, key: Key) -> Option<&mut State> {
        self.connections.get_mut(&key).map(|entry| &mut entry.connection.state)
    }

    fn insert(&mut self, key: Key, connection: Connection<Socket>) {
        let entry = Entry { connection, watched: None, queued: false, wake_at: None };
        self.connections.insert(key, entry);
        self.settle(key);
    }

    /// After anything that may have changed a connection: it gets its turn, its timer and its place in the poller.
    fn settle(&mut self, key: Key) {
        let Some(entry) = self.connections.get_mut(&key) else { return };
        if !entry.queued {
            entry.queued = true;
            self.ready.push_back(key);
        }
        let wake_at = entry.connection.wake_at();
        if entry.wake_at != wake_at {
            if let Some(old) = std::mem::replace(&mut entry.wake_at, wake_at) {
                self.timers.remove(&(old, key));
            }
            if let Some(new) = wake_at {
                self.timers.insert((new, key));
            }
        }
        if let Err(error) = watch(&self.poller, key, entry) {
            self.give_up(key, &error);
        }
    }

    /// Forgets a connection; its stream is closed, at once or when the host has read what the guest sent.
    fn remove(&mut self, key: Key) {
        let Some(mut entry) = self.connections.remove(&key) else { return };
        if let Some(when) = entry.wake_at.take() {
            self.timers.remove(&(when, key));
        }
        if let State::Dialing(id) = entry.connection.state
            && let Some(asker) = self.dials.get_mut(&id)
        {
            // It stays until the owner has answered: the guest cannot ask faster than that.
            *asker = None;
        }
        if let (Some(_), Some(stream)) = (entry.watched.take(), entry.connection.stream()) {
            self.poller.remove(stream);
        }
        if entry.queued {
            self.ready.retain(|&other| other != key);
        }
        if entry.connection.has_bytes_for_host() {
            self.drain(entry);
        }
    }

    fn drain(&mut self, mut entry: Entry) {
        entry.connection.guest_left();
        let id = self.free_id();
        let key = Key { guest: NO_PORT, host: id };
        if entry.connection.has_bytes_for_host() && watch(&self.poller, key, &mut entry).is_ok() {
            self.drains.insert(id, entry);
        }
    }

    /// A number that neither a listener nor a drain has.
    fn free_id(&mut self) -> u32 {
        loop {
            let id = self.next_id;
            self.next_id = self.next_id.wrapping_add(1) % WAKE.host;
            if !self.listeners.contains_key(&id) && !self.drains.contains_key(&id) {
                return id;
            }
        }
    }

    /// Forgets a connection for what the guest did, and tells it.
    fn reset(&mut self, key: Key, why: &str) {
        if let Some(held_back) = self.complaints.guest.open() {
            tracing::warn!(guest_port = key.guest, host_port = key.host, held_back, "vsock reset: {why}");
        }
        self.remove(key);
        self.answer_reset(key);
    }

    /// Forgets a connection because the host cannot serve it, and tells the guest.
    fn give_up(&mut self, key: Key, error: &io::Error) {
        if let Some(held_back) = self.complaints.host.open() {
            tracing::error!(
                guest_port = key.guest,
                held_back,
                "vsock: a host's stream cannot be used: {error}"
            );
        }
        self.remove(key);
        self.answer_reset(key);
    }

    fn answer_reset(&mut self, key: Key) {
        let header = self.header(key, Op::Reset);
        self.answers.push_back(header);
    }

    /// A packet of ours with neither data, flags nor credit.
    fn header(&self, key: Key, op: Op) -> Header {
        Header {
            src_cid: HOST_CID,
            dst_cid: self.guest_cid,
            src_port: key.host,
            dst_port: key.guest,
            len: 0,
            kind: TYPE_STREAM,
            op,
            flags: 0,
            buf_alloc: 0,
            fwd_cnt: 0,
        }
    }
}

/// Tells the poller what the connection waits for, if that has changed.
fn watch(poller: &Poller, key: Key, entry: &mut Entry) -> io::Result<()> {
    let Some(stream) = entry.connection.stream() else { return Ok(()) };
    let interest = entry.connection.interest();
    match entry.watched {
        Some(watched) if watched == interest => return Ok(()),
        Some(_) => poller.modify(stream, key.token(), interest)?,
        None => poller.add(stream, key.token(), interest)?,
    }
    entry.watched = Some(interest);
    Ok(())
}
