//! What holds for every connection, from the packets that the device has taken in and given out.

use std::collections::BTreeMap;

use super::packet::{
    CREDIT_REQUEST, CREDIT_UPDATE, DATA, GUEST, HOST, Key, Packet, REQUEST, RESET, RESPONSE, SHUTDOWN, STREAM,
};

const NO_PORT: u32 = u32::MAX;
const FIRST_HOST_PORT: u32 = 1 << 30;
const SHUT_RECEIVE: u32 = 1;
const SHUT_SEND: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The host wants the guest: it has been asked and has not answered, or not.
    Knocking {
        asked: bool,
    },
    /// The guest wants the host; whether the host has agreed.
    Dialing {
        agreed: bool,
    },
    Open,
    /// The guest was told that all is over.
    Lingering,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) state: State,
    /// The stream of the host's, by its number.
    pub(super) host: Option<usize>,
    /// So much it said when it knocked.
    says: usize,
    /// What the guest has sent, of which the device said that it passed on so much, and its window.
    pub(super) sent: Vec<u8>,
    forwarded: u32,
    pub(super) window: u32,
    /// What the guest got, and what it has said of that.
    pub(super) got: Vec<u8>,
    room: u32,
    taken: u32,
    /// The guest will send, or receive, no more.
    no_more_sent: bool,
    no_more_wanted: bool,
    /// What the device has said of the host.
    told: u32,
}

impl Connection {
    fn new(state: State) -> Self {
        Self {
            state,
            host: None,
            says: 0,
            sent: Vec::new(),
            forwarded: 0,
            window: 0,
            got: Vec::new(),
            room: 0,
            taken: 0,
            no_more_sent: false,
            no_more_wanted: false,
            told: 0,
        }
    }

    /// Bytes that a guest may send which follows the rules.
    pub(super) fn credit(&self) -> u32 {
        self.window.saturating_sub(self.sent.len() as u32 - self.forwarded)
    }

    pub(super) fn wants_more(&self) -> bool {
        !self.no_more_wanted
    }

    pub(super) fn has_ended(&self) -> bool {
        self.no_more_sent
    }

    pub(super) fn may_send(&self) -> bool {
        self.state == State::Open && !self.no_more_sent
    }

    /// What the guest says of its own window. A count that cannot be is not believed.
    fn heard(&mut self, packet: &Packet) {
        self.room = packet.buf_alloc;
        let on_the_way = (self.got.len() as u32).wrapping_sub(self.taken);
        if packet.fwd_cnt.wrapping_sub(self.taken) <= on_the_way {
            self.taken = packet.fwd_cnt;
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) connections: BTreeMap<Key, Connection>,
    /// Resets that the guest has still to get, for packets that it should not have sent.
    owed: BTreeMap<Key, u32>,
    /// Questions that the owner has to be asked, in order.
    pub(super) dials: Vec<Key>,
    /// Streams of connections that are gone, with all that the guest had sent there.
    pub(super) gone: Vec<(usize, Vec<u8>)>,
    knocked: u32,
}

impl Model {
    /// The host wants the guest's `port`. Ports of the host's are used one after the other.
    pub(super) fn knock(&mut self, port: u32, host: usize, says: usize) {
        if port == NO_PORT {
            return;
        }
        let key = loop {
            let key = (port, FIRST_HOST_PORT + self.knocked);
            self.knocked += 1;
            if !self.connections.contains_key(&key) {
                break key;
            }
        };
        let mut connection = Connection::new(State::Knocking { asked: false });
        (connection.host, connection.says) = (Some(host), says);
        self.connections.insert(key, connection);
    }

    /// The connection that knocks for a stream of the host's, and how much was said with it.
    pub(super) fn knocking_for(&self, host: usize) -> Option<(Key, usize)> {
        let (key, _) = self.all_knocking().into_iter().find(|(_, other)| *other == host)?;
        Some((key, self.connections[&key].says))
    }

    pub(super) fn all_knocking(&self) -> Vec<(Key, usize)> {
        let knocks = |other: &Connection| matches!(other.state, State::Knocking { .. });
        let all = self.connections.iter().filter(|(_, other)| knocks(other));
        all.filter_map(|(key, other)| Some((*key, other.host?))).collect()
    }

    /// The host is gone before the guest has answered; a guest that was asked is told.
    pub(super) fn give_up(&mut self, key: Key) {
        if self.connections[&key].state == (State::Knocking { asked: true }) {
            self.refuse(key);
        } else {
            self.forget(key);
        }
    }

    pub(super) fn forget(&mut self, key: Key) {
        self.remove(key);
    }

    pub(super) fn agree(&mut self, key: Key, host: usize) {
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.state = State::Dialing { agreed: true };
            connection.host = Some(host);
        }
    }

    /// The guest gets a reset for this.
    pub(super) fn refuse(&mut self, key: Key) {
        self.remove(key);
        *self.owed.entry(key).or_default() += 1;
    }

    fn remove(&mut self, key: Key) {
        if let Some(Connection { host: Some(host), sent, .. }) = self.connections.remove(&key) {
            self.gone.push((host, sent));
        }
    }

    /// The driver has reset the device: only who knocks is left.
    pub(super) fn reset(&mut self) {
        self.owed.clear();
        for key in self.connections.keys().copied().collect::<Vec<_>>() {
            match &mut self.connections.get_mut(&key).unwrap().state {
                State::Knocking { asked } => *asked = false,
                _ => self.remove(key),
            }
        }
    }

    /// The device has taken a packet of the guest's in.
    pub(super) fn taken_in(&mut self, packet: &Packet) {
        let key = packet.key;
        if packet.source != GUEST || packet.destination != HOST {
            return;
        }
        if packet.op == RESET {
            match self.connections.get_mut(&key).map(|connection| &mut connection.state) {
                Some(State::Knocking { asked }) => *asked = false,
                _ => self.remove(key),
            }
            return;
        }
        if packet.kind != STREAM || key.0 == NO_PORT {
            return self.refuse(key);
        }
        let Some(connection) = self.connections.get_mut(&key) else {
            return if packet.op == REQUEST { self.dial(packet) } else { self.refuse(key) };
        };
        connection.heard(packet);
        let stands = matches!(connection.state, State::Open | State::Lingering);
        match packet.op {
            RESPONSE if connection.state == (State::Knocking { asked: true }) => {
                connection.state = State::Open;
            }
            DATA if stands && !connection.no_more_sent => {
                // Who sends more than its credit sends more than any.
                if packet.len > connection.window || packet.data.len() < packet.len as usize {
                    self.refuse(key);
                } else {
                    connection.sent.extend(&packet.data);
                }
            }
            SHUTDOWN if stands => {
                connection.no_more_wanted |= packet.flags & SHUT_RECEIVE != 0;
                connection.no_more_sent |= packet.flags & SHUT_SEND != 0;
                if packet.flags & 3 == 3 || connection.state == State::Lingering {
                    // It is confirmed.
                    self.refuse(key);
                }
            }
            CREDIT_UPDATE | CREDIT_REQUEST => {}
            REQUEST if connection.state == State::Lingering => {
                self.remove(key);
                self.dial(packet);
            }
            _ => self.refuse(key),
        }
    }

    fn dial(&mut self, packet: &Packet) {
        let mut connection = Connection::new(State::Dialing { agreed: false });
        connection.heard(packet);
        self.connections.insert(packet.key, connection);
        self.dials.push(packet.key);
    }

    /// The device has given a packet to the guest.
    pub(super) fn given_out(&mut self, packet: &Packet) {
        let key = packet.key;
        if packet.op == RESET {
            if let Some(count) = self.owed.get_mut(&key).filter(|count| **count > 0) {
                *count -= 1;
            } else {
                let state = self.connections.get(&key).map(|other| other.state);
                let is_late = matches!(state, Some(State::Lingering | State::Knocking { asked: true }));
                assert!(is_late, "a reset of {state:?}: {packet:?}");
                self.remove(key);
            }
            return;
        }
        let Some(connection) = self.connections.get_mut(&key) else {
            panic!("a packet of a connection that is over: {packet:?}");
        };
        let passed_on = packet.fwd_cnt;
        assert!(
            passed_on >= connection.forwarded && passed_on as usize <= connection.sent.len(),
            "{packet:?}"
        );
        assert!(connection.window == 0 || connection.window == packet.buf_alloc, "the window changes");
        (connection.forwarded, connection.window) = (passed_on, packet.buf_alloc);
        match packet.op {
            REQUEST => {
                assert_eq!(connection.state, State::Knocking { asked: false }, "asked twice");
                connection.state = State::Knocking { asked: true };
            }
            RESPONSE => {
                assert_eq!(connection.state, State::Dialing { agreed: true }, "accepted for nobody");
                connection.state = State::Open;
            }
            other => {
                assert_eq!(connection.state, State::Open, "{packet:?}");
                match other {
                    DATA => {
                        assert!(!connection.no_more_wanted && connection.told & SHUT_SEND == 0);
                        let on_the_way = (connection.got.len() as u32).wrapping_sub(connection.taken);
                        assert!(packet.len > 0 && packet.len <= connection.room.saturating_sub(on_the_way));
                        connection.got.extend(&packet.data);
                    }
                    SHUTDOWN => {
                        assert_eq!(packet.flags & connection.told, connection.told, "an end is taken back");
                        connection.told = packet.flags;
                        if packet.flags == SHUT_SEND | SHUT_RECEIVE {
                            connection.state = State::Lingering;
                        }
                    }
                    _ => assert!([CREDIT_UPDATE, CREDIT_REQUEST].contains(&other), "{packet:?}"),
                }
            }
        }
    }

    /// Every packet that should not have been has had its reset.
    pub(super) fn owes_nothing(&self) -> bool {
        self.owed.values().all(|count| *count == 0)
    }
}
