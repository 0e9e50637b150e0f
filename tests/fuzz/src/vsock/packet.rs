//! A packet as the guest sends and gets it (virtio 1.3, 5.10.6).

pub(super) const REQUEST: u16 = 1;
pub(super) const RESPONSE: u16 = 2;
pub(super) const RESET: u16 = 3;
pub(super) const SHUTDOWN: u16 = 4;
pub(super) const DATA: u16 = 5;
pub(super) const CREDIT_UPDATE: u16 = 6;
pub(super) const CREDIT_REQUEST: u16 = 7;

pub(super) const GUEST: u64 = 3;
pub(super) const HOST: u64 = 2;
pub(super) const STREAM: u16 = 1;
pub(super) const HEADER: usize = 44;

/// Both ports of a connection: the guest's, and the host's.
pub(super) type Key = (u32, u32);

#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) source: u64,
    pub(super) destination: u64,
    pub(super) key: Key,
    pub(super) kind: u16,
    pub(super) op: u16,
    pub(super) flags: u32,
    pub(super) buf_alloc: u32,
    pub(super) fwd_cnt: u32,
    /// How many bytes it says that it brings, and those that it does.
    pub(super) len: u32,
    pub(super) data: Vec<u8>,
}

impl Packet {
    pub(super) fn of_guest(key: Key, op: u16) -> Self {
        Self {
            source: GUEST,
            destination: HOST,
            key,
            kind: STREAM,
            op,
            flags: 0,
            buf_alloc: 0,
            fwd_cnt: 0,
            len: 0,
            data: Vec::new(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.source.to_le_bytes());
        bytes.extend(self.destination.to_le_bytes());
        for number in [self.key.0, self.key.1, self.len] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.op.to_le_bytes());
        for number in [self.flags, self.buf_alloc, self.fwd_cnt] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(&self.data);
        bytes
    }

    /// One of the host's.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let packet = Self {
            source: long(0),
            destination: long(8),
            key: (word(20), word(16)),
            kind: word(28) as u16,
            op: (word(28) >> 16) as u16,
            flags: word(32),
            buf_alloc: word(36),
            fwd_cnt: word(40),
            len: word(24),
            data: bytes[HEADER..].to_vec(),
        };
        assert_eq!((packet.source, packet.destination, packet.kind), (HOST, GUEST, STREAM));
        assert_eq!(packet.len as usize, packet.data.len(), "the header says what the buffer holds");
        packet
    }
}
