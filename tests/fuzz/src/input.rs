//! An input, read as a script from its front on.

/// What is left of an input. Behind its end there are zeroes, so that a script may end anywhere.
#[derive(Debug, Clone)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// At most so many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    pub(crate) fn below(&mut self, limit: u8) -> u8 {
        self.byte() % limit
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// A number of any size in few bytes: a small one, one near a power of two, or eight bytes of it.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..=0x7f => byte.into(),
            byte @ 0x80..=0xbf => 1 << (byte & 0x3f),
            byte @ 0xc0..=0xdf => (1_u64 << ((byte & 0x1f) * 2 + 1)) - 1,
            byte @ 0xe0..=0xef => u64::MAX - u64::from(byte & 0xf) * 0x101,
            _ => u64::from_le_bytes(self.array()),
        }
    }
}
