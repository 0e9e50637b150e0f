//! One nf_tables rule: what containers send out of `eth0` leaves with the guest's own address
//! (linux/netfilter/nf_tables.h). dockerd is started without its own rule set, which takes seconds to install.

use super::Error;
use super::netlink::{ACK, APPEND, CREATE, Message, Nest, Netlink};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = NEW_TABLE | 3;
const NEW_RULE: u16 = NEW_TABLE | 6;
/// Family IPv4, version 0, resource id 0.
const IPV4: [u8; 4] = [2, 0, 0, 0];
/// What a batch's first and last message say: no family, and nf_tables as resource, in network byte order.
const BATCH: [u8; 4] = [0, 0, 0, SUBSYSTEM.to_be_bytes()[1]];

const TABLE: &[u8] = b"mvm\0";
const CHAIN: &[u8] = b"postrouting\0";

/// Installs table, chain and rule in one transaction: all of it or nothing.
pub(crate) fn masquerade() -> Result<(), Error> {
    let batch = [
        Message::new(BATCH_BEGIN, 0, 0, &BATCH).finish(),
        table(1),
        chain(2),
        rule(3),
        Message::new(BATCH_END, 0, 4, &BATCH).finish(),
    ]
    .concat();
    Netlink::netfilter()?.exchange(&batch, 3, "the masquerade rule for eth0")
}

fn table(sequence: u32) -> Vec<u8> {
    const NAME: u16 = 1;
    Message::new(NEW_TABLE, ACK | CREATE, sequence, &IPV4).attribute(NAME, TABLE).finish()
}

/// A chain of type nat at the postrouting hook, with source NAT's priority.
fn chain(sequence: u32) -> Vec<u8> {
    const CHAIN_TABLE: u16 = 1;
    const CHAIN_NAME: u16 = 3;
    const CHAIN_HOOK: u16 = 4;
    const CHAIN_TYPE: u16 = 7;
    const HOOK_NUMBER: u16 = 1;
    const HOOK_PRIORITY: u16 = 2;
    const POSTROUTING: u32 = 4;
    const SOURCE_NAT: u32 = 100;
    let hook = Nest::default()
        .attribute(HOOK_NUMBER, &POSTROUTING.to_be_bytes())
        .attribute(HOOK_PRIORITY, &SOURCE_NAT.to_be_bytes());
    Message::new(NEW_CHAIN, ACK | CREATE, sequence, &IPV4)
        .attribute(CHAIN_TABLE, TABLE)
        .attribute(CHAIN_NAME, CHAIN)
        .nest(CHAIN_HOOK, &hook)
        .attribute(CHAIN_TYPE, b"nat\0")
        .finish()
}

/// `oifname "eth0" masquerade`.
fn rule(sequence: u32) -> Vec<u8> {
    const RULE_TABLE: u16 = 1;
    const RULE_CHAIN: u16 = 2;
    const RULE_EXPRESSIONS: u16 = 4;
    let expressions = output_interface_name();
    let expressions = compare_with_eth0(expressions);
    let expressions = expression(expressions, b"masq\0", &Nest::default());
    Message::new(NEW_RULE, ACK | CREATE | APPEND, sequence, &IPV4)
        .attribute(RULE_TABLE, TABLE)
        .attribute(RULE_CHAIN, CHAIN)
        .nest(RULE_EXPRESSIONS, &expressions)
        .finish()
}

const REGISTER_1: [u8; 4] = 1u32.to_be_bytes();

/// Loads the name of the interface that a packet leaves by into register 1.
fn output_interface_name() -> Nest {
    const DESTINATION: u16 = 1;
    const KEY: u16 = 2;
    const OIFNAME: u32 = 7;
    let data = Nest::default().attribute(DESTINATION, &REGISTER_1).attribute(KEY, &OIFNAME.to_be_bytes());
    expression(Nest::default(), b"meta\0", &data)
}

fn compare_with_eth0(expressions: Nest) -> Nest {
    const SOURCE: u16 = 1;
    const OPERATION: u16 = 2;
    const DATA: u16 = 3;
    const DATA_VALUE: u16 = 1;
    const EQUAL: u32 = 0;
    // The kernel compares the register's 16 bytes (IFNAMSIZ).
    let value = Nest::default().attribute(DATA_VALUE, b"eth0\0\0\0\0\0\0\0\0\0\0\0\0");
    let data = Nest::default()
        .attribute(SOURCE, &REGISTER_1)
        .attribute(OPERATION, &EQUAL.to_be_bytes())
        .nest(DATA, &value);
    expression(expressions, b"cmp\0", &data)
}

fn expression(list: Nest, name: &[u8], data: &Nest) -> Nest {
    const ELEMENT: u16 = 1;
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    list.nest(ELEMENT, &Nest::default().attribute(NAME, name).nest(DATA, data))
}
