//! What holds for every root that mvm makes.

use std::collections::BTreeMap;

use images::fuzzing::Unpacked;

/// Every path is one inside of the root, and lies below directories.
pub(crate) fn check(made: &Unpacked) {
    let paths: BTreeMap<_, _> = made.paths().collect();
    for path in paths.keys() {
        assert!(path.split('/').all(|part| !["", ".", ".."].contains(&part)), "{path:?}");
        if let Some((above, _)) = path.rsplit_once('/') {
            assert_eq!(paths.get(above), Some(&true), "{path:?} lies in what is no directory");
        }
    }
}
