//! The packet header (virtio 1.3, 5.10.6): 44 bytes, little endian.

/// Length of a header.
pub(super) const HEADER_SIZE: usize = 44;
/// The host's context id (virtio 1.3, 5.10.4).
pub(super) const HOST_CID: u64 = 2;
/// Stream sockets, the only type that is offered (5.10.6.2).
pub(super) const TYPE_STREAM: u16 = 1;
/// OP_SHUTDOWN: the sender will receive no more (5.10.6.5).
pub(super) const SHUTDOWN_RECEIVE: u32 = 1;
/// OP_SHUTDOWN: the sender will send no more.
pub(super) const SHUTDOWN_SEND: u32 = 2;
pub(super) const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// What a packet does (5.10.6, `enum virtio_vsock_op`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Request,
    Response,
    Reset,
    Shutdown,
    Data,
    CreditUpdate,
    CreditRequest,
    /// A number that the specification does not assign.
    Unknown(u16),
}

impl Op {
    fn from_number(number: u16) -> Self {
        match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            other => Self::Unknown(other),
        }
    }

    fn number(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown => 4,
            Self::Data => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
            Self::Unknown(other) => other,
        }
    }
}

/// A header, in the sender's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) src_cid: u64,
    pub(super) dst_cid: u64,
    pub(super) src_port: u32,
    pub(super) dst_port: u32,
    pub(super) len: u32,
    pub(super) kind: u16,
    pub(super) op: Op,
    pub(super) flags: u32,
    pub(super) buf_alloc: u32,
    pub(super) fwd_cnt: u32,
}

impl Header {
    pub(super) fn decode(bytes: &[u8; HEADER_SIZE]) -> Self {
        Self {
            src_cid: u64::from_le_bytes(field(bytes, 0)),
            dst_cid: u64::from_le_bytes(field(bytes, 8)),
            src_port: u32::from_le_bytes(field(bytes, 16)),
            dst_port: u32::from_le_bytes(field(bytes, 20)),
            len: u32::from_le_bytes(field(bytes, 24)),
            kind: u16::from_le_bytes(field(bytes, 28)),
            op: Op::from_number(u16::from_le_bytes(field(bytes, 30))),
            flags: u32::from_le_bytes(field(bytes, 32)),
            buf_alloc: u32::from_le_bytes(field(bytes, 36)),
            fwd_cnt: u32::from_le_bytes(field(bytes, 40)),
        }
    }

    pub(super) fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        put(&mut bytes, 0, &self.src_cid.to_le_bytes());
        put(&mut bytes, 8, &self.dst_cid.to_le_bytes());
        put(&mut bytes, 16, &self.src_port.to_le_bytes());
        put(&mut bytes, 20, &self.dst_port.to_le_bytes());
        put(&mut bytes, 24, &self.len.to_le_bytes());
        put(&mut bytes, 28, &self.kind.to_le_bytes());
        put(&mut bytes, 30, &self.op.number().to_le_bytes());
        put(&mut bytes, 32, &self.flags.to_le_bytes());
        put(&mut bytes, 36, &self.buf_alloc.to_le_bytes());
        put(&mut bytes, 40, &self.fwd_cnt.to_le_bytes());
        bytes
    }
}

fn field<const N: usize>(bytes: &[u8; HEADER_SIZE], offset: usize) -> [u8; N] {
    let mut value = [0; N];
    for (to, from) in value.iter_mut().zip(bytes.iter().skip(offset)) {
        *to = *from;
    }
    value
}

fn put(bytes: &mut [u8; HEADER_SIZE], offset: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(offset).zip(value) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_has_the_layout_of_the_specification() {
        let header = Header {
            src_cid: 3,
            dst_cid: HOST_CID,
            src_port: 0x0102_0304,
            dst_port: 70_000,
            len: 5,
            kind: TYPE_STREAM,
            op: Op::Data,
            flags: SHUTDOWN_SEND,
            buf_alloc: 0x0004_0000,
            fwd_cnt: 9,
        };
        let bytes = header.encode();
        assert_eq!(bytes[16..20], [4, 3, 2, 1], "source port at 16, little endian");
        assert_eq!(bytes[28..32], [1, 0, 5, 0], "type at 28, operation at 30");
        assert_eq!(bytes[40], 9, "forward count at 40");
    }

    proptest! {
        #[test]
        fn whatever_is_decoded_encodes_to_the_same_bytes(bytes in prop::array::uniform32(any::<u8>()), tail in prop::array::uniform12(any::<u8>())) {
            let mut all = [0; HEADER_SIZE];
            all[..32].copy_from_slice(&bytes);
            all[32..].copy_from_slice(&tail);
            prop_assert_eq!(Header::decode(&all).encode(), all);
        }
    }
}
