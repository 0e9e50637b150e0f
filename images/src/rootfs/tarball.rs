//! A tree as a tar archive, which is what mkfs.erofs takes without needing root.

use std::collections::HashMap;
use std::io::{self, Write};

use tar::{Builder, EntryType, Header};

use super::{Node, Tree};

/// The time of every file: fixed, so that the same parts make the same bytes. 2024-01-01, past what certificate
/// checks and make would find odd.
pub(super) const TIME: u64 = 1_704_067_200;

/// Writes a tree. Files that are the same are one file with several names: containers bring the same libraries.
pub(super) fn write(tree: &Tree, to: impl Write) -> io::Result<()> {
    let mut builder = Builder::new(to);
    let mut header = header(EntryType::Directory, 0o755, 0, 0, 0);
    builder.append_data(&mut header, "./", io::empty())?;
    let mut known = HashMap::new();
    for (path, entry) in tree.entries() {
        match &entry.node {
            Node::Directory => {
                let mut header = self::header(EntryType::Directory, entry.mode, entry.uid, entry.gid, 0);
                builder.append_data(&mut header, format!("{path}/"), io::empty())?;
            }
            Node::File(content) => {
                let (size, same) = (content.size(), (content.digest(), entry.mode, entry.uid, entry.gid));
                if let Some(first) = known.get(&same).filter(|_| size > 0) {
                    let mut header = self::header(EntryType::Link, entry.mode, entry.uid, entry.gid, 0);
                    builder.append_link(&mut header, path, first)?;
                    continue;
                }
                known.insert(same, path);
                let mut header = self::header(EntryType::Regular, entry.mode, entry.uid, entry.gid, size);
                builder.append_data(&mut header, path, content.reader())?;
            }
            Node::Symlink(target) => {
                let mut header = self::header(EntryType::Symlink, 0o777, entry.uid, entry.gid, 0);
                builder.append_link(&mut header, path, target)?;
            }
        }
    }
    builder.into_inner()?.flush()
}

fn header(kind: EntryType, mode: u32, uid: u32, gid: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(uid.into());
    header.set_gid(gid.into());
    header.set_size(size);
    header.set_mtime(TIME);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::Entry;

    #[test]
    fn a_tree_comes_back_from_its_archive() {
        let mut tree = Tree::default();
        tree.put("etc/name", Entry::file(0o640, *b"mvm"));
        tree.put("bin", Entry::symlink("usr/bin"));
        tree.put("etc/other", Entry::file(0o640, *b"mvm"));
        let mut bytes = Vec::new();
        write(&tree, &mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                let link = entry.header().entry_type() == EntryType::Link;
                assert_eq!(link, path == "etc/other");
                (path, entry.header().mode().unwrap(), entry.header().mtime().unwrap())
            })
            .collect();
        let expected =
            [("./", 0o755), ("bin", 0o777), ("etc/", 0o755), ("etc/name", 0o640), ("etc/other", 0o640)];
        assert_eq!(entries, expected.map(|(path, mode)| (path.to_owned(), mode, TIME)));
    }
}
