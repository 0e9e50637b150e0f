//! A tree as a tar archive, of which other tools make file systems without needing root.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Write};

use tar::{Builder, EntryType, Header};

use super::{DeviceKind, Entry, Node, Tree};

/// The time of every file: fixed, so that the same parts make the same bytes. 2024-01-01, past what certificate
/// checks and make would find odd.
pub(crate) const TIME: u64 = 1_704_067_200;

/// What the names of extended attributes begin with in an archive's own.
const XATTR: &str = "SCHILY.xattr.";

/// What an archive says of its entries beside what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Records {
    /// Nothing, for whoever makes a file system of it.
    None,
    /// Where they come from, as LinuxKit does: `LINUXKIT.source`, an image or `linuxkit.SECTION`, and `LINUXKIT.location`, which
    /// entry of the definition.
    Origins,
}

/// Writes a tree. Files that are the same are one file with several names: containers bring the same libraries.
pub(crate) fn write(tree: &Tree, records: Records, to: impl Write) -> io::Result<()> {
    let mut builder = Builder::new(to);
    let mut root = header(EntryType::Directory, &Entry::directory(0o755));
    builder.append_data(&mut root, "./", io::empty())?;
    let mut known = HashMap::new();
    for (path, entry) in tree.entries() {
        let mut put = |kind, add: &mut dyn FnMut(&mut Builder<_>, &mut Header) -> io::Result<()>| {
            let extensions = extensions(entry, records);
            // Nothing is written for none.
            builder.append_pax_extensions(
                extensions.iter().map(|(name, value)| (name.as_str(), value.as_ref())),
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

/// The records of an entry, each with its name.
fn extensions(entry: &Entry, records: Records) -> Vec<(String, Cow<'_, [u8]>)> {
    let xattrs = entry.xattrs.iter();
    let xattrs = xattrs.map(|(name, value)| (format!("{XATTR}{name}"), Cow::from(value.as_slice())));
    let origin = entry.origin.as_ref().filter(|_| records == Records::Origins);
    let (source, location) = match origin.map(|origin| (&origin.image, &origin.item)) {
        Some((Some(image), Some(item))) => (image.name.clone(), item.location()),
        Some((None, Some(item))) => (format!("linuxkit.{}", item.section), item.location()),
        // What is put into every root.
        Some((_, None)) => ("mvm".to_owned(), "init".to_owned()),
        None => return xattrs.collect(),
    };
    let own = [("LINUXKIT.source", source), ("LINUXKIT.location", location)];
    xattrs.chain(own.map(|(name, text)| (name.to_owned(), Cow::from(text.into_bytes())))).collect()
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
    use std::sync::Arc;

    use super::*;
    use crate::provenance::{ImageId, Item, Material, Origin};
    use crate::spec::At;

    #[test]
    fn a_tree_comes_back_from_its_archive() {
        let mut tree = Tree::default();
        tree.put("etc/name", Entry::file(0o640, *b"mvm"));
        tree.put("bin", Entry::symlink("usr/bin"));
        tree.put("etc/other", Entry::file(0o640, *b"mvm"));
        let mut bytes = Vec::new();
        write(&tree, Records::None, &mut bytes).unwrap();
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
    #[test]
    fn an_archive_says_where_its_entries_come_from_as_linuxkit_does() {
        let at = At { file: "a.yml".into(), line: 2, column: 5 };
        let item =
            |section: &str, index| Some(Item { section: section.into(), index, name: None, at: at.clone() });
        let image = Some(ImageId { name: "test/x:1".into(), digest: Some("sha256:0".into()) });
        let origin = |image: &Option<ImageId>, item: Option<Item>| {
            Arc::new(Origin { item, image: image.clone(), material: Material::File })
        };
        let mut tree = Tree::default();
        tree.put("x", Entry::file(0o644, *b"x").of(&origin(&image, item("services", 1))));
        tree.put("y", Entry::symlink("x").of(&origin(&None, item("files", 0))));
        tree.put("z", Entry::file(0o755, *b"z").of(&origin(&None, None)));
        let said = |records| {
            let mut bytes = Vec::new();
            write(&tree, records, &mut bytes).unwrap();
            let mut archive = tar::Archive::new(bytes.as_slice());
            let mut said = Vec::new();
            for entry in archive.entries().unwrap() {
                let mut entry = entry.unwrap();
                let records = entry.pax_extensions().unwrap().into_iter().flatten().map(Result::unwrap);
                let records: Vec<_> =
                    records.map(|one| format!("{}={}", one.key().unwrap(), one.value().unwrap())).collect();
                said.push(records.join(" "));
            }
            said
        };
        assert_eq!(
            said(Records::Origins),
            [
                "",
                "LINUXKIT.source=test/x:1 LINUXKIT.location=services[1]",
                "LINUXKIT.source=linuxkit.files LINUXKIT.location=files[0]",
                "LINUXKIT.source=mvm LINUXKIT.location=init",
            ]
        );
        assert_eq!(said(Records::None), ["", "", "", ""]);
    }
}
