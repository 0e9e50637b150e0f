//! Layers of images: archives from anybody.
//!
//! Input: two layers, one behind the other; the first byte says where the second begins. Sums of headers are made right, so
//! that what is changed in one is looked at.

use images::fuzzing::unpack;

use crate::root;
use crate::scratch::scratch;

const BLOCK: usize = 512;

pub fn run(input: &[u8]) {
    let Some((place, input)) = input.split_first() else { return };
    let (below, above) = input.split_at((usize::from(*place) * BLOCK).min(input.len()));
    let (below, above) = (summed(below), summed(above));
    let Ok(made) = unpack(&[&below, &above], scratch()) else { return };
    root::check(&made);
    for (path, _) in made.paths() {
        assert!(!path.rsplit('/').next().unwrap_or_default().starts_with(".wh."), "{path:?} is a whiteout");
    }
    // What is written is what was read.
    let archive = made.archive().unwrap();
    assert_eq!(unpack(&[&archive], scratch()).unwrap(), made);
}

/// With the sum that each header should have; the next one is where this one says.
fn summed(layer: &[u8]) -> Vec<u8> {
    let mut layer = layer.to_vec();
    let mut at = 0;
    while let Some(block) = layer.get_mut(at..at + BLOCK) {
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        if block.iter().any(|byte| *byte != 0) {
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
        let size = header.entry_size().unwrap_or(0);
        let Some(next) = usize::try_from(size).ok().and_then(|size| size.checked_next_multiple_of(BLOCK))
        else {
            break;
        };
        at = at.saturating_add(BLOCK).saturating_add(next);
    }
    layer
}
