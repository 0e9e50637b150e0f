//! Window arithmetic (virtio 1.3, 5.10.6.3). All counters are free-running and wrap at 2^32.

/// The guest sent more than it had credit for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overrun;

/// Our window: what the guest may send.
#[derive(Debug)]
pub(super) struct Receive {
    window: u32,
    received: u32,
    forwarded: u32,
    /// `forwarded` as the guest last heard it.
    told: u32,
}

impl Receive {
    pub(super) fn new(window: u32) -> Self {
        Self { window, received: 0, forwarded: 0, told: 0 }
    }

    /// Bytes that came in and have not been forwarded.
    pub(super) fn held(&self) -> u32 {
        self.received.wrapping_sub(self.forwarded)
    }

    /// The guest sent `len` bytes.
    pub(super) fn receive(&mut self, len: u32) -> Result<(), Overrun> {
        let held = self.held().checked_add(len).ok_or(Overrun)?;
        if held > self.window {
            return Err(Overrun);
        }
        self.received = self.received.wrapping_add(len);
        Ok(())
    }

    /// The host took `len` bytes, or will never take them. Never more than are held.
    pub(super) fn forward(&mut self, len: u32) {
        self.forwarded = self.forwarded.wrapping_add(len.min(self.held()));
    }

    /// Whether the guest has to be told: when it does not know of a quarter of the window. It then always knows of
    /// three quarters once all is forwarded, so it can never wait for ever.
    pub(super) fn should_tell(&self) -> bool {
        self.forwarded.wrapping_sub(self.told) >= self.window / 4
    }

    /// `buf_alloc` and `fwd_cnt` of the packet that goes out now.
    pub(super) fn tell(&mut self) -> (u32, u32) {
        self.told = self.forwarded;
        (self.window, self.forwarded)
    }
}

/// The guest's window: what we may send.
#[derive(Debug, Default)]
pub(super) struct Send {
    window: u32,
    sent: u32,
    forwarded: u32,
}

impl Send {
    /// Takes over what a packet of the guest says. A count that we never sent, or an older one than is known
    /// (packets of several guest threads overtake each other), changes nothing.
    pub(super) fn heard(&mut self, buf_alloc: u32, fwd_cnt: u32) {
        self.window = buf_alloc;
        let outstanding = self.sent.wrapping_sub(self.forwarded);
        if fwd_cnt.wrapping_sub(self.forwarded) <= outstanding {
            self.forwarded = fwd_cnt;
        }
    }

    /// Bytes that may be sent now. A guest may shrink its window below what is on the way.
    pub(super) fn available(&self) -> u32 {
        self.window.saturating_sub(self.sent.wrapping_sub(self.forwarded))
    }

    /// `len` bytes went out; never more than are available.
    pub(super) fn send(&mut self, len: u32) {
        self.sent = self.sent.wrapping_add(len.min(self.available()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn more_than_the_window_is_an_overrun() {
        let mut receive = Receive::new(100);
        assert_eq!(receive.receive(60), Ok(()));
        assert_eq!(receive.receive(41), Err(Overrun));
        assert_eq!(receive.receive(u32::MAX), Err(Overrun), "the sum must not wrap");
        assert_eq!(receive.receive(40), Ok(()));
    }

    #[test]
    fn a_guest_that_shrinks_its_window_leaves_no_credit() {
        let mut send = Send::default();
        send.heard(100, 0);
        send.send(80);
        send.heard(50, 0);
        assert_eq!(send.available(), 0);
        send.heard(50, 80);
        assert_eq!(send.available(), 50);
    }

    #[test]
    fn a_count_of_bytes_never_sent_is_ignored() {
        let mut send = Send::default();
        send.heard(100, 0);
        send.send(10);
        send.heard(100, 11);
        assert_eq!(send.available(), 90);
        send.heard(100, u32::MAX);
        assert_eq!(send.available(), 90);
    }

    proptest! {
        /// Two ends that follow the rules, started anywhere near the wrap: nothing is lost, nothing overruns, and
        /// neither ever waits for ever.
        #[test]
        fn both_ends_agree_across_the_wrap(start in any::<u32>(), window in 4_u32..1 << 20, steps in prop::collection::vec((any::<u32>(), any::<u32>()), 1..200)) {
            let mut receive = Receive { window, received: start, forwarded: start, told: start };
            let mut send = Send { window, sent: start, forwarded: start };
            let mut on_the_way = 0_u64;
            for (offer, take) in steps {
                let sent = offer.min(send.available());
                send.send(sent);
                prop_assert_eq!(receive.receive(sent), Ok(()));
                on_the_way += u64::from(sent);
                let taken = take.min(receive.held());
                receive.forward(taken);
                on_the_way -= u64::from(taken);
                prop_assert_eq!(u64::from(receive.held()), on_the_way);
                if receive.should_tell() {
                    let (buf_alloc, fwd_cnt) = receive.tell();
                    send.heard(buf_alloc, fwd_cnt);
                }
                prop_assert!(receive.held() > 0 || send.available() > 0, "neither side can move");
            }
        }

        #[test]
        fn no_sequence_of_lies_gets_more_on_the_way_than_the_largest_window(lies in prop::collection::vec((0_u32..5000, any::<u32>(), any::<u32>()), 1..100)) {
            let mut send = Send::default();
            let mut largest = 0;
            for (buf_alloc, fwd_cnt, len) in lies {
                // Half of the counts are near the truth.
                let fwd_cnt = if fwd_cnt % 2 == 0 { fwd_cnt } else { send.sent.wrapping_add(fwd_cnt % 64).wrapping_sub(32) };
                send.heard(buf_alloc, fwd_cnt);
                largest = largest.max(buf_alloc);
                send.send(len);
                prop_assert!(send.sent.wrapping_sub(send.forwarded) <= largest);
            }
        }

        #[test]
        fn held_never_exceeds_the_window(moves in prop::collection::vec((any::<bool>(), any::<u32>()), 1..100)) {
            let mut receive = Receive::new(WINDOW);
            for (incoming, len) in moves {
                if incoming { let _ = receive.receive(len % (2 * WINDOW)); } else { receive.forward(len); }
                prop_assert!(receive.held() <= WINDOW);
            }
        }
    }

    const WINDOW: u32 = 4096;
}
