//! Interfaces of containers: made, or moved into their network namespaces (linux/if_link.h, linux/veth.h).

use rustix::process::Pid;
use serde::Deserialize;

use super::Error;
use super::link::RTM_NEWLINK;
use super::netlink::{ACK, CREATE, EXCLUSIVE, Message, Nest, Netlink};

const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
/// `struct ifinfomsg` of an interface that its name says.
const BY_NAME: [u8; 16] = [0; 16];
/// The kind of the two ends of a cable.
const VETH: &str = "veth";

/// An interface as `runtime.json` has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Interface {
    /// In the container.
    name: String,
    /// The kind to make. Empty for one that is there, which is moved.
    add: String,
    /// The other end, which stays in the machine's namespace.
    peer: String,
    /// Made there too, and then moved.
    create_in_root: bool,
}

impl Interface {
    /// Gives it to the network namespace of a process.
    pub(crate) fn give(&self, owner: Pid) -> Result<(), Error> {
        if self.name.is_empty() {
            return Err(Error::NoName);
        }
        let netlink = Netlink::route()?;
        if let Some(kind) = self.kind() {
            if kind == VETH && self.peer.is_empty() {
                return Err(Error::NoPeer(self.name.clone()));
            }
            let moved_later = self.is_made_in_root();
            let what = format!("the interface {} of the kind {kind}", self.name);
            netlink.exchange(&self.making(kind, (!moved_later).then_some(owner)), 1, &what)?;
            if !moved_later {
                return Ok(());
            }
        }
        netlink.exchange(&self.moving(owner), 1, &format!("the move of the interface {}", self.name))
    }

    fn kind(&self) -> Option<&str> {
        match self.add.as_str() {
            "" if self.peer.is_empty() => None,
            "" => Some(VETH),
            kind => Some(kind),
        }
    }

    /// Of a cable, one end has to stay there.
    fn is_made_in_root(&self) -> bool {
        self.create_in_root || self.kind() == Some(VETH)
    }

    fn making(&self, kind: &str, owner: Option<Pid>) -> Vec<u8> {
        let mut info = Nest::default().attribute(IFLA_INFO_KIND, kind.as_bytes());
        if kind == VETH {
            let peer = Nest::headed(&BY_NAME).attribute(IFLA_IFNAME, &text(&self.peer));
            info = info.nest(IFLA_INFO_DATA, &Nest::default().nest(VETH_INFO_PEER, &peer));
        }
        let message = Message::new(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, 1, &BY_NAME)
            .attribute(IFLA_IFNAME, &text(&self.name))
            .nest(IFLA_LINKINFO, &info);
        within(message, owner).finish()
    }

    fn moving(&self, owner: Pid) -> Vec<u8> {
        let message = Message::new(RTM_NEWLINK, ACK, 1, &BY_NAME).attribute(IFLA_IFNAME, &text(&self.name));
        within(message, Some(owner)).finish()
    }
}

fn within(message: Message, owner: Option<Pid>) -> Message {
    match owner {
        Some(owner) => message.attribute(IFLA_NET_NS_PID, &owner.as_raw_nonzero().get().to_ne_bytes()),
        None => message,
    }
}

/// Text ends with a zero byte there.
fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(json: &str) -> Interface {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_made_where_follows_from_the_kind() {
        let kind = |json| {
            let interface = interface(json);
            (interface.kind().map(str::to_owned), interface.is_made_in_root())
        };
        assert_eq!(kind(r#"{"name":"eth1"}"#), (None, false));
        assert_eq!(kind(r#"{"name":"a","peer":"b"}"#), (Some("veth".into()), true));
        assert_eq!(kind(r#"{"name":"a","add":"dummy"}"#), (Some("dummy".into()), false));
        assert_eq!(
            kind(r#"{"name":"a","add":"wireguard","createInRoot":true}"#),
            (Some("wireguard".into()), true)
        );
    }

    #[test]
    fn a_cable_without_its_other_end_is_refused_by_name() {
        let error = interface(r#"{"name":"a","add":"veth"}"#).give(Pid::INIT).unwrap_err().to_string();
        assert_eq!(
            error,
            "the interface a is one end of a veth, and there is no peer that would be the other"
        );
    }

    #[test]
    fn one_without_a_name_is_not_given_any() {
        let error = interface(r#"{"name":"","add":"dummy"}"#).give(Pid::INIT).unwrap_err().to_string();
        assert_eq!(error, "one has no name");
    }

    #[test]
    fn what_the_kernel_has_not_is_refused_by_name() {
        let owner = rustix::process::getpid();
        let error = interface(r#"{"name":"mvm-none"}"#).give(owner).unwrap_err().to_string();
        assert!(error.starts_with("the kernel refused the move of the interface mvm-none: "), "{error}");
        let error = interface(r#"{"name":"a","add":"no-such-kind"}"#).give(owner).unwrap_err().to_string();
        assert!(
            error.starts_with("the kernel refused the interface a of the kind no-such-kind: "),
            "{error}"
        );
    }

    /// A message is what the kernel's parser takes: lengths that fit, one in the other.
    #[test]
    fn both_ends_of_a_cable_are_in_one_message() {
        let bytes = interface(r#"{"name":"a","peer":"bc"}"#).making(VETH, None);
        let length = u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
        assert_eq!(length, bytes.len());
        let find = |part: &[u8]| bytes.windows(part.len()).position(|window| window == part).unwrap();
        // Its length and kind, then the name with its zero byte.
        assert_eq!(find(b"\x06\0\x03\0a\0"), 32);
        let peer = find(b"\x07\0\x03\0bc\0");
        // In front of the peer's name: ifinfomsg, VETH_INFO_PEER (4 + 16 + 8), IFLA_INFO_DATA (4 + 28).
        assert_eq!(bytes[peer - 24..peer - 20], [32, 0, 2, 0x80]);
        assert_eq!(bytes[peer - 20..peer - 16], [28, 0, 1, 0x80]);
    }
}
