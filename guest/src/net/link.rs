//! Interfaces, their addresses and the default route (linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h).

use std::fs;

use super::Error;
use super::netlink::{ACK, CREATE, Message, Netlink, REPLACE};
use crate::kernel_args::NetworkWord;

const ETHERNET: &str = "eth0";
const AF_INET: u8 = 2;
pub(super) const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFF_UP: u32 = 1;

/// Brings up `lo`; the kernel gives it 127.0.0.1 itself.
pub(crate) fn loopback_up() -> Result<(), Error> {
    let index = index_of("lo")?;
    up(&Netlink::route()?, index, "the loopback interface up")
}

/// Gives `eth0` its address and the default route.
pub(crate) fn configure(network: &NetworkWord) -> Result<(), Error> {
    let netlink = Netlink::route()?;
    let index = index_of(ETHERNET)?;
    up(&netlink, index, "eth0 up")?;
    netlink.exchange(&address_message(network, index), 1, "the address of eth0")?;
    netlink.exchange(&default_route_message(network, index), 1, "the default route")
}

fn index_of(name: &'static str) -> Result<u32, Error> {
    let text = fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).unwrap_or_default();
    text.trim().parse().map_err(|_| Error::NoInterface(name))
}

fn up(netlink: &Netlink, index: u32, what: &'static str) -> Result<(), Error> {
    netlink.exchange(&up_message(index), 1, what)
}

/// `struct ifinfomsg`: family, padding, type, index, flags, and which flags change.
fn up_message(index: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    header.extend_from_slice(&index.to_ne_bytes());
    header.extend_from_slice(&IFF_UP.to_ne_bytes());
    header.extend_from_slice(&IFF_UP.to_ne_bytes());
    Message::new(RTM_NEWLINK, ACK, 1, &header).finish()
}

/// `struct ifaddrmsg`: family, prefix length, flags, scope, index.
fn address_message(network: &NetworkWord, index: u32) -> Vec<u8> {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    let mut header = vec![AF_INET, network.prefix, 0, 0];
    header.extend_from_slice(&index.to_ne_bytes());
    Message::new(RTM_NEWADDR, ACK | CREATE | REPLACE, 2, &header)
        .attribute(IFA_LOCAL, &network.address.octets())
        .attribute(IFA_ADDRESS, &network.address.octets())
        .finish()
}

/// `struct rtmsg`: family, lengths of destination and source, TOS, table, protocol, scope, type, flags.
fn default_route_message(network: &NetworkWord, index: u32) -> Vec<u8> {
    const RTA_OIF: u16 = 4;
    const RTA_GATEWAY: u16 = 5;
    const TABLE_MAIN: u8 = 254;
    const PROTOCOL_BOOT: u8 = 3;
    const TYPE_UNICAST: u8 = 1;
    let header = [AF_INET, 0, 0, 0, TABLE_MAIN, PROTOCOL_BOOT, 0, TYPE_UNICAST, 0, 0, 0, 0];
    Message::new(RTM_NEWROUTE, ACK | CREATE | REPLACE, 3, &header)
        .attribute(RTA_OIF, &index.to_ne_bytes())
        .attribute(RTA_GATEWAY, &network.gateway.octets())
        .finish()
}
