//! The balloon (virtio 1.3, 5.5): any pages and any buffers, in a memory with a hole. What the guest gives away is zero
//! afterwards, and nothing else has changed.
//!
//! Input: flags (1: event indexes), then requests: which queue, and for the first two page numbers (how many, then each), for
//! the third pieces of memory (how many, then where and how long each is).

use std::time::Instant;

use virtio_queue::Queue;
use vmm::devices::Device;
use vmm::devices::balloon::Balloon;

use crate::input::Input;
use crate::memory::{self, read, write};
use crate::ring::{self, Piece, Ring};

const PAGE: u64 = 4096;
const RANGES: [std::ops::Range<u64>; 2] = [0..0x1_8000, 0x2_0000..0x2_6000];
/// Rings and requests are below: a guest that gives those away has no driver any more.
const GUESTS: u64 = 0x1_0000;
const REQUEST: u64 = 0x8000;
const QUEUES: usize = 3;
/// No more of one request is looked at.
const MOST_NUMBERS: usize = 256;

pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let event_idx = input.flag();
    let memory = memory::of(&RANGES);
    let (mut rings, mut queues): (Vec<Ring>, Vec<Queue>) =
        (0..QUEUES).map(|number| Ring::new(ring::ROOM * (number as u64 + 1), event_idx)).unzip();
    let pages: Vec<u64> = RANGES
        .iter()
        .flat_map(|range| range.clone().step_by(PAGE as usize))
        .filter(|page| *page >= GUESTS)
        .collect();
    // Every third page was never touched: that it is given away is nothing to the host.
    for page in pages.iter().filter(|page| !(*page / PAGE).is_multiple_of(3)) {
        write(&memory, *page, &[0xaa; PAGE as usize]);
    }
    let mut model: Vec<Vec<u8>> = pages.iter().map(|page| read(&memory, *page, PAGE as usize)).collect();
    let mut balloon = Balloon::new(1 << 20);
    for _ in 0..16 {
        if input.is_empty() {
            return;
        }
        let queue = usize::from(input.below(4)).min(QUEUES - 1);
        let (pieces, given, is_right) = match queue {
            2 => report(&mut input),
            _ => name_pages(&mut input, &memory),
        };
        if queue != 1 && given.iter().any(|range| range.start < GUESTS) {
            return;
        }
        if rings[queue].offer(&memory, &pieces).is_none() {
            continue;
        }
        let signals = balloon.process(&memory, &mut queues, Instant::now()).unwrap();
        assert!(signals.has(queue as u32), "the driver is not told");
        assert_eq!(rings[queue].used(&memory), [(rings[queue].last(), 0)]);
        for (page, content) in pages.iter().zip(&mut model) {
            let is_given = given.iter().any(|range| range.start <= *page && page + PAGE <= range.end);
            let found = read(&memory, *page, PAGE as usize);
            // Beside a page that it does not have, the guest may be left with one that it has.
            if is_given && queue != 1 && (is_right || found != *content) {
                content.fill(0);
            }
            assert!(found == *content, "page {page:#x}, given: {is_given}");
        }
        // A page that is touched is there again.
        let again = usize::from(input.byte()) % pages.len();
        model[again].fill(0xbb);
        write(&memory, pages[again], &model[again]);
    }
}

/// What the driver sends, what it gives away by that, and whether it has all that it names.
type Request = (Vec<Piece>, Vec<std::ops::Range<u64>>, bool);

/// Pieces of memory that the guest does not use.
fn report(input: &mut Input<'_>) -> Request {
    let (mut pieces, mut given, mut all) = (Vec::new(), Vec::new(), 0_u64);
    let mut is_right = true;
    for _ in 0..=input.below(8) {
        let (start, length) = (input.number(), input.number() as u32);
        all += u64::from(length);
        is_right &= length == 0 || is_there(start, u64::from(length));
        pieces.push(Piece::ToFill(start, length));
        given.push(start..start.saturating_add(length.into()));
    }
    // A chain that is wrong has nothing in it.
    if !is_right || all > u64::from(u32::MAX) {
        given.clear();
    }
    (pieces, given, true)
}

/// Pages by their numbers. Of those that the guest does not have, none is anybody's.
fn name_pages(input: &mut Input<'_>, memory: &vmm::memory::Memory) -> Request {
    let mut numbers = Vec::new();
    for _ in 0..input.byte() {
        let number = input.number() as u32;
        // Runs are short to say.
        let more = if number & 1 == 0 { 1 } else { input.below(8) };
        numbers.extend((0..u32::from(more)).map(|add| number.wrapping_add(add)));
    }
    numbers.truncate(1024);
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    write(memory, REQUEST, &bytes);
    let half = bytes.len() / 2 + usize::from(input.below(4));
    let half = half.min(bytes.len());
    let pieces = vec![
        Piece::Filled(REQUEST, half as u32),
        Piece::Filled(REQUEST + half as u64, (bytes.len() - half) as u32),
    ];
    let given = numbers.iter().take(MOST_NUMBERS).map(|number| {
        let start = u64::from(*number) * PAGE;
        start..start + PAGE
    });
    let named = given.len();
    let given: Vec<_> = given.filter(|range| is_there(range.start, PAGE)).collect();
    let is_right = given.len() == named;
    (pieces, given, is_right)
}

fn is_there(start: u64, length: u64) -> bool {
    RANGES.iter().any(|range| range.contains(&start) && length <= range.end - start)
}
