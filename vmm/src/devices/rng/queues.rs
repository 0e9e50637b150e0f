//! The queue, pure: generic over memory and over where randomness comes from.

use std::io::{self, Write};

use virtio_queue::Queue;
use vm_memory::GuestMemory;

use crate::devices::RingError;
use crate::devices::chain::{self, Pass};

/// A guest gets no more for one request, whatever it asks for (Firecracker #5762).
const MOST: usize = if cfg!(feature = "without-a-bounds-check") { usize::MAX } else { 64 * 1024 };

/// Fills the buffers that wait.
pub(super) fn fill<M: GuestMemory>(
    queue: &mut Queue,
    memory: &M,
    random: impl Fn(&mut [u8]) -> io::Result<()>,
) -> Result<Pass, RingError> {
    chain::serve(queue, memory, |chain| {
        let mut bytes = vec![0; chain.writable.available().min(MOST)];
        // A host without randomness gives none; the guest then has that of its other sources.
        if random(&mut bytes).is_ok() {
            let _ = chain.writable.write_all(&bytes);
        }
        u32::try_from(chain.writable.done()).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::{Buffer, Driver};

    fn fives(bytes: &mut [u8]) -> io::Result<()> {
        bytes.fill(5);
        Ok(())
    }

    #[test]
    fn what_is_to_be_filled_is_filled_and_the_rest_let_alone() {
        let mut driver = Driver::new();
        driver.send(&[Buffer::Filled(b"ours"), Buffer::ToFill(100), Buffer::ToFill(20)]);
        assert!(fill(&mut driver.queue, &driver.memory, fives).unwrap().signal);
        assert_eq!(driver.used(), (1, 120));
        assert_eq!(driver.bytes(0, 4), b"ours");
        assert_eq!(
            (driver.bytes(1, 101), driver.bytes(2, 20)),
            ([vec![5; 100], vec![0]].concat(), vec![5; 20])
        );
        assert!(!fill(&mut driver.queue, &driver.memory, fives).unwrap().signal, "nothing waits");
    }

    #[test]
    fn a_request_for_very_much_gets_some() {
        // Firecracker #5762: a chain made the device allocate as much as the guest asked for.
        let mut driver = Driver::new();
        driver.send(&[Buffer::ToFill(3 << 20)]);
        fill(&mut driver.queue, &driver.memory, fives).unwrap();
        assert_eq!(driver.used(), (1, MOST as u32));
    }

    #[test]
    fn a_host_without_randomness_gives_nothing_rather_than_zeroes() {
        let mut driver = Driver::new();
        driver.send(&[Buffer::ToFill(10)]);
        let nothing = |_: &mut [u8]| Err(io::ErrorKind::Unsupported.into());
        fill(&mut driver.queue, &driver.memory, nothing).unwrap();
        assert_eq!(driver.used(), (1, 0));
    }
}
