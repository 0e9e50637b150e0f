//! The queues, pure: generic over memory and over how pages are given back.

use std::io::Read;

use virtio_queue::Queue;
use vm_memory::bitmap::BS;
use vm_memory::{GuestAddress, GuestMemory, Permissions, VolatileSlice};

use super::PAGE;
use crate::devices::RingError;
use crate::devices::chain::{self, Chain, Pass};

/// Pages that one request may name, as many as Linux puts into one.
const MOST_PAGES: usize = 256;

/// Gives the host back what the guest names page by page (virtio 1.3, 5.5.6.3).
pub(super) fn inflate<M: GuestMemory>(
    queue: &mut Queue,
    memory: &M,
    mut give_back: impl FnMut(&VolatileSlice<'_, BS<'_, M::Bitmap>>),
) -> Result<Pass, RingError> {
    serve(queue, memory, |chain| {
        for (first, count) in runs(&mut chain.readable) {
            // Checked with their whole length, not by where they begin (kata-containers #13661).
            let Some(start) = first.checked_mul(PAGE) else { continue };
            let Ok(length) = usize::try_from(count.saturating_mul(PAGE)) else { continue };
            let Ok(pieces) = memory.get_slices(GuestAddress(start), length, Permissions::Write) else {
                continue;
            };
            pieces.flatten().for_each(|piece| give_back(&piece));
        }
    })
}

/// What the guest takes back is there again as soon as it is touched.
pub(super) fn deflate<M: GuestMemory>(queue: &mut Queue, memory: &M) -> Result<Pass, RingError> {
    serve(queue, memory, |_| {})
}

/// Gives the host back the buffers themselves: they lie on pages that the guest does not use (5.5.6.7).
pub(super) fn report<M: GuestMemory>(
    queue: &mut Queue,
    memory: &M,
    mut give_back: impl FnMut(&VolatileSlice<'_, BS<'_, M::Bitmap>>),
) -> Result<Pass, RingError> {
    serve(queue, memory, |chain| chain.writable.rest(usize::MAX).iter().for_each(&mut give_back))
}

fn serve<'m, M: GuestMemory>(
    queue: &mut Queue,
    memory: &'m M,
    mut act: impl FnMut(&mut Chain<'m, BS<'m, M::Bitmap>>),
) -> Result<Pass, RingError> {
    chain::serve(queue, memory, |chain| {
        act(chain);
        0
    })
}

/// Page numbers (four bytes each, little endian), with those that follow one another, up or down, taken together: the first
/// of them, and how many.
fn runs(from: &mut impl Read) -> Vec<(u64, u64)> {
    let mut numbers = Vec::with_capacity(MOST_PAGES);
    let mut number = [0; 4];
    while numbers.len() < MOST_PAGES && from.read_exact(&mut number).is_ok() {
        numbers.push(u64::from(u32::from_le_bytes(number)));
    }
    numbers.sort_unstable();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((first, count)) if first.saturating_add(*count) == number => {
                *count = count.saturating_add(1);
            }
            Some((first, count)) if first.saturating_add(*count) > number => {}
            _ => runs.push((number, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::{Buffer, Driver, MEMORY};

    fn numbers(pages: &[u32]) -> Vec<u8> {
        pages.iter().flat_map(|page| page.to_le_bytes()).collect()
    }

    /// Where and how long what was given back is, from the memory's start.
    fn given(
        serve: impl FnOnce(&mut Driver, &mut Vec<(usize, usize)>),
        driver: &mut Driver,
    ) -> Vec<(usize, usize)> {
        let mut given = Vec::new();
        serve(driver, &mut given);
        let start = crate::memory::regions(&driver.memory)[0].1.cast::<u8>().as_ptr() as usize;
        given.iter().map(|(at, length)| (at - start, *length)).collect()
    }

    fn inflated(pages: &[u32]) -> Vec<(usize, usize)> {
        let mut driver = Driver::new();
        driver.send(&[Buffer::Filled(&numbers(pages))]);
        let serve = |driver: &mut Driver, given: &mut Vec<(usize, usize)>| {
            let keep = |piece: &VolatileSlice<'_, ()>| {
                given.push((piece.ptr_guard().as_ptr() as usize, piece.len()));
            };
            inflate(&mut driver.queue, &driver.memory, keep).unwrap();
        };
        let given = given(serve, &mut driver);
        assert_eq!(driver.used(), (1, 0));
        given
    }

    #[test]
    fn pages_are_given_back_in_runs() {
        assert_eq!(
            inflated(&[9, 8, 7, 100, 101, 9, 50]),
            [(0x7000, 0x3000), (0x3_2000, 0x1000), (0x6_4000, 0x2000)]
        );
    }

    #[test]
    fn pages_that_the_guest_does_not_have_are_nobodys() {
        // kata-containers #13661, Cloud Hypervisor #8177: only where a range began was looked at.
        let last = (MEMORY / PAGE) as u32 - 1;
        assert_eq!(inflated(&[last]), [(MEMORY as usize - 0x1000, 0x1000)]);
        assert_eq!(inflated(&[last, last + 1]).len(), 1, "of a run what lies in the memory");
        assert!(inflated(&[u32::MAX, last + 1]).is_empty());
    }

    #[test]
    fn of_a_request_without_end_only_so_much_is_taken() {
        // Firecracker #5794: one request kept every device waiting.
        let pages: Vec<u32> = (0..1000).map(|page| page * 2 % 1024).collect();
        assert_eq!(inflated(&pages).len(), MOST_PAGES);
    }

    #[test]
    fn reported_buffers_are_given_back_as_they_lie() {
        let mut driver = Driver::new();
        driver.send(&[Buffer::Filled(b"no"), Buffer::ToFill(0x2000), Buffer::ToFill(0x1000)]);
        let serve = |driver: &mut Driver, given: &mut Vec<(usize, usize)>| {
            let keep = |piece: &VolatileSlice<'_, ()>| {
                given.push((piece.ptr_guard().as_ptr() as usize, piece.len()));
            };
            assert!(report(&mut driver.queue, &driver.memory, keep).unwrap().signal);
        };
        assert_eq!(given(serve, &mut driver), [(0x1_1000, 0x2000), (0x1_3000, 0x1000)]);
    }

    #[test]
    fn what_is_taken_back_is_only_acknowledged() {
        let mut driver = Driver::new();
        driver.send(&[Buffer::Filled(&numbers(&[1, 2]))]);
        assert!(deflate(&mut driver.queue, &driver.memory).unwrap().signal);
        assert_eq!(driver.used(), (1, 0));
    }
}
