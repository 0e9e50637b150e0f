//! What a poller is asked, and what it answers.

/// What a caller wants to hear of a descriptor. With neither, only that the other side hung up, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) token: u64,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// Both directions are over.
    pub(crate) hangup: bool,
}
