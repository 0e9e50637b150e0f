//! The owner's orders, and what the host's sockets and the clock report.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;

use super::super::connection::{Connection, State};
use super::super::handle::Order;
use super::super::knock::{Driver, Knock, later};
use super::super::limits::RESTING;
use super::super::stream::Socket;
use super::{FIRST_HOST_PORT, Key, Listener, Muxer, NO_PORT, WAKE};
use crate::platform::{Event, Interest, accept};

/// Connections taken from one listener before others have their turn.
const ACCEPTS: usize = 64;
const LISTENING: Interest = Interest { read: true, write: false };

impl Muxer {
    /// Handles what has happened on the host's side, without waiting.
    pub(in super::super) fn host_events(&mut self, now: Instant) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        let polled = self.poller.poll(&mut events);
        for event in &events {
            let key = Key::from_token(event.token);
            if key == WAKE {
                self.wake.consume();
            } else if key.guest == NO_PORT {
                self.own_event(key.host, now);
            } else {
                self.stream_event(key, event);
            }
        }
        self.events = events;
        self.follow_orders(now);
        self.expire(now);
        polled
    }

    /// Arms the timer for whatever comes next.
    pub(in super::super) fn arm(&mut self) -> io::Result<()> {
        let connection = self.timers.first().map(|&(when, _)| when);
        let next = match (connection, self.resting_until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.poller.wake_at(next)
    }

    fn own_event(&mut self, id: u32, now: Instant) {
        if self.listeners.contains_key(&id) {
            self.accept(id, now);
        } else if let Some(entry) = self.drains.get_mut(&id) {
            entry.connection.flush();
            if !entry.connection.has_bytes_for_host()
                && let Some(entry) = self.drains.remove(&id)
                && let Some(stream) = entry.connection.stream()
            {
                self.poller.remove(stream);
            }
        }
    }

    fn stream_event(&mut self, key: Key, event: &Event) {
        let Some(entry) = self.connections.get_mut(&key) else { return };
        if event.readable {
            entry.connection.set_readable();
        }
        if event.writable {
            entry.connection.flush();
        }
        if event.hangup {
            if let State::Knocking(knock) = &entry.connection.state {
                let asked = knock.is_unanswered();
                if !entry.connection.host_has_said_something() {
                    // The client has given up; a guest that is about to accept has to know.
                    self.remove(key);
                    if asked {
                        self.answer_reset(key);
                    }
                    return;
                }
            }
            entry.connection.host_hung_up();
        }
        self.settle(key);
    }

    fn follow_orders(&mut self, now: Instant) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Listen { guest_port, listener } => self.listen(guest_port, listener),
                Order::Unlisten { guest_port } => self.unlisten(guest_port),
                Order::Connect { guest_port, preamble, stream } => {
                    self.host_request(guest_port, preamble, stream, now);
                }
                Order::Dialed { id, stream } => self.dialed(id, stream),
                Order::Refused { id } => {
                    if let Some(Some(key)) = self.dials.remove(&id) {
                        self.remove(key);
                        self.answer_reset(key);
                    }
                }
            }
        }
    }

    fn listen(&mut self, guest_port: u32, socket: OwnedFd) {
        let id = self.free_id();
        let nonblocking = rustix::io::ioctl_fionbio(&socket, true).map_err(io::Error::from);
        // While listeners rest, this one does, too.
        let watched = nonblocking.and_then(|()| match self.resting_until {
            Some(_) => Ok(()),
            None => self.poller.add(&socket, listener_token(id), LISTENING),
        });
        match watched {
            Ok(()) => {
                self.listeners.insert(id, Listener { guest_port, socket });
            }
            Err(error) => tracing::error!(guest_port, %error, "cannot accept for a port of the guest"),
        }
    }

    fn unlisten(&mut self, guest_port: u32) {
        let poller = &self.poller;
        self.listeners.retain(|_, listener| {
            let stays = listener.guest_port != guest_port;
            if !stays {
                poller.remove(&listener.socket);
            }
            stays
        });
    }

    fn accept(&mut self, id: u32, now: Instant) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.get(&id) else { return };
            let guest_port = listener.guest_port;
            match accept(&listener.socket) {
                Ok(stream) => self.host_request(guest_port, Vec::new(), stream, now),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    return self.rest(now);
                }
                Err(error) => {
                    // It would be reported again and again.
                    tracing::error!(guest_port, %error, "cannot accept for a port of the guest any more");
                    return self.forget_listener(id);
                }
            }
        }
    }

    fn forget_listener(&mut self, id: u32) {
        if let Some(listener) = self.listeners.remove(&id) {
            self.poller.remove(&listener.socket);
        }
    }

    /// Out of descriptors: the listeners would be reported again and again, so nobody listens for a moment.
    fn rest(&mut self, now: Instant) {
        if let Some(held_back) = self.complaints.descriptors.open() {
            tracing::warn!(held_back, "out of descriptors; new connections wait");
        }
        for listener in self.listeners.values() {
            self.poller.remove(&listener.socket);
        }
        self.resting_until = Some(later(now, RESTING));
    }

    fn host_request(&mut self, guest_port: u32, preamble: Vec<u8>, stream: OwnedFd, now: Instant) {
        let refused = if self.driver == Driver::Broken {
            Some("the guest broke its vsock device")
        } else if self.is_full() {
            Some("there are too many")
        } else if guest_port == NO_PORT {
            Some("there is no such port")
        } else {
            None
        };
        if let Some(why) = refused {
            // The client sees its stream closed; all that can be told of why is here.
            if let Some(held_back) = self.complaints.refused.open() {
                tracing::warn!(guest_port, held_back, "vsock connection refused: {why}");
            }
            return;
        }
        let key = self.free_key(guest_port);
        match Socket::new(stream) {
            Ok(socket) => {
                let knock = Knock::new(self.driver, now);
                self.insert(key, Connection::from_host(socket, preamble, knock, self.window()));
            }
            Err(error) => self.give_up(key, &error),
        }
    }

    /// Ports are used in a circle, so that a number comes back as late as possible.
    fn free_key(&mut self, guest: u32) -> Key {
        loop {
            let key = Key { guest, host: self.next_host_port };
            self.next_host_port = self.next_host_port.wrapping_add(1);
            if self.next_host_port == NO_PORT {
                self.next_host_port = FIRST_HOST_PORT;
            }
            if !self.connections.contains_key(&key) {
                return key;
            }
        }
    }

    fn dialed(&mut self, id: u64, stream: OwnedFd) {
        // The guest may have given up by now: the stream is then closed.
        let Some(Some(key)) = self.dials.remove(&id) else { return };
        let Some(entry) = self.connections.get_mut(&key) else { return };
        match Socket::new(stream) {
            Ok(socket) => {
                entry.connection.dialed(socket);
                self.settle(key);
            }
            Err(error) => self.give_up(key, &error),
        }
    }

    fn expire(&mut self, now: Instant) {
        if self.resting_until.is_some_and(|until| until <= now) {
            self.resting_until = None;
            for (&id, listener) in &self.listeners {
                if let Err(error) = self.poller.add(&listener.socket, listener_token(id), LISTENING) {
                    tracing::error!(guest_port = listener.guest_port, %error, "cannot accept any more");
                }
            }
        }
        while let Some(&(when, key)) = self.timers.first() {
            if when > now {
                break;
            }
            self.timers.pop_first();
            if let Some(entry) = self.connections.get_mut(&key) {
                entry.wake_at = None;
            }
            self.timer(key, now);
        }
    }

    fn timer(&mut self, key: Key, now: Instant) {
        let (gate, why, asked) = match self.connections.get_mut(&key).map(|entry| &mut entry.connection.state)
        {
            Some(State::Knocking(knock)) => {
                knock.tick(now);
                if !knock.is_over(now) {
                    return self.settle(key);
                }
                let why = "the guest did not accept a connection in time";
                (&mut self.complaints.unanswered, why, knock.is_unanswered())
            }
            Some(State::Lingering(until)) if *until <= now => {
                (&mut self.complaints.unconfirmed, "the guest did not confirm an end in time", true)
            }
            _ => return self.settle(key),
        };
        if let Some(held_back) = gate.open() {
            tracing::warn!(guest_port = key.guest, held_back, "vsock: {why}");
        }
        self.remove(key);
        if asked {
            self.answer_reset(key);
        }
    }
}

fn listener_token(id: u32) -> u64 {
    Key { guest: NO_PORT, host: id }.token()
}
