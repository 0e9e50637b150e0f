//! What bounds the device.

use std::time::Duration;

use crate::platform::sandbox::STREAMS;

/// Connections at a time, those that wait for an answer and those that only drain included.
pub(super) const CONNECTIONS: usize = 1024;
/// Requests of the guest that may wait for the host's answer, those that the guest has given up included.
pub(super) const DIALS: usize = 256;
/// Bytes that the guest may have on the way to one host stream, of the first connections and of those beyond. The host
/// keeps what its streams do not take.
pub(super) const WINDOW: u32 = 256 * 1024;
pub(super) const SMALL_WINDOW: u32 = 16 * 1024;
pub(super) const FULL_WINDOWS: usize = 128;
// All that connections hold: in both directions what waits is no more than a window, and to the guest no more than a batch
// either.
const _: () = {
    let (window, small, batch) = (WINDOW as u64, SMALL_WINDOW as u64, BATCH as u64);
    let (full, all) = (FULL_WINDOWS as u64, CONNECTIONS as u64);
    assert!(full * (window + batch) + (all - full) * small * 2 <= STREAMS);
};
/// Bytes read from a host stream at a time, and how much a connection may send before the next has its turn.
pub(super) const BATCH: usize = 64 * 1024;
/// Answers that belong to no connection. While they are this many, nothing more is taken from the guest.
pub(super) const ANSWERS: usize = 256;
/// How long a host's connection waits for the guest to listen, from when its driver is up.
pub(super) const KNOCKING: Duration = Duration::from_secs(30);
/// How long the guest may take to confirm that a connection is over.
pub(super) const LINGERING: Duration = Duration::from_secs(2);
/// How long a listener rests when the process is out of descriptors.
pub(super) const RESTING: Duration = Duration::from_millis(100);
