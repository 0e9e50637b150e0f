//! Steps that are carried out at once, while the disk's thread waits.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use vm_memory::bitmap::BS;
use vm_memory::{GuestMemory, Permissions, VolatileSlice};

use super::flight::Step;
use crate::memory::Span;
use crate::platform;

static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// Returns how many bytes it has moved.
pub(super) fn carry_out<M: GuestMemory>(step: &Step, file: &File, memory: &M) -> io::Result<usize> {
    match step {
        Step::Read { at, into } => platform::read_at(file, &slices(memory, into, Permissions::Write)?, *at),
        Step::Write { at, from } => platform::write_at(file, &slices(memory, from, Permissions::Read)?, *at),
        Step::Flush => file.sync_data().map(|()| 0),
        Step::Punch(range) => Ok(platform::punch_hole(file, range.clone()).map(|()| 0)?),
        Step::Zero(range) => Ok(platform::zero_range(file, range.clone()).map(|()| 0)?),
        Step::Fill(range) => {
            let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
            file.write_at(ZEROES.get(..length).unwrap_or(&ZEROES), range.start)
        }
    }
}

fn slices<'m, M: GuestMemory>(
    memory: &'m M,
    spans: &[Span],
    access: Permissions,
) -> io::Result<Vec<VolatileSlice<'m, BS<'m, M::Bitmap>>>> {
    let mut slices = Vec::new();
    for span in spans {
        for slice in memory.get_slices(span.address, span.length, access).map_err(io::Error::other)? {
            slices.push(slice.map_err(io::Error::other)?);
        }
    }
    Ok(slices)
}
