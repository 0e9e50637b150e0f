//! The threads that talk with the supervisor: one reads its orders, one tells it what happens.

use crate::platform::sandbox::linux::rule::{Rule, table};

pub(super) const RULES: &[Rule] = table! {
    SYS_recvmsg => "orders, with the sockets that come along",
    SYS_sendmsg => "what happens in the machine",
    SYS_shutdown => "the last word is said",
};
