//! A tree as a tar archive, which is what mkfs.erofs takes without needing root.

use std::collections::HashMap;
use std::io::{self, Write};

use tar::{Builder, EntryType, Header};

use super::{DeviceKind, Entry, Node, Tree};

/// The time of every file: fixed, so that the same parts make the same bytes. 2024-01-01, past what certificate
/// checks and make would find odd.
pub(crate) const TIME: u64 = 1_704_067_200;

/// What the names of extended attributes begin with in an archive's own.
const XATTR: &str = "SCHILY.xattr.";

/// Writes a tree. Files that are the same are one file with several names: containers bring the same libraries.
pub(crate) fn write(tree: &Tree, to: impl Write) -> io::Result<()> {
    let mut builder = Builder::new(to);
    let mut root = header(EntryType::Directory, &Entry::directory(0o755));
    builder.append_data(&mut root, "./", io::empty())?;
    let mut known = HashMap::new();
    for (path, entry) in tree.entries() {
        let mut put = |kind, add: &mut dyn FnMut(&mut Builder<_>, &mut Header) -> io::Result<()>| {
            let extensions: Vec<_> =
                entry.xattrs.iter().map(|(name, value)| (format!("{XATTR}{name}"), value)).collect();
            // Nothing is written for none.
            builder.append_pax_extensions(
                extensions.iter().map(|(name, value)| (name.as_str(), value.as_slice())),
            )?;
            add(&mut builder, &mut header(kind, entry))
        };
        match &entry.node {
            Node::Directory => put(EntryType::Directory, &mut |builder, header| {
                builder.append_data(header, format!("{path}/"), io::empty())
            })?,
            Node::File(content) => {
                let same = (content.digest(), entry.mode, entry.uid, entry.gid, &entry.xattrs);
                if let Some(first) = known.get(&same).filter(|_| content.size() > 0) {
                    put(EntryType::Link, &mut |builder, header| builder.append_link(header, path, first))?;
                } else {
                    put(EntryType::Regular, &mut |builder, header| {
                        header.set_size(content.size());
                        builder.append_data(header, path, content.reader())
                    })?;
                }
                known.entry(same).or_insert(path);
            }
            Node::Symlink(target) => {
                put(EntryType::Symlink, &mut |builder, header| builder.append_link(header, path, target))?;
            }
            Node::Device { kind, major, minor } => {
                let kind = match kind {
                    DeviceKind::Character => EntryType::Char,
                    DeviceKind::Block => EntryType::Block,
                };
                put(kind, &mut |builder, header| {
                    header.set_device_major(*major)?;
                    header.set_device_minor(*minor)?;
                    builder.append_data(header, path, io::empty())
                })?;
            }
            Node::Fifo => {
                put(EntryType::Fifo, &mut |builder, header| builder.append_data(header, path, io::empty()))?;
            }
        }
    }
    builder.into_inner()?.flush()
}

fn header(kind: EntryType, entry: &Entry) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(entry.mode);
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_size(0);
    header.set_mtime(TIME);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

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
