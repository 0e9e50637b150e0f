//! Netlink messages: built, sent, and their acknowledgement read (linux/netlink.h).

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::Error;

pub(super) const REQUEST: u16 = 1;
pub(super) const ACK: u16 = 4;
pub(super) const CREATE: u16 = 0x400;
pub(super) const REPLACE: u16 = 0x100;
pub(super) const EXCLUSIVE: u16 = 0x200;
pub(super) const APPEND: u16 = 0x800;

/// `NLA_F_NESTED`: the attribute holds attributes.
const NESTED: u16 = 0x8000;
const TYPE_ERROR: u16 = 2;
const HEADER: usize = 16;

/// One message, growing behind its header.
#[derive(Debug, Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of `kind`, with the fixed header of its family.
    pub(super) fn new(kind: u16, flags: u16, sequence: u32, family_header: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(family_header);
        Self { bytes }
    }

    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        append(&mut self.bytes, kind, value);
        self
    }

    pub(super) fn nest(self, kind: u16, inner: &Nest) -> Self {
        self.attribute(kind | NESTED, &inner.bytes)
    }

    /// The message with its length filled in.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        if let Some(field) = self.bytes.get_mut(..4) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        self.bytes
    }
}

/// Attributes that will stand inside another.
#[derive(Debug, Default)]
pub(super) struct Nest {
    bytes: Vec<u8>,
}

impl Nest {
    /// Attributes behind a fixed header.
    pub(super) fn headed(header: &[u8]) -> Self {
        Self { bytes: header.to_vec() }
    }

    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        append(&mut self.bytes, kind, value);
        self
    }

    pub(super) fn nest(mut self, kind: u16, inner: &Nest) -> Self {
        append(&mut self.bytes, kind | NESTED, &inner.bytes);
        self
    }
}

/// Length and type, the value, and zeros up to a multiple of four.
fn append(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len().saturating_add(4)).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A netlink socket of one family.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// Interfaces, addresses and routes.
    pub(super) fn route() -> Result<Self, Error> {
        Self::open(None)
    }

    /// nf_tables.
    pub(super) fn netfilter() -> Result<Self, Error> {
        Self::open(Some(netlink::NETFILTER))
    }

    fn open(protocol: Option<Protocol>) -> Result<Self, Error> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .map_err(|error| Error::Socket(error.into()))?;
        Ok(Self { socket })
    }

    /// Sends one datagram, which may hold several messages, and reads `answers` acknowledgements. The kernel answers
    /// a send before it returns from it, so nothing is waited for.
    pub(super) fn exchange(&self, datagram: &[u8], answers: usize, what: &str) -> Result<(), Error> {
        send(&self.socket, datagram, SendFlags::empty()).map_err(|error| Error::Socket(error.into()))?;
        for _ in 0..answers {
            let mut answer = [0; 4096];
            let (_, length) = recv(&self.socket, &mut answer[..], RecvFlags::DONTWAIT)
                .map_err(|error| Error::Socket(error.into()))?;
            let code = answer
                .get(..length)
                .and_then(error_code)
                .ok_or_else(|| Error::Answer { what: what.to_owned() })?;
            if code != 0 {
                return Err(Error::Refused {
                    what: what.to_owned(),
                    source: io::Error::from_raw_os_error(code.saturating_neg()),
                });
            }
        }
        Ok(())
    }
}

/// The error number in an `NLMSG_ERROR`, zero in an acknowledgement.
fn error_code(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let code = answer.get(HEADER..HEADER.checked_add(4)?)?;
    (kind == TYPE_ERROR).then(|| code.try_into().ok().map(i32::from_ne_bytes)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_holds_its_length_and_padded_attributes() {
        let bytes = Message::new(16, ACK, 7, &[1, 2, 3, 4]).attribute(3, b"eth0\0").finish();
        assert_eq!(bytes.len(), 16 + 4 + 4 + 8);
        assert_eq!(bytes[..4], 32u32.to_ne_bytes());
        assert_eq!(bytes[6..8], (ACK | REQUEST).to_ne_bytes());
        assert_eq!(bytes[20..22], 9u16.to_ne_bytes(), "the length counts no padding");
        assert_eq!(bytes[24..], *b"eth0\0\0\0\0");
    }

    #[test]
    fn an_answer_that_is_no_acknowledgement_has_no_code() {
        assert_eq!(error_code(&[0; 8]), None);
        let mut answer = vec![0; 20];
        answer[4..6].copy_from_slice(&TYPE_ERROR.to_ne_bytes());
        answer[16..20].copy_from_slice(&(-17i32).to_ne_bytes());
        assert_eq!(error_code(&answer), Some(-17));
        assert_eq!(error_code(&answer[..18]), None);
    }

    #[test]
    fn the_kernel_acknowledges_and_refuses() {
        let netlink = Netlink::route().unwrap();
        // RTM_NEWLINK of an interface that does not exist; the header is an ifinfomsg.
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&i32::MAX.to_ne_bytes());
        let message = Message::new(16, ACK, 1, &header).finish();
        let error = netlink.exchange(&message, 1, "a test link").unwrap_err().to_string();
        assert!(error.starts_with("the kernel refused a test link: "), "{error}");
    }
}
