//! The entries sent so far, by number: a receiver asks for contents by them. A context may have millions of entries,
//! so each costs its own name and eight bytes, not its whole path.

use super::lexical;

/// Entries in the order in which they were sent.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    /// All last names, one behind the other.
    names: Vec<u8>,
    entries: Vec<Entry>,
    /// The directories (or what could be one) down to the last entry: number, and how many names their path has.
    open: Vec<(u32, usize)>,
}

#[derive(Debug)]
struct Entry {
    /// Where its name ends in `names`; it begins where the one before ends.
    name_end: usize,
    /// The directory's number plus one, 0 in the root.
    directory: u32,
    /// It has contents, and they were not asked for yet.
    wanted: bool,
}

impl Paths {
    /// Adds the next entry, whose directories were added before, as a walk does. Nothing is added beyond what the
    /// protocol can number; then the answer is `false`.
    pub(crate) fn push(&mut self, path: &[u8], has_contents: bool) -> bool {
        let Ok(number) = u32::try_from(self.entries.len().saturating_add(1)) else { return false };
        let depth = path.iter().filter(|byte| **byte == b'/').count();
        while self.open.pop_if(|(_, names)| *names > depth).is_some() {}
        let directory = self.open.last().map_or(0, |(number, _)| *number);
        self.names.extend_from_slice(lexical::base(path));
        self.entries.push(Entry { name_end: self.names.len(), directory, wanted: has_contents });
        if !has_contents {
            self.open.push((number, depth.saturating_add(1)));
        }
        true
    }

    /// Notes that entry `id` is asked for; false if it has no contents, or was asked for before.
    pub(crate) fn ask(&mut self, id: u32) -> bool {
        let entry = usize::try_from(id).ok().and_then(|index| self.entries.get_mut(index));
        entry.is_some_and(|entry| std::mem::take(&mut entry.wanted))
    }

    /// The path of entry `id`.
    pub(crate) fn path(&self, id: u32) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut number = id.checked_add(1)?;
        while let Some(id) = number.checked_sub(1) {
            let index = usize::try_from(id).ok()?;
            names.push(self.name(index)?);
            number = self.entries.get(index)?.directory;
        }
        names.reverse();
        Some(names.join(&b'/'))
    }

    fn name(&self, index: usize) -> Option<&[u8]> {
        let start = match index.checked_sub(1) {
            Some(before) => self.entries.get(before)?.name_end,
            None => 0,
        };
        self.names.get(start..self.entries.get(index)?.name_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_back_whole_and_are_asked_for_once() {
        let mut paths = Paths::default();
        let entries = [
            ("a", false),
            ("a/b", false),
            ("a/b/1", true),
            ("a/b/link", false),
            ("a/b/zz", true),
            ("a/c", false),
            ("a/c/2", true),
            ("a/d", true),
            ("e", true),
            ("f", false),
            ("g", true),
        ];
        for (path, has_contents) in entries {
            assert!(paths.push(path.as_bytes(), has_contents));
        }
        for (id, (path, has_contents)) in entries.iter().enumerate() {
            let id = u32::try_from(id).unwrap();
            assert_eq!(paths.path(id).as_deref(), Some(path.as_bytes()));
            assert_eq!(paths.ask(id), *has_contents, "{path}");
            assert!(!paths.ask(id), "{path} a second time");
        }
        for none in [99, u32::MAX] {
            assert!(!paths.ask(none) && paths.path(none).is_none());
        }
    }
}
