//! The transmit queue, pure: generic over memory and over who takes the bytes.

use std::io::Read;

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemory;

use crate::devices::RingError;
use crate::devices::chain::{self, CHAINS, Pass};

/// Taken at a time; of one buffer that is longer no more is taken at all.
const MOST: usize = 16 * 1024;

/// Hands over what the guest prints for as long as `take` says that it can have more.
pub(super) fn take<M: GuestMemory>(
    queue: &mut Queue,
    memory: &M,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<Pass, RingError> {
    let mut used = 0_usize;
    // Nothing may wait from before.
    let mut goes_on = take(&[]);
    while goes_on && used < CHAINS {
        let Some(mut chain) = chain::next(queue, memory)? else {
            if chain::await_more(queue, memory)? {
                continue;
            }
            break;
        };
        let mut bytes = vec![0; chain.readable.available().min(MOST)];
        // There are as many.
        let _ = chain.readable.read_exact(&mut bytes);
        goes_on = take(&bytes);
        queue.add_used(memory, chain.head, 0)?;
        used = used.saturating_add(1);
    }
    let signal = used > 0 && queue.needs_notification(memory)?;
    Ok(Pass { signal, goes_on: used >= CHAINS })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::{Buffer, Driver};

    #[test]
    fn what_is_printed_comes_out_in_order() {
        let mut driver = Driver::new();
        let mut printed = Vec::new();
        for text in [&b"hello "[..], b"world", b""] {
            driver.send(&[Buffer::Filled(text)]);
            let mut keep = |bytes: &[u8]| {
                printed.extend_from_slice(bytes);
                true
            };
            assert!(super::take(&mut driver.queue, &driver.memory, &mut keep).unwrap().signal);
        }
        assert_eq!((driver.used().0, &printed[..]), (3, &b"hello world"[..]));
    }

    #[test]
    fn a_reader_that_has_enough_leaves_buffers_with_the_driver() {
        let mut driver = Driver::new();
        driver.send(&[Buffer::Filled(b"wait")]);
        assert!(!super::take(&mut driver.queue, &driver.memory, |_| false).unwrap().signal);
        assert_eq!(driver.used().0, 0);
        assert!(super::take(&mut driver.queue, &driver.memory, |_| true).unwrap().signal);
        assert_eq!(driver.used().0, 1);
    }

    #[test]
    fn of_an_endless_line_only_so_much_is_taken() {
        let mut driver = Driver::new();
        driver.send(&[Buffer::Filled(&vec![b'x'; 2 * MOST])]);
        let mut taken = 0;
        super::take(&mut driver.queue, &driver.memory, |bytes| {
            taken += bytes.len();
            true
        })
        .unwrap();
        assert_eq!((taken, driver.used().0), (MOST, 1));
    }
}
