//! `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::collections::BTreeMap;
use std::fs;

/// For each place the mounts there, the oldest first: `TYPE OPTIONS[ SPREAD...][ | OPTIONS OF THE FILE SYSTEM]`.
pub(crate) fn all() -> BTreeMap<String, Vec<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut mounts = BTreeMap::<_, Vec<_>>::new();
    for (place, mount) in table.lines().filter_map(one) {
        mounts.entry(place).or_default().push(mount);
    }
    mounts
}

fn one(line: &str) -> Option<(String, String)> {
    let (mount, system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(4);
    let (place, options) = (mount.next()?, mount.next()?);
    // `shared:7` is a number of this boot.
    let spread = mount.filter_map(|field| field.split(':').next());
    let mut system = system.split(' ');
    let (kind, of_system) = (system.next()?, system.nth(1)?);
    let words: Vec<_> = [kind, options].into_iter().chain(spread).collect();
    let mut words = words.join(" ");
    // Those of others name directories and devices of this root, or of this boot.
    if ["devpts", "tmpfs"].contains(&kind) {
        words = format!("{words} | {of_system}");
    }
    Some((place.to_owned(), words))
}
