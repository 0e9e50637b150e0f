//! Whether the programs and libraries of a component find what they are linked with.
//!
//! A recipe lists every library itself, since dependencies of packages are not followed: one that it forgot would show
//! only when the program starts. Versions of symbols are not looked at.

use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::read::{ReadCache, ReadRef};

use crate::architecture::Architecture;
use crate::rootfs::{Node, Tree};

/// A program or library, and the loader or library that it lacks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) program: String,
    pub(super) library: String,
}

/// The first file that lacks something.
pub(super) fn missing(tree: &Tree, architecture: Architecture) -> Option<Missing> {
    let is_there = |path: &str| tree.resolve(path).is_some_and(|entry| matches!(entry.node, Node::File(_)));
    tree.entries().find_map(|(path, entry)| {
        let Node::File(content) = &entry.node else { return None };
        // What cannot be read as a 64-bit ELF file is linked with nothing.
        let needs = needs(&ReadCache::new(content.reader())).unwrap_or_default();
        let library =
            needs.into_iter().find(|need| !places(need, architecture).iter().any(|at| is_there(at)))?;
        Some(Missing { program: path.to_owned(), library })
    })
}

/// The loader, by its path, and the libraries, by their names.
fn needs<'data>(bytes: impl ReadRef<'data>) -> object::Result<Vec<String>> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let mut found = Vec::new();
    for segment in header.program_headers(endian, bytes)? {
        found.extend(segment.interpreter(endian, bytes)?.map(text));
    }
    let sections = header.sections(endian, bytes)?;
    if let Some((entries, strings)) = sections.dynamic(endian, bytes)? {
        let strings = sections.strings(endian, bytes, strings)?;
        for entry in entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED) {
            found.push(text(entry.string(endian, strings)?));
        }
    }
    Ok(found)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Where the kernel looks for a loader, and the loader for a library.
fn places(need: &str, architecture: Architecture) -> Vec<String> {
    if need.contains('/') {
        return vec![need.to_owned()];
    }
    vec![format!("usr/lib/{}/{need}", architecture.triple), format!("usr/lib/{need}")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::Entry;

    #[test]
    fn a_program_that_lacks_a_library_is_named_with_it() {
        let architecture = Architecture::host().unwrap();
        // This test itself: a program that is linked with the C library.
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = needs(program.as_slice()).unwrap();
        assert!(needs.iter().any(|need| need == "libc.so.6"), "{needs:?}");

        let mut tree = Tree::default();
        tree.put("usr/share/text", Entry::file(0o644, *b"no program"));
        assert_eq!(missing(&tree, architecture), None);
        tree.put("usr/bin/test", Entry::file(0o755, program));
        for need in needs {
            let expected = Missing { program: "usr/bin/test".into(), library: need.clone() };
            assert_eq!(missing(&tree, architecture), Some(expected));
            // A link to a file that is not there is not enough.
            let place = places(&need, architecture).remove(0);
            let (directory, name) = place.trim_start_matches('/').rsplit_once('/').unwrap();
            tree.put(&format!("{directory}/{name}"), Entry::symlink(format!("{name}.1")));
            assert!(missing(&tree, architecture).is_some());
            tree.put(&format!("{directory}/{name}.1"), Entry::file(0o755, *b"a library"));
        }
        assert_eq!(missing(&tree, architecture), None);
    }
}
