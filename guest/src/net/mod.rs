//! The guest's network, set up by the kernel's own messages (netlink) rather than by programs.

mod interface;
mod link;
mod masquerade;
mod netlink;

pub(crate) use interface::Interface;
pub(crate) use link::{configure, loopback_up};
pub(crate) use masquerade::masquerade;

/// Why an interface, an address or a rule could not be set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot speak to the kernel by netlink: {0}")]
    Socket(#[source] std::io::Error),
    #[error("the kernel refused {what}: {source}")]
    Refused { what: String, source: std::io::Error },
    #[error("the kernel's answer to {what} is not one that netlink has")]
    Answer { what: String },
    #[error("there is no interface {0}; is a network device attached to the machine?")]
    NoInterface(&'static str),
    #[error("the interface {0} is one end of a veth, and there is no peer that would be the other")]
    NoPeer(String),
    #[error("one has no name")]
    NoName,
}

impl Error {
    /// Whether it is about a name that another network namespace has until the kernel has taken that apart, which it does by
    /// and by.
    pub(crate) fn may_pass(&self) -> bool {
        let Self::Refused { source, .. } = self else { return false };
        [libc::EEXIST, libc::ENODEV].into_iter().any(|code| source.raw_os_error() == Some(code))
    }
}
