//! Inputs out of others: the same in each run.

/// Marsaglia's xorshift.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// `limit` is not zero.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit as u64) as usize
    }
}

/// Numbers at which programs go wrong.
const INTERESTING: [u64; 16] = [
    0,
    1,
    2,
    16,
    63,
    64,
    127,
    128,
    255,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 32,
    i64::MAX as u64,
    u64::MAX,
];

/// One of `corpus` with one to eight changes, of at most `longest` bytes; now and then something new.
pub(crate) fn mutant(corpus: &[Vec<u8>], longest: usize, random: &mut Random) -> Vec<u8> {
    let mut input = match random.below(16) {
        0 => {
            let length = random.below(256);
            (0..length).map(|_| random.number() as u8).collect()
        }
        _ if corpus.is_empty() => Vec::new(),
        _ => corpus[random.below(corpus.len())].clone(),
    };
    for _ in 0..1 << random.below(4) {
        change(&mut input, corpus, random);
    }
    input.truncate(longest);
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let kind = random.below(9);
    if input.is_empty() || kind == 0 {
        let at = random.below(input.len() + 1);
        let more = (0..=random.below(8)).map(|_| random.number() as u8).collect::<Vec<_>>();
        input.splice(at..at, more);
        return;
    }
    let at = random.below(input.len());
    let some = at..(at + 1 + random.below(32)).min(input.len());
    match kind {
        1 | 2 => input[at] ^= 1 << random.below(8),
        3 => input[at] = random.number() as u8,
        4 => {
            let number = INTERESTING[random.below(INTERESTING.len())];
            let number = number.wrapping_add(random.below(3) as u64).wrapping_sub(1);
            let mut bytes = number.to_le_bytes();
            if random.below(4) == 0 {
                bytes.reverse();
            }
            let width = 1 << random.below(4);
            for (to, from) in input[at..].iter_mut().zip(&bytes[..width]) {
                *to = *from;
            }
        }
        5 => drop(input.drain(some)),
        6 => {
            let again = input[some].to_vec();
            let at = random.below(input.len() + 1);
            input.splice(at..at, again);
        }
        7 if !corpus.is_empty() => {
            // The head of one before the tail of another.
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => input.truncate(at),
    }
}
